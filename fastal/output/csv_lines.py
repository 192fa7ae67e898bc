"""Columns of numbers as CSV text."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

_ROWS = 1 << 14  # rows per block, since the text takes twenty times the memory of the numbers


def csv_lines(*columns: NDArray[Any]) -> Iterator[bytes]:
    r"""Columns of numbers as CSV, in blocks of lines. Floats read back to the same bits.

    Example:
        >>> list(csv_lines(np.arange(2), np.array([0.1, 1.5], np.float32)))
        [b'0,0.1\n1,1.5\n']
    """
    for first in range(0, len(columns[0]), _ROWS):
        # NumPy prints the shortest text of a float that reads back to the same bits.
        texts = [column[first : first + _ROWS].astype(np.str_).tolist() for column in columns]
        yield "".join(",".join(line) + "\n" for line in zip(*texts, strict=True)).encode()
