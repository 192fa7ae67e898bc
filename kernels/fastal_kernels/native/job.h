/* The description of a job, which the Python module and every variant share. */
#ifndef FASTAL_JOB_H
#define FASTAL_JOB_H

#include <stdint.h>

/* Whether the compiler knows AVX-512 BF16. */
#if defined(__x86_64__) && (defined(__clang__) || __GNUC__ >= 10)
#define HAS_PAIRS 1
#else
#define HAS_PAIRS 0
#endif

enum dtype { FLOAT16, BFLOAT16, FLOAT32, FLOAT64 };
enum measure { LEAST_CONFIDENCE, MARGIN, RATIO, ENTROPY, N_MEASURES };

/* Counts that the threads of one job share. They change atomically. */
struct progress {
    int64_t next_row;  /* the first row that no thread has claimed */
    int64_t n_done;    /* finished rows */
    int64_t n_invalid; /* invalid rows */
    int64_t n_found;   /* rows that a selection holds */
    uint64_t lost;     /* rows with the highest score that did not pass, see best.h */
    /* Of a selection that raises its threshold: */
    uint64_t threshold; /* the key of the k-th best row; 0 before there are k */
    int64_t is_locked;  /* whether a thread is adding to the best rows */
};

/* Scores of a matrix of predictions. */
struct job {
    const char *data;
    enum dtype dtype;
    int is_probs;   /* probabilities, rather than logits or log-probabilities */
    int are_labels; /* a row is one label: x against 0, or p against 1 - p */
    int are_planes; /* the values of one class of all rows of an item lie side by side */
    int64_t n_rows, n_classes;
    int64_t row_stride, class_stride; /* in bytes */
    float tolerance;                  /* how far from 1 the sum of probabilities may be */
    float per_log;                    /* 1 / ln n_classes */
    double per_temperature;           /* logits are multiplied by it */

    /* Outputs of the scores asked for, [n_rows] each; NULL for the others. */
    float *scores[N_MEASURES];

    /* If by >= 0: a selection by that measure. A row passes if its score exceeds the threshold, or
     * equals it and the row comes before threshold_row. */
    int by;
    float threshold;
    int64_t threshold_row;
    /* If k is 0: outputs, in any order. Both arrays have room for n_rows. */
    int64_t *rows;
    float *found;
    /* If k > 0: only the k best rows matter, so the threshold rises. The output is a key for each
     * of the best rows, and for some others, in any order. There is room for n_keys: more than k of
     * them, or n_rows. */
    int64_t k, n_keys;
    uint64_t *keys;

    int n_threads;
    struct progress *progress;
};

/* How the scores of an item's rows become its score. ROWS: they do not, each row keeps its own. */
enum aggregate { ROWS_APART, MEAN, SUM, MOST, LEAST, HIGHEST };

/* Scores of items, each of several rows. */
struct items_job {
    /* The rows. `data` is the first of the first item. The outputs are [n_items], or [n_rows] if
     * rows are scored apart. There is no selection. */
    struct job rows;
    int64_t n_items;
    int64_t length;         /* rows of each item, if `offsets` is NULL */
    int64_t item_stride;    /* in bytes, if `offsets` is NULL */
    const int64_t *offsets; /* [n_items + 1]: the first row of each item; or NULL */
    const uint8_t *mask;    /* [n_rows]: 0 for rows that do not count; or NULL */
    enum aggregate aggregate;
    int64_t n_highest; /* how many of the highest scores HIGHEST takes the mean of */
    int64_t longest;   /* the most rows of an item */
};

enum draws_measure {
    MEAN_ENTROPY,
    EXPECTED_ENTROPY,
    BALD,
    VARIATION_RATIO,
    VOTE_ENTROPY,
    VARIANCE,
    MEAN_LEAST_CONFIDENCE,
    MEAN_MARGIN,
    MEAN_RATIO,
    N_DRAWS_MEASURES
};

/* Scores of items of several draws each. */
struct draws_job {
    const char *data;
    enum dtype dtype; /* not FLOAT64 */
    int is_probs;
    int64_t n_rows, n_draws, n_classes;
    int64_t row_stride, draw_stride, class_stride; /* in bytes */
    double tolerance, per_temperature;
    float *scores[N_DRAWS_MEASURES]; /* [n_rows] each; NULL if not asked for */
    int n_threads;
    struct progress *progress;
};

/* Mean ranks of a matrix's rows. */
struct ranks_job {
    const char *data;
    enum dtype dtype;
    int64_t n_rows, n_columns;
    int64_t row_stride, column_stride; /* in bytes */
    const float *table;                /* [n_columns, n_values], sorted along n_values */
    int64_t n_values;
    float *means; /* [n_rows] */
    int n_threads;
    struct progress *progress;
};

/* Logits of hidden states by a linear head: (rows @ weight.T + bias) / temperature. */
enum { PANEL = 32 }; /* rows of a panel, on every machine */
struct head_job {
    /* [n_panels, n_inner, PANEL] words of 32 bits, zeros after the last row: floats; or pairs of
     * bfloat16, if the weight is multiplied in pairs. */
    const float *panels;
    const char *weight;   /* [n_classes, n_inner], or pairs; contiguous along n_inner */
    enum dtype dtype;     /* of the weight, not FLOAT64; FLOAT32 for pairs, which are words too */
    int64_t class_stride; /* in bytes */
    const float *bias;    /* [n_classes]; NULL: 0 */
    float temperature;    /* what logits are divided by */
    int64_t n_rows, n_classes, n_inner;
    float *logits;             /* [n_rows, n_classes] */
    int64_t logits_stride;     /* of a row, in floats */
    struct progress *progress; /* in units of work; `head_units` returns their number */
};

/* Panels of hidden states, for a job of a head. */
struct panels_job {
    const char *data;   /* [n_rows, n_inner], or pairs; contiguous along n_inner */
    enum dtype dtype;   /* as for the weight of the head */
    int64_t row_stride; /* in bytes */
    int64_t n_rows, n_inner;
    float *panels;
    struct progress *progress; /* in panels */
};

/* Rows of embeddings. */
struct embeddings {
    const char *data;   /* [n_rows, n_columns], contiguous along n_columns */
    enum dtype dtype;   /* not FLOAT64 */
    int64_t row_stride; /* in bytes */
    int64_t n_rows, n_columns;
};

/* Cosine similarities of rows to centroids. One thread does the whole job. A similarity is infinite
 * if floats give no accurate length of its row. */
struct cosine_job {
    struct embeddings rows;
    const float *units; /* [n_units, n_columns], each of length 1, or 0 */
    int64_t n_units;
    float *similarities; /* [n_rows] to the nearest, or [n_rows, n_units] to all */
    int64_t *clusters;   /* [n_rows]: the nearest; not used for the similarities to all */
    float *panels;       /* room: [n_panels, n_columns, PANEL] */
    int64_t n_panels;
};

/* Sums of rows, each scaled to length 1. One thread does the whole job. */
struct sums_job {
    struct embeddings rows;
    const int64_t *clusters; /* [n_rows]; rows below 0 are left out */
    int64_t *sums;           /* [n_clusters, n_columns], to which units of 2^-30 are added */
    /* Rows that were not added, as floats give no accurate length of them: [n_rows], those in use
     * followed by -1. */
    int64_t *left;
};

/* Works on a job of its kind for a while, on rows that no other thread has claimed. Returns whether
 * there were any, or -1 if there is no memory. */
typedef int work(const void *job);

typedef int64_t head_units(const struct head_job *job);

#endif
