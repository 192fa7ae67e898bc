/* The guard against lost pages: a handler of SIGBUS, installed only while a guard exists. */

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
    atomic_uint version;         /* odd while start and end change */
    atomic_uintptr_t start, end; /* both 0 while the slot is free */
    atomic_int broken;
    pthread_t owner;
};

static struct slot slots[N_SLOTS];

/* Protects all variables below, and writes to the slots. The handler never locks it. */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static int n_taken;
static uintptr_t page_size;
static char *nans; /* NANS bytes of 0xFF, which are NaN in every type */
static struct sigaction kept[2];
static _Atomic(struct sigaction *) previous; /* one of `kept`: the one in use never changes */
static int covered; /* another handler was on top of ours when the last guard ended */

/* --- in the handler: async-signal-safe calls only */

/* Whether a slot watches a part of a range. A slot whose range changes meanwhile guards no memory
 * that is being read, and does not count. */
static int watches(struct slot *slot, uintptr_t start, uintptr_t end) {
    unsigned version = slot->version;
    return version % 2 == 0 && slot->start < end && start < slot->end && version == slot->version;
}

static void mark(uintptr_t page) {
    for (int i = 0; i < N_SLOTS; i++)
        if (watches(&slots[i], page, page + page_size))
            slots[i].broken = 1;
}

/* Replaces a page by one of NaNs. Several threads may replace the same page at once. */
static int replace(uintptr_t page) {
#if defined(__linux__)
    /* An old size of 0 maps the shared pages of NaNs a second time, and the new mapping is complete
     * from the start. Pages keep the order they have in `nans`: then the system joins neighbours to
     * one mapping, of which it allows few. It refuses a page of hugetlbfs. */
    return mremap(nans + page % NANS, 0, page_size, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)page) !=
           MAP_FAILED;
#else
    /* Other threads may read zeros from the page for a moment, but their guards are marked. The
     * page stays writable, because another thread may be filling it. */
    void *fresh = mmap((void *)page, page_size, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANON | MAP_FIXED, -1, 0);
    if (fresh == MAP_FAILED)
        return 0;
    memset(fresh, 0xFF, page_size);
    return 1;
#endif
}

/* Whether the signal reports a page that was lost. */
static int lost_page(const siginfo_t *info) {
    switch (info->si_code) {
    case BUS_ADRALN:
#if defined(BUS_MCEERR_AR)
    case BUS_MCEERR_AR: /* broken memory: the system wants to end the process */
    case BUS_MCEERR_AO:
#endif
        return 0;
    default: return info->si_code > 0; /* else a process sent the signal, without an address */
    }
}

/* Replaces the page of an address if a guard watches it. Returns whether it did. */
static int replace_watched(uintptr_t address) {
    int watched = 0;
    for (int i = 0; i < N_SLOTS; i++)
        watched |= watches(&slots[i], address, address + 1);
    if (!watched)
        return 0;
    uintptr_t page = address - address % page_size;
    mark(page); /* before any thread can read the new page and end its guard */
    if (!replace(page))
        return 0;
    mark(page); /* the guards that began meanwhile */
    return 1;
}

/* Passes the signal on to the action that was there before ours. */
static void hand_on(int signal, siginfo_t *info, void *context) {
    const struct sigaction *action = previous;
    struct sigaction none = {.sa_handler = SIG_DFL};
    int comes_again = info->si_code > 0; /* when the handler returns to the instruction */
#if defined(BUS_MCEERR_AO)
    comes_again &= info->si_code != BUS_MCEERR_AO;
#endif
    if (action->sa_flags & SA_RESETHAND)
        sigaction(SIGBUS, &none, NULL);
    if (action->sa_flags & SA_SIGINFO) {
        action->sa_sigaction(signal, info, context);
    } else if (action->sa_handler != SIG_DFL && action->sa_handler != SIG_IGN) {
        action->sa_handler(signal);
    } else if (action->sa_handler == SIG_DFL || comes_again) { /* this signal cannot be ignored */
        sigaction(SIGBUS, &none, NULL);
        if (!comes_again)
            raise(SIGBUS);
    }
}

static void on_bus_error(int signal, siginfo_t *info, void *context) {
    int error = errno;
    int done = lost_page(info) && replace_watched((uintptr_t)info->si_addr);
    errno = error;
    if (!done)
        hand_on(signal, info, context);
}

/* --- outside the handler: these functions hold the mutex */

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
    /* A handler that was installed after ours may call ours. If ours were installed on top of it,
     * the two would call each other without end. */
    if (is_ours(&now) || (covered && !is_default(&now)))
        return;
    struct sigaction *action = previous == &kept[0] ? &kept[1] : &kept[0];
    *action = now;
    previous = action;
    /* The handler before ours gets the mask and flags that it would get from the system. */
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

/* Makes the pages of NaNs, once. Returns whether they exist. */
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

/* Sets the range of a slot. The version is odd meanwhile, so that the handler skips the slot. */
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
    pthread_mutex_init(&mutex, NULL); /* the thread that held it does not exist here */
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
