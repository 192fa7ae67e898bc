/* The variant for x86-64 with AVX2 and FMA. */
#if defined(__x86_64__)
#include <immintrin.h>
#include <stdint.h>
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,f16c")
#endif
#define INLINE static inline __attribute__((always_inline))
#define VARIANT fastal_avx2
#define RANKS fastal_avx2_ranks
#define PANELS fastal_avx2_panels
#define HEAD fastal_avx2_head
#define HEAD_UNITS fastal_avx2_head_units
#define NEAREST fastal_avx2_nearest
#define SIMILARITIES fastal_avx2_similarities
#define UNIT_SUMS fastal_avx2_unit_sums
#define MULTIPLY_ADD multiply_add
#define ITEMS fastal_avx2_items
#define DRAWS fastal_avx2_draws
#include "vectors_avx2.h"
#include "variant.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
