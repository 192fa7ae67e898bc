"""A caller's own function as a measure."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fastal.base.arrays import as_tensor
from fastal.base.errors import InvalidRows
from fastal.scoring.measure import Measure
from fastal.scoring.rows import Rows

ByCallable = Callable[[Tensor], Any]


class CallableScore(Measure):
    """Scores by a function from a chunk, a tensor [n, ...], to [n] scores, NaN for invalid rows.

    Args:
        function: the function; its scores are rounded to float32.
        kind: what the rows are, for messages.
    """

    invalid = "has score NaN"
    chunk_bytes = 32 << 20  # each chunk is copied
    rows_alike = False
    chunks_matter = True

    def __init__(self, function: ByCallable, kind: str) -> None:
        self._function = function
        self.kind = kind

    def check(self, x: Tensor) -> None:
        """Accepts rows of any shape."""

    def choose(self, x: Tensor, backend: str) -> str:  # noqa: ARG002
        """Always "callable"."""
        return "callable"

    def scores(self, rows: Rows) -> tuple[list[Tensor], int]:
        """The function's scores [n] float32; ValueError or TypeError if it returns no such."""
        x, start = rows.x, rows.start
        try:
            # A copy: the function may work in place, and the chunk must not be written to.
            scores = as_tensor(self._function(x.clone()), "by: the callable's result")
        except InvalidRows as error:  # its row numbers count from the chunk's first row
            raise ValueError(
                f"by: the callable, of rows {start} to {start + len(x) - 1}: {error}"
            ) from error
        if scores.shape != x.shape[:1]:
            raise ValueError(
                f"by: the callable gave shape {tuple(scores.shape)} for a chunk of shape "
                f"{tuple(x.shape)}; wanted one score a row"
            )
        if scores.is_complex():
            raise TypeError(f"by: the callable gave {scores.dtype}, wanted real numbers")
        scores = scores.to(torch.float32)
        return [scores], int(scores.isnan().sum())

    def identity(self) -> str:
        """The function's module and name."""
        function = self._function
        named = function if hasattr(function, "__qualname__") else type(function)
        return f"{named.__module__}.{named.__qualname__}"

    @property
    def strategy(self) -> str:
        """The function's own name."""
        return str(getattr(self._function, "__name__", type(self._function).__name__))

    @property
    def unresumable(self) -> str:
        """Why the name does not identify the function: it is a lambda, a closure or an object."""
        if hasattr(self._function, "__qualname__") and "<" not in self._function.__qualname__:
            return ""
        return "by is a lambda, a closure or an object: name it with def"

    def check_mergeable(self, other: Measure) -> None:
        """ValueError if the other has another function that its name does not identify."""
        is_same = isinstance(other, CallableScore) and self._function is other._function
        if self.unresumable and not is_same:
            raise ValueError("merge: by is a different callable there; give it a name with def")
