"""The classes that the model predicts for a few rows of a pool."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fastal.base.arrays import as_tensor
from fastal.base.reducer import Pending, Reducer


class PredictedClasses(Reducer[NDArray[np.int64]]):
    """Finds the class with the largest prediction for each of some rows, in one pass.

    Of mapped files and arrays, only these rows are read. The result [k] is in the order of the
    rows; ties go to the lower class, and a row that was not read has -1.

    Args:
        rows: [k] row numbers.
    """

    def __init__(self, rows: NDArray[np.int64]) -> None:
        self._order = np.argsort(rows, kind="stable")
        self._ascending = rows[self._order]
        self._classes = np.full(len(rows), -1, np.int64)

    def look(self, chunk: Any, start: int | None = None) -> Pending:
        """Reads the wanted rows among predictions [n, C]; see `Reducer.look`."""
        first = start or 0
        x = as_tensor(chunk, "pool")
        here = slice(*np.searchsorted(self._ascending, (first, first + len(x))))
        places = torch.from_numpy(self._ascending[here] - first).to(x.device)
        found = x[places].argmax(1).cpu().numpy()

        def commit() -> None:
            self._classes[self._order[here]] = found

        return Pending(commit)

    def result(self) -> NDArray[np.int64]:
        """The classes of the rows so far."""
        return np.array(self._classes)

    def identity(self) -> dict[str, Any]:
        """The rows."""
        return {"rows": self._ascending.tolist()}

    def _state(self) -> dict[str, Any]:
        return {"classes": self._classes.copy()}

    def _restore(self, state: Mapping[str, Any]) -> None:
        self._classes = state["classes"].copy()
