/* Logits of hidden states: a product of two matrices, of which one row is a lane.
 *
 * A unit of work is the product of GROUP classes with up to MOST_PANELS panels of rows. The sum of
 * a logit has one order, whatever the rows beside it: sums of SPAN terms (of SPAN pairs), which are
 * added up one after the other. */

enum {
    GROUP = W == 16 ? 12
    : W == 8        ? 6
                    : 4,            /* classes whose sums, of 2 W rows, fit the registers */
    THIRD = W == 4 ? 2 : GROUP / 3, /* of a group, for the last classes */
    SPAN = 256,                     /* of the inner axis: its weights stay in the L1 cache */
    MOST_PANELS = 8,                /* panels that share the weights of a span */
    HEAD_A_WHILE = 1 << 28,         /* products after which Python may check for signals */
};

struct head_sums {
    float of[MOST_PANELS][PANEL / (2 * W)][GROUP][2][W];
};

/* W contiguous values as words: floats, or pairs as they are. */
INLINE vf get_words(const char *p, int dtype) {
    return dtype == FLOAT16    ? widen_float16((const uint16_t *)p)
           : dtype == BFLOAT16 ? widen_bfloat16((const uint16_t *)p)
                               : load((const float *)p);
}

/* The first n < W of W contiguous values as words, zeros after them. */
INLINE vf get_last_words(const char *p, int dtype, int64_t n) {
    ALIGNED char room[W * sizeof(float)] = {0};
    memcpy(room, p, n * size_of(dtype));
    return get_words(room, dtype);
}

/* W of n contiguous values as words, from value i on; zeros after the last. */
INLINE vf words_of(const char *row, int64_t i, int64_t n, int dtype) {
    const char *p = row + i * size_of(dtype);
    return i + W <= n ? get_words(p, dtype) : get_last_words(p, dtype, n - i);
}

/* Copies the words of n weights of a class to a span, with zeros up to whole vectors. */
INLINE void get_weights(const char *from, int dtype, int64_t n, float *to) {
    for (int64_t i = 0; i < n; i += W)
        store(to + i, words_of(from, i, n, dtype));
}

/* Asks for weights that are needed soon: n of a class. */
INLINE void prefetch(const char *from, int dtype, int64_t n) {
    for (int64_t byte = 0; byte < n * size_of(dtype); byte += 64)
        __builtin_prefetch(from + byte, 0, 2);
}

/* Adds the products of a span, for some classes of a group, a constant, and 2 W rows of a panel. */
INLINE void add_some(const float (*weights)[SPAN], int n_classes, const float *panel, int64_t n,
                     int is_first, float (*sums)[2][W]) {
    vf a[GROUP], b[GROUP];
#pragma GCC unroll 12
    for (int c = 0; c < n_classes; c++)
        a[c] = b[c] = set(0);
    for (int64_t i = 0; i < n; i++) {
        const vf x = load(panel + i * PANEL);
        const vf y = load(panel + i * PANEL + W);
#pragma GCC unroll 12
        for (int c = 0; c < n_classes; c++) {
            const vf weight = set(weights[c][i]);
            a[c] = MULTIPLY_ADD(weight, x, a[c]);
            b[c] = MULTIPLY_ADD(weight, y, b[c]);
        }
    }
#pragma GCC unroll 12
    for (int c = 0; c < n_classes; c++) {
        if (!is_first) {
            a[c] += load(sums[c][0]);
            b[c] += load(sums[c][1]);
        }
        store(sums[c][0], a[c]);
        store(sums[c][1], b[c]);
    }
}

INLINE void add_span(const float (*weights)[SPAN], int n_classes, const float *panel, int64_t n,
                     int is_first, float (*sums)[2][W]) {
    if (n_classes <= THIRD)
        add_some(weights, THIRD, panel, n, is_first, sums);
    else if (n_classes <= 2 * THIRD)
        add_some(weights, 2 * THIRD, panel, n, is_first, sums);
    else
        add_some(weights, GROUP, panel, n, is_first, sums);
}

/* Writes the logits of up to GROUP classes and W rows. */
INLINE void put_logits(const struct head_job *job, int64_t first_row, int64_t first_class,
                       int n_classes, float (*sums)[2][W], int half) {
    vf turned[W];
    for (int c = 0; c < W; c++) {
        turned[c] = set(0);
        if (c < n_classes) {
            const float bias = job->bias == NULL ? 0 : job->bias[first_class + c];
            turned[c] = (load(sums[c][half]) + set(bias)) / set(job->temperature);
        }
    }
    transpose(turned);
    const int64_t left = job->n_rows - first_row, n_rows = left < W ? left : W;
    ALIGNED float rows[W][W];
    for (int i = 0; i < W; i++)
        store(rows[i], turned[i]);
    float *to = job->logits + first_row * job->logits_stride + first_class;
    for (int64_t i = 0; i < n_rows; i++, to += job->logits_stride)
        if (n_classes == GROUP)
            memcpy(to, rows[i], GROUP * sizeof *to);
        else
            memcpy(to, rows[i], n_classes * sizeof *to);
}

INLINE int64_t n_bunches(const struct head_job *job) {
    const int64_t rows = MOST_PANELS * PANEL;
    return (job->n_rows + rows - 1) / rows;
}

/* Memory that is fetched meanwhile, a step for each panel and span. All at once, it would wait. */
struct meanwhile {
    const char *next, *end;
    int64_t step;
};

INLINE void fetch_step(struct meanwhile *memory) {
    for (int64_t i = 0; i < memory->step && memory->next < memory->end; i += 64, memory->next += 64)
        __builtin_prefetch(memory->next, 0, 2);
}

/* The number of panels that `multiply` works on, from a row on. */
INLINE int panels_from(const struct head_job *job, int64_t first_row) {
    const int64_t left = (job->n_rows - first_row + PANEL - 1) / PANEL;
    return left < MOST_PANELS ? left : MOST_PANELS;
}

/* The products of up to GROUP classes with up to MOST_PANELS panels. */
INLINE void multiply(const struct head_job *job, int64_t first_class, int n_classes,
                     int64_t first_row, int dtype, struct meanwhile *memory,
                     struct head_sums *sums) {
    ALIGNED float weights[GROUP][SPAN];
    const int64_t size = size_of(dtype);
    const char *of_group = job->weight + first_class * job->class_stride;
    const int used_panels = panels_from(job, first_row);
    for (int64_t start = 0; start < job->n_inner; start += SPAN) {
        const int64_t left = job->n_inner - start, n = left < SPAN ? left : SPAN;
        for (int c = 0; c < GROUP; c++) {
            const int64_t of = c < n_classes ? c : 0; /* computed and not used */
            get_weights(of_group + of * job->class_stride + start * size, dtype, n, weights[c]);
        }
        const int64_t after = left - n < SPAN ? left - n : SPAN;
        for (int p = 0; p < used_panels; p++) {
            const int64_t row = first_row + p * PANEL;
            const float *panel = job->panels + row * job->n_inner + start * PANEL;
            for (int c = p; c < n_classes; c += used_panels)
                prefetch(of_group + c * job->class_stride + (start + n) * size, dtype, after);
            fetch_step(memory);
            for (int i = 0; i < PANEL / (2 * W) && row + i * 2 * W < job->n_rows; i++)
                add_span((const float (*)[SPAN])weights, n_classes, panel + i * 2 * W, n,
                         start == 0, sums->of[p][i]);
        }
    }
}

/* Writes the logits of a unit of work. */
INLINE void work_on_unit(const struct head_job *job, int64_t unit, int dtype) {
    ALIGNED struct head_sums sums;
    const int64_t bunches = n_bunches(job);
    const int64_t first_class = unit / bunches * GROUP;
    const int64_t first_row = unit % bunches * MOST_PANELS * PANEL;
    const int64_t classes_left = job->n_classes - first_class;
    const int n_classes = classes_left < GROUP ? classes_left : GROUP;
    struct meanwhile nothing = {NULL, NULL, 0};
    multiply(job, first_class, n_classes, first_row, dtype, &nothing, &sums);
    for (int p = 0; p < panels_from(job, first_row); p++)
        for (int i = 0; i < PANEL / W; i++) {
            const int64_t row = first_row + p * PANEL + i * W;
            if (row < job->n_rows)
                put_logits(job, row, first_class, n_classes, sums.of[p][i / 2], i % 2);
        }
}

/* The number of units of a job, before any work on it. */
int64_t HEAD_UNITS(const struct head_job *job) {
    return (job->n_classes + GROUP - 1) / GROUP * n_bunches(job);
}

int HEAD(const void *given) {
    const struct head_job *job = given;
    const int64_t n_units = HEAD_UNITS(job);
    int64_t done = 0;
    while (done < HEAD_A_WHILE) {
        const int64_t unit = __atomic_fetch_add(&job->progress->next_row, 1, __ATOMIC_RELAXED);
        if (unit >= n_units)
            break;
        switch (job->dtype) {
        case FLOAT16: work_on_unit(job, unit, FLOAT16); break;
        case BFLOAT16: work_on_unit(job, unit, BFLOAT16); break;
        default: work_on_unit(job, unit, FLOAT32); break;
        }
        __atomic_fetch_add(&job->progress->n_done, 1, __ATOMIC_RELEASE);
        done += job->n_inner * GROUP * MOST_PANELS * PANEL;
    }
    return done > 0;
}
