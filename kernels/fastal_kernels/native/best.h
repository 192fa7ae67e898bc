/* The best rows of a selection so far, which all threads of a job share. The k-th best of them is a
 * threshold: rows that do not beat it cannot be among the k best.
 *
 * A key is a row and its score. Of two rows, the better one has the larger key: the upper half is
 * the score, the lower half is the complement of the row, so that of equal scores the earlier row
 * comes first. No score is negative, so the bits of scores are in the order of the scores. */

INLINE uint64_t key_of(float score, int64_t row) {
    uint32_t bits;
    score += 0; /* -0 becomes 0 */
    memcpy(&bits, &score, sizeof bits);
    return (uint64_t)bits << 32 | (uint32_t)~row;
}

INLINE float score_of(uint64_t key) {
    const uint32_t bits = key >> 32;
    float score;
    memcpy(&score, &bits, sizeof score);
    return score;
}

INLINE int64_t row_of(uint64_t key) { return (uint32_t)~key; }

/* Counts n rows with a score that did not pass, since k rows are better. Rows that were lost with a
 * lower score are forgotten: they cannot tie with the k-th best row. */
static void lose(struct progress *progress, float score, int64_t n) {
    const uint64_t of_score = key_of(score, -1); /* the lower half is 0 */
    uint64_t lost = __atomic_load_n(&progress->lost, __ATOMIC_RELAXED), sum;
    do {
        if (lost >> 32 > of_score >> 32)
            return;
        sum = (lost > of_score ? lost : of_score) + n;
    } while (!__atomic_compare_exchange_n(&progress->lost, &lost, sum, 1, __ATOMIC_RELAXED,
                                          __ATOMIC_RELAXED));
}

LARGEST_FIRST(best_first, uint64_t)

/* Keeps the k best rows. The last of them is the new threshold. */
static void raise_threshold(const struct job *job) {
    struct progress *progress = job->progress;
    best_first(job->keys, progress->n_found, job->k);
    const uint64_t kth = job->keys[job->k - 1];
    int64_t n_tied = 0;
    for (int64_t i = job->k; i < progress->n_found; i++)
        n_tied += job->keys[i] >> 32 == kth >> 32;
    if (n_tied > 0)
        lose(progress, score_of(kth), n_tied);
    progress->n_found = job->k;
    __atomic_store_n(&progress->threshold, kth, __ATOMIC_RELAXED);
}

/* Adds rows to the best. One thread at a time does so. The others seldom wait: few rows pass. */
static void add_to_best(const struct job *job, const uint64_t *keys, int n) {
    struct progress *progress = job->progress;
    while (__atomic_exchange_n(&progress->is_locked, 1, __ATOMIC_ACQUIRE))
        while (__atomic_load_n(&progress->is_locked, __ATOMIC_RELAXED))
            sched_yield(); /* the thread that adds may need this processor */
    for (int i = 0; i < n; i++) {
        if (progress->n_found == (progress->threshold == 0 ? job->k : job->n_keys))
            raise_threshold(job);
        job->keys[progress->n_found++] = keys[i];
    }
    __atomic_store_n(&progress->is_locked, 0, __ATOMIC_RELEASE);
}

/* Takes over the threshold that the best rows set. Returns whether it has changed. */
INLINE int take_threshold(struct job *job, uint64_t *threshold) {
    const uint64_t raised = __atomic_load_n(&job->progress->threshold, __ATOMIC_RELAXED);
    if (raised == *threshold)
        return 0;
    *threshold = raised;
    job->threshold = score_of(raised);
    job->threshold_row = row_of(raised);
    return 1;
}
