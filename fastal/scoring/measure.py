"""What a score is: a measure of rows, each row on its own."""

from abc import ABC, abstractmethod
from typing import Any, Protocol

from torch import Tensor

from fastal import ops
from fastal.base.blank_rows import Blank
from fastal.base.items import Items
from fastal.scoring.model_output import ModelOutput
from fastal.scoring.rows import Rows


class FusedSelection(Protocol):
    """Scores and selects in one kernel, without the scores ever being in memory."""

    def into(self, x: Tensor, start: int, candidates: Any) -> int:
        """On a GPU: adds rows start, start + 1, ... to the candidates; how many are invalid."""

    def above(
        self, x: Tensor, start: int, threshold: tuple[float, int] | None, k: int = 0
    ) -> tuple[Tensor, Tensor, int, tuple[float, int]]:
        """On a CPU: scores and row numbers of rows that beat a threshold, a score and a row.

        With k, of the k best of them, and of some others. Also how many rows are invalid, and the
        arguments of `TopK.lose` for the rows that tie with the threshold and do not beat it.
        """


class Measure(ABC):
    """Scores rows, each on its own. Rows may have any shape that `check` accepts.

    The only abstraction of scoring: the name of an uncertainty score and a callable become measures
    by `fastal.scoring.measure_for`.

    Attributes:
        kind: what the rows are: "embeddings".
        invalid: what is wrong with a row of score NaN, for messages: "has NaN".
        names: the names of its scores. Several scores may come from one read of the rows; a
            selection wants a measure of one.
        offers: the backends that compute it.
        columns: what the last axis of a row counts, for messages: "classes".
        chunk_bytes: how many bytes of a pool to read at once; None: the pipeline decides.
        rows_alike: whether all chunks have rows of one shape.
        chunks_matter: whether the last bits of a score may depend on the other rows of the chunk.
        blank: the scores of rows that hold nothing; None: such rows have no score of their own.
        fused: selects by it in one kernel; None: no kernel does.
        of_classes: whether the columns of a row may be classes, one of which is predicted.
        ties_matter: whether a message counts rows that tie at the last place.
    """

    kind: str
    invalid: str
    names: tuple[str, ...] = ("score",)
    offers: tuple[str, ...] = ("torch",)
    columns: str = "columns"
    chunk_bytes: int | None = None
    rows_alike: bool = True
    chunks_matter: bool = False
    blank: Blank | None = None
    fused: FusedSelection | None = None
    of_classes: bool = True
    ties_matter: bool = True

    @abstractmethod
    def check(self, x: Tensor) -> None:
        """ValueError or TypeError unless rows x [n, ...] can be scored."""

    def check_items(self, x: Tensor, items: Items) -> None:  # noqa: ARG002
        """ValueError or TypeError unless items of several rows, with values x, can be scored."""
        raise TypeError(
            f"{self.kind}: got items of several rows; wanted aggregate as well, such as "
            "aggregate='mean', and by one of the four uncertainty scores"
        )

    def shape_of_rows(self, x: Tensor) -> tuple[int, ...] | None:
        """What all chunks x [n, ...] have in common: the shape of a row; None: nothing."""
        return tuple(x.shape[1:]) if self.rows_alike else None

    def for_output(self, output: ModelOutput) -> "Measure":
        """The measure for what the arguments of a selection say of the rows.

        Raises:
            ValueError: the measure has no use of one of these arguments.
        """
        output.check_unused("a measure")
        return self

    @abstractmethod
    def scores(self, rows: Rows) -> tuple[list[Tensor], int]:
        """The scores of rows, and how many rows are invalid.

        Args:
            rows: n rows that `check` accepted.

        Returns:
            For each of `names`, [n] float32 on the device of the rows, NaN for invalid rows;
            larger = more worth labelling.
        """

    @abstractmethod
    def identity(self) -> Any:
        """What distinguishes it from measures that score otherwise, as plain values."""

    @property
    def strategy(self) -> str:
        """Its short name, which the picks get."""
        return type(self).__name__

    def choose(self, x: Tensor, backend: str) -> str:
        """The backend for these rows, where the caller asked for `backend`."""
        return ops.choose(backend, x, self.offers)

    @property
    def unresumable(self) -> str:
        """Why `identity` does not identify it in another process; empty if it does."""
        return ""

    def check_mergeable(self, other: "Measure") -> None:  # noqa: B027
        """ValueError if scores by the other must not be mixed with its own.

        That identities agree is checked elsewhere.
        """

    def suspect(self, x: Tensor, n_invalid: int) -> str:  # noqa: ARG002
        """A warning if the pool's first rows are all invalid or of another kind; else empty."""
        return ""

    def describe_invalid(self, x: Tensor) -> str:  # noqa: ARG002
        """What a few invalid rows are instead, for messages; empty where nothing is recognised."""
        return ""
