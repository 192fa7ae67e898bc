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
    int64_t n_found;   /* rows that passed a selection's threshold */
    int64_t n_tied;    /* rows that have the threshold's score and did not pass */
};

/* Scores of a matrix of predictions. */
struct job {
    const char *data;
    enum dtype dtype;
    int is_probs; /* probabilities, rather than logits or log-probabilities */
    int64_t n_rows, n_classes;
    int64_t row_stride, class_stride; /* in bytes */
    float tolerance;                  /* how far from 1 the sum of probabilities may be */
    float per_log;                    /* 1 / ln n_classes */

    /* Outputs of the scores asked for, [n_rows] each; NULL for the others. */
    float *scores[N_MEASURES];

    /* If by >= 0: outputs of a selection by that measure. A row is found if its score exceeds the
     * threshold, or equals it and the row comes before threshold_row. Both arrays have room for
     * n_rows. Their order is arbitrary. */
    int by;
    float threshold;
    int64_t threshold_row;
    int64_t *rows;
    float *found;

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
    const float *bias;    /* [n_classes] */
    float temperature;    /* what logits are divided by */
    int64_t n_rows, n_classes, n_inner;
    float *logits;             /* [n_rows, n_classes] */
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

/* Works on a job of its kind for a while, on rows that no other thread has claimed. Returns whether
 * there were any. */
typedef int work(const void *job);

typedef int64_t head_units(const struct head_job *job);

#endif
