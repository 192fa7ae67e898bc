/* Vectors of 8 floats: AVX2 with FMA and F16C. */
#include <immintrin.h>

enum { W = 8 };
typedef __m256 vf;

INLINE vf load(const float *p) { return _mm256_loadu_ps(p); }
INLINE void store(float *p, vf a) { _mm256_storeu_ps(p, a); }
INLINE vf set(float a) { return _mm256_set1_ps(a); }

/* Both return b if a or b is NaN. */
INLINE vf larger(vf a, vf b) { return _mm256_max_ps(a, b); }
INLINE vf smaller(vf a, vf b) { return _mm256_min_ps(a, b); }
/* a if x < y, else b; lane by lane. */
INLINE vf where_less(vf x, vf y, vf a, vf b) {
    return _mm256_blendv_ps(b, a, _mm256_cmp_ps(x, y, _CMP_LT_OQ));
}
INLINE vf multiply_add(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }

INLINE vf nearest_integer(vf a) {
    return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
/* Stores the nearest whole numbers, for |a| < 2^31. */
INLINE void store_rounded(int32_t *p, vf a) {
    _mm256_storeu_si256((__m256i *)p, _mm256_cvtps_epi32(a));
}
/* p 2^n for whole n >= -126; NaN if p is. */
INLINE vf scale(vf p, vf n) {
    __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    return p * _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23));
}

/* A bit for each lane, set if a >= b. */
INLINE unsigned lanes_not_less(vf a, vf b) {
    return _mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GE_OQ));
}

INLINE vf widen_float16(const uint16_t *p) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}
INLINE vf widen_bfloat16(const uint16_t *p) {
    __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}

/* Transposes a matrix of W by W values. */
INLINE void transpose(vf row[W]) {
    vf a[W], b[W];
    for (int i = 0; i < W; i += 2) { /* pairs of rows: 1 by 1 */
        a[i] = _mm256_unpacklo_ps(row[i], row[i + 1]);
        a[i + 1] = _mm256_unpackhi_ps(row[i], row[i + 1]);
    }
    for (int i = 0; i < W; i += 4) /* fours: 2 by 2 */
        for (int j = 0; j < 2; j++) {
            b[i + 2 * j] = _mm256_shuffle_ps(a[i + j], a[i + j + 2], 0x44);
            b[i + 2 * j + 1] = _mm256_shuffle_ps(a[i + j], a[i + j + 2], 0xee);
        }
    for (int j = 0; j < 4; j++) { /* halves of vectors */
        row[j] = _mm256_permute2f128_ps(b[j], b[j + 4], 0x20);
        row[j + 4] = _mm256_permute2f128_ps(b[j], b[j + 4], 0x31);
    }
}

/* For each lane, the value of the lane whose number differs in the bit `step`: 1, 2 or 4. */
INLINE vf partners(vf a, int step) {
    switch (step) {
    case 4: return _mm256_permute2f128_ps(a, a, 1);
    case 2: return _mm256_permute_ps(a, 0x4e);
    default: return _mm256_permute_ps(a, 0xb1);
    }
}

/* The last n lanes of a; `others` in the lanes before. */
INLINE vf last(vf a, int n, float others) {
    vf lane = _mm256_setr_ps(0, 1, 2, 3, 4, 5, 6, 7);
    return where_less(lane, set(W - n), set(others), a);
}

/* a and b hold consecutive pairs: a gets their first values, b the second ones. */
INLINE void unzip(vf *a, vf *b) {
    vf low = _mm256_permute2f128_ps(*a, *b, 0x20), high = _mm256_permute2f128_ps(*a, *b, 0x31);
    *a = _mm256_shuffle_ps(low, high, 0x88);
    *b = _mm256_shuffle_ps(low, high, 0xdd);
}

/* Vectors of doubles, of half as many lanes. */
enum { D = 4 };
typedef __m256d vd;

INLINE vd load_double(const float *p) { return _mm256_cvtps_pd(_mm_loadu_ps(p)); }
INLINE vd set_double(double a) { return _mm256_set1_pd(a); }
/* Both return b if a or b is NaN. */
INLINE vd larger_double(vd a, vd b) { return _mm256_max_pd(a, b); }
INLINE vd smaller_double(vd a, vd b) { return _mm256_min_pd(a, b); }
/* a if x < y, else b; lane by lane. */
INLINE vd where_less_double(vd x, vd y, vd a, vd b) {
    return _mm256_blendv_pd(b, a, _mm256_cmp_pd(x, y, _CMP_LT_OQ));
}
INLINE vd nearest_double(vd a) {
    return _mm256_round_pd(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
/* p 2^n for whole n >= -1022; NaN if p is. */
INLINE vd scale_double(vd p, vd n) {
    __m256i exponent =
        _mm256_add_epi64(_mm256_cvtepi32_epi64(_mm256_cvtpd_epi32(n)), _mm256_set1_epi64x(1023));
    return p * _mm256_castsi256_pd(_mm256_slli_epi64(exponent, 52));
}

/* The sum of the lanes. */
INLINE double sum_of_lanes(vd x) {
    const __m128d half = _mm_add_pd(_mm256_castpd256_pd128(x), _mm256_extractf128_pd(x, 1));
    return half[0] + half[1];
}

/* The lower and the upper half of a vector as doubles, and back. */
INLINE vd lower(vf a) { return _mm256_cvtps_pd(_mm256_castps256_ps128(a)); }
INLINE vd upper(vf a) { return _mm256_cvtps_pd(_mm256_extractf128_ps(a, 1)); }
INLINE vf narrowed(vd low, vd high) {
    return _mm256_set_m128(_mm256_cvtpd_ps(high), _mm256_cvtpd_ps(low));
}
