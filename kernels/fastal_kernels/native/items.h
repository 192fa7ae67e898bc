/* Items of several rows: the scores of an item's rows become one score. The rows of an item are
 * scored in order, from its first on, by one thread: no bit depends on the other items. */

/* What is known of the scores of an item so far, by one measure. */
struct gathered {
    vd sum;
    vf most, least;
    float *all; /* the scores themselves, for HIGHEST */
};

/* The sum of the lanes. */
INLINE double sum_of_lanes(vd x) {
    double sum[D];
    memcpy(sum, &x, sizeof sum);
    for (int step = D / 2; step; step /= 2)
        for (int i = 0; i < step; i++)
            sum[i] += sum[i + step];
    return sum[0];
}

/* Moves the m highest of n values to the front (Hoare's quickselect). */
static void highest_first(float *x, int64_t n, int64_t m) {
    int64_t low = 0, high = n - 1;
    while (low < high) {
        const float pivot = x[low + (high - low) / 2];
        int64_t i = low, j = high;
        while (i <= j) {
            while (x[i] > pivot)
                i++;
            while (x[j] < pivot)
                j--;
            if (i <= j) {
                const float kept = x[i];
                x[i++] = x[j];
                x[j--] = kept;
            }
        }
        if (m - 1 <= j)
            high = j;
        else if (m - 1 >= i)
            low = i;
        else
            return;
    }
}

/* The mean of the m highest of n values. */
static double mean_of_highest(float *x, int64_t n, int64_t m) {
    m = m < n ? m : n;
    highest_first(x, n, m);
    double sum = 0;
    for (int64_t i = 0; i < m; i++)
        sum += x[i];
    return sum / m;
}

/* Whether a row is padding: all its values are -100. */
INLINE int is_padding(const char *row, int64_t class_stride, int64_t n_classes, int dtype) {
    static const uint64_t minus_100[] = {0xd640, 0xc2c8, 0xc2c80000, 0xc059000000000000};
    for (int64_t c = 0; c < n_classes; c++) {
        uint64_t bits = 0;
        memcpy(&bits, row + c * class_stride, size_of(dtype));
        if (bits != minus_100[dtype])
            return 0;
    }
    return 1;
}

/* The lanes of those of n rows that count. `mask` has a byte for each, or is NULL. `row` is the
 * first, and `gap` is from the statistics: all rows of equal values have gap 0. */
INLINE unsigned counted(const struct job *rows, const char *row, int n, const uint8_t *mask,
                        const float *gap) {
    unsigned found = lanes_of(n, 0);
    if (mask != NULL)
        for (int i = 0; i < W && i < n; i++)
            found &= ~((unsigned)(mask[i] == 0) << i);
    if (!rows->is_probs && !rows->are_labels)
        for (unsigned tied = found & lanes_not_less(load(gap), set(0)); tied; tied &= tied - 1) {
            const int i = __builtin_ctz(tied);
            if (is_padding(row + i * rows->row_stride, rows->class_stride, rows->n_classes,
                           rows->dtype))
                found &= ~(1u << i);
        }
    return found;
}

INLINE float score_from(const struct items_job *job, struct gathered *g, int64_t n) {
    float found = NAN, lanes[W];
    if (n == 0)
        return found;
    switch (job->aggregate) {
    case MEAN: return sum_of_lanes(g->sum) / n;
    case SUM: return sum_of_lanes(g->sum);
    case HIGHEST: return mean_of_highest(g->all, n, job->n_highest);
    case MOST:
    case LEAST:
        store(lanes, job->aggregate == MOST ? g->most : g->least);
        found = lanes[0];
        for (int i = 1; i < W; i++)
            found =
                (job->aggregate == MOST ? lanes[i] > found : lanes[i] < found) ? lanes[i] : found;
        break;
    case ROWS_APART: break;
    }
    return found;
}

/* Adds the scores of W rows, those of `lanes`, to what was gathered; n rows were added before. */
INLINE void gather(enum aggregate aggregate, const float *scores, unsigned lanes, int64_t n,
                   struct gathered *g) {
    if (aggregate == HIGHEST) {
        for (; lanes; lanes &= lanes - 1)
            g->all[n++] = scores[__builtin_ctz(lanes)];
        return;
    }
    vf x = load(scores);
    if (lanes != (1ull << W) - 1) {
        ALIGNED float kept[W];
        for (int i = 0; i < W; i++)
            kept[i] = lanes >> i & 1 ? scores[i] : NAN;
        x = load(kept);
    }
    if (aggregate == MOST)
        g->most = larger(x, g->most);
    else if (aggregate == LEAST)
        g->least = smaller(x, g->least);
    else {
        x = larger(x, set(0)); /* 0 for NaN */
        g->sum += lower(x) + upper(x);
    }
}

/* Scores the rows of an item. `rows` is a copy of the job's own that this thread may change. `room`
 * holds the scores of the longest item, for each measure. Returns the number of valid rows. */
static int64_t score_item(const struct items_job *job, struct job *rows, const int *asked,
                          int64_t item, float *room) {
    int64_t start = item * job->length, length = job->length;
    rows->data = job->rows.data + item * job->item_stride;
    rows->n_rows = length;
    if (job->offsets != NULL) {
        start = job->offsets[item], length = job->offsets[item + 1] - start;
        rows->data = job->rows.data + start * rows->row_stride;
        rows->n_rows = job->rows.n_rows - start; /* these may be read */
    } else if (job->item_stride == job->length * rows->row_stride)
        rows->n_rows = job->rows.n_rows - start;

    struct gathered found[N_MEASURES];
    for (int measure = 0; measure < N_MEASURES; measure++)
        found[measure] = (struct gathered){set_double(0), set(-INFINITY), set(INFINITY),
                                           room + measure * job->longest};
    int64_t n = 0;
    ALIGNED struct tile t;
    ALIGNED float scores[N_MEASURES][TILE];
    for (int64_t first = 0; first < length; first += TILE) {
        const int n_rows = length - first < TILE ? length - first : TILE;
        sums(rows, first, n_rows, &t);
        for (int i = 0; i < n_rows; i += W) {
            const unsigned kept =
                counted(rows, rows->data + (first + i) * rows->row_stride, n_rows - i,
                        job->mask == NULL ? NULL : job->mask + start + first + i, t.gap + i);
            const unsigned valid = score(rows, asked, &t, i, scores) & kept;
            for (int measure = 0; measure < N_MEASURES; measure++)
                if (asked[measure] && job->aggregate != ROWS_APART)
                    gather(job->aggregate, scores[measure] + i, valid, n, &found[measure]);
                else if (asked[measure])
                    for (int lane = i; lane < n_rows && lane < i + W; lane++)
                        job->rows.scores[measure][start + first + lane] =
                            valid >> (lane - i) & 1 ? scores[measure][lane] : NAN;
            n += __builtin_popcount(valid);
        }
    }
    for (int measure = 0; measure < N_MEASURES; measure++)
        if (asked[measure] && job->aggregate != ROWS_APART)
            job->rows.scores[measure][item] = score_from(job, &found[measure], n);
    return n;
}

int ITEMS(const void *given) {
    const struct items_job *job = given;
    struct job rows = job->rows;
    int asked[N_MEASURES];
    for (int measure = 0; measure < N_MEASURES; measure++)
        asked[measure] = rows.scores[measure] != NULL;
    float *room = NULL;
    if (job->aggregate == HIGHEST) {
        room = malloc((N_MEASURES * job->longest + 1) * sizeof *room);
        if (room == NULL)
            return -1;
    }
    const int64_t row_bytes = size_of(rows.dtype) * (rows.are_labels ? 1 : rows.n_classes);
    const int64_t item_bytes = job->rows.n_rows * row_bytes / job->n_items + 1;
    int64_t first, n, done = 0;
    while (done < A_WHILE &&
           (n = claim(rows.progress, job->n_items, item_bytes, rows.n_threads, 1, &first)) > 0) {
        int64_t n_invalid = 0;
        for (int64_t item = first; item < first + n; item++)
            n_invalid += score_item(job, &rows, asked, item, room) == 0;
        if (n_invalid > 0)
            __atomic_fetch_add(&rows.progress->n_invalid, n_invalid, __ATOMIC_RELAXED);
        __atomic_fetch_add(&rows.progress->n_done, n, __ATOMIC_RELEASE);
        done += n * item_bytes;
    }
    free(room);
    return done > 0;
}
