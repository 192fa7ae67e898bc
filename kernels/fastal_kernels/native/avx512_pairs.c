/* Logits by AVX-512 with BF16, which multiplies pairs of bfloat16 and adds them to floats. */
#include "job.h"
#if HAS_PAIRS
#include <immintrin.h>
#include <stdint.h>
#include <string.h>
#if defined(__clang__)
#pragma clang attribute push(                                                                      \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma"))),                  \
    apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma")
#endif
#define INLINE static inline __attribute__((always_inline))
#define ALIGNED _Alignas(64)
#define HEAD fastal_avx512_pairs
#define HEAD_UNITS fastal_avx512_pairs_units
#define MULTIPLY_ADD(weight, row, sum) _mm512_dpbf16_ps(sum, (__m512bh)(weight), (__m512bh)(row))
#include "vectors_avx512.h"
INLINE int64_t size_of(int dtype) { return dtype == FLOAT32 ? 4 : 2; }
#include "head.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
