"""What reducers share that score the rows they read."""

import copy
from collections.abc import Mapping
from typing import Any, TypeVar

from fastal.base.blank_rows import Blank
from fastal.base.reducer import Reducer, Result, RowStart
from fastal.scoring.measure import Measure
from fastal.scoring.rows import Rows
from fastal.scoring.scorer import Scorer
from fastal.scoring.scoring_options import ScoringOptions

Self = TypeVar("Self", bound="ScoringReducer[Any]")


class ScoringReducer(Reducer[Result]):
    """A reducer over the scores of a measure.

    Args:
        measure: scores the rows.
        options: what to do with invalid rows, and the backend.

    Attributes:
        layout: the number of rows and a digest of the files of the pool whose shards were read, see
            `fastal.read_shard`; None: unknown, as of rows that were fed by `update`.
    """

    filters_rows = True
    layout: str | None = None

    def __init__(self, measure: Measure, options: ScoringOptions) -> None:
        self._scorer = Scorer(measure, options)
        self.chunk_bytes = measure.chunk_bytes

    def _prepare(self, chunk: Any, start: RowStart) -> Rows:
        """A chunk as rows to score, with the reducer's filter; see `Scorer.prepare`."""
        rows = self._scorer.prepare(chunk, start, self.row_filter)
        if not (self.reads_gaps or rows.numbers.are_consecutive):
            raise ValueError(
                "start: wanted the number of the first row: the rows must have no gaps"
            )
        return rows

    def _unread(self: Self) -> Self:
        """A copy that has read no rows; the subclass replaces what else it has of the rows."""
        unread = copy.copy(self)
        unread._scorer = self._scorer.part()
        return unread

    def join_layout(self, layout: str | None, whose: str) -> None:
        """Sets `layout` if it is None.

        Args:
            layout: that of a pool; None: unknown.
            whose: what has the layout, for the error: "pool: it has".

        Raises:
            ValueError: the rows so far are of a pool with another layout.
        """
        if None not in (layout, self.layout) and layout != self.layout:
            raise ValueError(
                f"{whose} {layout}, but the rows so far are of a pool with {self.layout}: wanted "
                "shards of one pool, with the same names and rows of files in all tasks"
            )
        self.layout = self.layout or layout

    @property
    def options(self) -> ScoringOptions:
        """How the measure is applied."""
        return self._scorer.options

    @property
    def strategy(self) -> str | None:
        """The short name of the measure."""
        return self._scorer.measure.strategy

    @property
    def invalid(self) -> int:
        """How many rows were left out as invalid."""
        return self._scorer.invalid

    @property
    def blank(self) -> Blank | None:
        """The scores of rows that hold nothing."""
        return self._scorer.measure.blank

    @property
    def backend_used(self) -> str | None:
        """The backend that scored the last chunk."""
        return self._scorer.backend_used

    @property
    def chunks_matter(self) -> bool:
        """Whether the last bits of scores may depend on where chunks end."""
        return self._scorer.measure.chunks_matter

    @property
    def unresumable(self) -> str:
        """Why another process cannot resume from a saved state; empty if it can."""
        return self._scorer.measure.unresumable

    def identity(self) -> dict[str, Any]:
        """The measure, and what rows are."""
        return self._scorer.identity()

    def arguments(self) -> dict[str, Any]:
        """The identity and the options."""
        return {**self.identity(), **self.options.identity()}

    def _state(self) -> dict[str, Any]:
        return {"scorer": self._scorer.state_dict()}

    def _restore(self, state: Mapping[str, Any]) -> None:
        self._scorer.load_state_dict(state["scorer"])
