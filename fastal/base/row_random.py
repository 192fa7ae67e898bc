"""Random numbers of rows: functions of a seed and a row number, so chunks do not change them."""

import numpy as np
from numpy.typing import NDArray

from fastal.base.row_numbers import RowNumbers

_WORDS = 4  # of a step of Philox's counter
# Words that are drawn at once for rows with gaps, and for each of them: as many as are drawn in the
# time that a new counter takes.
_MOST_WORDS, _MOST_SKIPPED = 1 << 20, 1 << 10


def uniform(seed: int, numbers: RowNumbers) -> NDArray[np.float64]:
    """Uniform numbers in (0, 1) of n rows, [n], each a function of its row number.

    Row r has word r % 4 of step r // 4 of Philox with that seed, whose upper 52 bits become the
    middle of one of 2^52 equal parts of (0, 1).
    """
    return np.asarray(((_words(seed, numbers) >> np.uint64(12)) + 0.5) * 2.0**-52)


def _words(seed: int, numbers: RowNumbers) -> NDArray[np.uint64]:
    """The random words of rows, [n]."""
    n, span = len(numbers), numbers.stop - numbers.start
    if not numbers.are_consecutive and n > 1 and span > min(_MOST_WORDS, _MOST_SKIPPED * n):
        halves = numbers.part(0, n // 2), numbers.part(n // 2, n)
        return np.concatenate([_words(seed, half) for half in halves])
    step, skipped = divmod(numbers.start, _WORDS)
    words = np.random.Philox(key=seed, counter=step).random_raw(skipped + span)[skipped:]
    if numbers.are_consecutive:
        return words
    return words[numbers.at(np.arange(n)) - numbers.start]
