"""The four uncertainty scores as a measure."""

from typing import Any

from torch import Tensor

from fastal import ops
from fastal.base.argument_values import CLASS_KINDS
from fastal.base.blank_rows import Blank
from fastal.base.checks import check_choice, check_matrix
from fastal.ops.formulas import UNCERTAINTY_SCORES
from fastal.scoring.kind_hints import EXAMINED_ROWS, describe, suspected
from fastal.scoring.measure import Measure
from fastal.scoring.rows import Rows

_INVALID = {
    "logits": "has NaN, +inf or no finite logit",
    "log_probs": "has NaN, +inf or no finite log-probability",
    "probs": "has NaN, a negative value or a sum other than 1",
}
_ONE_COLUMN = (
    "A sigmoid's logit x is np.column_stack([0 * x, x]) as logits of two classes. "
    "If each row is one sigmoid p, pass np.column_stack([1 - p, p]) with kind='probs'"
)
_SEVERAL_ROWS = (
    "For draws of one row, give draws_axis=1; for items of several rows, such as tokens, "
    "aggregate='mean'"
)
# A row of equal values has score 1 by each of the four, within rounding.
_EQUAL_VALUES = Blank(1 - 5e-7, 1.0, None)


class UncertaintyScore(Measure):
    """One or several of the four uncertainty scores, from one read of the rows [n, C].

    Args:
        names: of the scores, see `fastal.score`.
        kind: "logits", "probs" or "log_probs".
        temperature: logits are divided by it; 1 for "probs".
    """

    offers: tuple[str, ...] = ("triton", "native", "torch")
    columns = "classes"
    blank = _EQUAL_VALUES

    def __init__(self, names: tuple[str, ...], kind: str, temperature: float = 1.0) -> None:
        for name in names:
            check_choice("by", name, UNCERTAINTY_SCORES, ", a callable or a Measure")
        check_choice("kind", kind, CLASS_KINDS)
        self.names = names
        self.kind = kind
        self.invalid = _INVALID[kind]
        self._temperature = temperature
        self.fused = _Fused(names[0], kind, temperature) if len(names) == 1 else None

    def check(self, x: Tensor) -> None:
        """ValueError or TypeError unless x is [n, C] with at least two classes."""
        try:
            check_matrix(x, self.kind, self.columns, least=2)
        except ValueError as error:
            if x.shape[1:] in ((), (1,)):
                raise ValueError(f"{error}. {_ONE_COLUMN}") from None
            if x.ndim > 2:
                raise ValueError(f"{error}. {_SEVERAL_ROWS}") from None
            raise

    def scores(self, rows: Rows) -> tuple[list[Tensor], int]:
        """The scores in the order of the names, each in [0, 1], 1 = most uncertain."""
        return ops.scores_and_invalid(
            rows.x, self.names, self.kind, self._temperature, backend=rows.backend
        )

    def identity(self) -> Any:
        """Its name, or a list of several; and a temperature other than 1."""
        names = self.names[0] if len(self.names) == 1 else list(self.names)
        if self._temperature == 1:
            return names
        return {"name": names, "temperature": self._temperature}

    @property
    def strategy(self) -> str:
        """Its name, or several."""
        return ", ".join(self.names)

    def suspect(self, x: Tensor, n_invalid: int) -> str:
        """A warning where all first rows are invalid, or are probabilities of another kind."""
        if n_invalid == len(x):
            seen = self.describe_invalid(x)
            return (
                f"the first {len(x)} rows are all invalid and left out: each {self.invalid}"
                f"{seen and f'; {seen}'}"
            )
        return suspected(x[:EXAMINED_ROWS], self.kind)

    def describe_invalid(self, x: Tensor) -> str:
        """What the rows are instead, by their values and sums."""
        return describe(x[:EXAMINED_ROWS], self.kind)


class _Fused:
    """Selection by one uncertainty score in the kernel that computes it."""

    def __init__(self, name: str, kind: str, temperature: float) -> None:
        self._name = name
        self._kind = kind
        self._temperature = temperature

    def into(self, x: Tensor, start: int, candidates: Any) -> int:
        return ops.select(x, self._name, self._kind, start, candidates, self._temperature)

    def above(
        self, x: Tensor, start: int, threshold: tuple[float, int] | None, k: int = 0
    ) -> tuple[Tensor, Tensor, int, tuple[float, int]]:
        return ops.scores_above_threshold(
            x, self._name, self._kind, start, threshold, self._temperature, k
        )
