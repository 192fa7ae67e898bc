/* What a row's scores need of it.
 *
 * With a the largest value of a row and r the second largest (a again, where it ties), and one
 * maximum left out of each sum:
 *
 *     rest      = sum of e^(x - r)            at least 1
 *     moment    = sum of (x - r) e^(x - r)    at most 0
 *     gap       = r - a                       at most 0
 *     runner_up = 2^96 e^gap
 *
 * No value but the maximum exceeds r, so that clamping at r turns the maximum's own term into
 * exactly 1, and its share of the moment into 0: it need not be found or masked. Nothing cancels,
 * however far above the others the maximum is; its distance enters once a row, at the end. There
 * e^gap may be subnormal and its product with the sum of many terms not, hence the 2^96.
 *
 * Of probabilities, e^(x - r) is p / p2, and x - r the logarithm of that. */

/* A tile of rows. `top` is the largest probability, as `get` gives it; of others 0, or NaN where
 * the largest is infinite. */
struct tile {
    float rest[TILE], moment[TILE], gap[TILE], runner_up[TILE], top[TILE];
};

/* The two largest of each lane so far. NaN is passed over, or takes another's place. */
INLINE void meet(vf x, vf *top, vf *second) {
    *second = larger(*second, smaller(*top, x));
    *top = larger(*top, x);
}

/* Adds the terms of values x, relative to r; `ref` is r, or 1 / p2. NaN goes into rest. */
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

/* 2^96 e^(gap + error), where error is what a float lacks of the gap. */
INLINE vf from_gap(vf gap, vf error) {
    /* Of an infinite gap it is NaN, and becomes a number here. */
    return exponential_of_distance(gap, larger(smaller(error, set(1e-4f)), set(-1e-4f)));
}

/* Of W rows, the two largest values: what follows from them, at lane i of the tile. What to refer
 * the terms to. */
INLINE vf refer(vf top, vf second, int is_probs, struct tile *t, int i) {
    vf gap, runner_up, ref;
    if (is_probs) {
        runner_up = second / (top * set(1 / FAR_SCALE));
        /* Its logarithm is that of e^gap or, where this may be subnormal, of 2^60 e^gap. */
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
