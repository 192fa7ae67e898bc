/* Contiguous elements of one row, spread over lanes. If the last vector would be partial, it reads
 * the last W elements instead, and so repeats some. Rows, and the buffers before their blocks, have
 * at least W elements. */

/* W of n elements from element i on. Elements of an earlier vector become a neutral value. */
INLINE vf get_of(const char *p, int64_t i, int64_t n, int dtype, int is_probs) {
    if (i + W <= n)
        return get(p + i * size_of(dtype), dtype, is_probs);
    vf x = get(p + (n - W) * size_of(dtype), dtype, is_probs);
    return last(x, n - i, is_probs ? 0 : -INFINITY);
}

/* The two largest values of each lane. Also stores all values as READY floats, unless floats is
 * NULL. Fetches what is `ahead` of the values. */
INLINE void meet_block(const char *p, int64_t n, int64_t ahead, int dtype, int is_probs, vf *top,
                       vf *second, float *floats) {
    *top = *second = set(-INFINITY);
    int64_t i = 0;
    for (; i + 2 * W <= n; i += 2 * W) {
        vf a, b;
        fetch(p + i * size_of(dtype) + ahead, 2 * W * size_of(dtype));
        get_pair(p + i * size_of(dtype), dtype, is_probs, &a, &b);
        if (floats != NULL) {
            store(floats + i, a);
            store(floats + i + W, b);
        }
        *second = larger(*second, smaller(a, b));
        meet(larger(a, b), top, second);
    }
    for (; i < n; i += W) {
        fetch(p + i * size_of(dtype) + ahead, W * size_of(dtype));
        vf x = get_of(p, i, n, dtype, is_probs);
        if (floats != NULL)
            store(floats + i, x);
        meet(x, top, second);
    }
}

/* The sums of all terms, including the maximum's. Each lane has four short sums. */
INLINE void add_block(const char *p, int64_t n, vf ref, struct exponent by, int dtype, int is_probs,
                      int with_moment, vf *rest, vf *moment) {
    vf r[4], m[4];
    for (int j = 0; j < 4; j++)
        r[j] = m[j] = set(0);
    int64_t i = 0;
    for (; i + 4 * W <= n; i += 4 * W)
        for (int j = 0; j < 4; j += 2) {
            vf a, b;
            get_pair(p + (i + j * W) * size_of(dtype), dtype, is_probs, &a, &b);
            add_terms(a, ref, by, is_probs, with_moment, &r[j], &m[j]);
            add_terms(b, ref, by, is_probs, with_moment, &r[j + 1], &m[j + 1]);
        }
    for (; i < n; i += W)
        add_terms(get_of(p, i, n, dtype, is_probs), ref, by, is_probs, with_moment, &r[0], &m[0]);
    *rest = (r[0] + r[1]) + (r[2] + r[3]);
    *moment = (m[0] + m[1]) + (m[2] + m[3]);
}
