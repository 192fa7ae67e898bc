/* Rows of many classes, and doubles. The blocks of a row are spread over lanes one after the other.
 * A block is read twice: the second time, it is in the L1 cache. */

struct pair {
    double top, second;
};

/* The statistics of a row so far; see `struct tile`. For probabilities, the two largest are
 * logarithms. */
struct state {
    struct pair largest;
    double rest, moment;
};

/* The two largest values of both pairs. NaN is skipped. */
INLINE struct pair both(struct pair a, struct pair b) {
    double lower = a.top < b.top ? a.top : b.top,
           second = a.second > b.second ? a.second : b.second;
    return (struct pair){a.top > b.top ? a.top : b.top, lower > second ? lower : second};
}

INLINE struct pair two_largest_doubles(struct strip from) {
    struct pair found = {-INFINITY, -INFINITY};
    for (int64_t i = 0; i < from.n; i++)
        found = both((struct pair){get_double(from, i), -INFINITY}, found);
    return found;
}

INLINE struct pair two_largest(const char *p, int64_t n, int64_t ahead, int dtype, int is_probs,
                               float *floats) {
    vf top, second;
    meet_block(p, n, ahead, dtype, is_probs, &top, &second, floats);
    for (int step = W / 2; step; step /= 2) {
        vf other = partners(top, step);
        second = larger(smaller(top, other), larger(second, partners(second, step)));
        top = larger(top, other);
    }
    return is_probs ? (struct pair){log(top[0]), log(second[0])} : (struct pair){top[0], second[0]};
}

INLINE float total(vf a) {
    for (int step = W / 2; step; step /= 2)
        a += partners(a, step);
    return a[0];
}

/* (b - a) / T. At least -1e4, where its exponential is 0. NaN becomes -1e4 too; the sum `rest`
 * keeps it. */
INLINE double distance(double a, double b, double per_temperature) {
    double d = (b - a) * per_temperature;
    return d > -1e4 ? d : -1e4;
}

/* Moves the sums to a higher reference. The previous maximum was left out, and becomes a term. */
INLINE void refer_to(double ref, double ref_before, double top_before, double per_temperature,
                     struct state *s) {
    if (ref != ref_before) {
        double d = distance(ref, ref_before, per_temperature), shrink = exp(d);
        s->moment = shrink * (s->moment + d * s->rest);
        s->rest *= shrink;
    }
    double d = distance(ref, top_before < ref ? top_before : ref, per_temperature), term = exp(d);
    s->moment += d * term;
    s->rest += term;
}

INLINE struct state sums_of_row(const struct job *job, const char *row, int dtype, int is_probs,
                                int with_moment) {
    const int in_doubles = dtype == FLOAT64 && !is_probs, ready = dtype == FLOAT64 ? READY : dtype;
    const int is_half = dtype < FLOAT32; /* 16-bit values are widened once for both reads */
    const int64_t stride = job->class_stride, size = size_of(dtype);
    const struct exponent by = exponent_at(job);
    ALIGNED float room[W + BLOCK];
    ALIGNED float floats[BLOCK];
    char *packed = (char *)(room + W);
    const int64_t ahead = ahead_of(job);
    struct state s = {{-INFINITY, -INFINITY}, 0, 0};
    double ref = -INFINITY;
    for (int64_t c = 0; c < job->n_classes; c += BLOCK) {
        const int64_t n = job->n_classes - c < BLOCK ? job->n_classes - c : BLOCK;
        const struct strip block = {row + c * stride, stride, n};
        const char *p = dtype == FLOAT64 || stride != size ? packed : block.data;
        if (p == packed && !in_doubles)
            pack(block, dtype, is_probs, 0, packed);
        struct pair found = in_doubles ? two_largest_doubles(block)
                                       : two_largest(p, n, p == packed ? 0 : ahead, ready, is_probs,
                                                     is_half ? floats : NULL);

        const double ref_before = ref, top_before = s.largest.top;
        s.largest = both(found, s.largest);
        const double lowest = in_doubles || is_probs ? -DBL_MAX : -FLT_MAX;
        ref = s.largest.second > lowest ? s.largest.second : lowest;
        if (c > 0)
            refer_to(ref, ref_before, top_before, job->per_temperature, &s);

        if (in_doubles)
            pack(block, dtype, is_probs, ref, packed);
        const double inverse = is_probs ? exp(-ref) : 0;
        vf rest, moment,
            to = set(is_probs     ? (inverse < FLT_MAX ? inverse : FLT_MAX)
                     : in_doubles ? 0
                                  : ref);
        if (is_half)
            add_block((const char *)floats, padded(n), to, by, READY, is_probs, with_moment, &rest,
                      &moment);
        else
            add_block(p, n, to, by, ready, is_probs, with_moment, &rest, &moment);
        s.rest += (double)total(rest) - (s.largest.top > -INFINITY); /* without the maximum */
        s.moment += total(moment) * job->per_temperature;
    }
    return s;
}

/* Fills the tile with the statistics of rows first, first + 1, ... */
INLINE void wide(const struct job *job, int64_t first, int n_rows, int dtype, int is_probs,
                 int with_moment, struct tile *t) {
    ALIGNED float error[TILE] = {0};
    memset(t, 0, sizeof *t); /* lanes without a row are finished as well */
    for (int i = 0; i < n_rows; i++) {
        const char *row = job->data + (first + i) * job->row_stride;
        struct state s = sums_of_row(job, row, dtype, is_probs, with_moment);
        double gap = distance(s.largest.top, s.largest.second, job->per_temperature);
        t->rest[i] = s.rest;
        t->moment[i] = s.moment;
        t->gap[i] = gap;
        error[i] = gap - t->gap[i];
        t->top[i] = is_probs ? exp(s.largest.top) : s.largest.top - s.largest.top;
    }
    for (int i = 0; i < n_rows; i += W)
        store(t->runner_up + i, from_gap(load(t->gap + i), load(error + i)));
}
