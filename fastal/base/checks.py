"""Checks of arguments: each error names the argument, what came and what was wanted."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

MAX_ROW = 2**63 - 1
_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def check_choice(name: str, value: object, choices: Sequence[str], more: str = "") -> None:
    """ValueError if `value`, of the argument `name`, is none of the choices."""
    if value not in choices:
        raise ValueError(f"{name}: wanted one of {', '.join(choices)}{more}, got {value!r}")


def checked_count(name: str, count: Any, least: int = 1) -> int:
    """`count` as a plain int; TypeError or ValueError unless it is an integer from `least` up."""
    if isinstance(count, bool) or not isinstance(count, (int, np.integer)):
        raise TypeError(f"{name}: wanted an integer, got {count!r}")
    if count < least:
        wanted = f"at least {least}" if least else "0 or more"
        raise ValueError(f"{name}: wanted {wanted}, got {count}")
    return int(count)


def checked_number(name: str, number: Any) -> float:
    """`number` as a plain float; TypeError unless it is a real number."""
    if isinstance(number, bool) or not isinstance(number, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name}: wanted a number, got {number!r}")
    return float(number)


def checked_beta(beta: Any) -> float:
    """`beta` as a plain float; TypeError or ValueError unless it is finite and above 0."""
    found = checked_number("beta", beta)
    if not 0 < found < math.inf:
        raise ValueError(f"beta: wanted a finite number above 0, got {beta}")
    return found


def checked_seed(seed: Any) -> int:
    """`seed` as a plain int; TypeError or ValueError unless it is from 0 to 2^64 - 1."""
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
        raise TypeError(f"seed: wanted an integer, got {seed!r}")
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed: wanted 0 to 2^64 - 1, got {seed}")
    return int(seed)


def check_dtype(x: Tensor, name: str) -> None:
    """TypeError if rows, of the argument `name`, are no floating-point numbers."""
    if x.dtype in _DTYPES:
        return
    # Integers may stand for numbers by a scale and a zero point that only the caller knows.
    remedy = "" if x.is_complex() else "; convert it to float first"
    raise TypeError(f"{name}: wanted float16, bfloat16, float32 or float64, got {x.dtype}{remedy}")


def check_matrix(x: Tensor, name: str, columns: str = "columns", least: int = 1) -> None:
    """TypeError or ValueError unless `x` is a matrix [rows, columns] of floating-point numbers.

    Args:
        x: the rows.
        name: the argument they came in.
        columns: what a column is, for the error: "classes".
        least: the least number of columns.
    """
    shape = tuple(x.shape)
    if x.ndim != 2:
        raise ValueError(f"{name}: wanted [rows, {columns}], got shape {shape}")
    check_dtype(x, name)
    if x.shape[1] < least:
        raise ValueError(f"{name}: wanted at least {least} {columns}, got shape {shape}")


def plain(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments as JSON holds them, a copy: tuples become lists, NumPy numbers become Python's.

    Raises:
        TypeError: a value is not plain; the message names its argument.
    """
    return {name: _plain(name, value) for name, value in arguments.items()}


def _plain(name: str, value: Any) -> Any:
    if value is None or type(value) in (bool, int, float, str):
        return value
    try:
        return json.loads(json.dumps(value, default=lambda number: number.item()))
    except (AttributeError, TypeError, ValueError) as error:
        raise TypeError(f"{name}: wanted plain values as identity, got {value!r}") from error


def check_same(ours: Mapping[str, Any], theirs: Mapping[str, Any], what: str) -> None:
    """ValueError naming the first argument that differs between ours and theirs.

    Args:
        ours: arguments by name.
        theirs: likewise; an argument that is absent counts as None.
        what: who they are, for the error: "the state".
    """
    for key in {**ours, **theirs}:
        if theirs.get(key) != ours.get(key):
            raise ValueError(
                f"{what} has {key}={theirs.get(key)!r}, this one {key}={ours.get(key)!r}"
            )


def check_another(kind: type, ours: object, theirs: object) -> None:
    """TypeError unless `theirs`, to be merged into `ours`, is another object of its class."""
    if not isinstance(theirs, kind) or theirs is ours:
        got = "this one" if theirs is ours else type(theirs).__name__
        raise TypeError(f"merge: wanted another {kind.__name__}, got {got}")
