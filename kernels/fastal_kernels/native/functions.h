/* Exponentials and logarithms of vectors. */

#define LOG2_E 1.44269504088896341f

/* 2^f for |f| <= 1/2, by a minimax polynomial: relative error 1.1e-7, exactly 1 at 0. */
INLINE vf exp2_of_fraction(vf f) {
    vf p = set(0x1.5bba16p-10f);
    p = multiply_add(p, f, set(0x1.3cea88p-7f));
    p = multiply_add(p, f, set(0x1.c6b752p-5f));
    p = multiply_add(p, f, set(0x1.ebf9bcp-3f));
    p = multiply_add(p, f, set(0x1.62e42ap-1f));
    return multiply_add(p, f, set(1));
}

/* 2^y for FARTHEST log2 e <= y <= 0; NaN for NaN. */
#define FARTHEST -87.0f
INLINE vf exp2_of(vf y) {
    vf n = nearest_integer(y);
    return scale(exp2_of_fraction(y - n), n);
}

/* 2^96 e^(d + rest) for any d <= 0 and a tiny rest; never subnormal. d may be so large that the
 * rounding of d log2 e would be visible: ln 2 is subtracted in two parts. A d below -150 counts as
 * -150. */
#define FAR_SCALE 0x1p96f
INLINE vf exponential_of_distance(vf d, vf rest) {
    d = larger(set(-150), d);
    vf n = nearest_integer(d * set(LOG2_E));
    /* ln 2 in two parts. The product of n and the first part is exact. */
    vf r = multiply_add(n, set(-0x1.63p-1f), d);
    r = multiply_add(n, set(0x1.bd0106p-13f), r) + rest;
    return scale(exp2_of_fraction(r * set(LOG2_E)), n + set(96));
}

/* ln u for normal u > 0: relative error 2e-7, also near 1. Any number for NaN. */
INLINE vf logarithm(vf u) {
    /* u = 2^exponent (1 + r), with 1 + r from sqrt(1/2) to sqrt(2). */
    ints whole = (ints)((words)u - 0x3f3504f3) >> 23;
    vf exponent = __builtin_convertvector(whole, vf);
    vf r = (vf)((words)u - ((words)whole << 23)) - set(1);
    vf q = set(0x1.645e38p-4f);
    q = multiply_add(q, r, set(-0x1.2432a4p-3f));
    q = multiply_add(q, r, set(0x1.317462p-3f));
    q = multiply_add(q, r, set(-0x1.53824cp-3f));
    q = multiply_add(q, r, set(0x1.98d7f2p-3f));
    q = multiply_add(q, r, set(-0x1.000382p-2f));
    q = multiply_add(q, r, set(0x1.5556d8p-2f));
    vf square = r * r;
    vf low = multiply_add(exponent, set(-0x1.bd0106p-13f), square * r * q);
    low = multiply_add(square, set(-0.5f), low);
    return multiply_add(exponent, set(0x1.63p-1f), r + low);
}
