"""What a strategy knows when it picks the rows of a round."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastal.simulation.predicted import checked_predictions


@dataclass(frozen=True, eq=False, repr=False)
class Round:
    """What a strategy of `fastal.simulate` knows when it picks the rows of a round.

    Row numbers count the rows of the pool, which is `x`. The test data is not in it.

    Attributes:
        number: the number of the round, from 1.
        k: how many rows to pick.
        seed: a seed for random choices. Each run and each round has its own.
        x: the rows of the pool, labelled rows too.
        labelled: [m] int64, the rows with a label: first the initial ones, then the picks in the
            order in which they were picked. Use it as `exclude`.
        labels: their labels, in the same order.
        model: what `fit` returned for these rows and labels.
        predict: the function that the caller gave.

    Example:
        >>> import fastal, numpy as np
        >>> logits = np.array([[9.0, 0.0], [0.1, 0.0], [3.0, 0.0], [0.0, 0.5]])
        >>> now = fastal.Round(
        ...     number=1, k=2, seed=0, x=logits, labelled=np.array([1]), labels=np.array([0]),
        ...     model=None, predict=lambda model, x: x,
        ... )
        >>> def by_ratio(given):
        ...     return fastal.select(given.predictions, given.k, "ratio", exclude=given.labelled)
        >>> by_ratio(now).rows
        array([3, 2])
    """

    number: int
    k: int
    seed: int
    x: Any
    labelled: NDArray[np.int64]
    labels: Any
    model: Any
    predict: Callable[[Any, Any], Any]

    @cached_property
    def predictions(self) -> Any:
        """What `predict` returns for all rows of the pool. It is called with the first use."""
        return checked_predictions(self.predict, self.model, self.x)
