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
 * A temperature T divides all differences of x. Only the exponentials' factors know of it: the sum
 * of moments is multiplied by 1 / T once a row.
 *
 * Only the maximum exceeds r. Values are clamped at r: then the maximum's own term is exactly 1,
 * and its share of the moment is 0. It need not be found or masked. Nothing cancels, however far
 * above the others the maximum is. Its distance enters once a row, at the end. There e^gap may be
 * subnormal while its product with a large sum is not: therefore runner_up has the factor 2^96.
 *
 * For probabilities, e^(x - r) is p / p2, and x - r is the logarithm of that ratio. */

/* The statistics of W rows. `top` is the largest probability, as `get` returns it. For
 * logits, it is 0, or NaN if the largest is infinite. */
struct statistics {
    vf rest, moment, gap, runner_up, top;
};

/* Those of a tile of rows. */
struct tile {
    float rest[TILE], moment[TILE], gap[TILE], runner_up[TILE], top[TILE];
};

/* Updates the two largest values of each lane. A NaN may be skipped, or may replace a value. */
INLINE void meet(vf x, vf *top, vf *second) {
    *second = larger(*second, smaller(*top, x));
    *top = larger(*top, x);
}

/* What turns a difference of logits into an exponent. */
struct exponent {
    float factor;   /* log2 e / T */
    float farthest; /* the least difference: below it, the exponential counts as it does there */
};

INLINE struct exponent exponent_at(const struct job *job) {
    return (struct exponent){LOG2_E * job->per_temperature, FARTHEST / job->per_temperature};
}

/* Adds the terms of values x to both sums. `ref` is r, or 1 / p2 for probabilities. NaN stays in
 * rest. */
INLINE void add_terms(vf x, vf ref, struct exponent by, int is_probs, int with_moment, vf *rest,
                      vf *moment) {
    vf term, distance = set(0);
    if (is_probs) {
        term = smaller(set(1), x * ref);
        if (with_moment)
            distance = logarithm(larger(set(0x1p-100f), term));
    } else {
        distance = larger(set(by.farthest), smaller(ref, x) - ref);
        term = exp2_of(distance * set(by.factor));
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

/* (second - top) / T as a float, and the error of that float. */
INLINE vf gap_at(vf second, vf top, double per_temperature, vf *error) {
    const vd low = (lower(second) - lower(top)) * set_double(per_temperature);
    const vd high = (upper(second) - upper(top)) * set_double(per_temperature);
    const vf gap = narrowed(low, high);
    *error = narrowed(low - lower(gap), high - upper(gap));
    return gap;
}

/* From the two largest probabilities of W rows: gap, runner_up and top. */
INLINE struct statistics of_probs(vf top, vf second) {
    const vf runner_up = second / (top * set(1 / FAR_SCALE));
    /* The gap is the logarithm of e^gap. If e^gap may be subnormal, of 2^60 e^gap. */
    const float far = 0x1p36f;
    const vf ratio = runner_up * where_less(runner_up, set(far), set(1 / far), set(1 / FAR_SCALE));
    const vf gap = logarithm(larger(set(FLT_MIN), ratio)) +
                   where_less(runner_up, set(far), set(-0x1.4cb5ecp+5f), set(0)); /* -60 ln 2 */
    return (struct statistics){.gap = gap, .runner_up = runner_up, .top = top};
}

/* From the two largest values of W rows: stores gap, runner_up and top at lane i of the tile, and
 * returns the reference of the terms. */
INLINE vf refer(vf top, vf second, double per_temperature, int is_probs, struct tile *t, int i) {
    vf gap, runner_up, ref;
    if (is_probs) {
        const struct statistics s = of_probs(top, second);
        gap = s.gap, runner_up = s.runner_up;
        ref = smaller(set(FLT_MAX), set(1) / second);
    } else {
        vf error;
        if (per_temperature == 1) {
            gap = second - top;
            vf minus_top = gap - second;
            error = (second - (gap - minus_top)) - (top + minus_top);
        } else
            gap = gap_at(second, top, per_temperature, &error);
        runner_up = from_gap(gap, error);
        ref = larger(set(-FLT_MAX), second);
        top -= top;
    }
    store(t->gap + i, gap);
    store(t->runner_up + i, runner_up);
    store(t->top + i, top);
    return ref;
}
