/* From the sums of a tile to scores, and from scores to a selection. */

/* Scores W rows; measure m goes to scores + m * width. All scores of an invalid row are NaN. The
 * formulas are in fastal/ops/formulas.py. Returns a bit for each row, set if the row is valid. */
INLINE unsigned score(const struct job *job, const int *asked, const struct statistics *s,
                      float *scores, int width) {
    const float n = job->n_classes;
    const vf runner_up = s->runner_up;
    /* `down` is the last factor: then a product is subnormal only if the score is. */
    const vf down = set(1 / FAR_SCALE);
    vf tail = runner_up * s->rest * down;
    if (job->is_probs) {
        vf off = s->top * set(1 / PROBS_SCALE) * (set(1) + tail) - set(1);
        tail = where_less(set(job->tolerance), larger(off, -off), set(NAN), tail);
    } else
        tail += s->top;
    vf total = set(1) + tail, inverse = set(1) / total;
    if (asked[LEAST_CONFIDENCE])
        store(scores + LEAST_CONFIDENCE * width,
              smaller(set(1), tail * inverse * set(n / (n - 1))));
    if (asked[MARGIN])
        store(scores + MARGIN * width, smaller(set(1), (tail + runner_up * down) * inverse));
    if (asked[RATIO])
        store(scores + RATIO * width, smaller(set(1), runner_up * down + set(0) * tail));
    if (asked[ENTROPY]) {
        vf gap = larger(set(-1e4f), s->gap);
        vf moment = runner_up * multiply_add(gap, s->rest, s->moment) * down;
        /* ln(1 + tail), with the digits of the tail that 1 + tail loses. */
        vf log_total = logarithm(total) + (tail - (total - set(1))) * inverse;
        store(scores + ENTROPY * width,
              smaller(set(1), (log_total - moment * inverse) * set(job->per_log)));
    }
    return lanes_not_less(tail, tail);
}

INLINE unsigned score_tile(const struct job *job, const int *asked, const struct tile *t, int i,
                           float *scores, int width) {
    const struct statistics s = {load(t->rest + i), load(t->moment + i), load(t->gap + i),
                                 load(t->runner_up + i), load(t->top + i)};
    return score(job, asked, &s, scores, width);
}

/* Adds the rows to the selection whose scores beat the threshold. Counts those that only tie with
 * it. The rows are first, first + 1, ..., or those that are numbered, unless numbers is NULL. */
INLINE void select_rows(const struct job *job, int64_t first, const int64_t *numbers, int n_rows,
                        const float *scores) {
    int64_t rows[TILE], n = 0, n_tied = 0;
    float found[TILE];
    for (int i = 0; i < n_rows; i += W)
        for (unsigned passing = lanes_not_less(load(scores + i), set(job->threshold)); passing;
             passing &= passing - 1) {
            const int lane = i + __builtin_ctz(passing);
            if (lane >= n_rows)
                break;
            rows[n] = numbers == NULL ? first + lane : numbers[lane];
            found[n] = scores[lane];
            const int passes = scores[lane] > job->threshold || rows[n] < job->threshold_row;
            n += passes;
            n_tied += !passes;
        }
    if (n_tied > 0)
        lose(job->progress, job->threshold, n_tied);
    if (n == 0)
        return;
    if (job->k > 0) {
        uint64_t keys[TILE];
        for (int i = 0; i < n; i++)
            keys[i] = key_of(found[i], rows[i]);
        add_to_best(job, keys, n);
        return;
    }
    int64_t place = __atomic_fetch_add(&job->progress->n_found, n, __ATOMIC_RELAXED);
    memcpy(job->rows + place, rows, n * sizeof *rows);
    memcpy(job->found + place, found, n * sizeof *found);
}

/* The lanes of the rows of a tile, of those from lane i on. */
INLINE unsigned lanes_of(int n_rows, int i) {
    return n_rows - i < W ? (1u << (n_rows - i)) - 1 : (1ull << W) - 1;
}

static void finish(const struct job *job, int64_t first, const int64_t *numbers, int n_rows,
                   const struct tile *t) {
    int asked[N_MEASURES];
    for (int measure = 0; measure < N_MEASURES; measure++)
        asked[measure] = job->scores[measure] != NULL || job->by == measure;
    ALIGNED float scores[N_MEASURES][TILE];
    int n_valid = 0;
    for (int i = 0; i < n_rows; i += W)
        n_valid += __builtin_popcount(score_tile(job, asked, t, i, scores[0] + i, TILE) &
                                      lanes_of(n_rows, i));
    if (n_valid < n_rows)
        __atomic_fetch_add(&job->progress->n_invalid, n_rows - n_valid, __ATOMIC_RELAXED);
    if (job->by >= 0)
        select_rows(job, first, numbers, n_rows, scores[job->by]);
    for (int measure = 0; measure < N_MEASURES; measure++)
        if (job->scores[measure] != NULL)
            memcpy(job->scores[measure] + first, scores[measure], n_rows * sizeof(float));
}
