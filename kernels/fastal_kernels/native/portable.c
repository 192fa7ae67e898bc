/* The variant for any processor, at what the compiler takes for granted of it. */
#define INLINE static inline __attribute__((always_inline))
#define VARIANT fastal_portable
#define RANKS fastal_portable_ranks
#include "vectors_portable.h"
#include "variant.h"
