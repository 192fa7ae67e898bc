"""What deduplication finds: rows that repeat other rows."""

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from fastal.base.arrays import as_tensor, converter_for


class Duplicates(NamedTuple):
    """Rows that are duplicates of an earlier row of their cluster, in the order of `keep`.

    The duplicates at a larger threshold are those whose similarity is at least that threshold.

    Attributes:
        rows: [d] int64, the row numbers of the duplicates, ascending.
        of: [d] int64, the most similar earlier row of each; ties go to the first. This row may
            itself be a duplicate.
        similarity: [d] float32, the cosine similarity of each to its earlier row, from the
            threshold to 1.

    Example:
        >>> import numpy as np
        >>> from fastal import diversity
        >>> x = np.array([[1, 0], [0, 1], [2, 0]], np.float32)
        >>> diversity.deduplicate(x, np.ones((1, 2)))
        Duplicates(rows=array([2]), of=array([0]), similarity=array([1.], dtype=float32))
    """

    rows: Any
    of: Any
    similarity: Any

    def kept(self) -> Any:
        """The row that is kept in the place of each duplicate, [d] int64.

        If `of` is itself a duplicate, it is followed to the row that it repeats, and so on.
        A duplicate may be less similar to this row than the threshold.

        Example:
            >>> import numpy as np
            >>> from fastal import diversity
            >>> x = np.array([[9, 0], [9, 1], [9, 2]], np.float32)
            >>> found = diversity.deduplicate(x, np.ones((1, 2)), threshold=0.99)
            >>> found.of, found.kept()
            (array([0, 1]), array([0, 0]))
        """
        rows, of = (as_tensor(column, "rows").cpu().numpy() for column in (self.rows, self.of))
        return converter_for(self.rows)(torch.from_numpy(_ends(rows, of)))


def at_threshold(found: Duplicates, threshold: float) -> Duplicates:
    """The duplicates at a threshold that is no smaller than the one they were found at."""
    is_found = found.similarity >= rounded(threshold)
    return Duplicates(*(column[is_found] for column in found))


def rounded(threshold: float) -> float:
    """A threshold as similarities are compared with it: rounded to float32."""
    return float(np.float32(threshold))


def _ends(rows: NDArray[np.int64], of: NDArray[np.int64]) -> NDArray[np.int64]:
    """The last row of the chain row, of, of that, ... that begins at each row, [d].

    Args:
        rows: [d], ascending.
        of: [d]; no chain returns to a row.
    """
    ends: NDArray[np.int64] = of.copy()
    while (goes_on := np.isin(ends, rows)).any():
        # All chains at once, in steps that double.
        ends[goes_on] = ends[np.searchsorted(rows, ends[goes_on])]
    return ends
