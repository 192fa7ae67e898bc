/* Selection that reads only those rows a second time whose bounds reach the threshold. */

enum {
    SAMPLE = 128,         /* rows after which a survey ends */
    PAUSE = 64 * SAMPLE,  /* rows that get both readings if too many passed */
    SOON = 4 * SAMPLE,    /* such rows after the threshold rose, at most */
    MOST_BYTES = 1 << 18, /* of a row that is still in the L2 cache after the first reading */
};

/* Whether a first reading alone pays, by the share of rows that need the second as well. */
struct survey {
    struct bound bound;
    int is_possible;
    int one_of;               /* it pays if at most one of so many rows passes */
    int64_t n_seen, n_passed; /* since the survey began */
    int64_t pause;            /* rows until the next survey */
};

/* Copies of rows of at most MIDDLE classes that wait for the second reading. */
struct waiting {
    int n;
    int64_t numbers[W];
    ALIGNED char rows[(W + 1) * MIDDLE * sizeof(float)];
};

static struct survey survey_of(const struct job *job) {
    struct survey s = {.is_possible = 0};
    const int64_t size = size_of(job->dtype);
    if (job->by < 0 || !(job->threshold > 0) || job->is_probs || job->dtype == FLOAT64 ||
        job->class_stride != size || job->n_classes * size > MOST_BYTES)
        return s;
    for (int measure = 0; measure < N_MEASURES; measure++)
        if (job->scores[measure] != NULL)
            return s;
    s.bound = bound_of(job);
    s.is_possible = s.bound.least > 0;
    s.one_of = job->n_classes > NARROW ? 3 : 8; /* measured */
    return s;
}

/* Goes on with a threshold that has risen: fewer rows pass than the survey says. */
static void renew(struct survey *s, const struct job *job) {
    const struct survey before = *s;
    *s = survey_of(job);
    s->n_seen = before.n_seen, s->n_passed = before.n_passed;
    s->pause = before.pause < SOON ? before.pause : SOON;
}

/* Whether the next n rows are surveyed. */
INLINE int pays(struct survey *s, int n) {
    if (s->n_seen >= SAMPLE) {
        s->pause = s->one_of * s->n_passed > s->n_seen ? PAUSE : 0;
        s->n_seen = s->n_passed = 0;
    }
    if (s->is_possible && s->pause <= 0)
        return 1;
    s->pause -= n;
    return 0;
}

static void finish_rows(const struct job *job, int64_t first, const int64_t *numbers, int n) {
    ALIGNED struct tile t;
    sums(job, first, n, &t);
    finish(job, first, numbers, n, &t);
}

static void finish_waiting(const struct job *job, struct waiting *waiting) {
    if (waiting->n == 0)
        return;
    struct job copies = *job;
    copies.data = waiting->rows;
    copies.row_stride = padded(job->n_classes) * job->class_stride;
    copies.n_rows = W + 1; /* whole vectors of W rows may be read */
    finish_rows(&copies, 0, waiting->numbers, waiting->n);
    waiting->n = 0;
}

/* Gives the second reading to a row, or lets it wait for others. */
static void read_again(const struct job *job, int64_t row, struct waiting *waiting) {
    if (job->n_classes > MIDDLE) {
        finish_rows(job, row, NULL, 1);
        return;
    }
    const int64_t bytes = job->n_classes * job->class_stride;
    memcpy(waiting->rows + waiting->n * padded(job->n_classes) * job->class_stride,
           job->data + row * job->row_stride, bytes);
    waiting->numbers[waiting->n++] = row;
    if (waiting->n == W)
        finish_waiting(job, waiting);
}

static unsigned looked_at(const struct job *job, int64_t first, int n, const struct bound *bound) {
    switch (job->dtype) {
    case FLOAT16: return look(job, first, n, FLOAT16, bound);
    case BFLOAT16: return look(job, first, n, BFLOAT16, bound);
    default: return look(job, first, n, FLOAT32, bound);
    }
}

static void select_promising(const struct job *job, int64_t first, int n_rows, struct survey *s,
                             struct waiting *waiting) {
    const int step = job->n_classes > MIDDLE ? 1 : W;
    for (int i = 0; i < n_rows; i += step) {
        const int n = n_rows - i < step ? n_rows - i : step;
        unsigned rows = looked_at(job, first + i, n, &s->bound) & lanes_of(n, 0);
        s->n_passed += __builtin_popcount(rows);
        for (; rows; rows &= rows - 1)
            read_again(job, first + i + __builtin_ctz(rows), waiting);
    }
    s->n_seen += n_rows;
}
