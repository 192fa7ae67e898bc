/* Vectors of 4 floats, in GNU C without intrinsics: SSE2, NEON or another target. */
#include <math.h>
#include <stdint.h>
#include <string.h>

enum { W = 4 };
typedef float vf __attribute__((vector_size(4 * W)));
typedef int32_t vi __attribute__((vector_size(4 * W)));  /* masks, and signed numbers */
typedef uint32_t vu __attribute__((vector_size(4 * W))); /* bits */

INLINE vf load(const float *p) {
    vf a;
    memcpy(&a, p, sizeof a);
    return a;
}
INLINE void store(float *p, vf a) { memcpy(p, &a, sizeof a); }
INLINE vf set(float a) { return (vf){a, a, a, a}; }

INLINE vf choose(vi mask, vf a, vf b) { return (vf)((mask & (vi)a) | (~mask & (vi)b)); }
/* Both return b if a or b is NaN. */
INLINE vf larger(vf a, vf b) { return choose(a > b, a, b); }
INLINE vf smaller(vf a, vf b) { return choose(a < b, a, b); }
/* a if x < y, else b; lane by lane. */
INLINE vf where_less(vf x, vf y, vf a, vf b) { return choose(x < y, a, b); }
INLINE vf multiply_add(vf a, vf b, vf c) { return a * b + c; }

/* For |a| < 2^22. */
INLINE vf nearest_integer(vf a) { return (a + set(0x1.8p23f)) - set(0x1.8p23f); }
/* Stores the nearest whole numbers, for |a| < 2^31. From 2^23 on, floats are whole. */
INLINE void store_rounded(int32_t *p, vf a) {
    const vf size = larger(a, -a);
    const vf whole = where_less(size, set(0x1p23f), (size + set(0x1p23f)) - set(0x1p23f), size);
    const vi rounded = __builtin_convertvector(where_less(a, set(0), -whole, whole), vi);
    memcpy(p, &rounded, sizeof rounded);
}
/* p 2^n for whole n >= -126; NaN if p is. */
INLINE vf scale(vf p, vf n) {
    vu exponent = (vu) __builtin_convertvector(n, vi) + 127;
    return p * (vf)(exponent << 23);
}

/* A bit for each lane, set if a >= b. */
INLINE unsigned lanes_not_less(vf a, vf b) {
    vi mask = a >= b;
    return (mask[0] & 1) | (mask[1] & 2) | (mask[2] & 4) | (mask[3] & 8);
}

INLINE vu widen_bits(const uint16_t *p) { return (vu){p[0], p[1], p[2], p[3]}; }
INLINE vf widen_bfloat16(const uint16_t *p) { return (vf)(widen_bits(p) << 16); }
INLINE vf widen_float16(const uint16_t *p) {
    vu bits = widen_bits(p), magnitude = bits & 0x7fff;
    /* The scale corrects the exponent, of subnormal numbers too, but not of infinity and NaN. */
    vu value = (vu)((vf)(magnitude << 13) * set(0x1p112f));
    vu special = (vu)(magnitude >= 0x7c00) & 0x7f800000;
    return (vf)(value | special | (bits & 0x8000) << 16);
}

/* Transposes a matrix of W by W values. */
INLINE void transpose(vf row[W]) {
    vf a = row[0], b = row[1], c = row[2], d = row[3];
    for (int i = 0; i < W; i++)
        row[i] = (vf){a[i], b[i], c[i], d[i]};
}

/* For each lane, the value of the lane whose number differs in the bit `step`: 1 or 2. */
INLINE vf partners(vf a, int step) {
    return step == 2 ? (vf){a[2], a[3], a[0], a[1]} : (vf){a[1], a[0], a[3], a[2]};
}

/* The last n lanes of a; `others` in the lanes before. */
INLINE vf last(vf a, int n, float others) {
    return where_less((vf){0, 1, 2, 3}, set(W - n), set(others), a);
}

/* a and b hold consecutive pairs: a gets their first values, b the second ones. */
INLINE void unzip(vf *a, vf *b) {
    vf firsts = {(*a)[0], (*a)[2], (*b)[0], (*b)[2]};
    *b = (vf){(*a)[1], (*a)[3], (*b)[1], (*b)[3]};
    *a = firsts;
}

/* Vectors of doubles, of half as many lanes. */
enum { D = 2 };
typedef double vd __attribute__((vector_size(8 * D)));
typedef int64_t vl __attribute__((vector_size(8 * D)));

INLINE vd load_double(const float *p) { return (vd){p[0], p[1]}; }
INLINE vd set_double(double a) { return (vd){a, a}; }
INLINE vd choose_double(vl mask, vd a, vd b) { return (vd)((mask & (vl)a) | (~mask & (vl)b)); }
/* Both return b if a or b is NaN. */
INLINE vd larger_double(vd a, vd b) { return choose_double(a > b, a, b); }
INLINE vd smaller_double(vd a, vd b) { return choose_double(a < b, a, b); }
/* a if x < y, else b; lane by lane. */
INLINE vd where_less_double(vd x, vd y, vd a, vd b) { return choose_double(x < y, a, b); }
/* For |a| < 2^51. */
INLINE vd nearest_double(vd a) { return (a + set_double(0x1.8p52)) - set_double(0x1.8p52); }
/* p 2^n for whole n >= -1022; NaN if p is. */
INLINE vd scale_double(vd p, vd n) {
    vl exponent = {(int64_t)n[0], (int64_t)n[1]};
    return p * (vd)((exponent + 1023) << 52);
}

/* The sum of the lanes. */
INLINE double sum_of_lanes(vd x) { return x[0] + x[1]; }

/* The lower and the upper half of a vector as doubles, and back. They are converted as vectors: gcc
 * 12 drops the rounding of `narrowed` if `upper` converts values one by one. */
typedef float half __attribute__((vector_size(2 * W)));
INLINE vd lower(vf a) { return __builtin_convertvector(((half){a[0], a[1]}), vd); }
INLINE vd upper(vf a) { return __builtin_convertvector(((half){a[2], a[3]}), vd); }
INLINE vf narrowed(vd low, vd high) {
    const half a = __builtin_convertvector(low, half), b = __builtin_convertvector(high, half);
    return (vf){a[0], a[1], b[0], b[1]};
}
