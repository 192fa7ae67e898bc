"""A value for each row of a pool."""

import torch
from torch import Tensor


class RowValues:
    """A value for each row of a pool of which only reading tells how long it is.

    Args:
        fill: the value of rows that nobody has set.
        dtype: of the values.

    Attributes:
        n_rows: the row after the last that was asked for.
    """

    def __init__(self, fill: float, dtype: torch.dtype) -> None:
        self._fill = fill
        self._room = torch.empty(0, dtype=dtype, device="cpu")
        self.n_rows = 0

    @property
    def values(self) -> Tensor:
        """[n_rows], to be written to as well."""
        return self._room[: self.n_rows]

    def of(self, start: int, stop: int, device: torch.device | None = None) -> Tensor:
        """The values of rows start to stop - 1, to be written to, on the device."""
        if device is not None:
            self._room = self._room.to(device)
        if stop > len(self._room):
            more = max(stop - len(self._room), len(self._room))
            self._room = torch.cat((self._room, self._room.new_full((more,), self._fill)))
        self.n_rows = max(self.n_rows, stop)
        return self._room[start:stop]

    def trim(self) -> None:
        """Gives back the room for more rows."""
        if len(self._room) > self.n_rows:
            self._room = self.values.clone()

    def load(self, values: Tensor) -> None:
        """Replaces all of them by [n_rows] others."""
        self._room = values.to(self._room.dtype)
        self.n_rows = len(values)
