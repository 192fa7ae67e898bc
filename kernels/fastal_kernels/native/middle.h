/* Rows of NARROW + 1 to MIDDLE classes. The elements of each row are spread over lanes. The results
 * of W rows are then transposed, so that each lane holds one row. */

/* Fills the tile with the statistics of rows first, first + 1, ... */
INLINE void middle(const struct job *job, int64_t first, int n_rows, int dtype, int is_probs,
                   int with_moment, struct tile *t) {
    const int64_t n_classes = job->n_classes, size = size_of(dtype);
    const struct exponent by = exponent_at(job);
    ALIGNED float packed[W * MIDDLE], refs[W];
    for (int i = 0; i < n_rows; i += W) {
        const int n = n_rows - i < W ? n_rows - i : W;
        const char *rows = job->data + (first + i) * job->row_stride;
        int64_t stride = job->row_stride, ahead = ahead_of(job);
        if (job->class_stride != size) {
            for (int row = 0; row < n; row++) {
                struct strip from = {rows + row * stride, job->class_stride, n_classes};
                pack(from, dtype, is_probs, 0, (char *)packed + row * n_classes * size);
            }
            rows = (const char *)packed;
            stride = n_classes * size;
            ahead = 0;
        }

        vf one[W], other[W]; /* the two largest values, later the two sums */
        for (int row = 0; row < W; row++)
            one[row] = other[row] = set(0);
        for (int row = 0; row < n; row++)
            meet_block(rows + row * stride, n_classes, ahead, dtype, is_probs, &one[row],
                       &other[row], NULL);
        transpose(one);
        transpose(other);
        vf top = one[0], second = other[0];
        for (int lane = 1; lane < W; lane++) {
            meet(one[lane], &top, &second);
            second = larger(second, other[lane]);
        }

        store(refs, refer(top, second, job->per_temperature, is_probs, t, i));
        for (int row = 0; row < n; row++)
            add_block(rows + row * stride, n_classes, set(refs[row]), by, dtype, is_probs,
                      with_moment, &one[row], &other[row]);
        transpose(one);
        transpose(other);
        vf rest = one[0], moment = other[0];
        for (int lane = 1; lane < W; lane++) {
            rest += one[lane];
            moment += other[lane];
        }
        store(t->rest + i, rest - set(1));
        store(t->moment + i, moment * set(job->per_temperature));
    }
}
