/* All code of a variant except its vector operations. The file that includes this one has defined
 * those. */

#include <float.h>
#include <math.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "job.h"

enum {
    TILE = 64,             /* rows that are finished together */
    NARROW = 64,           /* the most classes with one row in each lane: sums of 64 terms */
    MIDDLE = 256,          /* the most classes with W rows at a time, which the L1 cache holds */
    BLOCK = 128 * W,       /* classes of a longer row that are read together: 32 terms a sum */
    LEAST_CLAIM = 1 << 16, /* bytes that a thread claims at a time */
    MOST_CLAIM = 1 << 26,
    A_WHILE = 1 << 28, /* bytes after which Python may check for signals */
};

#define ALIGNED _Alignas(64)

typedef int32_t ints __attribute__((vector_size(4 * W)));
typedef uint32_t words __attribute__((vector_size(4 * W))); /* unsigned: overflow is defined */
typedef uint64_t long_words __attribute__((vector_size(8 * D)));

#include "functions.h"
#include "rows.h"
#include "sums.h"
#include "block.h"
#include "narrow.h"
#include "middle.h"
#include "wide.h"
#include "columns.h"
#include "largest_first.h"
#include "best.h"
#include "finish.h"
#include "labels.h"
#include "bounds.h"
#include "ranks.h"
#include "head.h"
#include "panels.h"
#include "length.h"
#include "nearest.h"
#include "similarities.h"
#include "unit_sums.h"

INLINE void fill(const struct job *job, int64_t first, int n_rows, int dtype, int is_probs,
                 int with_moment, struct tile *t) {
    if (lie_along_lanes(job, dtype))
        columns(job, first, n_rows, dtype, is_probs, with_moment, t);
    else if (job->n_classes <= NARROW)
        narrow(job, first, n_rows, dtype, is_probs, with_moment, t);
    else if (job->n_classes <= MIDDLE && dtype != FLOAT64)
        middle(job, first, n_rows, dtype, is_probs, with_moment, t);
    else
        wide(job, first, n_rows, dtype, is_probs, with_moment, t);
}

/* Calls `fill` with constants: each combination of type, kind and scores is compiled on its own. */
static void sums(const struct job *job, int64_t first, int n_rows, struct tile *t) {
    const int with_moment = job->scores[ENTROPY] != NULL || job->by == ENTROPY;
    switch (job->dtype) {
#define OF_TYPE(dtype)                                                                             \
    case dtype:                                                                                    \
        if (job->is_probs && with_moment)                                                          \
            fill(job, first, n_rows, dtype, 1, 1, t);                                              \
        else if (job->is_probs)                                                                    \
            fill(job, first, n_rows, dtype, 1, 0, t);                                              \
        else if (with_moment)                                                                      \
            fill(job, first, n_rows, dtype, 0, 1, t);                                              \
        else                                                                                       \
            fill(job, first, n_rows, dtype, 0, 0, t);                                              \
        break;
        OF_TYPE(FLOAT16)
        OF_TYPE(BFLOAT16)
        OF_TYPE(FLOAT32)
        OF_TYPE(FLOAT64)
#undef OF_TYPE
    }
}

#include "promising.h"

/* Claims rows that no other thread has claimed, a multiple of `tile`. Returns their number, 0 if
 * none are left, and sets `first`. The shares become smaller, so that all threads end together.
 * Each is as large as possible, because a fresh page that two threads write to first is cleared
 * twice. */
static int64_t claim(struct progress *progress, int64_t n_rows, int64_t row_bytes, int n_threads,
                     int tile, int64_t *first) {
    const int64_t least = LEAST_CLAIM / row_bytes + 1, most = MOST_CLAIM / row_bytes + 1;
    int64_t *next = &progress->next_row, n;
    *first = __atomic_load_n(next, __ATOMIC_RELAXED);
    do {
        const int64_t left = n_rows - *first;
        n = left / (4 * n_threads);
        n = n < least ? least : n > most ? most : n;
        n = (n + tile - 1) / tile * tile;
        n = n < left ? n : left;
    } while (n > 0 && !__atomic_compare_exchange_n(next, first, *first + n, 1, __ATOMIC_RELAXED,
                                                   __ATOMIC_RELAXED));
    return n;
}

int VARIANT(const void *given) {
    struct job job = *(const struct job *)given; /* its threshold may rise */
    const int64_t row_bytes = job.n_classes * size_of(job.dtype);
    const int tile = job.n_classes <= MIDDLE ? TILE : 1;
    struct survey survey = survey_of(&job);
    uint64_t threshold = 0;
    int64_t first, n, done = 0;
    while (done < A_WHILE &&
           (n = claim(job.progress, job.n_rows, row_bytes, job.n_threads, tile, &first)) > 0) {
        struct waiting waiting = {.n = 0};
        for (int64_t end = first + n; first < end; first += TILE) {
            const int n_rows = end - first < TILE ? end - first : TILE;
            if (take_threshold(&job, &threshold))
                renew(&survey, &job);
            if (pays(&survey, n_rows))
                select_promising(&job, first, n_rows, &survey, &waiting);
            else
                finish_rows(&job, first, NULL, n_rows);
        }
        finish_waiting(&job, &waiting);
        __atomic_fetch_add(&job.progress->n_done, n, __ATOMIC_RELEASE);
        done += n * row_bytes;
    }
    return done > 0;
}

#include "items.h"
#include "draws.h"
