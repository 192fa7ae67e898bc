"""How a measure is applied, which every reducer over scores is given."""

from dataclasses import asdict, dataclass

from fastal.base.checks import check_choice
from fastal.ops import BACKENDS


@dataclass(frozen=True)
class ScoringOptions:
    """How a measure is applied to the rows of a pool.

    Attributes:
        on_invalid: "raise" at the first chunk with an invalid row, or "skip" such rows: they are
            left out, have score NaN and are counted.
        backend: "auto", "triton", "native" or "torch".
    """

    on_invalid: str = "raise"
    backend: str = "auto"

    def __post_init__(self) -> None:
        check_choice("on_invalid", self.on_invalid, ("raise", "skip"))
        check_choice("backend", self.backend, BACKENDS)

    def identity(self) -> dict[str, str]:
        """The options by name."""
        return asdict(self)
