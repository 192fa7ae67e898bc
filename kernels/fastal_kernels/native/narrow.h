/* Rows of at most NARROW classes: each lane holds one row. */

/* Transposes W rows: class c of all rows goes to columns + c * W. Reads whole vectors. */
INLINE void turn(const char *rows, int64_t stride, int64_t n_classes, int dtype, int is_probs,
                 float *columns) {
    if (n_classes == 2 && stride == 2 * size_of(dtype)) {
        vf a = get(rows, dtype, is_probs), b = get(rows + W * size_of(dtype), dtype, is_probs);
        unzip(&a, &b);
        store(columns, a);
        store(columns + W, b);
        return;
    }
    for (int64_t c = 0; c < n_classes; c += W) {
        vf block[W];
        for (int i = 0; i < W; i++)
            block[i] = get(rows + i * stride + c * size_of(dtype), dtype, is_probs);
        transpose(block);
        for (int i = 0; i < W; i++)
            store(columns + (c + i) * W, block[i]);
    }
}

INLINE double largest(struct strip from) {
    double top = -INFINITY;
    for (int64_t i = 0; i < from.n; i++)
        top = get_double(from, i) > top ? get_double(from, i) : top;
    return top;
}

/* Turns n <= W rows from `first` on. */
INLINE void turn_rows(const struct job *job, int64_t first, int n, int dtype, int is_probs,
                      float *columns) {
    const int64_t n_classes = job->n_classes, whole = padded(n_classes);
    const int ready = dtype == FLOAT64 ? READY : dtype;
    const int64_t size = size_of(dtype), pitch = whole * size_of(ready);
    ALIGNED float packed[W * NARROW];
    const char *rows = job->data + first * job->row_stride;
    int64_t stride = job->row_stride;
    /* Bytes from here to the end of the matrix: no more may be read. */
    const int64_t left = (job->n_rows - 1 - first) * stride + n_classes * size;
    if (dtype == FLOAT64 || job->class_stride != size || (W - 1) * stride + whole * size > left) {
        for (int row = 0; row < n; row++) {
            struct strip from = {rows + row * stride, job->class_stride, n_classes};
            double base = dtype == FLOAT64 && !is_probs ? largest(from) : 0;
            pack(from, dtype, is_probs, base, (char *)packed + row * pitch);
        }
        rows = (const char *)packed;
        stride = pitch;
    }
    turn(rows, stride, n_classes, ready, is_probs, columns);
}

/* Fills the tile with the statistics of rows first, first + 1, ... */
INLINE void narrow(const struct job *job, int64_t first, int n_rows, int dtype, int is_probs,
                   int with_moment, struct tile *t) {
    const int64_t n_classes = job->n_classes;
    const struct exponent by = exponent_at(job);
    ALIGNED float columns[W * NARROW];
    for (int i = 0; i < n_rows; i += W) {
        turn_rows(job, first + i, n_rows - i < W ? n_rows - i : W, dtype, is_probs, columns);
        vf top = set(-INFINITY), second = top, rest = set(-1), moment = set(0);
        for (int64_t c = 0; c < n_classes; c++)
            meet(load(columns + c * W), &top, &second);
        vf ref = refer(top, second, job->per_temperature, is_probs, t, i);
        for (int64_t c = 0; c < n_classes; c++)
            add_terms(load(columns + c * W), ref, by, is_probs, with_moment, &rest, &moment);
        store(t->rest + i, rest); /* the sum began at -1: it leaves out the maximum's term */
        store(t->moment + i, moment * set(job->per_temperature));
    }
}
