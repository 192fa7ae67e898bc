"""The classes that the model predicts for a few rows of a pool."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fastal.base.arrays import as_tensor
from fastal.pipeline.drive import gathered
from fastal.sources import Source
from fastal.sources.chosen_rows import ChosenRows


def predicted_classes(pool: Source, rows: NDArray[np.int64]) -> list[int | None]:
    """The class with the largest prediction for each row; ties go to the lower class.

    Of mapped files and arrays, only these rows are read.

    Args:
        pool: predictions [N, C].
        rows: [k] different row numbers, in any order.

    Returns:
        A class for each row; None if the row can no longer be read.
    """

    def classes_of(x: Any) -> Tensor:
        return as_tensor(x, "pool").argmax(1).cpu()

    found: dict[int, int] = {}
    ascending = np.sort(rows)
    for start, classes in gathered(ChosenRows(pool, ascending), classes_of):
        first = int(np.searchsorted(ascending, start))
        of_chunk = ascending[first : first + len(classes)].tolist()
        found.update(zip(of_chunk, classes.tolist(), strict=True))
    return [found.get(row) for row in rows.tolist()]
