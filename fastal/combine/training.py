"""How the small model of a strategy is trained, as its arguments say."""

import math
from dataclasses import dataclass

from torch import Tensor

from fastal.base.checks import check_choice, checked_number, checked_seed
from fastal.combine.held_out import held_out_auc
from fastal.combine.logistic import logistic_regression
from fastal.combine.network import LEAST_ROWS, network
from fastal.combine.small_model import Layers, LogOdds
from fastal.combine.standard_rows import NoModel

MODELS = ("logistic", "network")


@dataclass(frozen=True)
class Training:
    """How a small model is trained.

    Attributes:
        model: "logistic" or "network".
        l2: the weight of its penalty, above 0.
        seed: of the folds and of a network's first weights.
        strategy: the name of the strategy.
        argument: the argument whose rows the model is trained on, for messages.

    Raises:
        ValueError, TypeError: a bad argument.
    """

    model: str
    l2: float
    seed: int
    strategy: str
    argument: str

    def __post_init__(self) -> None:
        check_choice("model", self.model, MODELS)
        if not 0 < checked_number("l2", self.l2) < math.inf:
            raise ValueError(f"l2: wanted a finite number above 0, got {self.l2}")
        checked_seed(self.seed)

    def auc(self, x: Tensor, is_positive: Tensor) -> float:
        """How well such a model tells rows [n, H] apart; see `held_out_auc`."""
        self._check_rows(is_positive)
        return held_out_auc(self._fit, x, is_positive, self.seed)

    def measure(self, x: Tensor, is_positive: Tensor) -> LogOdds:
        """The measure of a model that is trained on rows [n, H], of which some are positive."""
        self._check_rows(is_positive)
        return LogOdds(self._fit(x, is_positive), self.strategy, self.argument)

    def _fit(self, x: Tensor, is_positive: Tensor) -> Layers:
        try:
            if self.model == "logistic":
                return logistic_regression(x, is_positive, self.l2)
            return network(x, is_positive, self.l2, self.seed)
        except NoModel as error:
            raise ValueError(f"{self.argument}: {error}") from None

    def _check_rows(self, is_positive: Tensor) -> None:
        fewest = min(int(is_positive.sum()), int((~is_positive).sum()))
        if self.model == "network" and fewest < LEAST_ROWS:
            raise ValueError(
                f"model: 'network' wanted at least {LEAST_ROWS} rows of each side, got {fewest}; "
                "'logistic' takes one"
            )
