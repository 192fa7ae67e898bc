/* The variant for any processor, at the compiler's default target. */
#define INLINE static inline __attribute__((always_inline))
#define VARIANT fastal_portable
#define RANKS fastal_portable_ranks
#define ITEMS fastal_portable_items
#define DRAWS fastal_portable_draws
#include "vectors_portable.h"
#include "variant.h"
