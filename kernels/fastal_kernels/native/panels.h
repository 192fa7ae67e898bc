/* Rows of hidden states as panels, in which a row is a lane. */

enum { PANELS_A_WHILE = 1 << 25 }; /* values after which Python may check for signals */

/* Writes a panel of rows: words of a column beside each other, zeros after the last row. */
INLINE void put_panel(const struct panels_job *job, int64_t unit, int dtype) {
    float *panel = job->panels + unit * PANEL * job->n_inner;
    for (int first = 0; first < PANEL; first += W)
        for (int64_t i = 0; i < job->n_inner; i += W) {
            const int64_t left = job->n_inner - i, n = left < W ? left : W;
            vf turned[W];
            for (int r = 0; r < W; r++) {
                const int64_t row = unit * PANEL + first + r;
                turned[r] = set(0);
                if (row < job->n_rows)
                    turned[r] = words_of(job->data + row * job->row_stride, i, job->n_inner, dtype);
            }
            transpose(turned);
            for (int64_t k = 0; k < n; k++)
                store(panel + (i + k) * PANEL + first, turned[k]);
        }
}

int PANELS(const void *given) {
    const struct panels_job *job = given;
    const int64_t n_units = (job->n_rows + PANEL - 1) / PANEL;
    int64_t done = 0, unit;
    while (done < PANELS_A_WHILE &&
           (unit = __atomic_fetch_add(&job->progress->next_row, 1, __ATOMIC_RELAXED)) < n_units) {
        switch (job->dtype) {
        case FLOAT16: put_panel(job, unit, FLOAT16); break;
        case BFLOAT16: put_panel(job, unit, BFLOAT16); break;
        default: put_panel(job, unit, FLOAT32); break;
        }
        __atomic_fetch_add(&job->progress->n_done, 1, __ATOMIC_RELEASE);
        done += job->n_inner * PANEL;
    }
    return done > 0;
}
