/* The similarities of rows to all centroids. To few, each lane has a sum for each row and centroid:
 * panels would take longer than the products. To many, they are the products of a head. */

enum {
    FEW_UNITS = 8,               /* measured */
    SOME_ROWS = W == 16 ? 4 : 2, /* rows whose sums, with SOME_UNITS centroids, fit the registers */
    SOME_UNITS = 4,
};

/* Of SOME_ROWS rows and n_units centroids, a constant. */
INLINE void multiply_some(const char *const *rows, const float *units, int n_units,
                          int64_t n_columns, int dtype, float (*products)[SOME_UNITS]) {
    vf sums[SOME_ROWS][SOME_UNITS];
    for (int r = 0; r < SOME_ROWS; r++)
        for (int c = 0; c < n_units; c++)
            sums[r][c] = set(0);
    for (int64_t i = 0; i < n_columns; i += W) {
        vf of_units[SOME_UNITS];
        for (int c = 0; c < n_units; c++)
            of_units[c] = words_of((const char *)(units + c * n_columns), i, n_columns, FLOAT32);
        for (int r = 0; r < SOME_ROWS; r++) {
            const vf x = words_of(rows[r], i, n_columns, dtype);
            for (int c = 0; c < n_units; c++)
                sums[r][c] = multiply_add(x, of_units[c], sums[r][c]);
        }
    }
    for (int r = 0; r < SOME_ROWS; r++)
        for (int c = 0; c < n_units; c++)
            products[r][c] = total(sums[r][c]);
}

INLINE void put_similarities(const struct cosine_job *job, int64_t first, int dtype) {
    const struct embeddings *rows = &job->rows;
    const int64_t left = rows->n_rows - first, n = left < SOME_ROWS ? left : SOME_ROWS;
    const char *some[SOME_ROWS];
    float lengths[SOME_ROWS], products[SOME_ROWS][SOME_UNITS];
    for (int r = 0; r < SOME_ROWS; r++) {
        some[r] = embedding(rows, first + (r < n ? r : 0)); /* computed and not used */
        lengths[r] = length_of(some[r], rows->n_columns, dtype);
    }
    for (int64_t c = 0; c < job->n_units;) {
        const float *units = job->units + c * rows->n_columns;
        int n_units = 1;
        if (job->n_units - c >= 4)
            multiply_some(some, units, n_units = 4, rows->n_columns, dtype, products);
        else if (job->n_units - c >= 2)
            multiply_some(some, units, n_units = 2, rows->n_columns, dtype, products);
        else
            multiply_some(some, units, 1, rows->n_columns, dtype, products);
        for (int r = 0; r < n; r++)
            for (int j = 0; j < n_units; j++)
                job->similarities[(first + r) * job->n_units + c + j] =
                    is_accurate(lengths[r]) ? products[r][j] / lengths[r] : INFINITY;
        c += n_units;
    }
}

/* Of a bunch of rows and many centroids. */
INLINE void put_products(const struct cosine_job *job, int64_t first, int64_t n, int dtype) {
    struct head_job head = products_of(job, first, n, dtype);
    head.logits = job->similarities + first * job->n_units;
    head.logits_stride = job->n_units;
    for (int64_t unit = 0; unit < HEAD_UNITS(&head); unit++)
        work_on_unit(&head, unit, FLOAT32);
    for (int64_t row = 0; row < n; row++) {
        const float length = length_of(embedding(&job->rows, first + row), head.n_inner, dtype);
        float *of_row = head.logits + row * job->n_units;
        for (int64_t c = 0; c < job->n_units; c++)
            of_row[c] = is_accurate(length) ? of_row[c] / length : INFINITY;
    }
}

INLINE void put_all(const struct cosine_job *job, int dtype) {
    const int is_few = job->n_units <= FEW_UNITS;
    const int64_t n_rows = job->rows.n_rows, most = is_few ? SOME_ROWS : job->n_panels * PANEL;
    for (int64_t first = 0; first < n_rows; first += most)
        if (is_few)
            put_similarities(job, first, dtype);
        else
            put_products(job, first, n_rows - first < most ? n_rows - first : most, dtype);
}

int SIMILARITIES(const void *given) {
    const struct cosine_job *job = given;
    switch (job->rows.dtype) {
    case FLOAT16: put_all(job, FLOAT16); break;
    case BFLOAT16: put_all(job, BFLOAT16); break;
    default: put_all(job, FLOAT32); break;
    }
    return 1;
}
