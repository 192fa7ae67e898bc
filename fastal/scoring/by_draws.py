"""Scores of items of several draws, such as the members of an ensemble, as a measure."""

from typing import Any

from torch import Tensor

from fastal import ops
from fastal.base.argument_values import CLASS_KINDS, DRAWS_SCORES
from fastal.base.checks import check_choice, check_dtype
from fastal.scoring.kind_hints import describe, some_rows, suspected
from fastal.scoring.measure import Measure
from fastal.scoring.model_output import ModelOutput
from fastal.scoring.rows import Rows


class DrawsScore(Measure):
    """One or several scores of draws, from one read of the rows [n, S, C].

    Args:
        names: of the scores, see `fastal.select`.
        output: what the draws are, and their axes.
    """

    offers = ("triton", "native", "torch")

    def __init__(self, names: tuple[str, ...], output: ModelOutput) -> None:
        for name in names:
            check_choice("by", name, DRAWS_SCORES)
        check_choice("kind", output.kind, CLASS_KINDS, ", which draws are of")
        self.names = names
        self.kind = output.kind
        self._output = output
        self._draws_axis = 1 if output.draws_axis is None else output.draws_axis
        self.invalid = "has a draw that is invalid: NaN, +inf, no finite value, or no distribution"

    def check(self, x: Tensor) -> None:
        """ValueError or TypeError unless x has the axes of rows, draws and classes."""
        check_dtype(x, self.kind)
        if x.ndim != 3:
            raise ValueError(
                f"{self.kind}: wanted [rows, draws, classes], got shape {tuple(x.shape)}; for one "
                "array or pool a draw, give fastal.draws([...])"
            )
        self._ordered(x)

    def _ordered(self, x: Tensor) -> Tensor:
        """The draws as [n, S, C], a view."""
        axes = {}
        for name, axis in (
            ("draws_axis", self._draws_axis),
            ("class_axis", self._output.class_axis),
        ):
            if not -x.ndim <= axis < x.ndim:
                raise ValueError(f"{name}: no axis {axis} in rows of shape {tuple(x.shape)}")
            axes[name] = axis % x.ndim
        draws, classes = axes["draws_axis"], axes["class_axis"]
        if draws == classes:
            raise ValueError(f"draws_axis: axis {draws} is that of the classes")
        if draws == 0:
            raise ValueError(
                "draws_axis: axis 0 counts the rows of a chunk; for draws along axis 0, give "
                "fastal.draws(x, axis=0)"
            )
        found = x.permute(0, draws, classes)
        if found.shape[2] < 2 or not found.shape[1]:
            raise ValueError(
                f"{self.kind}: wanted at least 1 draw and 2 classes, got shape {tuple(x.shape)}"
            )
        return found

    def choose(self, x: Tensor, backend: str) -> str:
        """The backend; only torch scores float64."""
        is_double = str(x.dtype) == "torch.float64"
        return ops.choose(backend, x, ("torch",) if is_double else self.offers)

    def scores(self, rows: Rows) -> tuple[list[Tensor], int]:
        """The scores in the order of the names."""
        output = self._output
        found = ops.draws(
            self._ordered(rows.x), self.names, output.kind, output.temperature,
            backend=rows.backend,
        )  # fmt: skip
        return found, int(found[0].isnan().sum())

    def identity(self) -> Any:
        """Its name, the axes and the temperature."""
        return {
            "name": list(self.names),
            "draws_axis": self._draws_axis,
            "class_axis": self._output.class_axis,
            "temperature": self._output.temperature,
        }

    @property
    def strategy(self) -> str:
        """Its name, or several."""
        return ", ".join(self.names)

    def suspect(self, x: Tensor, n_invalid: int) -> str:  # noqa: ARG002
        """A warning where the first draws are probabilities of another kind."""
        return suspected(self._some_draws(x), self.kind)

    def describe_invalid(self, x: Tensor) -> str:
        """What the draws are instead, by their values and sums."""
        return describe(self._some_draws(x), self.kind)

    def _some_draws(self, x: Tensor) -> Tensor:
        return some_rows(self._ordered(x), -1)
