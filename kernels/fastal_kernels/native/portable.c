/* The variant for any processor, at the compiler's default target. */
#define INLINE static inline __attribute__((always_inline))
#define VARIANT fastal_portable
#define RANKS fastal_portable_ranks
#define PANELS fastal_portable_panels
#define HEAD fastal_portable_head
#define HEAD_UNITS fastal_portable_head_units
#define NEAREST fastal_portable_nearest
#define SIMILARITIES fastal_portable_similarities
#define UNIT_SUMS fastal_portable_unit_sums
#define MULTIPLY_ADD multiply_add
#define ITEMS fastal_portable_items
#define DRAWS fastal_portable_draws
#include "vectors_portable.h"
#include "variant.h"
