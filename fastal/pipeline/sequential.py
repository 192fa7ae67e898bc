"""Reducers one after the other, each made from the result of the one before."""

from collections.abc import Callable, Mapping
from typing import Any

from fastal.base.blank_rows import Blank
from fastal.base.reducer import Pending, Reducer, RowStart
from fastal.base.row_filter import RowFilter
from fastal.scoring.scoring_options import ScoringOptions


class Sequential(Reducer[Any]):
    """A reducer of several passes: the passes of its stages, in turn, over the same pool.

    Args:
        first: the first stage.
        then: each makes the next stage from the result of the stage before.
        identity: that of the whole, which the first stage alone does not know.
        options: how all stages score rows.
        max_passes: how many passes there are at most, until the last stage has begun and tells.
    """

    def __init__(
        self,
        first: Reducer[Any],
        *then: Callable[[Any], Reducer[Any]],
        identity: Mapping[str, Any],
        options: ScoringOptions,
        max_passes: int,
    ) -> None:
        self._then = then
        self._begun = [first]
        self._row_filter: RowFilter | None = None
        self._identity = dict(identity)
        self._options = options
        self._max_passes = max_passes

    @property
    def max_passes(self) -> int:  # type: ignore[override]
        """How many passes there are at most, or are expected."""
        of_begun = sum(stage.max_passes for stage in self._begun)
        return of_begun if len(self._begun) > len(self._then) else max(self._max_passes, of_begun)

    @property
    def row_filter(self) -> RowFilter | None:
        """Which rows of the pool all stages read; None: all."""
        return self._row_filter

    @row_filter.setter
    def row_filter(self, row_filter: RowFilter | None) -> None:
        self._row_filter = row_filter
        for stage in self._begun:
            stage.row_filter = row_filter

    @property
    def reads_gaps(self) -> bool:  # type: ignore[override]
        """Whether the current stage takes chunks of rows whose numbers are not consecutive."""
        return self.current.reads_gaps

    @property
    def filters_rows(self) -> bool:  # type: ignore[override]
        """Whether the current stage passes over the rows that are left out."""
        return self.current.filters_rows

    @property
    def current(self) -> Reducer[Any]:
        """The stage that reads the pool now."""
        return self._begun[-1]

    def look(self, chunk: Any, start: RowStart = None, **columns: Any) -> Pending:
        """Reads rows as the current stage does."""
        return self.current.look(chunk, start, **columns)

    def next_pass(self) -> bool:
        """Whether the current stage asks for another pass, or another stage follows."""
        return self.current.next_pass() or self._begin_next()

    def _begin_next(self) -> bool:
        done = len(self._begun) - 1
        if done == len(self._then):
            return False
        stage = self._then[done](self.current.result())
        stage.row_filter = self._row_filter
        self._begun.append(stage)
        return True

    def part(self) -> Reducer[Any]:
        """A part of the current stage; see `Mergeable.part`."""
        return self.current.part()  # type: ignore[attr-defined,no-any-return]

    @property
    def chunks_matter(self) -> bool:
        """That of the current stage."""
        return self.current.chunks_matter

    @property
    def undividable(self) -> str:
        """Why the current stage cannot be divided; empty if it can."""
        return self.current.undividable

    def context_for(self, start: int, stop: int) -> Any:
        """That of the current stage."""
        return self.current.context_for(start, stop)

    def merge(self, other: "Sequential | Reducer[Any]") -> None:
        """Adds the same stage over other rows.

        Args:
            other: another reducer of the same stages, or a part of the current one.

        Raises:
            ValueError, TypeError: the other is at another stage, of another class, or its stage
                cannot be merged.
        """
        if isinstance(other, Reducer) and not isinstance(other, Sequential):
            self.current.merge(other)  # type: ignore[attr-defined]
            return
        self._check_mergeable(other)
        if len(self._begun) != len(other._begun):
            raise ValueError("merge: the other is at another stage")
        self.current.merge(other.current)  # type: ignore[attr-defined]

    def result(self) -> Any:
        """The result of the current stage, at the end that of the last."""
        return self.current.result()

    def identity(self) -> dict[str, Any]:
        """The identity of the whole."""
        return self._identity

    def arguments(self) -> dict[str, Any]:
        """The identity and the options."""
        return {**self._identity, **self._options.identity()}

    def _state(self) -> dict[str, Any]:
        return {"stages": [stage.state_dict() for stage in self._begun]}

    def _restore(self, state: Mapping[str, Any]) -> None:
        for i, of_stage in enumerate(state["stages"]):
            if i and not self._begin_next():
                raise ValueError("the state has more stages")
            self.current.load_state_dict(of_stage)

    @property
    def takes_groups(self) -> bool:  # type: ignore[override]
        """Whether the current stage takes groups."""
        return self.current.takes_groups

    @property
    def chunk_bytes(self) -> int | None:  # type: ignore[override]
        """How many bytes of the pool to read at once, in the current stage."""
        return self.current.chunk_bytes

    @property
    def strategy(self) -> str | None:
        """The short name of the current stage, at the end that of the last."""
        return self.current.strategy

    @property
    def unresumable(self) -> str:
        """Why another process cannot resume from a saved state; empty if it can."""
        return self.current.unresumable

    @property
    def wanted(self) -> int:
        """How many rows the current stage is to pick."""
        return self.current.wanted

    @property
    def kth_name(self) -> str:  # type: ignore[override]
        """What `kth_score` of the current stage is."""
        return self.current.kth_name

    @property
    def kth_score(self) -> float | None:
        """The k-th best score of the current stage."""
        return self.current.kth_score

    @property
    def blank(self) -> Blank | None:
        """The scores of rows that hold nothing, in the current stage."""
        return self.current.blank

    @property
    def backend_used(self) -> str | None:
        """The backend that read the last chunk."""
        return self.current.backend_used
