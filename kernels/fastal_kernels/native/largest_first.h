/* Moves the m largest of n values to the front, the least of them to x[m - 1] (Hoare's
 * quickselect). No order of the values makes random pivots slow. */
#define LARGEST_FIRST(NAME, TYPE)                                                                  \
    static void NAME(TYPE *x, int64_t n, int64_t m) {                                              \
        uint64_t random = 1;                                                                       \
        for (int64_t low = 0, high = n - 1; low < high;) {                                         \
            random = random * 6364136223846793005 + 1442695040888963407;                           \
            const TYPE pivot = x[low + (int64_t)((random >> 33) % (high - low + 1))];              \
            int64_t i = low, j = high;                                                             \
            while (i <= j) {                                                                       \
                while (x[i] > pivot)                                                               \
                    i++;                                                                           \
                while (x[j] < pivot)                                                               \
                    j--;                                                                           \
                if (i <= j) {                                                                      \
                    const TYPE kept = x[i];                                                        \
                    x[i++] = x[j];                                                                 \
                    x[j--] = kept;                                                                 \
                }                                                                                  \
            }                                                                                      \
            if (m - 1 <= j)                                                                        \
                high = j;                                                                          \
            else if (m - 1 >= i)                                                                   \
                low = i;                                                                           \
            else                                                                                   \
                return;                                                                            \
        }                                                                                          \
    }
