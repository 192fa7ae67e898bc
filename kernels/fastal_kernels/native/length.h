/* The length of a row, and whether a float holds it accurately. */

/* Floats hold the squares of such lengths, and their sum, in full precision; as in
 * fastal/ops/reference/cosine.py. */
#define LEAST_LENGTH 0x1p-40f
#define MOST_LENGTH 0x1p60f

enum { SQUARES = W == 4 ? 16 : 8 }; /* sums in each lane: few roundings for each square */

INLINE float length_of(const char *row, int64_t n, int dtype) {
    vf sums[SQUARES];
    for (int j = 0; j < SQUARES; j++)
        sums[j] = set(0);
    int64_t i = 0;
    for (; i + SQUARES * W <= n; i += SQUARES * W)
        for (int j = 0; j < SQUARES; j++) {
            const vf x = get_words(row + (i + j * W) * size_of(dtype), dtype);
            sums[j] = multiply_add(x, x, sums[j]);
        }
    for (int j = 0; i < n; i += W, j++) {
        const vf x = words_of(row, i, n, dtype);
        sums[j] = multiply_add(x, x, sums[j]);
    }
    for (int step = SQUARES / 2; step; step /= 2)
        for (int j = 0; j < step; j++)
            sums[j] += sums[j + step];
    return sqrtf(total(sums[0]));
}

/* False for NaN. */
INLINE int is_accurate(float length) { return length >= LEAST_LENGTH && length <= MOST_LENGTH; }

INLINE const char *embedding(const struct embeddings *rows, int64_t row) {
    return rows->data + row * rows->row_stride;
}
