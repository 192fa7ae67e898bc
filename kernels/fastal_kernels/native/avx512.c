/* The variant for x86-64 with AVX-512. */
#if defined(__x86_64__)
#include <immintrin.h>
#include <stdint.h>
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma"))),    \
                             apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,fma")
#endif
#define INLINE static inline __attribute__((always_inline))
#define VARIANT fastal_avx512
#define RANKS fastal_avx512_ranks
#define PANELS fastal_avx512_panels
#define HEAD fastal_avx512_head
#define HEAD_UNITS fastal_avx512_head_units
#define NEAREST fastal_avx512_nearest
#define SIMILARITIES fastal_avx512_similarities
#define UNIT_SUMS fastal_avx512_unit_sums
#define MULTIPLY_ADD multiply_add
#define ITEMS fastal_avx512_items
#define DRAWS fastal_avx512_draws
#include "vectors_avx512.h"
#include "variant.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
