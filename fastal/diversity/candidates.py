"""The rows that are worth most, with their embeddings: the next picks are among them."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastal.base.row_numbers import RowNumbers
from fastal.ops.reference import dtype_for
from fastal.selection.ties import beat

# At least so many rows are held, and one of each `_SHARE` of the pool: more rows save passes over
# the pool, and take longer for each pick. The budget of memory goes first.
_LEAST, _SHARE = 1 << 13, 64
# Embeddings are held twice while rows are dropped, and twice while rows are picked.
_COPIES = 4
_NOTHING = np.empty(0)


class Place(NamedTuple):
    """Where a row stands: the larger worth first, of equal ones the lower row."""

    worth: float
    row: int

    def precedes(self, other: "Place | None") -> bool:
        """Whether this row comes before the other. None stands for no row."""
        return other is None or bool(beat(*self, *other))


def row_bytes_of(x: Tensor) -> int:
    """How much of the memory a row of x [n, D] takes."""
    return _COPIES * max(1, x.shape[1]) * dtype_for(x).itemsize


class Candidates:
    """Holds the rows that are worth most. Each row is added once.

    Args:
        memory_bytes: memory for the rows. At least one row is held.

    Attributes:
        bound: the first of the rows that were dropped; None: no row was dropped.
    """

    def __init__(self, memory_bytes: int) -> None:
        self._memory_bytes = memory_bytes
        self._row_bytes = 1
        self._n_rows = 0  # of the pool so far
        self._worth: NDArray[Any] = _NOTHING
        self._rows: NDArray[np.int64] = _NOTHING.astype(np.int64)
        self._nearest: NDArray[np.float32] = _NOTHING.astype(np.float32)
        self._x: list[Tensor] = []  # the embeddings, in pieces
        self.bound: Place | None = None

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, worth: Tensor, numbers: RowNumbers, nearest: Tensor, x: Tensor) -> None:
        """Adds rows.

        Args:
            worth: [n], larger = picked earlier; -inf for rows that must not be picked.
            numbers: their row numbers.
            nearest: [n] float32, their distances, which are kept with them.
            x: [n, D], their embeddings.
        """
        values = worth.cpu().numpy()
        self._row_bytes = row_bytes_of(x)
        self._n_rows = max(self._n_rows, numbers.stop)
        above = values > -np.inf
        if self.bound is not None:
            above &= values >= self.bound.worth  # ties are compared below
        places = np.flatnonzero(above)
        values, rows = values[places], numbers.at(places)
        if self.bound is not None:
            above = beat(values, rows, *self.bound)
            places, values, rows = places[above], values[above], rows[above]
        held = self._drop(values, rows)
        places, values, rows = places[held], values[held], rows[held]
        taken = torch.from_numpy(places)
        found = nearest[taken.to(nearest.device)].cpu().numpy()
        self._append(values, rows, found, [x[taken.to(x.device)].to("cpu", dtype_for(x))])

    def empty(self) -> "Candidates":
        """Candidates without rows and with the same bound, for rows that `merge` adds later."""
        empty = Candidates(self._memory_bytes)
        empty.bound = self.bound
        return empty

    def merge(self, other: "Candidates") -> None:
        """Adds the candidates among other rows."""
        self._n_rows = max(self._n_rows, other._n_rows)
        self._row_bytes = max(self._row_bytes, other._row_bytes)
        self._lower(other.bound)
        self._append(other._worth, other._rows, other._nearest, other._x)
        self._keep(self._drop(self._worth, self._rows))

    def best(self) -> tuple[NDArray[np.int64], NDArray[np.float32], Tensor]:
        """Rows [m], their distances [m] and embeddings [m, D], which precede `bound`.

        If too many rows are held, the others are dropped first.
        """
        self._keep(self._drop(self._worth, self._rows))
        nothing = torch.empty(0, 0, dtype=torch.float32, device="cpu")
        return self._rows, self._nearest, torch.cat(self._x) if self._x else nothing

    def state_dict(self) -> dict[str, Any]:
        """The rows and `bound`."""
        rows, nearest, x = self.best()
        return {
            "n_rows": self._n_rows, "bound": None if self.bound is None else list(self.bound),
            "worth": self._worth, "rows": rows, "nearest": nearest, "x": x.numpy(),
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores what `state_dict` returned."""
        self._n_rows = state["n_rows"]
        self.bound = None if state["bound"] is None else Place(*state["bound"])
        self._worth, self._rows, self._nearest = (
            np.array(state[name]) for name in ("worth", "rows", "nearest")
        )
        self._x = [torch.from_numpy(np.array(state["x"]))] if len(self._rows) else []

    def _append(
        self,
        worth: NDArray[Any],
        rows: NDArray[np.int64],
        nearest: NDArray[np.float32],
        x: list[Tensor],
    ) -> None:
        if not len(rows):
            return
        self._worth = np.concatenate((self._worth, worth)) if len(self) else worth
        self._nearest = np.concatenate((self._nearest, nearest))
        self._rows = np.concatenate((self._rows, rows))
        self._x += x

    def _most(self) -> int:
        """How many rows to hold."""
        wanted = max(_LEAST, self._n_rows // _SHARE)
        return max(1, min(wanted, self._memory_bytes // self._row_bytes))

    def _drop(self, worth: NDArray[Any], rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Drops rows if they are too many. Returns the positions of the rows to hold."""
        if self.bound is not None:
            held = np.flatnonzero(beat(worth, rows, *self.bound))
        else:
            held = np.arange(len(worth))
        most = self._most()
        if len(held) <= most:
            return held
        worth, rows = worth[held], rows[held]
        least = np.partition(worth, len(worth) - most)[len(worth) - most]
        better, tied = np.flatnonzero(worth > least), np.flatnonzero(worth == least)
        tied = tied[np.argsort(rows[tied])]
        n_tied = most - len(better)
        if n_tied < len(tied):
            dropped = tied[n_tied]
        else:
            below = np.flatnonzero(worth < least)
            below = below[worth[below] == worth[below].max()]
            dropped = below[rows[below].argmin()]
        self._lower(Place(float(worth[dropped]), int(rows[dropped])))
        kept: NDArray[np.int64] = np.sort(held[np.concatenate((better, tied[:n_tied]))])
        return kept

    def _lower(self, bound: Place | None) -> None:
        """Takes note of a row that was dropped."""
        if bound is not None and bound.precedes(self.bound):
            self.bound = bound

    def _keep(self, positions: NDArray[np.int64]) -> None:
        """Drops all rows but these."""
        if len(positions) == len(self):
            return
        self._x = [torch.cat(self._x)[torch.from_numpy(positions)]]
        self._worth, self._rows = self._worth[positions], self._rows[positions]
        self._nearest = self._nearest[positions]
