/* Exact sums of rows scaled to length 1: whole numbers of 2^-30, which no order of rows changes. */

#define PER_UNIT 0x1p30f

typedef int32_t short_ints __attribute__((vector_size(4 * D)));
typedef int64_t long_ints __attribute__((vector_size(8 * D)));

INLINE void add_row(const struct embeddings *rows, int64_t row, float length, int64_t *sums,
                    int dtype) {
    const char *from = embedding(rows, row);
    const int64_t n = rows->n_columns;
    const vf factor = set(PER_UNIT / length);
    ALIGNED int32_t whole[W];
    int64_t i = 0;
    for (; i + W <= n; i += W) {
        store_rounded(whole, get_words(from + i * size_of(dtype), dtype) * factor);
        for (int j = 0; j < W; j += D) {
            short_ints added;
            long_ints sum;
            memcpy(&added, whole + j, sizeof added);
            memcpy(&sum, sums + i + j, sizeof sum);
            sum += __builtin_convertvector(added, long_ints);
            memcpy(sums + i + j, &sum, sizeof sum);
        }
    }
    if (i < n) {
        store_rounded(whole, words_of(from, i, n, dtype) * factor);
        for (int j = 0; i + j < n; j++)
            sums[i + j] += whole[j];
    }
}

INLINE void add_rows(const struct sums_job *job, int dtype) {
    const struct embeddings *rows = &job->rows;
    int64_t n_left = 0;
    for (int64_t row = 0; row < rows->n_rows; row++) {
        const int64_t cluster = job->clusters[row];
        if (cluster < 0)
            continue;
        const float length = length_of(embedding(rows, row), rows->n_columns, dtype);
        if (is_accurate(length))
            add_row(rows, row, length, job->sums + cluster * rows->n_columns, dtype);
        else
            job->left[n_left++] = row;
    }
    while (n_left < rows->n_rows)
        job->left[n_left++] = -1;
}

int UNIT_SUMS(const void *given) {
    const struct sums_job *job = given;
    switch (job->rows.dtype) {
    case FLOAT16: add_rows(job, FLOAT16); break;
    case BFLOAT16: add_rows(job, BFLOAT16); break;
    default: add_rows(job, FLOAT32); break;
    }
    return 1;
}
