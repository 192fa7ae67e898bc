"""Random numbers of rows: functions of a seed and a row number, so chunks do not change them."""

import numpy as np
from numpy.typing import NDArray

from fastal.base.row_numbers import RowNumbers

_WORDS = 4  # of a step of Philox's counter
_MOST_SKIPPED = 1 << 10  # as many words are drawn in the time that a new counter takes


def uniform(seed: int, numbers: RowNumbers) -> NDArray[np.float64]:
    """Uniform numbers in (0, 1) of n rows, [n], each a function of its row number.

    Row r has word r % 4 of step r // 4 of Philox with that seed, whose upper 52 bits become the
    middle of one of 2^52 equal parts of (0, 1).
    """
    return np.asarray(((_words(seed, numbers) >> np.uint64(12)) + 0.5) * 2.0**-52)


def _words(seed: int, numbers: RowNumbers) -> NDArray[np.uint64]:
    """The random words of rows, [n]."""
    if not numbers.are_consecutive and numbers.stop - numbers.start > _MOST_SKIPPED * len(numbers):
        rows = numbers.at(np.arange(len(numbers))).tolist()
        return np.concatenate([_words(seed, RowNumbers(1, row)) for row in rows])
    step, skipped = divmod(numbers.start, _WORDS)
    n = skipped + numbers.stop - numbers.start
    words = np.random.Philox(key=seed, counter=step).random_raw(n)[skipped:]
    if numbers.are_consecutive:
        return words
    return words[numbers.at(np.arange(len(numbers))) - numbers.start]
