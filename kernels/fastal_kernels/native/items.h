/* Items of several rows: the scores of an item's rows become one score. The rows of an item are
 * scored in order, from its first on, by one thread: no bit depends on the other items. */

enum {
    BATCH = 1024, /* rows whose scores are kept before they are gathered */
    FEW = 32,     /* the most highest scores that are kept in order */
};

/* What is known of the scores of an item so far, by one measure. */
struct gathered {
    vd sum;
    vf most, least;
    float *highest; /* of at most FEW, the highest so far in descending order; else all scores */
    int64_t n;
};

LARGEST_FIRST(highest_first, float)

INLINE double mean_of(const float *x, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += x[i];
    return sum / n;
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

/* The lanes of those of n <= W rows that are padding. `row` is the first, and `gap` is from the
 * statistics: all rows of equal values have gap 0. */
INLINE unsigned padding(const struct job *rows, const char *row, int n, const float *gap) {
    unsigned found = 0;
    if (!rows->is_probs)
        for (unsigned tied = lanes_of(n, 0) & lanes_not_less(load(gap), set(0)); tied;
             tied &= tied - 1) {
            const int i = __builtin_ctz(tied);
            if (is_padding(row + i * rows->row_stride, rows->class_stride, rows->n_classes,
                           rows->dtype))
                found |= 1u << i;
        }
    return found;
}

INLINE float score_from(const struct items_job *job, struct gathered *g) {
    const int64_t n = g->n, m = job->n_highest < n ? job->n_highest : n;
    float found = NAN, lanes[W];
    if (n == 0)
        return found;
    switch (job->aggregate) {
    case MEAN: return sum_of_lanes(g->sum) / n;
    case SUM: return sum_of_lanes(g->sum);
    case HIGHEST:
        if (job->n_highest > FEW)
            highest_first(g->highest, n, m);
        return mean_of(g->highest, m);
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

/* Adds the lanes of x that are numbers to the highest scores. */
INLINE void gather_highest(vf x, int64_t n_highest, struct gathered *g) {
    const int is_full = n_highest <= FEW && g->n == n_highest;
    const vf least = set(is_full ? g->highest[n_highest - 1] : -INFINITY);
    unsigned lanes = lanes_not_less(x, least);
    if (lanes == 0)
        return;
    ALIGNED float scores[W];
    for (store(scores, x); lanes; lanes &= lanes - 1) {
        const float score = scores[__builtin_ctz(lanes)];
        int64_t place = g->n;
        if (n_highest <= FEW) {
            if (place == n_highest && score <= g->highest[--place])
                continue;
            for (; place > 0 && g->highest[place - 1] < score; place--)
                g->highest[place] = g->highest[place - 1];
            g->n += g->n < n_highest;
        } else
            g->n++;
        g->highest[place] = score;
    }
}

/* Adds the scores of the next n rows of an item. NaN does not count. A row adds to the lane that
 * its place in the item says, so n is a multiple of W unless the item ends. */
INLINE void gather(const struct items_job *job, const float *scores, int64_t n,
                   struct gathered *g) {
    for (int64_t i = 0; i < n; i += W) {
        vf x = load(scores + i);
        if (n - i < W) {
            ALIGNED float kept[W];
            for (int lane = 0; lane < W; lane++)
                kept[lane] = lane < n - i ? scores[i + lane] : NAN;
            x = load(kept);
        }
        if (job->aggregate == HIGHEST) {
            gather_highest(x, job->n_highest, g);
            continue;
        }
        g->n += __builtin_popcount(lanes_not_less(x, x));
        if (job->aggregate == MOST)
            g->most = larger(x, g->most);
        else if (job->aggregate == LEAST)
            g->least = smaller(x, g->least);
        else {
            x = larger(x, set(0)); /* 0 for NaN */
            g->sum += lower(x) + upper(x);
        }
    }
}

/* Memory of one thread. */
struct items_room {
    ALIGNED float scores[N_MEASURES][BATCH + W]; /* of rows */
    struct gathered found[N_MEASURES];
};

/* A row that does not count has the score NaN. */
INLINE void drop(const int *asked, int64_t row, struct items_room *room) {
    for (int measure = 0; measure < N_MEASURES; measure++)
        if (asked[measure])
            room->scores[measure][row] = NAN;
}

/* Scores n_rows <= BATCH rows from `first` on; NaN for those that are invalid or do not count. */
static void score_rows(const struct job *rows, const uint8_t *mask, const int *asked, int64_t first,
                       int64_t n_rows, struct items_room *room) {
    if (rows->are_labels)
        score_labels(rows, asked, first, n_rows, room->scores[0], BATCH + W);
    else
        for (int64_t start = 0; start < n_rows; start += TILE) {
            ALIGNED struct tile t;
            const int n = n_rows - start < TILE ? n_rows - start : TILE;
            sums(rows, first + start, n, &t);
            for (int i = 0; i < n; i += W) {
                const int64_t row = start + i;
                score_tile(rows, asked, &t, i, room->scores[0] + row, BATCH + W);
                unsigned lanes =
                    padding(rows, rows->data + (first + row) * rows->row_stride, n - i, t.gap + i);
                for (; lanes; lanes &= lanes - 1)
                    drop(asked, row + __builtin_ctz(lanes), room);
            }
        }
    if (mask != NULL)
        for (int64_t row = 0; row < n_rows; row++)
            if (mask[first + row] == 0)
                drop(asked, row, room);
}

INLINE int64_t count_numbers(const float *x, int64_t n) {
    int64_t found = 0;
    for (int64_t i = 0; i < n; i++)
        found += x[i] == x[i];
    return found;
}

INLINE void begin_item(struct items_room *room) {
    for (int measure = 0; measure < N_MEASURES; measure++) {
        float *highest = room->found[measure].highest;
        room->found[measure] =
            (struct gathered){set_double(0), set(-INFINITY), set(INFINITY), highest, 0};
    }
}

/* Whether the rows of all items follow each other in memory. */
INLINE int are_adjacent(const struct items_job *job) {
    return job->offsets != NULL || job->item_stride == job->length * job->rows.row_stride;
}

INLINE int64_t first_row(const struct items_job *job, int64_t item) {
    return job->offsets != NULL ? job->offsets[item] : item * job->length;
}

/* Scores one item, BATCH rows at a time. Returns the number of its valid rows. */
static int64_t score_item(const struct items_job *job, const int *asked, int64_t item,
                          struct items_room *room) {
    const int64_t first = first_row(job, item), length = first_row(job, item + 1) - first;
    struct job rows = job->rows;
    if (are_adjacent(job)) {
        rows.data += first * rows.row_stride;
        rows.n_rows -= first;
    } else {
        rows.data += item * job->item_stride;
        rows.n_rows = length;
    }
    const uint8_t *mask = job->mask == NULL ? NULL : job->mask + first;
    int64_t n_valid = 0;
    begin_item(room);
    for (int64_t start = 0; start < length; start += BATCH) {
        const int64_t n = length - start < BATCH ? length - start : BATCH;
        score_rows(&rows, mask, asked, start, n, room);
        for (int measure = 0, is_counted = 0; measure < N_MEASURES; measure++)
            if (asked[measure]) {
                const float *scores = room->scores[measure];
                if (!is_counted++)
                    n_valid += count_numbers(scores, n);
                if (job->aggregate == ROWS_APART)
                    memcpy(rows.scores[measure] + first + start, scores, n * sizeof(float));
                else
                    gather(job, scores, n, &room->found[measure]);
            }
    }
    for (int measure = 0; measure < N_MEASURES; measure++)
        if (asked[measure] && job->aggregate != ROWS_APART)
            rows.scores[measure][item] = score_from(job, &room->found[measure]);
    return n_valid;
}

/* Scores the items from `item` on whose rows are at most BATCH together, of items with adjacent
 * rows. Returns how many there are. */
static int64_t score_short_items(const struct items_job *job, const int *asked, int64_t item,
                                 int64_t end, struct items_room *room, int64_t *n_invalid) {
    const int64_t first = first_row(job, item);
    int64_t stop = item;
    while (stop < end && first_row(job, stop + 1) - first <= BATCH)
        stop++;
    score_rows(&job->rows, job->mask, asked, first, first_row(job, stop) - first, room);
    for (int64_t i = item; i < stop; i++) {
        const int64_t start = first_row(job, i) - first;
        const int64_t length = first_row(job, i + 1) - first - start;
        int is_valid = 0;
        begin_item(room);
        for (int measure = 0; measure < N_MEASURES; measure++)
            if (asked[measure]) {
                gather(job, room->scores[measure] + start, length, &room->found[measure]);
                job->rows.scores[measure][i] = score_from(job, &room->found[measure]);
                is_valid = room->found[measure].n > 0;
            }
        *n_invalid += !is_valid;
    }
    return stop - item;
}

int ITEMS(const void *given) {
    const struct items_job *job = given;
    const struct job *rows = &job->rows;
    int asked[N_MEASURES];
    for (int measure = 0; measure < N_MEASURES; measure++)
        asked[measure] = rows->scores[measure] != NULL;
    const int64_t n_highest = job->n_highest > FEW ? job->longest : FEW;
    struct items_room *room = NULL;
    if (posix_memalign((void **)&room, 64, sizeof *room + N_MEASURES * n_highest * sizeof(float)))
        return -1;
    for (int measure = 0; measure < N_MEASURES; measure++)
        room->found[measure].highest = (float *)(room + 1) + measure * n_highest;
    const int are_short = job->aggregate != ROWS_APART && are_adjacent(job);
    const int64_t row_bytes = size_of(rows->dtype) * (rows->are_labels ? 1 : rows->n_classes);
    const int64_t item_bytes = rows->n_rows * row_bytes / job->n_items + 1;
    int64_t first, n, done = 0;
    while (done < A_WHILE &&
           (n = claim(rows->progress, job->n_items, item_bytes, rows->n_threads, 1, &first)) > 0) {
        int64_t n_invalid = 0;
        for (int64_t item = first; item < first + n;) {
            const int64_t length = first_row(job, item + 1) - first_row(job, item);
            if (are_short && length <= BATCH)
                item += score_short_items(job, asked, item, first + n, room, &n_invalid);
            else
                n_invalid += score_item(job, asked, item++, room) == 0;
        }
        if (n_invalid > 0)
            __atomic_fetch_add(&rows->progress->n_invalid, n_invalid, __ATOMIC_RELAXED);
        __atomic_fetch_add(&rows->progress->n_done, n, __ATOMIC_RELEASE);
        done += n * item_bytes;
    }
    free(room);
    return done > 0;
}
