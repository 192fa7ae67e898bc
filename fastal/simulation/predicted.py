"""Predictions that the caller's function returns."""

from collections.abc import Callable
from typing import Any

from fastal.base.arrays import is_array
from fastal.simulation.known_data import n_rows


def checked_predictions(predict: Callable[[Any, Any], Any], model: Any, x: Any) -> Any:
    """The predictions of rows; TypeError or ValueError unless there is one for each row."""
    found = predict(model, x)
    if not is_array(found) or not getattr(found, "shape", ()):
        raise TypeError(f"predict: wanted an array [n, classes], got {type(found).__name__}")
    if found.shape[0] != n_rows(x):
        raise ValueError(
            f"predict: wanted a prediction for each of {n_rows(x):,} rows, got shape "
            f"{tuple(found.shape)}"
        )
    return found
