/* The nearest centroid of each row: the products of a head, of which only the largest is kept. */

/* The largest products so far of a bunch of rows, and the numbers of their centroids. */
struct largest {
    float product[MOST_PANELS * PANEL];
    int32_t number[MOST_PANELS * PANEL];
};

/* Of equal products, the first stays. Lanes after the last row are computed and not used. */
INLINE void keep_largest(const struct head_sums *sums, int used_panels, int32_t first, int n,
                         struct largest *largest) {
    for (int row = 0; row < used_panels * PANEL; row += W) {
        const float (*of)[2][W] = sums->of[row / PANEL][row % PANEL / (2 * W)];
        vf product = load(largest->product + row);
        vf number = load((const float *)(largest->number + row)); /* its bits */
        for (int c = 0; c < n; c++) {
            const vf x = load(of[c][row / W % 2]);
            number = where_less(product, x, (vf)((ints)set(0) + (first + c)), number);
            product = where_less(product, x, x, product);
        }
        store(largest->product + row, product);
        store((float *)(largest->number + row), number);
    }
}

/* Writes the panels of a bunch of rows. Returns the head whose logits are its products. */
INLINE struct head_job products_of(const struct cosine_job *job, int64_t first, int64_t n,
                                   int dtype) {
    const struct embeddings *rows = &job->rows;
    const struct panels_job panels = {.data = embedding(rows, first),
                                      .row_stride = rows->row_stride,
                                      .n_rows = n,
                                      .n_inner = rows->n_columns,
                                      .panels = job->panels};
    for (int64_t p = 0; p * PANEL < n; p++)
        put_panel(&panels, p, dtype);
    return (struct head_job){.panels = job->panels,
                             .weight = (const char *)job->units,
                             .dtype = FLOAT32,
                             .class_stride = rows->n_columns * sizeof *job->units,
                             .temperature = 1,
                             .n_rows = n,
                             .n_classes = job->n_units,
                             .n_inner = rows->n_columns};
}

/* The next bunch, to be fetched while one of as many panels is multiplied. Rows that lie apart are
 * not fetched: most of the memory between the first and the last is not theirs. */
INLINE struct meanwhile rows_after(const struct cosine_job *job, int64_t first, int64_t most,
                                   int n_panels, int dtype) {
    const struct embeddings *rows = &job->rows;
    const int64_t left = rows->n_rows - first, n = left < most ? left : most;
    if (n <= 0 || rows->row_stride > 2 * rows->n_columns * size_of(dtype))
        return (struct meanwhile){NULL, NULL, 0};
    const int64_t n_groups = (job->n_units + GROUP - 1) / GROUP;
    const int64_t n_steps = n_groups * n_panels * ((rows->n_columns + SPAN - 1) / SPAN);
    const char *next = embedding(rows, first);
    return (struct meanwhile){next, embedding(rows, first + n - 1),
                              n * rows->row_stride / n_steps + 64};
}

INLINE void find_nearest(const struct cosine_job *job, int64_t first, int64_t n, int dtype) {
    const struct embeddings *rows = &job->rows;
    const char *data = embedding(rows, first);
    const struct head_job head = products_of(job, first, n, dtype);
    const int used_panels = panels_from(&head, 0);
    struct meanwhile next_rows = rows_after(job, first + n, n, used_panels, dtype);
    ALIGNED struct head_sums sums;
    struct largest largest;
    for (int row = 0; row < used_panels * PANEL; row++)
        largest.product[row] = -INFINITY, largest.number[row] = 0;
    for (int64_t c = 0; c < job->n_units; c += GROUP) {
        const int n_units = job->n_units - c < GROUP ? job->n_units - c : GROUP;
        multiply(&head, c, n_units, 0, FLOAT32, &next_rows, &sums);
        keep_largest(&sums, used_panels, c, n_units, &largest);
    }
    for (int64_t row = 0; row < n; row++) {
        const float length = length_of(data + row * rows->row_stride, rows->n_columns, dtype);
        job->similarities[first + row] =
            is_accurate(length) ? largest.product[row] / length : INFINITY;
        job->clusters[first + row] = largest.number[row];
    }
}

int NEAREST(const void *given) {
    const struct cosine_job *job = given;
    const int64_t most = job->n_panels * PANEL;
    for (int64_t first = 0; first < job->rows.n_rows; first += most) {
        const int64_t left = job->rows.n_rows - first, n = left < most ? left : most;
        switch (job->rows.dtype) {
        case FLOAT16: find_nearest(job, first, n, FLOAT16); break;
        case BFLOAT16: find_nearest(job, first, n, BFLOAT16); break;
        default: find_nearest(job, first, n, FLOAT32); break;
        }
    }
    return 1;
}
