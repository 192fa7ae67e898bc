/* The Python module of the native kernels. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <fenv.h>
#include <math.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__linux__)
#include <sys/mman.h>
#include <unistd.h>
#endif

#include "guard.h"
#include "job.h"

#if !defined(__clang__) && (!defined(__GNUC__) || __GNUC__ < 9)
#error "The native kernels are written in GNU C: gcc 9 or clang compiles them."
#endif

work fastal_avx512, fastal_avx2, fastal_portable;
work fastal_avx512_ranks, fastal_avx2_ranks, fastal_portable_ranks;
work fastal_avx512_items, fastal_avx2_items, fastal_portable_items;
work fastal_avx512_draws, fastal_avx2_draws, fastal_portable_draws;
work fastal_avx512_panels, fastal_avx2_panels, fastal_portable_panels;
work fastal_avx512_head, fastal_avx2_head, fastal_portable_head, fastal_avx512_pairs;
work fastal_avx512_nearest, fastal_avx2_nearest, fastal_portable_nearest;
work fastal_avx512_similarities, fastal_avx2_similarities, fastal_portable_similarities;
work fastal_avx512_unit_sums, fastal_avx2_unit_sums, fastal_portable_unit_sums;
head_units fastal_avx512_head_units, fastal_avx2_head_units, fastal_portable_head_units;

struct variant {
    const char *name;
    work *scores, *ranks, *items, *draws, *panels, *head;
    head_units *units;
    work *nearest, *similarities, *unit_sums;
    int runs; /* on this machine */
};

static int has_pairs; /* whether this machine multiplies pairs of bfloat16 */

#define VARIANT_NAMED(name, runs)                                                                  \
    {#name,                                                                                        \
     fastal_##name,                                                                                \
     fastal_##name##_ranks,                                                                        \
     fastal_##name##_items,                                                                        \
     fastal_##name##_draws,                                                                        \
     fastal_##name##_panels,                                                                       \
     fastal_##name##_head,                                                                         \
     fastal_##name##_head_units,                                                                   \
     fastal_##name##_nearest,                                                                      \
     fastal_##name##_similarities,                                                                 \
     fastal_##name##_unit_sums,                                                                    \
     runs}

/* The best first. */
static struct variant variants[] = {
#if defined(__x86_64__)
    VARIANT_NAMED(avx512, 0),
    VARIANT_NAMED(avx2, 0),
#endif
    VARIANT_NAMED(portable, 1),
};

enum { N_VARIANTS = sizeof variants / sizeof *variants };

static void detect_instruction_sets(void) {
#if defined(__x86_64__)
    unsigned a, b, c, d;
    __builtin_cpu_init();
    variants[1].runs = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                       __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
    variants[0].runs = variants[1].runs && __builtin_cpu_supports("avx512f") &&
                       __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                       __builtin_cpu_supports("avx512vl");
    has_pairs =
        HAS_PAIRS && variants[0].runs && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & 1 << 5);
#endif
}

static PyObject *names_of_variants(PyObject *self, PyObject *arguments) {
    (void)self, (void)arguments;
    PyObject *names = PyList_New(0);
    for (int i = 0; names != NULL && i < N_VARIANTS; i++) {
        if (!variants[i].runs)
            continue;
        PyObject *name = PyUnicode_FromString(variants[i].name);
        if (name == NULL || PyList_Append(names, name) < 0)
            Py_CLEAR(names);
        Py_XDECREF(name);
    }
    return names;
}

/* The variant of that name. If this machine does not run it: NULL, with a Python error set. */
static const struct variant *named(const char *name) {
    for (int i = 0; i < N_VARIANTS; i++)
        if (variants[i].runs && strcmp(name, variants[i].name) == 0)
            return &variants[i];
    PyErr_Format(PyExc_ValueError, "no variant %s on this machine", name);
    return NULL;
}

static PyObject *without_the_lock(work *work, const void *job) {
    int found_rows;
    fenv_t environment; /* this thread may be set to flush subnormal numbers to 0 */
    Py_BEGIN_ALLOW_THREADS
    fegetenv(&environment);
    fesetenv(FE_DFL_ENV);
    found_rows = work(job);
    fesetenv(&environment);
    Py_END_ALLOW_THREADS
    return found_rows < 0 ? PyErr_NoMemory() : PyBool_FromLong(found_rows);
}

static PyObject *work_on(PyObject *self, PyObject *arguments) {
    (void)self;
    struct job job;
    const char *name;
    unsigned long long data, scores[N_MEASURES], rows, found, keys, progress;
    int dtype;
    long long n_rows, n_classes, row_stride, class_stride, threshold_row, k, n_keys;
    if (!PyArg_ParseTuple(arguments, "sKiLLLLpfd(KKKK)ifLKKLLKiK", &name, &data, &dtype, &n_rows,
                          &n_classes, &row_stride, &class_stride, &job.is_probs, &job.tolerance,
                          &job.per_temperature, &scores[0], &scores[1], &scores[2], &scores[3],
                          &job.by, &job.threshold, &threshold_row, &rows, &found, &k, &n_keys,
                          &keys, &job.n_threads, &progress))
        return NULL;
    job.data = (const char *)(uintptr_t)data;
    job.dtype = (enum dtype)dtype;
    job.n_rows = n_rows, job.n_classes = n_classes;
    job.row_stride = row_stride, job.class_stride = class_stride;
    for (int i = 0; i < N_MEASURES; i++)
        job.scores[i] = (float *)(uintptr_t)scores[i];
    job.per_log = 1 / log((double)n_classes);
    job.are_labels = job.are_planes = 0;
    job.threshold_row = threshold_row;
    job.rows = (int64_t *)(uintptr_t)rows;
    job.found = (float *)(uintptr_t)found;
    job.k = k, job.n_keys = n_keys;
    job.keys = (uint64_t *)(uintptr_t)keys;
    job.progress = (struct progress *)(uintptr_t)progress;

    const struct variant *variant = named(name);
    return variant == NULL ? NULL : without_the_lock(variant->scores, &job);
}

static PyObject *score_items(PyObject *self, PyObject *arguments) {
    (void)self;
    struct items_job job;
    struct job *rows = &job.rows;
    const char *name;
    unsigned long long data, scores[N_MEASURES], offsets, mask, progress;
    int dtype, aggregate;
    long long n_rows, n_classes, row_stride, class_stride, n_items, length, item_stride, n_highest;
    long long longest;
    if (!PyArg_ParseTuple(arguments, "sKiLLLLppfd(KKKK)LLLKKiLLiK", &name, &data, &dtype, &n_rows,
                          &n_classes, &row_stride, &class_stride, &rows->is_probs,
                          &rows->are_labels, &rows->tolerance, &rows->per_temperature, &scores[0],
                          &scores[1], &scores[2], &scores[3], &n_items, &length, &item_stride,
                          &offsets, &mask, &aggregate, &n_highest, &longest, &rows->n_threads,
                          &progress))
        return NULL;
    rows->data = (const char *)(uintptr_t)data;
    rows->dtype = (enum dtype)dtype;
    rows->n_rows = n_rows, rows->n_classes = n_classes;
    rows->row_stride = row_stride, rows->class_stride = class_stride;
    rows->are_planes = offsets == 0; /* else a copy of some items could have other bits */
    for (int i = 0; i < N_MEASURES; i++)
        rows->scores[i] = (float *)(uintptr_t)scores[i];
    rows->per_log = 1 / log((double)n_classes);
    rows->by = -1;
    rows->progress = (struct progress *)(uintptr_t)progress;
    job.n_items = n_items, job.length = length, job.item_stride = item_stride;
    job.offsets = (const int64_t *)(uintptr_t)offsets;
    job.mask = (const uint8_t *)(uintptr_t)mask;
    job.aggregate = (enum aggregate)aggregate;
    job.n_highest = n_highest, job.longest = longest;
    const struct variant *variant = named(name);
    return variant == NULL ? NULL : without_the_lock(variant->items, &job);
}

static PyObject *score_draws(PyObject *self, PyObject *arguments) {
    (void)self;
    struct draws_job job;
    const char *name;
    unsigned long long data, scores[N_DRAWS_MEASURES], progress;
    int dtype;
    long long n_rows, n_draws, n_classes, row_stride, draw_stride, class_stride;
    if (!PyArg_ParseTuple(arguments, "sKiLLLLLLpdd(KKKKKKKKK)iK", &name, &data, &dtype, &n_rows,
                          &n_draws, &n_classes, &row_stride, &draw_stride, &class_stride,
                          &job.is_probs, &job.tolerance, &job.per_temperature, &scores[0],
                          &scores[1], &scores[2], &scores[3], &scores[4], &scores[5], &scores[6],
                          &scores[7], &scores[8], &job.n_threads, &progress))
        return NULL;
    job.data = (const char *)(uintptr_t)data;
    job.dtype = (enum dtype)dtype;
    job.n_rows = n_rows, job.n_draws = n_draws, job.n_classes = n_classes;
    job.row_stride = row_stride, job.draw_stride = draw_stride, job.class_stride = class_stride;
    for (int i = 0; i < N_DRAWS_MEASURES; i++)
        job.scores[i] = (float *)(uintptr_t)scores[i];
    job.progress = (struct progress *)(uintptr_t)progress;
    const struct variant *variant = named(name);
    return variant == NULL ? NULL : without_the_lock(variant->draws, &job);
}

static PyObject *rank(PyObject *self, PyObject *arguments) {
    (void)self;
    struct ranks_job job;
    const char *name;
    unsigned long long data, table, means, progress;
    int dtype;
    long long n_rows, n_columns, row_stride, column_stride, n_values;
    if (!PyArg_ParseTuple(arguments, "sKiLLLLKLKiK", &name, &data, &dtype, &n_rows, &n_columns,
                          &row_stride, &column_stride, &table, &n_values, &means, &job.n_threads,
                          &progress))
        return NULL;
    job.data = (const char *)(uintptr_t)data;
    job.dtype = (enum dtype)dtype;
    job.n_rows = n_rows, job.n_columns = n_columns;
    job.row_stride = row_stride, job.column_stride = column_stride;
    job.table = (const float *)(uintptr_t)table;
    job.n_values = n_values;
    job.means = (float *)(uintptr_t)means;
    job.progress = (struct progress *)(uintptr_t)progress;
    const struct variant *variant = named(name);
    return variant == NULL ? NULL : without_the_lock(variant->ranks, &job);
}

static PyObject *multiplies_pairs(PyObject *self, PyObject *arguments) {
    (void)self;
    const char *name;
    if (!PyArg_ParseTuple(arguments, "s", &name))
        return NULL;
    return PyBool_FromLong(has_pairs && strcmp(name, "avx512") == 0);
}

static PyObject *panels(PyObject *self, PyObject *arguments) {
    (void)self;
    struct panels_job job;
    const char *name;
    unsigned long long data, panels, progress;
    int dtype;
    long long row_stride, n_rows, n_inner;
    if (!PyArg_ParseTuple(arguments, "sKiLLLKK", &name, &data, &dtype, &row_stride, &n_rows,
                          &n_inner, &panels, &progress))
        return NULL;
    job.data = (const char *)(uintptr_t)data;
    job.dtype = (enum dtype)dtype;
    job.row_stride = row_stride;
    job.n_rows = n_rows, job.n_inner = n_inner;
    job.panels = (float *)(uintptr_t)panels;
    job.progress = (struct progress *)(uintptr_t)progress;
    const struct variant *variant = named(name);
    return variant == NULL ? NULL : without_the_lock(variant->panels, &job);
}

static int read_head_job(PyObject *arguments, struct head_job *job, const struct variant **variant,
                         int *in_pairs) {
    const char *name;
    unsigned long long panels, weight, bias, logits, progress = 0;
    int dtype;
    long long class_stride, n_rows, n_classes, n_inner, logits_stride;
    if (!PyArg_ParseTuple(arguments, "spKKiLKfLLLKL|K", &name, in_pairs, &panels, &weight, &dtype,
                          &class_stride, &bias, &job->temperature, &n_rows, &n_classes, &n_inner,
                          &logits, &logits_stride, &progress))
        return 0;
    job->panels = (const float *)(uintptr_t)panels;
    job->weight = (const char *)(uintptr_t)weight;
    job->dtype = (enum dtype)dtype;
    job->class_stride = class_stride;
    job->bias = (const float *)(uintptr_t)bias;
    job->n_rows = n_rows, job->n_classes = n_classes, job->n_inner = n_inner;
    job->logits = (float *)(uintptr_t)logits;
    job->logits_stride = logits_stride;
    job->progress = (struct progress *)(uintptr_t)progress;
    return (*variant = named(name)) != NULL;
}

static PyObject *head(PyObject *self, PyObject *arguments) {
    (void)self;
    struct head_job job;
    const struct variant *variant;
    int in_pairs;
    if (!read_head_job(arguments, &job, &variant, &in_pairs))
        return NULL;
#if HAS_PAIRS
    if (in_pairs && has_pairs)
        return without_the_lock(fastal_avx512_pairs, &job);
#endif
    return without_the_lock(variant->head, &job);
}

static PyObject *units_of_head(PyObject *self, PyObject *arguments) {
    (void)self;
    struct head_job job;
    const struct variant *variant;
    int in_pairs;
    if (!read_head_job(arguments, &job, &variant, &in_pairs))
        return NULL;
    return PyLong_FromLongLong(variant->units(&job)); /* the same for pairs */
}

/* The parts of arguments that describe rows of embeddings. */
struct given_rows {
    unsigned long long data;
    int dtype;
    long long row_stride, n_rows, n_columns;
};

static struct embeddings embeddings_of(const struct given_rows *given) {
    return (struct embeddings){.data = (const char *)(uintptr_t)given->data,
                               .dtype = (enum dtype)given->dtype,
                               .row_stride = given->row_stride,
                               .n_rows = given->n_rows,
                               .n_columns = given->n_columns};
}

static const struct variant *read_cosine_job(PyObject *arguments, struct cosine_job *job) {
    const char *name;
    struct given_rows rows;
    unsigned long long units, panels, similarities, clusters = 0;
    long long n_units, n_panels;
    if (!PyArg_ParseTuple(arguments, "sKiLLLKLKLK|K", &name, &rows.data, &rows.dtype,
                          &rows.row_stride, &rows.n_rows, &rows.n_columns, &units, &n_units,
                          &panels, &n_panels, &similarities, &clusters))
        return NULL;
    *job = (struct cosine_job){.rows = embeddings_of(&rows),
                               .units = (const float *)(uintptr_t)units,
                               .n_units = n_units,
                               .similarities = (float *)(uintptr_t)similarities,
                               .clusters = (int64_t *)(uintptr_t)clusters,
                               .panels = (float *)(uintptr_t)panels,
                               .n_panels = n_panels};
    return named(name);
}

static PyObject *nearest(PyObject *self, PyObject *arguments) {
    (void)self;
    struct cosine_job job;
    const struct variant *variant = read_cosine_job(arguments, &job);
    return variant == NULL ? NULL : without_the_lock(variant->nearest, &job);
}

static PyObject *similarities(PyObject *self, PyObject *arguments) {
    (void)self;
    struct cosine_job job;
    const struct variant *variant = read_cosine_job(arguments, &job);
    return variant == NULL ? NULL : without_the_lock(variant->similarities, &job);
}

static PyObject *unit_sums(PyObject *self, PyObject *arguments) {
    (void)self;
    const char *name;
    struct given_rows rows;
    unsigned long long clusters, sums, left;
    if (!PyArg_ParseTuple(arguments, "sKiLLLKKK", &name, &rows.data, &rows.dtype, &rows.row_stride,
                          &rows.n_rows, &rows.n_columns, &clusters, &sums, &left))
        return NULL;
    const struct sums_job job = {.rows = embeddings_of(&rows),
                                 .clusters = (const int64_t *)(uintptr_t)clusters,
                                 .sums = (int64_t *)(uintptr_t)sums,
                                 .left = (int64_t *)(uintptr_t)left};
    const struct variant *variant = named(name);
    return variant == NULL ? NULL : without_the_lock(variant->unit_sums, &job);
}

static PyObject *use_large_pages(PyObject *self, PyObject *arguments) {
    (void)self;
    unsigned long long address, size;
    if (!PyArg_ParseTuple(arguments, "KK", &address, &size))
        return NULL;
#if defined(MADV_HUGEPAGE)
    uintptr_t page = sysconf(_SC_PAGESIZE), start = (address + page - 1) / page * page;
    madvise((void *)start, address + size - start, MADV_HUGEPAGE); /* advice: it may fail */
#endif
    Py_RETURN_NONE;
}

static PyObject *guard(PyObject *self, PyObject *arguments) {
    (void)self;
    unsigned long long address, length;
    if (!PyArg_ParseTuple(arguments, "KK", &address, &length))
        return NULL;
    return PyLong_FromLong(fastal_guard(address, length));
}

static PyObject *is_broken(PyObject *self, PyObject *arguments) {
    (void)self;
    int number;
    if (!PyArg_ParseTuple(arguments, "i", &number))
        return NULL;
    return PyBool_FromLong(fastal_is_broken(number));
}

static PyObject *unguard(PyObject *self, PyObject *arguments) {
    (void)self;
    int number;
    if (!PyArg_ParseTuple(arguments, "i", &number))
        return NULL;
    return PyBool_FromLong(fastal_unguard(number));
}

static PyObject *unguard_after_fork(PyObject *self, PyObject *arguments) {
    (void)self, (void)arguments;
    fastal_unguard_after_fork();
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"variants", names_of_variants, METH_NOARGS,
     "The instruction sets that this machine runs, the best first."},
    {"work", work_on, METH_VARARGS,
     "Scores rows that no other thread has claimed, for a while. Returns False if there were none. "
     "job.h describes the arguments."},
    {"items", score_items, METH_VARARGS, "The same for a job of items of several rows."},
    {"draws", score_draws, METH_VARARGS, "The same for a job of draws."},
    {"rank", rank, METH_VARARGS, "The same for a job of mean ranks."},
    {"multiplies_pairs", multiplies_pairs, METH_VARARGS,
     "Whether a variant multiplies pairs of bfloat16 on this machine."},
    {"panels", panels, METH_VARARGS, "The same for a job of panels."},
    {"head", head, METH_VARARGS, "The same for a job of a linear head, in units of work."},
    {"head_units", units_of_head, METH_VARARGS,
     "The number of units of such a job, whose arguments have no progress."},
    {"nearest", nearest, METH_VARARGS,
     "Finds the nearest centroids of the rows of a job, all of it in this thread."},
    {"similarities", similarities, METH_VARARGS,
     "Computes the similarities of rows to all centroids, all of it in this thread."},
    {"unit_sums", unit_sums, METH_VARARGS,
     "Adds rows, scaled to length 1, to the sums of their clusters, all of it in this thread."},
    {"use_large_pages", use_large_pages, METH_VARARGS,
     "Asks for large pages for (address, bytes) of memory not yet written to. They save most of "
     "the time of the first writes."},
    {"guard", guard, METH_VARARGS,
     "Watches (address, bytes) of memory for lost pages, which become pages of NaNs. Returns the "
     "number of the guard, or -1 if the memory is not watched. is_broken and unguard accept -1."},
    {"is_broken", is_broken, METH_VARARGS, "Whether a page of a guard's memory was lost so far."},
    {"unguard", unguard, METH_VARARGS, "Ends a guard. Returns whether it was broken."},
    {"unguard_after_fork", unguard_after_fork, METH_NOARGS,
     "In a forked process: ends the guards of threads that do not exist there."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, .m_name = "_native",  .m_doc = "Scores rows of predictions on CPUs.",
    .m_size = -1,          .m_methods = methods,
};

PyMODINIT_FUNC PyInit__native(void) {
    detect_instruction_sets();
    PyObject *created = PyModule_Create(&module);
#if defined(Py_GIL_DISABLED)
    if (created != NULL)
        PyUnstable_Module_SetGIL(created, Py_MOD_GIL_NOT_USED);
#endif
    return created;
}
