/* The guard against lost pages: a handler of SIGBUS, there only while something is watched. */

#define _GNU_SOURCE /* mremap */
#include "guard.h"

#if defined(__unix__) || defined(__APPLE__)

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { N_SLOTS = 64, NANS = 1 << 20 };

struct slot {
    atomic_uint version;         /* odd while the range changes */
    atomic_uintptr_t start, end; /* both 0 while the slot is free */
    atomic_int broken;
    pthread_t owner;
};

static struct slot slots[N_SLOTS];

/* Holds for all that follows, and for writing to the slots; the handler never takes it. */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static int n_taken;
static uintptr_t page_size;
static char *nans; /* as many bytes as NANS, all ones: NaN in every type */
static struct sigaction kept[2];
static _Atomic(struct sigaction *) previous; /* one of `kept`, so that none changes in use */
static int covered; /* another handler stood on top of ours when the last guard ended */

/* --- in the handler: async-signal-safe calls only */

/* A slot that changes meanwhile watches nothing that is being read, and does not count. */
static int watches(struct slot *slot, uintptr_t start, uintptr_t end) {
    unsigned version = slot->version;
    return version % 2 == 0 && slot->start < end && start < slot->end && version == slot->version;
}

static void mark(uintptr_t page) {
    for (int i = 0; i < N_SLOTS; i++)
        if (watches(&slots[i], page, page + page_size))
            slots[i].broken = 1;
}

/* Several threads may do this to one page at once. */
static int replace(uintptr_t page) {
#if defined(__linux__)
    /* A size of 0 maps the shared pages of NaNs once more, whole from the first moment. Pages stand
     * as they do in `nans`, so that neighbours join to one mapping: the system allows few. A page
     * of hugetlbfs is refused. */
    return mremap(nans + page % NANS, 0, page_size, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)page) !=
           MAP_FAILED;
#else
    /* Zeros may be read from it for a moment, but all that read them are marked. It stays writable
     * for another thread that is filling it. */
    void *fresh = mmap((void *)page, page_size, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANON | MAP_FIXED, -1, 0);
    if (fresh == MAP_FAILED)
        return 0;
    memset(fresh, 0xFF, page_size);
    return 1;
#endif
}

static int lost_page(const siginfo_t *info) {
    switch (info->si_code) {
    case BUS_ADRALN:
#if defined(BUS_MCEERR_AR)
    case BUS_MCEERR_AR: /* broken memory: the system wants its owner ended */
    case BUS_MCEERR_AO:
#endif
        return 0;
    default: return info->si_code > 0; /* others were sent by a process, without an address */
    }
}

static int stood_in(uintptr_t address) {
    int watched = 0;
    for (int i = 0; i < N_SLOTS; i++)
        watched |= watches(&slots[i], address, address + 1);
    if (!watched)
        return 0;
    uintptr_t page = address - address % page_size;
    mark(page); /* before any thread can read what takes its place, and end its guard */
    if (!replace(page))
        return 0;
    mark(page); /* for guards that began meanwhile */
    return 1;
}

static void hand_on(int signal, siginfo_t *info, void *context) {
    const struct sigaction *action = previous;
    struct sigaction none = {.sa_handler = SIG_DFL};
    int comes_again = info->si_code > 0; /* when the handler returns to what caused it */
#if defined(BUS_MCEERR_AO)
    comes_again &= info->si_code != BUS_MCEERR_AO;
#endif
    if (action->sa_flags & SA_RESETHAND)
        sigaction(SIGBUS, &none, NULL);
    if (action->sa_flags & SA_SIGINFO) {
        action->sa_sigaction(signal, info, context);
    } else if (action->sa_handler != SIG_DFL && action->sa_handler != SIG_IGN) {
        action->sa_handler(signal);
    } else if (action->sa_handler == SIG_DFL || comes_again) { /* which nobody can ignore */
        sigaction(SIGBUS, &none, NULL);
        if (!comes_again)
            raise(SIGBUS);
    }
}

static void on_bus_error(int signal, siginfo_t *info, void *context) {
    int error = errno;
    int done = lost_page(info) && stood_in((uintptr_t)info->si_addr);
    errno = error;
    if (!done)
        hand_on(signal, info, context);
}

/* --- the rest holds the mutex */

static int is_ours(const struct sigaction *action) {
    return action->sa_flags & SA_SIGINFO && action->sa_sigaction == on_bus_error;
}

static int is_default(const struct sigaction *action) {
    return !(action->sa_flags & SA_SIGINFO) &&
           (action->sa_handler == SIG_DFL || action->sa_handler == SIG_IGN);
}

static void install(void) {
    struct sigaction now;
    sigaction(SIGBUS, NULL, &now);
    /* A handler that came after ours may call it: ours once more, on top, would call in circles. */
    if (is_ours(&now) || (covered && !is_default(&now)))
        return;
    struct sigaction *action = previous == &kept[0] ? &kept[1] : &kept[0];
    *action = now;
    previous = action;
    /* What the handler before us is called with, it finds as if the system had called it. */
    now.sa_flags = SA_SIGINFO | SA_ONSTACK | (now.sa_flags & (SA_NODEFER | SA_RESTART));
    now.sa_sigaction = on_bus_error;
    sigaction(SIGBUS, &now, NULL);
}

static void uninstall(void) {
    struct sigaction now;
    sigaction(SIGBUS, NULL, &now);
    covered = !is_ours(&now);
    if (!covered)
        sigaction(SIGBUS, previous, NULL);
}

static int prepared(void) {
    if (nans != NULL)
        return 1;
    page_size = sysconf(_SC_PAGESIZE);
    if (page_size > NANS)
        return 0;
    char *fresh = mmap(NULL, NANS, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANON, -1, 0);
    if (fresh == MAP_FAILED)
        return 0;
    memset(fresh, 0xFF, NANS);
    mprotect(fresh, NANS, PROT_READ);
    nans = fresh;
    return 1;
}

static void watch(struct slot *slot, uintptr_t start, uintptr_t end) {
    slot->version |= 1;
    slot->start = start;
    slot->end = end;
    slot->version += 1;
}

int fastal_guard(uintptr_t address, size_t length) {
    int guard = -1;
    pthread_mutex_lock(&mutex);
    if (length > 0 && prepared())
        for (guard = N_SLOTS - 1; guard >= 0 && slots[guard].end != 0;)
            guard--;
    if (guard >= 0) {
        if (n_taken++ == 0)
            install();
        slots[guard].broken = 0;
        slots[guard].owner = pthread_self();
        watch(&slots[guard], address, address + length);
    }
    pthread_mutex_unlock(&mutex);
    return guard;
}

int fastal_is_broken(int guard) { return guard >= 0 && guard < N_SLOTS && slots[guard].broken; }

int fastal_unguard(int guard) {
    pthread_mutex_lock(&mutex);
    int is_taken = guard >= 0 && guard < N_SLOTS && slots[guard].end != 0;
    if (is_taken) {
        watch(&slots[guard], 0, 0);
        if (--n_taken == 0)
            uninstall();
    }
    int broken = is_taken && slots[guard].broken;
    pthread_mutex_unlock(&mutex);
    return broken;
}

void fastal_unguard_after_fork(void) {
    pthread_mutex_init(&mutex, NULL); /* whoever held it does not exist here */
    int n_before = n_taken;
    n_taken = 0;
    for (int i = 0; i < N_SLOTS; i++)
        if (slots[i].end != 0 && pthread_equal(slots[i].owner, pthread_self()))
            n_taken++;
        else
            watch(&slots[i], 0, 0);
    if (n_before > 0 && n_taken == 0)
        uninstall();
}

#else

int fastal_guard(uintptr_t address, size_t length) {
    (void)address, (void)length;
    return -1;
}
int fastal_is_broken(int guard) {
    (void)guard;
    return 0;
}
int fastal_unguard(int guard) {
    (void)guard;
    return 0;
}
void fastal_unguard_after_fork(void) {}

#endif
