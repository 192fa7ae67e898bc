"""Random numbers of rows: functions of a seed and a row number, so chunks do not change them."""

import numpy as np
from numpy.typing import NDArray

_WORDS = 4  # of a step of Philox's counter


def uniform(seed: int, start: int, n: int) -> NDArray[np.float64]:
    """Uniform numbers in (0, 1) of rows start, start + 1, ..., [n], each a function of its row.

    Row r has word r % 4 of step r // 4 of Philox with that seed, whose upper 52 bits become the
    middle of one of 2^52 equal parts of (0, 1).
    """
    step, skipped = divmod(start, _WORDS)
    words = np.random.Philox(key=seed, counter=step).random_raw(skipped + n)[skipped:]
    return np.asarray(((words >> np.uint64(12)) + 0.5) * 2.0**-52)
