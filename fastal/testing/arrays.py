"""What a checked function returns, as NumPy arrays."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray


def as_floats(x: Any) -> NDArray[Any]:
    """A tensor on any device as float64; anything else as NumPy takes it."""
    if isinstance(x, torch.Tensor):
        return np.asarray(x.detach().cpu().double().numpy())
    return np.asarray(x)


def as_integers(x: Any, name: str) -> NDArray[np.int64]:
    """Row numbers [n] as int64.

    Raises:
        AssertionError: they are no integers, or have another shape.
    """
    rows = np.asarray(x.detach().cpu().numpy() if isinstance(x, torch.Tensor) else x)
    if rows.ndim != 1 or (rows.dtype.kind not in "iu" and rows.size):
        raise AssertionError(f"{name}: wanted integers [n], got {rows.dtype} {list(rows.shape)}")
    return rows.astype(np.int64)
