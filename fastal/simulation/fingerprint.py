"""Digests of the data of a simulation, which tell one data set from another."""

import hashlib
from typing import Any

import numpy as np
import torch

from fastal.base.arrays import as_tensor, is_array

_PLAIN = (str, bytes, bool, int, float, type(None))


def digest(name: str, values: Any) -> str:
    """A digest of an array, or of a list of arrays, text and numbers.

    Args:
        name: the argument, for the error.
        values: what to digest.

    Raises:
        TypeError: it is something else.
    """
    found = hashlib.sha256()
    _add(found, name, values)
    return found.hexdigest()


def _add(found: Any, name: str, values: Any) -> None:
    if isinstance(values, (list, tuple)):
        found.update(f"list {len(values)} ".encode())
        for value in values:
            _add(found, name, value)
    elif isinstance(values, _PLAIN):
        text = f"{type(values).__name__} {values!r}"
        found.update(f"{len(text)} {text} ".encode(errors="surrogatepass"))
    elif is_array(values):
        _add_array(found, name, values)
    else:
        raise TypeError(
            f"checkpoint: wanted {name} of arrays, or of lists of arrays, text and numbers, got "
            f"{type(values).__name__}, which cannot be compared with that of another run"
        )


def _add_array(found: Any, name: str, values: Any) -> None:
    if not isinstance(values, np.ndarray) and hasattr(values, "__dlpack__"):
        tensor = as_tensor(values, name).detach().cpu().contiguous()
        found.update(f"{tensor.dtype} {tuple(tensor.shape)} ".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy())  # NumPy has no bfloat16
        return
    array = np.asarray(values)
    if array.dtype.kind in ("O", "T"):
        _add(found, name, array.tolist())
        return
    found.update(f"{array.dtype.str} {array.shape} ".encode())
    found.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
