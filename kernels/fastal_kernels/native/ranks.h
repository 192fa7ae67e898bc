/* The mean rank of a row's values among the sorted values of their columns. */

enum {
    TOGETHER = 64,            /* rows whose searches run in step, so that their loads overlap */
    LINE = 64,                /* bytes of a row that are read together: a cache line */
    ROWS = 2048,              /* the most rows that use a column's table while it is in the cache */
    HEIGHT = ROWS + TOGETHER, /* from one transposed column to the next: other cache sets */
    RANKS_A_WHILE = 1 << 25,  /* values after which Python may check for signals */
};

/* For each of TOGETHER values x, the number of the n sorted values that are at most x. All searches
 * take the same steps. */
static void count_up_to(const float *restrict sorted, int64_t n, const float *restrict x,
                        int32_t *restrict count) {
    for (int i = 0; i < TOGETHER; i++)
        count[i] = 0;
    for (; n > 1; n -= n / 2) {
        const int32_t half = n / 2;
        for (int i = 0; i < TOGETHER; i++)
            count[i] += sorted[count[i] + half - 1] <= x[i] ? half : 0;
    }
    for (int i = 0; i < TOGETHER; i++)
        count[i] += sorted[count[i]] <= x[i];
}

/* Adds the ranks of the values x of a column. `keys` are the floats to search for. Differences of
 * floats never overflow in doubles. A double beyond the range of floats is outside the table, or
 * next to one of its infinities. */
INLINE void add_ranks(const float *restrict sorted, int64_t n, const float *restrict keys,
                      const double *restrict x, double *restrict total, int *restrict has_finite) {
    ALIGNED int32_t count[TOGETHER];
    count_up_to(sorted, n, keys, count);
    for (int i = 0; i < TOGETHER; i++) {
        const int32_t below = count[i] > 0 ? count[i] - 1 : 0;
        const double low = sorted[below], high = sorted[count[i] < n ? count[i] : below];
        const int between = (count[i] > 0) & (count[i] < n) & (low > -INFINITY);
        const double part = between ? (x[i] - low) / (high - low) : 1;
        total[i] += x[i] < INFINITY ? count[i] - 1 + part : NAN;
        has_finite[i] |= x[i] > -INFINITY;
    }
}

/* The largest float that is at most x. Exactly the floats up to it are at most x. */
INLINE float rounded_down(double x) {
    const float nearest = x;
    return nearest > x ? nextafterf(nearest, -INFINITY) : nearest;
}

/* Reads TOGETHER values of a transposed column, as keys and as doubles. */
INLINE void ready(const char *column, int dtype, float *keys, double *x) {
    if (dtype == FLOAT64) {
        memcpy(x, column, TOGETHER * sizeof *x);
        for (int i = 0; i < TOGETHER; i++)
            keys[i] = rounded_down(x[i]);
    } else {
        for (int i = 0; i < TOGETHER; i += W)
            store(keys + i, get(column + i * size_of(dtype), dtype, 0));
        for (int i = 0; i < TOGETHER; i++)
            x[i] = keys[i];
    }
}

/* Transposes n_columns of rows first, first + 1, ... Columns are HEIGHT elements apart. */
INLINE void turn_line(const struct ranks_job *job, int64_t first, int n_rows, int64_t d,
                      int n_columns, int64_t size, char *turned) {
    for (int i = 0; i < n_rows; i++) {
        const char *row = job->data + (first + i) * job->row_stride + d * job->column_stride;
        for (int c = 0; c < n_columns; c++)
            memcpy(turned + (c * HEIGHT + i) * size, row + c * job->column_stride, size);
    }
}

/* Computes the means of rows first, first + 1, ... Works through a line of all rows at a time, and
 * within it through a column at a time. */
INLINE void rank(const struct ranks_job *job, int64_t first, int n_rows, int dtype) {
    const int64_t size = size_of(dtype), n = job->n_values;
    ALIGNED char turned[HEIGHT * LINE] = {0}; /* rows beyond n_rows are computed as well */
    ALIGNED float keys[TOGETHER];
    ALIGNED double x[TOGETHER], total[ROWS] = {0};
    int has_finite[ROWS] = {0}, n_columns;
    for (int64_t d = 0; d < job->n_columns; d += n_columns) {
        n_columns = job->n_columns - d < LINE / size ? job->n_columns - d : LINE / size;
        turn_line(job, first, n_rows, d, n_columns, size, turned);
        for (int c = 0; c < n_columns; c++)
            for (int i = 0; i < n_rows; i += TOGETHER) {
                ready(turned + (c * HEIGHT + i) * size, dtype, keys, x);
                add_ranks(job->table + (d + c) * n, n, keys, x, total + i, has_finite + i);
            }
    }
    for (int i = 0; i < n_rows; i++)
        job->means[first + i] = has_finite[i] ? total[i] / ((double)n * job->n_columns) : NAN;
}

static void rank_rows(const struct ranks_job *job, int64_t first, int n_rows) {
    switch (job->dtype) {
    case FLOAT16: rank(job, first, n_rows, FLOAT16); break;
    case BFLOAT16: rank(job, first, n_rows, BFLOAT16); break;
    case FLOAT32: rank(job, first, n_rows, FLOAT32); break;
    case FLOAT64: rank(job, first, n_rows, FLOAT64); break;
    }
}

int RANKS(const void *given) {
    const struct ranks_job *job = given;
    int64_t *next = &job->progress->next_row, done = 0;
    /* Rows that a thread claims at a time: few enough that all threads end together. */
    const int64_t share = job->n_rows / (8 * job->n_threads);
    const int64_t a_while = RANKS_A_WHILE / job->n_columns;
    int64_t most = share < a_while ? share : a_while;
    most = most < TOGETHER ? TOGETHER : most > ROWS ? ROWS : most / TOGETHER * TOGETHER;
    while (done < RANKS_A_WHILE) {
        const int64_t first = __atomic_fetch_add(next, most, __ATOMIC_RELAXED);
        const int64_t left = job->n_rows - first, n = left < most ? left : most;
        if (n <= 0)
            break;
        rank_rows(job, first, n);
        __atomic_fetch_add(&job->progress->n_done, n, __ATOMIC_RELEASE);
        done += n * job->n_columns;
    }
    return done > 0;
}
