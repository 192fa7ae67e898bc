/* All of a variant but its vectors, which the file that includes this has defined. */

#include <float.h>
#include <math.h>
#include <string.h>

#include "job.h"

enum {
    TILE = 64,             /* rows that are finished together */
    NARROW = 64,           /* the most classes with a row a lane: sums of 64 terms */
    MIDDLE = 256,          /* the most with W rows at a time, which the L1 cache holds */
    BLOCK = 128 * W,       /* classes of longer rows that are looked at together: 32 terms a sum */
    LEAST_TAKEN = 1 << 16, /* bytes that a thread takes at a time */
    MOST_TAKEN = 1 << 26,
    A_WHILE = 1 << 28, /* bytes after which to let Python look for signals */
};

#define ALIGNED _Alignas(64)

typedef int32_t ints __attribute__((vector_size(4 * W)));
typedef uint32_t words __attribute__((vector_size(4 * W))); /* whose overflow is defined */

#include "functions.h"
#include "rows.h"
#include "sums.h"
#include "block.h"
#include "narrow.h"
#include "middle.h"
#include "wide.h"
#include "finish.h"
#include "ranks.h"

INLINE void fill(const struct job *job, int64_t first, int n_rows, int dtype, int is_probs,
                 int with_moment, struct tile *t) {
    if (job->n_classes <= NARROW)
        narrow(job, first, n_rows, dtype, is_probs, with_moment, t);
    else if (job->n_classes <= MIDDLE && dtype != FLOAT64)
        middle(job, first, n_rows, dtype, is_probs, with_moment, t);
    else
        wide(job, first, n_rows, dtype, is_probs, with_moment, t);
}

/* Each type, kind and need compiled on its own. */
static void sums(const struct job *job, int64_t first, int n_rows, struct tile *t) {
    const int with_moment = job->scores[ENTROPY] != NULL || job->by == ENTROPY;
    switch (job->dtype) {
#define OF_TYPE(dtype)                                                                             \
    case dtype:                                                                                    \
        if (job->is_probs)                                                                         \
            fill(job, first, n_rows, dtype, 1, 1, t);                                              \
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

/* Takes rows that no other thread has: ever fewer, so that threads end together, but as many
 * neighbours as possible, since two that write to one fresh page both have it cleared. From the
 * first on; their number, 0 if none are left. */
static int64_t take(const struct job *job, int64_t row_bytes, int64_t *first) {
    const int64_t least = LEAST_TAKEN / row_bytes + 1, most = MOST_TAKEN / row_bytes + 1;
    int64_t *next = &job->progress->next_row, n;
    *first = __atomic_load_n(next, __ATOMIC_RELAXED);
    do {
        const int64_t left = job->n_rows - *first;
        n = left / (4 * job->n_threads);
        n = n < least ? least : n > most ? most : n;
        if (job->n_classes <= MIDDLE)
            n = (n + TILE - 1) / TILE * TILE;
        n = n < left ? n : left;
    } while (n > 0 && !__atomic_compare_exchange_n(next, first, *first + n, 1, __ATOMIC_RELAXED,
                                                   __ATOMIC_RELAXED));
    return n;
}

int VARIANT(const void *given) {
    const struct job *job = given;
    const int64_t row_bytes = job->n_classes * size_of(job->dtype);
    int64_t first, n, done = 0;
    while (done < A_WHILE && (n = take(job, row_bytes, &first)) > 0) {
        for (int64_t end = first + n; first < end; first += TILE) {
            ALIGNED struct tile t;
            memset(&t, 0, sizeof t); /* lanes without a row are worked on as well */
            const int n_rows = end - first < TILE ? end - first : TILE;
            sums(job, first, n_rows, &t);
            finish(job, first, n_rows, &t);
        }
        __atomic_fetch_add(&job->progress->n_done, n, __ATOMIC_RELEASE);
        done += n * row_bytes;
    }
    return done > 0;
}
