/* Vectors of floats from rows of any type and strides. Probabilities are multiplied by 2^96, so
 * that none of them is subnormal. Those from LEAST_PROB to 0 become 0, those below it NaN. */

#define PROBS_SCALE 0x1p96f
#define LEAST_PROB -1e-3f /* equal to LEAST_PROB in measures.py */

/* The type of floats that need no conversion. Doubles are packed to it. */
enum { READY = FLOAT64 + 1 };

/* Neighbouring elements of a row. */
struct strip {
    const char *data;
    int64_t stride; /* in bytes */
    int64_t n;
};

INLINE int64_t size_of(int dtype) { return dtype == FLOAT64 ? 8 : dtype >= FLOAT32 ? 4 : 2; }

/* n rounded up to whole vectors. */
INLINE int64_t padded(int64_t n) { return (n + W - 1) / W * W; }

INLINE double get_double(struct strip from, int64_t i) {
    double x;
    memcpy(&x, from.data + i * from.stride, sizeof x);
    return x;
}

INLINE vf prepared(vf x, int dtype, int is_probs) {
    if (!is_probs || dtype == READY)
        return x;
    vf scaled = larger(set(0), x * set(PROBS_SCALE)) + set(0); /* keeps NaN; -0 + 0 is 0 */
    return where_less(x, set(LEAST_PROB), set(NAN), scaled);
}

/* W contiguous elements, of any type except FLOAT64. */
INLINE vf get(const char *p, int dtype, int is_probs) {
    vf x = dtype == FLOAT16    ? widen_float16((const uint16_t *)p)
           : dtype == BFLOAT16 ? widen_bfloat16((const uint16_t *)p)
                               : load((const float *)p);
    return prepared(x, dtype, is_probs);
}

/* 2 W contiguous elements, in any order. */
INLINE void get_pair(const char *p, int dtype, int is_probs, vf *a, vf *b) {
    if (dtype == BFLOAT16) { /* a has the lower halves of 32 bits, b the upper */
        words bits = (words)load((const float *)p);
        *a = prepared((vf)(bits << 16), dtype, is_probs);
        *b = prepared((vf)(bits & 0xffff0000), dtype, is_probs);
    } else {
        *a = get(p, dtype, is_probs);
        *b = get(p + W * size_of(dtype), dtype, is_probs);
    }
}

/* Copies elements so that they are contiguous. Doubles become READY floats: `base` is subtracted
 * from logits first, because the conversion drops digits. */
INLINE void pack(struct strip from, int dtype, int is_probs, double base, char *to) {
    for (int64_t i = 0; i < from.n; i++)
        if (dtype == FLOAT64) {
            double x = get_double(from, i);
            float ready = !is_probs        ? x - base
                          : x < LEAST_PROB ? NAN
                          : x < 0          ? 0
                                           : x * PROBS_SCALE + 0.0;
            memcpy(to + i * sizeof ready, &ready, sizeof ready);
        } else
            memcpy(to + i * size_of(dtype), from.data + i * from.stride, size_of(dtype));
}

enum { AHEAD = 8192 }; /* bytes between what is read and what is fetched from memory */

/* The distance in bytes to the value that is about AHEAD bytes of values later; for rows
 * of contiguous values. */
INLINE int64_t ahead_of(const struct job *job) {
    const int64_t bytes = job->n_classes * job->class_stride;
    if (bytes == 0) /* all classes are one value */
        return 0;
    return bytes < AHEAD ? AHEAD / bytes * job->row_stride : AHEAD;
}

/* Asks for bytes that are read soon. They may lie beyond the matrix. */
INLINE void fetch(const char *from, int64_t n) {
    for (int64_t byte = 0; byte < n; byte += 64)
        __builtin_prefetch(from + byte, 0, 3);
}
