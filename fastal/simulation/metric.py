"""The number that says how good a model is on the test data."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastal.base.arrays import as_tensor
from fastal.simulation.known_data import class_numbers

Metric = Callable[[Any, Any], float]


def metric_for(metric: Any) -> tuple[str, Metric]:
    """The name of a metric and its function.

    Raises:
        ValueError: `metric` is neither "accuracy" nor a callable.
    """
    if metric == "accuracy":
        return "accuracy", accuracy
    if not callable(metric):
        raise ValueError(
            "metric: wanted 'accuracy' or a function of the labels and predictions of the test "
            f"rows, got {metric!r}"
        )
    return name_of(metric), metric


def name_of(function: Any) -> str:
    """The name of a function, or of the class of a callable object."""
    return str(getattr(function, "__name__", type(function).__name__))


def measured(metric: Metric, y: Any, predictions: Any) -> float:
    """A metric of the test data as a plain float; TypeError or ValueError unless it is finite."""
    found = metric(y, predictions)
    try:
        value = float(found)
    except (TypeError, ValueError):
        raise TypeError(f"metric: wanted a number, got {type(found).__name__}") from None
    if not math.isfinite(value):
        raise ValueError(f"metric: wanted a finite number, got {value}")
    return value


def accuracy(y: Any, predictions: Any) -> float:
    """The share of rows whose class has the largest prediction; of equal ones, the first counts.

    Args:
        y: [n] class numbers.
        predictions: [n, C].

    Raises:
        ValueError: the predictions have another shape, have NaN, or lack a class.
    """
    numbers = class_numbers("y", y)
    values = as_tensor(predictions, "predict").detach().double().cpu().numpy()
    if values.ndim != 2:
        raise ValueError(f"predict: wanted [n, classes], got shape {values.shape}")
    is_bad = np.isnan(values).any(1)
    if is_bad.any():
        raise ValueError(
            f"predict: {int(is_bad.sum())} of {len(values)} test rows have NaN, the first is row "
            f"{int(is_bad.argmax())}"
        )
    if numbers.max() >= values.shape[1]:
        raise ValueError(
            f"predict: the test data has the class {numbers.max()}, but there are "
            f"{values.shape[1]} columns; column j must be class j, also where no labelled row is "
            "of class j (a model of scikit-learn says in classes_ which columns it has)"
        )
    return float((values.argmax(1) == numbers).mean())
