/* Vectors of 16 floats: AVX-512 with F, BW, DQ and VL. */
#include <immintrin.h>

enum { W = 16 };
typedef __m512 vf;

INLINE vf load(const float *p) { return _mm512_loadu_ps(p); }
INLINE void store(float *p, vf a) { _mm512_storeu_ps(p, a); }
INLINE vf set(float a) { return _mm512_set1_ps(a); }

/* Both return b if a or b is NaN. */
INLINE vf larger(vf a, vf b) { return _mm512_max_ps(a, b); }
INLINE vf smaller(vf a, vf b) { return _mm512_min_ps(a, b); }

/* a if x < y, else b; lane by lane. */
INLINE vf where_less(vf x, vf y, vf a, vf b) {
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(x, y, _CMP_LT_OQ), b, a);
}
INLINE vf multiply_add(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }

INLINE vf nearest_integer(vf a) {
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
/* Stores the nearest whole numbers, for |a| < 2^31. */
INLINE void store_rounded(int32_t *p, vf a) { _mm512_storeu_si512(p, _mm512_cvtps_epi32(a)); }
/* p 2^n for whole n; NaN if p is. */
INLINE vf scale(vf p, vf n) { return _mm512_scalef_ps(p, n); }

/* A bit for each lane, set if a >= b. */
INLINE unsigned lanes_not_less(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ); }

INLINE vf widen_float16(const uint16_t *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}
INLINE vf widen_bfloat16(const uint16_t *p) {
    __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

/* Transposes a matrix of W by W values. */
INLINE void transpose(vf row[W]) {
    vf a[W], b[W];
    for (int i = 0; i < W; i += 2) { /* pairs of rows: 1 by 1 */
        a[i] = _mm512_unpacklo_ps(row[i], row[i + 1]);
        a[i + 1] = _mm512_unpackhi_ps(row[i], row[i + 1]);
    }
    for (int i = 0; i < W; i += 4) /* fours: 2 by 2 */
        for (int j = 0; j < 2; j++) {
            __m512d low = _mm512_castps_pd(a[i + j]), high = _mm512_castps_pd(a[i + j + 2]);
            b[i + 2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(low, high));
            b[i + 2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low, high));
        }
    for (int i = 0; i < W; i += 8) /* eights: quarters of vectors */
        for (int j = 0; j < 4; j++) {
            a[i + j] = _mm512_shuffle_f32x4(b[i + j], b[i + j + 4], 0x88);
            a[i + j + 4] = _mm512_shuffle_f32x4(b[i + j], b[i + j + 4], 0xdd);
        }
    for (int j = 0; j < 8; j++) {
        row[j] = _mm512_shuffle_f32x4(a[j], a[j + 8], 0x88);
        row[j + 8] = _mm512_shuffle_f32x4(a[j], a[j + 8], 0xdd);
    }
}

/* a and b hold consecutive pairs: a gets their first values, b the second ones. */
INLINE void unzip(vf *a, vf *b) {
    __m512i first = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    vf firsts = _mm512_permutex2var_ps(*a, first, *b);
    *b = _mm512_permutex2var_ps(*a, _mm512_add_epi32(first, _mm512_set1_epi32(1)), *b);
    *a = firsts;
}

/* For each lane, the value of the lane whose number differs in the bit `step`: 1, 2, 4 or 8. */
INLINE vf partners(vf a, int step) {
    switch (step) {
    case 8: return _mm512_shuffle_f32x4(a, a, 0x4e);
    case 4: return _mm512_shuffle_f32x4(a, a, 0xb1);
    case 2: return _mm512_permute_ps(a, 0x4e);
    default: return _mm512_permute_ps(a, 0xb1);
    }
}

/* The last n lanes of a; `others` in the lanes before. */
INLINE vf last(vf a, int n, float others) {
    return _mm512_mask_blend_ps(0xffffu << (W - n), set(others), a);
}

/* Vectors of doubles, of half as many lanes. */
enum { D = 8 };
typedef __m512d vd;

INLINE vd load_double(const float *p) { return _mm512_cvtps_pd(_mm256_loadu_ps(p)); }
INLINE vd set_double(double a) { return _mm512_set1_pd(a); }
/* Both return b if a or b is NaN. */
INLINE vd larger_double(vd a, vd b) { return _mm512_max_pd(a, b); }
INLINE vd smaller_double(vd a, vd b) { return _mm512_min_pd(a, b); }
/* a if x < y, else b; lane by lane. */
INLINE vd where_less_double(vd x, vd y, vd a, vd b) {
    return _mm512_mask_blend_pd(_mm512_cmp_pd_mask(x, y, _CMP_LT_OQ), b, a);
}
INLINE vd nearest_double(vd a) {
    return _mm512_roundscale_pd(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
/* p 2^n for whole n; NaN if p is. */
INLINE vd scale_double(vd p, vd n) { return _mm512_scalef_pd(p, n); }

/* The sum of the lanes. */
INLINE double sum_of_lanes(vd x) { return _mm512_reduce_add_pd(x); }

/* The lower and the upper half of a vector as doubles, and back. */
INLINE vd lower(vf a) { return _mm512_cvtps_pd(_mm512_castps512_ps256(a)); }
INLINE vd upper(vf a) { return _mm512_cvtps_pd(_mm512_extractf32x8_ps(a, 1)); }
INLINE vf narrowed(vd low, vd high) {
    __m512 a = _mm512_castps256_ps512(_mm512_cvtpd_ps(low));
    return _mm512_insertf32x8(a, _mm512_cvtpd_ps(high), 1);
}
