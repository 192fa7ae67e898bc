"""What a model puts out for each row of a pool, as its caller says it."""

import re
from dataclasses import dataclass

from fastal.base.argument_values import AGGREGATES, CLASS_KINDS, KINDS, LABEL_KINDS
from fastal.base.checks import MAX_ROW, check_choice, checked_number

_LEAST, _MOST = 1e-6, 1e6  # temperatures


@dataclass(frozen=True)
class ModelOutput:
    """What a model puts out, and how one score is made of it.

    Attributes:
        kind: what the values are, one of `KINDS`.
        temperature: logits are divided by it.
        class_axis: the axis of the classes; -1 is the last.
        draws_axis: the axis of the draws; None: there are none.
        aggregate: how the scores of an item's rows become one; None: an item is one row.
    """

    kind: str = "logits"
    temperature: float = 1.0
    class_axis: int = -1
    draws_axis: int | None = None
    aggregate: str | None = None

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, KINDS)
        temperature = checked_number("temperature", self.temperature)
        if not _LEAST <= temperature <= _MOST:
            raise ValueError(f"temperature: wanted {_LEAST:g} to {_MOST:g}, got {temperature:g}")
        object.__setattr__(self, "temperature", temperature)
        if temperature != 1 and self.kind in ("probs", "multilabel_probs"):
            raise ValueError(
                f"temperature: it divides logits, and kind is {self.kind!r}; for probabilities, "
                "give their logarithms with kind='log_probs'"
            )
        _check_axis("class_axis", self.class_axis)
        if self.draws_axis is not None:
            _check_axis("draws_axis", self.draws_axis)
            if self.aggregate is not None:
                raise ValueError("aggregate: wanted draws_axis or aggregate, got both")
            if self.kind in LABEL_KINDS:
                raise ValueError(
                    f"draws_axis: draws are of one of {', '.join(CLASS_KINDS)}, got kind "
                    f"{self.kind!r}"
                )
        if self.aggregate is not None:
            self.aggregation  # noqa: B018 (checks it)

    @property
    def aggregation(self) -> str | int:
        """`aggregate`, or of "top10" the number.

        Raises:
            ValueError: it is none of those.
        """
        if self.aggregate in AGGREGATES:
            return str(self.aggregate)
        found = re.fullmatch(r"top([1-9][0-9]*)", str(self.aggregate))
        if found is None:
            raise ValueError(
                f"aggregate: wanted one of {', '.join(AGGREGATES)}, or top and a number such as "
                f"top10, got {self.aggregate!r}"
            )
        return min(int(found[1]), MAX_ROW)

    @property
    def is_distribution(self) -> bool:
        """Whether each row is one distribution over the classes."""
        return (
            self.kind in CLASS_KINDS
            and self.class_axis == -1
            and self.draws_axis is None
            and self.aggregate is None
        )

    @property
    def is_plain(self) -> bool:
        """Whether it is a distribution a row, without a temperature."""
        return self.is_distribution and self.temperature == 1


def _check_axis(name: str, axis: object) -> None:
    if isinstance(axis, bool) or not isinstance(axis, int):
        raise TypeError(f"{name}: wanted an integer, got {axis!r}")
    if axis == 0 and name == "class_axis":
        raise ValueError(f"{name}: axis 0 counts the rows; wanted another one")
