/* Labels that are independent of each other. Each is a problem of two classes: the logits x and 0,
 * or the probabilities p and 1 - p. A row is one label. */

/* D doubles, `stride` bytes apart; zeros from the n-th on. */
INLINE vd strided_doubles(const char *p, int64_t stride, int n) {
    ALIGNED double x[D] = {0};
    for (int i = 0; i < D && i < n; i++)
        memcpy(x + i, p + i * stride, sizeof *x);
    vd found;
    memcpy(&found, x, sizeof found);
    return found;
}

/* -|x| / T in doubles. */
INLINE vd below_zero(vd x, double per_temperature) {
    const vd down = x * set_double(-per_temperature), up = x * set_double(per_temperature);
    return smaller_double(down, up);
}

/* W elements of any type except FLOAT64, `stride` bytes apart; zeros from the n-th on. */
INLINE vf strided(const char *p, int64_t stride, int n, int dtype, int is_probs) {
    ALIGNED char some[W * sizeof(float)] = {0};
    for (int i = 0; i < W && i < n; i++)
        memcpy(some + i * size_of(dtype), p + i * stride, size_of(dtype));
    return get(some, dtype, is_probs);
}

/* The statistics of W labels from `p` on, of which there are n. Nothing is read from `end` on. */
INLINE struct statistics labels_at(const struct job *job, const char *p, const char *end, int64_t n,
                                   int dtype, int is_probs) {
    const int64_t stride = job->row_stride;
    vd low, high;
    vf x;
    if (dtype == FLOAT64) {
        low = strided_doubles(p, stride, n);
        high = strided_doubles(p + D * stride, stride, n - D);
        x = narrowed(low, high);
    } else {
        x = stride == size_of(dtype) ? get_until(p, end, dtype, is_probs)
                                     : strided(p, stride, n, dtype, is_probs);
        low = lower(x), high = upper(x);
    }
    struct statistics s;
    if (is_probs) {
        /* In doubles, 1 - p is exact or rounded once. */
        vf one = x, other = set(PROBS_SCALE) - x;
        if (dtype == FLOAT64) {
            one = prepared(x, FLOAT32, 1);
            other = prepared(narrowed(set_double(1) - low, set_double(1) - high), FLOAT32, 1);
        }
        other = larger(set(0), other);
        s = of_probs(larger(other, one), smaller(other, one));
    } else {
        vf error = set(0);
        s.gap = -larger(x, -x);
        if (dtype == FLOAT64 || job->per_temperature != 1) {
            low = below_zero(low, job->per_temperature);
            high = below_zero(high, job->per_temperature);
            s.gap = narrowed(low, high);
            error = narrowed(low - lower(s.gap), high - upper(s.gap));
        }
        s.runner_up = from_gap(s.gap, error);
        /* 0, or NaN for NaN and +inf. A double may be finite and too large for a float. */
        const vf positive = larger(set(0), x);
        s.top = positive - positive;
        if (dtype == FLOAT64) {
            low = larger_double(set_double(0), strided_doubles(p, stride, n));
            high = larger_double(set_double(0), strided_doubles(p + D * stride, stride, n - D));
            s.top = narrowed(low - low, high - high);
        }
    }
    s.rest = set(1);
    s.moment = set(0);
    return s;
}

/* Scores n labels from `first` on; measure m goes to scores + m * width. */
INLINE void label_scores(const struct job *job, const int *asked, int64_t first, int64_t n,
                         int dtype, int is_probs, float *scores, int width) {
    const char *end = job->data + (job->n_rows - 1) * job->row_stride + size_of(dtype);
    for (int64_t i = 0; i < n; i += W) {
        const char *p = job->data + (first + i) * job->row_stride;
        const struct statistics s = labels_at(job, p, end, n - i, dtype, is_probs);
        score(job, asked, &s, scores + i, width);
    }
}

/* Calls `label_scores` with constants: each combination of type and kind is compiled on its own. */
static void score_labels(const struct job *job, const int *asked, int64_t first, int64_t n,
                         float *scores, int width) {
    switch (job->dtype) {
#define OF_TYPE(dtype)                                                                             \
    case dtype:                                                                                    \
        if (job->is_probs)                                                                         \
            label_scores(job, asked, first, n, dtype, 1, scores, width);                           \
        else                                                                                       \
            label_scores(job, asked, first, n, dtype, 0, scores, width);                           \
        break;
        OF_TYPE(FLOAT16)
        OF_TYPE(BFLOAT16)
        OF_TYPE(FLOAT32)
        OF_TYPE(FLOAT64)
#undef OF_TYPE
    }
}
