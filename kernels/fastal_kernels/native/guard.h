/* Watches memory whose pages may be lost while it is read: that of mapped files, which other
 * processes cut short and disks fail to read. A lost page becomes one of NaNs. */
#ifndef FASTAL_GUARD_H
#define FASTAL_GUARD_H

#include <stddef.h>
#include <stdint.h>

/* Starts to watch a range; the number of the guard, or -1: it goes unwatched. */
int fastal_guard(uintptr_t address, size_t length);

/* Whether a page of its range was lost so far. */
int fastal_is_broken(int guard);

/* Ends a guard, and says the same. Nobody may be reading the range any more. */
int fastal_unguard(int guard);

/* In a forked process: ends the guards of threads that do not exist there. */
void fastal_unguard_after_fork(void);

#endif
