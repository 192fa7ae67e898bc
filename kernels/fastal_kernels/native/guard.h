/* Watches memory whose pages may be lost while it is read. This is the memory of mapped files:
 * another process may cut such a file short, or the disk may fail to read it. A lost page becomes a
 * page of NaNs. */
#ifndef FASTAL_GUARD_H
#define FASTAL_GUARD_H

#include <stddef.h>
#include <stdint.h>

/* Starts to watch a range. Returns the number of the guard, or -1 if the range is not watched. */
int fastal_guard(uintptr_t address, size_t length);

/* Whether a page of the guard's range was lost so far. */
int fastal_is_broken(int guard);

/* Ends a guard. Returns whether a page was lost. No thread may read the range any more. */
int fastal_unguard(int guard);

/* In a forked process: ends the guards of threads that do not exist there. */
void fastal_unguard_after_fork(void);

#endif
