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

/* Fills the tile with the statistics of rows first, first + 1, ... */
INLINE void labels(const struct job *job, int64_t first, int n_rows, int dtype, int is_probs,
                   struct tile *t) {
    const int64_t stride = job->row_stride, size = size_of(dtype);
    const char *end = job->data + (job->n_rows - 1) * stride + size;
    for (int i = 0; i < n_rows; i += W) {
        const char *p = job->data + (first + i) * stride;
        vd low, high;
        vf x;
        if (dtype == FLOAT64) {
            low = strided_doubles(p, stride, n_rows - i);
            high = strided_doubles(p + D * stride, stride, n_rows - i - D);
            x = narrowed(low, high);
        } else {
            x = stride == size ? get_until(p, end, dtype, is_probs)
                               : strided(p, stride, n_rows - i, dtype, is_probs);
            low = lower(x), high = upper(x);
        }
        if (is_probs) {
            /* In doubles, 1 - p is exact or rounded once. */
            vf one = x, other;
            if (dtype == FLOAT64) {
                one = prepared(x, FLOAT32, 1);
                other = prepared(narrowed(set_double(1) - low, set_double(1) - high), FLOAT32, 1);
            } else
                other = set(PROBS_SCALE) - x;
            other = larger(set(0), other);
            refer(larger(other, one), smaller(other, one), 1, 1, t, i);
        } else {
            /* 0, or NaN for NaN and +inf. A double may be finite and too large for a float. */
            const vd none = set_double(0), lows = larger_double(none, low),
                     highs = larger_double(none, high);
            store(t->top + i, narrowed(lows - lows, highs - highs));
            vf magnitude = larger(x, -x), error, gap;
            if (dtype != FLOAT64 && job->per_temperature == 1) {
                gap = -magnitude;
                error = set(0);
            } else {
                low = below_zero(low, job->per_temperature);
                high = below_zero(high, job->per_temperature);
                gap = narrowed(low, high);
                error = narrowed(low - lower(gap), high - upper(gap));
            }
            store(t->gap + i, gap);
            store(t->runner_up + i, from_gap(gap, error));
        }
        store(t->rest + i, set(1));
        store(t->moment + i, set(0));
    }
}
