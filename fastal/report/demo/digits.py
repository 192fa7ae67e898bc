"""The digits: 1,797 pictures of 8 by 8 pixels, of which few are labelled."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

LABELLED, HELD_OUT, PICKS = 50, 600, 20

Array = NDArray[Any]


class Split(NamedTuple):
    """Row numbers of the digits for one seed: labelled rows, unlabelled pool, held-out rows."""

    labelled: Array
    pool: Array
    held_out: Array


def digits() -> tuple[Array, Array]:
    """Pixels from 0 to 1, [N, 64], and the digit that each picture shows."""
    x, y = load_digits(return_X_y=True)
    return x / 16, y


def split_of(n_rows: int, seed: int) -> Split:
    """A random split."""
    order = np.random.default_rng(seed).permutation(n_rows)
    return Split(*np.split(order, (LABELLED, n_rows - HELD_OUT)))


def spread(values: list[float], form: str = ".1%") -> str:
    """Mean ± standard deviation, as text."""
    return f"{np.mean(values):{form}} ± {np.std(values):{form}}"
