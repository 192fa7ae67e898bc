/* The statistics of a row from which all scores follow.
 *
 * a is the largest value of the row, r the second largest (r = a if the maximum ties). Each sum
 * leaves out one maximum:
 *
 *     rest      = sum of e^(x - r)            at least 1
 *     moment    = sum of (x - r) e^(x - r)    at most 0
 *     gap       = r - a                       at most 0
 *     runner_up = 2^96 e^gap
 *
 * Only the maximum exceeds r. Values are clamped at r: then the maximum's own term is exactly 1,
 * and its share of the moment is 0. It need not be found or masked. Nothing cancels, however far
 * above the others the maximum is. Its distance enters once a row, at the end. There e^gap may be
 * subnormal while its product with a large sum is not: therefore runner_up has the factor 2^96.
 *
 * For probabilities, e^(x - r) is p / p2, and x - r is the logarithm of that ratio. */

/* The statistics of a tile of rows. `top` is the largest probability, as `get` returns it. For
 * logits, it is 0, or NaN if the largest is infinite. */
struct tile {
    float rest[TILE], moment[TILE], gap[TILE], runner_up[TILE], top[TILE];
};

/* Updates the two largest values of each lane. A NaN may be skipped, or may replace a value. */
INLINE void meet(vf x, vf *top, vf *second) {
    *second = larger(*second, smaller(*top, x));
    *top = larger(*top, x);
}

/* Adds the terms of values x to both sums. `ref` is r, or 1 / p2 for probabilities. NaN stays in
 * rest. */
INLINE void add_terms(vf x, vf ref, int is_probs, int with_moment, vf *rest, vf *moment) {
    vf term, distance = set(0);
    if (is_probs) {
        term = smaller(set(1), x * ref);
        if (with_moment)
            distance = logarithm(larger(set(0x1p-100f), term));
    } else {
        distance = larger(set(FARTHEST), smaller(ref, x) - ref);
        term = exponential(distance);
    }
    *rest += term;
    if (with_moment)
        *moment = multiply_add(distance, term, *moment);
}

/* 2^96 e^(gap + error). The error is the difference of the exact gap and the float. */
INLINE vf from_gap(vf gap, vf error) {
    /* The error of an infinite gap is NaN, and becomes a number here. */
    return exponential_of_distance(gap, larger(smaller(error, set(1e-4f)), set(-1e-4f)));
}

/* From the two largest values of W rows: stores gap, runner_up and top at lane i of the tile, and
 * returns the reference of the terms. */
INLINE vf refer(vf top, vf second, int is_probs, struct tile *t, int i) {
    vf gap, runner_up, ref;
    if (is_probs) {
        runner_up = second / (top * set(1 / FAR_SCALE));
        /* The gap is the logarithm of e^gap. If e^gap may be subnormal, of 2^60 e^gap. */
        const float far = 0x1p36f;
        vf ratio = runner_up * where_less(runner_up, set(far), set(1 / far), set(1 / FAR_SCALE));
        gap = logarithm(larger(set(FLT_MIN), ratio)) +
              where_less(runner_up, set(far), set(-0x1.4cb5ecp+5f), set(0)); /* -60 ln 2 */
        ref = smaller(set(FLT_MAX), set(1) / second);
    } else {
        gap = second - top;
        vf minus_top = gap - second;
        runner_up = from_gap(gap, (second - (gap - minus_top)) - (top + minus_top));
        ref = larger(set(-FLT_MAX), second);
        top -= top;
    }
    store(t->gap + i, gap);
    store(t->runner_up + i, runner_up);
    store(t->top + i, top);
    return ref;
}
