/* Rows whose neighbours are neighbouring elements, such as the pixels of an image of planes. Each
 * lane holds one row, as in memory: nothing is transposed. */

/* Whether W values of one class lie side by side. */
INLINE int lie_along_lanes(const struct job *job, int dtype) {
    const int64_t size = size_of(dtype);
    return dtype != FLOAT64 && job->row_stride == size && job->class_stride != size &&
           (job->n_classes <= NARROW || job->are_planes);
}

/* W contiguous elements from p on. Reads nothing from `end` on. */
INLINE vf get_until(const char *p, const char *end, int dtype, int is_probs) {
    if (p + W * size_of(dtype) <= end)
        return get(p, dtype, is_probs);
    ALIGNED char some[W * sizeof(float)] = {0};
    memcpy(some, p, end - p);
    return get(some, dtype, is_probs);
}

/* Fills the tile with the statistics of rows first, first + 1, ... A sum adds at most NARROW terms,
 * and then the sums of the other classes. */
INLINE void columns(const struct job *job, int64_t first, int n_rows, int dtype, int is_probs,
                    int with_moment, struct tile *t) {
    const int64_t n_classes = job->n_classes, stride = job->class_stride, size = size_of(dtype);
    const char *end = job->data + (n_classes - 1) * stride + job->n_rows * size;
    const struct exponent by = exponent_at(job);
    for (int i = 0; i < n_rows; i += W) {
        const char *rows = job->data + (first + i) * size;
        vf top = set(-INFINITY), second = top;
        for (int64_t c = 0; c < n_classes; c++)
            meet(get_until(rows + c * stride, end, dtype, is_probs), &top, &second);
        vf ref = refer(top, second, job->per_temperature, is_probs, t, i);
        vf rest = set(0), moment = set(0);
        for (int64_t block = 0; block < n_classes; block += NARROW) {
            const int64_t stop = block + NARROW < n_classes ? block + NARROW : n_classes;
            vf r = set(block == 0 ? -1 : 0), m = set(0);
            for (int64_t c = block; c < stop; c++)
                add_terms(get_until(rows + c * stride, end, dtype, is_probs), ref, by, is_probs,
                          with_moment, &r, &m);
            rest += r;
            moment += m;
        }
        store(t->rest + i, rest);
        store(t->moment + i, moment * set(job->per_temperature));
    }
}
