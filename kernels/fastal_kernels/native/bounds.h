/* Upper bounds of scores from the first reading of a row. kernels/README.md derives them.
 *
 * With E = e^gap, and `rest` as in `struct statistics`, a row reaches a threshold only if
 *
 *     E (direct + by_rest * rest) >= least.
 *
 * The first reading gives E, and an upper bound of `rest`: of the values of a lane, all but one are
 * at most the second largest of that lane. */

/* Shares of a threshold that cover rounding: of scores, whose error is at most 1e-5, and of what is
 * compared here. */
#ifndef SCORE_SLACK
#define SCORE_SLACK 0x1p-16
#define BOUND_SLACK 0x1p-14
#endif

enum { SETS = 4 }; /* a long row has SETS W lanes */

#define MOST_OVER 1.062f  /* how many times too large `above_exponential` may be */
#define LEAST_NATS 0x1p-8 /* below it, ln(1 + tail) has too few digits */

struct bound {
    float direct, by_rest, least;
    float least_gap;     /* of logits: what a gap must reach if all losers equal r */
    float least_entropy; /* in nats, if the moment is bounded too; else 0 */
    float per_temperature;
    float factor, farthest; /* see `struct exponent` */
    int64_t ahead;          /* bytes from what is read to what is fetched from memory */
};

/* The smallest odds (1 - p1) / p1 with which the entropy may reach a share of its maximum: all
 * other classes are then equal. */
static double odds_of_entropy(double share, double n) {
    double low = 0, high = n - 1;
    for (int i = 0; i < 64; i++) {
        const double odds = low + (high - low) / 2;
        const double entropy = log1p(odds) - odds / (1 + odds) * log(odds / (n - 1));
        if (entropy < share * log(n))
            low = odds;
        else
            high = odds;
    }
    return low;
}

static struct bound bound_of(const struct job *job) {
    const struct exponent by = exponent_at(job);
    const double n = job->n_classes, least = job->threshold * (1 - SCORE_SLACK);
    const double off = least * (n - 1) / n;
    double direct = 0, by_rest = 1, reach = least;
    switch (job->by) {
    case LEAST_CONFIDENCE: reach = off / (1 - off); break;
    case MARGIN: direct = 1, by_rest = 1 - least; break;
    case RATIO: direct = 1, by_rest = 0; break;
    default: reach = odds_of_entropy(least, n);
    }
    reach *= 1 - BOUND_SLACK;
    const double nats = job->by == ENTROPY ? least * log(n) * (1 - 2 * BOUND_SLACK) : 0;
    return (struct bound){.least_entropy = nats > LEAST_NATS ? nats : 0,
                          .per_temperature = job->per_temperature,
                          .direct = direct,
                          .by_rest = by_rest,
                          .least = reach,
                          .least_gap =
                              log(reach / (direct + by_rest * (n - 1))) / job->per_temperature,
                          .ahead = ahead_of(job),
                          .factor = by.factor,
                          .farthest = by.farthest};
}

/* At least e^(d / T) for d <= 0, up to rounding, and at most MOST_OVER e^(d / T) where that is
 * normal: the bits of 1 + f for 2^f, on [0, 1]. */
INLINE vf above_exponential(vf d, const struct bound *bound) {
    const vf bits = multiply_add(d, set(bound->factor * 0x1p23f), set(127 * 0x1p23f));
    return (vf) __builtin_convertvector(larger(bits, set(0x1p23f)), ints);
}

/* The lanes of rows that may reach the threshold, from their two largest values and bounds of their
 * rests. `odd` is NaN in rows that may be invalid. */
INLINE unsigned may_reach(vf top, vf second, vf rest, vf odd, const struct bound *bound) {
    const vf gap = larger(set(bound->farthest), second - top);
    const vf losers = multiply_add(rest, set(bound->by_rest), set(bound->direct));
    const vf reached = exp2_of(gap * set(bound->factor)) * losers;
    return lanes_not_less(reached, set(bound->least)) | ~lanes_not_less(odd, odd);
}

/* The same by the entropy, from a bound of the moment as well. */
INLINE unsigned may_reach_entropy(vf top, vf second, vf rest, vf moment, vf odd,
                                  const struct bound *bound) {
    const vf gap = larger(set(bound->farthest), second - top);
    const vf runner_up = exp2_of(gap * set(bound->factor)), tail = runner_up * rest;
    const vf far = runner_up * multiply_add(gap, rest, moment) * set(-bound->per_temperature);
    const vf nats = logarithm(set(1) + tail) + far / multiply_add(tail, set(1 / MOST_OVER), set(1));
    return lanes_not_less(nats, set(bound->least_entropy)) | ~lanes_not_less(odd, odd);
}

/* Each of the functions below returns a bit for each row, set if the second reading is needed. */

/* Of W rows of at most NARROW classes. If the losers could all equal r, their sum is bounded. */
INLINE unsigned look_at_narrow(const struct job *job, int64_t first, int n, int dtype,
                               const struct bound *bound) {
    ALIGNED float columns[W * NARROW];
    if (job->row_stride <= 2 * job->n_classes * job->class_stride)
        fetch(job->data + first * job->row_stride + bound->ahead, W * job->row_stride);
    turn_rows(job, first, n, dtype, 0, columns);
    vf top = set(-INFINITY), second = top, odd = set(0);
    for (int64_t c = 0; c < job->n_classes; c++) {
        const vf x = load(columns + c * W);
        meet(x, &top, &second);
        odd += x;
    }
    odd += top - top; /* NaN if the largest is infinite */
    if (((lanes_not_less(second - top, set(bound->least_gap)) | ~lanes_not_less(odd, odd)) &
         lanes_of(n, 0)) == 0)
        return 0;
    const vf ref = larger(set(-FLT_MAX), second);
    vf rest = set(-1), moment = set(0);
    if (bound->least_entropy == 0) {
        for (int64_t c = 0; c < job->n_classes; c++)
            rest += above_exponential(smaller(ref, load(columns + c * W)) - ref, bound);
        return may_reach(top, second, rest, odd, bound);
    }
    for (int64_t c = 0; c < job->n_classes; c++) {
        const vf x = load(columns + c * W);
        const vf distance = larger(set(bound->farthest), smaller(ref, x) - ref);
        const vf term = above_exponential(distance, bound);
        rest += term;
        moment = multiply_add(distance, term, moment);
    }
    return may_reach_entropy(top, second, rest, moment, odd, bound);
}

/* The two largest values of each lane, and a sum that keeps NaN. */
INLINE vf meet_all(const char *p, int64_t n, int64_t ahead, int dtype, int n_sets, vf *top,
                   vf *second) {
    const int64_t size = size_of(dtype);
    vf odd = set(0), odd_too = odd;
    for (int j = 0; j < n_sets; j++)
        top[j] = second[j] = set(-INFINITY);
    int64_t i = 0;
    for (; i + 2 * n_sets * W <= n; i += 2 * n_sets * W)
        for (int j = 0; j < n_sets; j++) {
            const char *q = p + (i + 2 * j * W) * size;
            vf a, b;
            fetch(q + ahead, 2 * W * size);
            get_pair(q, dtype, 0, &a, &b);
            second[j] = larger(second[j], smaller(a, b));
            meet(larger(a, b), &top[j], &second[j]);
            odd += a;
            odd_too += b;
        }
    for (int j = 0; i < n; i += W, j++) {
        fetch(p + i * size + ahead, W * size);
        const vf x = get_of(p, i, n, dtype, 0);
        meet(x, &top[j % n_sets], &second[j % n_sets]);
        odd += x;
    }
    return odd + odd_too;
}

/* Of W rows of at most MIDDLE classes. */
INLINE unsigned look_at_middle(const struct job *job, int64_t first, int n, int dtype,
                               const struct bound *bound) {
    const int64_t n_classes = job->n_classes;
    const char *rows = job->data + first * job->row_stride;
    unsigned odd = 0;
    vf tops[W], seconds[W];
    for (int row = n; row < W; row++)
        tops[row] = seconds[row] = set(0);
    for (int row = 0; row < n; row++) {
        const vf sum = meet_all(rows + row * job->row_stride, n_classes, bound->ahead, dtype, 1,
                                &tops[row], &seconds[row]);
        odd |= (unsigned)(lanes_not_less(sum, sum) != lanes_of(W, 0)) << row;
    }
    transpose(tops);
    transpose(seconds);
    vf top = tops[0], second = seconds[0];
    for (int lane = 1; lane < W; lane++) {
        meet(tops[lane], &top, &second);
        second = larger(second, seconds[lane]);
    }
    const vf ref = larger(set(-FLT_MAX), second);
    vf rest = set(-1);
    for (int lane = 0; lane < W; lane++) {
        /* The last lanes have one value more than the others. */
        const int64_t others = (n_classes + lane) / W - 1;
        rest += above_exponential(smaller(ref, tops[lane]) - ref, bound);
        rest = multiply_add(set(others), above_exponential(seconds[lane] - ref, bound), rest);
    }
    return odd | may_reach(top, second, rest, top - top, bound);
}

/* Of one row of more classes. */
INLINE unsigned look_at_wide(const struct job *job, int64_t row, int dtype,
                             const struct bound *bound) {
    const int64_t n = job->n_classes, left = n % (SETS * W);
    vf tops[SETS], seconds[SETS];
    vf odd =
        meet_all(job->data + row * job->row_stride, n, bound->ahead, dtype, SETS, tops, seconds);
    vf top = tops[0], second = seconds[0];
    for (int j = 1; j < SETS; j++) {
        meet(tops[j], &top, &second);
        second = larger(second, seconds[j]);
    }
    for (int step = W / 2; step; step /= 2) {
        const vf other = partners(top, step);
        second = larger(smaller(top, other), larger(second, partners(second, step)));
        top = larger(top, other);
    }
    const vf ref = larger(set(-FLT_MAX), second);
    vf rest = set(0);
    for (int j = 0; j < SETS; j++) {
        const int64_t others = n / (SETS * W) + (j * W < left) - 1;
        rest += above_exponential(smaller(ref, tops[j]) - ref, bound);
        rest = multiply_add(set(others), above_exponential(seconds[j] - ref, bound), rest);
    }
    odd += top - top;
    return may_reach(top, second, set(total(rest) - 1), set(total(odd)), bound) & 1;
}

INLINE unsigned look(const struct job *job, int64_t first, int n, int dtype,
                     const struct bound *bound) {
    if (job->n_classes <= NARROW)
        return look_at_narrow(job, first, n, dtype, bound);
    if (job->n_classes <= MIDDLE)
        return look_at_middle(job, first, n, dtype, bound);
    unsigned found = 0;
    for (int i = 0; i < n; i++)
        found |= look_at_wide(job, first + i, dtype, bound) << i;
    return found;
}
