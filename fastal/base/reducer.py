"""What a query strategy is: a reducer over the pool."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from fastal.base.blank_rows import Blank
from fastal.base.checks import check_another, check_same, plain
from fastal.base.errors import restoring
from fastal.base.memory_guard import guarded_arrays
from fastal.base.row_filter import RowFilter

Result = TypeVar("Result", covariant=True)
RowStart = int | NDArray[np.int64] | None


def _nothing() -> None:
    """Does nothing."""


@dataclass(frozen=True)
class Pending:
    """A chunk that was read and has not changed the reducer's state yet.

    Call `commit` or `discard` before any other method of the reducer.

    Attributes:
        commit: changes the state. If it raises `InvalidRows`, the state is as it was.
        discard: forgets the chunk.
    """

    commit: Callable[[], None]
    discard: Callable[[], None] = _nothing


class Reducer(ABC, Generic[Result]):
    """Reads a pool chunk by chunk and ends in a result that does not depend on the chunking.

    The pipeline, a cluster engine and a caller's own loop drive every strategy through these
    methods, so streaming, resuming and distributing are written once. A strategy defines `look`,
    `result`, `identity`, `_state` and `_restore`. A strategy of several passes also defines
    `next_pass`.

    Attributes:
        takes_groups: whether `look` takes `groups`, a label for each row.
        max_passes: how many passes over the pool there are at most, or are expected if only the
            rows can tell.
        kth_name: what `kth_score` is: "score", or "key" if noise makes keys of scores.
        chunk_bytes: how many bytes of the pool to read at once; None: the pipeline decides.
        keeps_only_the_best: whether a chunk on the host takes memory for the best rows only.
        row_filter: which rows of the pool it reads; None: all.
        reads_gaps: whether `look` takes chunks of rows whose numbers are not consecutive.
        filters_rows: whether `look` passes over the rows that `row_filter` leaves out; if not, it
            never gets them.
    """

    takes_groups: bool = False
    max_passes: int = 1
    kth_name: str = "score"
    chunk_bytes: int | None = None
    keeps_only_the_best: bool = False
    row_filter: RowFilter | None = None
    reads_gaps: bool = True
    filters_rows: bool = False

    @abstractmethod
    def look(self, chunk: Any, start: RowStart = None) -> Pending:
        """Reads rows start, start + 1, ... of the pool and leaves the state as it is.

        Everything that needs the chunk's memory is computed here. Between `look` and `commit` the
        caller may find that the memory vanished, and then discards the chunk.

        Args:
            chunk: an array [n, ...].
            start: the row number of the chunk's first row, or an array of the numbers [n] of its
                rows, ascending; None: the row after the last chunk.

        Raises:
            ValueError, TypeError: the chunk has the wrong dtype or shape.
        """

    def update(self, chunk: Any, start: RowStart = None, **columns: Any) -> None:
        """Reads rows start, start + 1, ... of the pool and adds them to the state.

        Args:
            chunk: an array [n, ...], n >= 0, any strides, on any device.
            start: the row number of the chunk's first row, at least 0; or an array of the numbers
                [n] of its rows, ascending; None: the row after the last chunk.
            columns: what else the reducer takes for each row, such as `groups`.

        Raises:
            InvalidRows: with on_invalid="raise"; the state is as it was.
            ValueError, TypeError: the chunk has the wrong dtype or shape; the state is as it was.
            OSError: the chunk is a mapped file that was cut short; the state is as it was.
        """
        with guarded_arrays(chunk, *columns.values()) as guards:
            try:
                pending = self.look(chunk, start, **columns)
            except (TypeError, ValueError):
                guards.check()
                raise
            try:
                guards.check()
            except BaseException:
                pending.discard()
                raise
            pending.commit()

    def next_pass(self) -> bool:
        """Ends a pass over the pool. Returns whether another pass is needed."""
        return False

    @abstractmethod
    def result(self) -> Result:
        """The result of the rows so far; more rows may follow."""

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """The arguments that change the result, as plain values; a saved state is bound to them."""

    def arguments(self) -> dict[str, Any]:
        """The arguments of a run, as plain values."""
        return self.identity()

    def bound_to(self) -> dict[str, Any]:
        """The arguments and the row filter, as plain values: a checkpoint is bound to them."""
        return {**self.arguments(), **self._filter_identity()}

    def _filter_identity(self) -> dict[str, Any]:
        return {} if self.row_filter is None else self.row_filter.identity()

    @property
    def strategy(self) -> str | None:
        """The short name of the strategy, which the picks get; None: it has none."""
        return None

    @property
    def unresumable(self) -> str:
        """Why another process cannot resume from a saved state; empty if it can."""
        return ""

    @property
    def wanted(self) -> int:
        """How many rows to pick; 0 if no number was asked for."""
        return 0

    @property
    def kth_score(self) -> float | None:
        """The k-th best score so far; None if there is none."""
        return None

    @property
    def blank(self) -> Blank | None:
        """The scores of rows that hold nothing; None: such rows have no score of their own."""
        return None

    @property
    def backend_used(self) -> str | None:
        """The backend that read the last chunk; None: there was no chunk, or no backend."""
        return None

    @property
    def chunks_matter(self) -> bool:
        """Whether the last bits of the result may depend on where chunks end."""
        return False

    @property
    def undividable(self) -> str:
        """Why a pass cannot be divided into parts (see `Mergeable`); empty if it can."""
        if isinstance(self, Mergeable):
            return ""
        return f"{self.strategy or type(self).__name__} has to read all rows in one process"

    def state_dict(self) -> dict[str, Any]:
        """The state as plain values and NumPy arrays, a copy."""
        return {**self._owner(), **self._state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores exactly what `state_dict` returned, in a reducer that has read no rows.

        Raises:
            ValueError: the state belongs to a reducer of another class or with other arguments, or
                is no state.
        """
        with restoring():
            self._check_owner(state)
            self._restore(state)

    def _owner(self) -> dict[str, Any]:
        """What a state is bound to."""
        identity = {**self.identity(), **self._filter_identity()}
        return {"class": type(self).__qualname__, "identity": plain(identity)}

    def _check_owner(self, state: Mapping[str, Any]) -> None:
        """ValueError if a state belongs to a reducer of another class or with other arguments."""
        ours = self._owner()
        check_same({"class": ours["class"]}, {"class": state["class"]}, "the state")
        check_same(ours["identity"], state["identity"], "the state")

    def context_for(self, start: int, stop: int) -> Any:  # noqa: ARG002
        """See `Mergeable.context_for`: nothing."""
        return None

    def set_context(self, context: Any) -> None:
        """See `Mergeable.set_context`."""
        raise NotImplementedError(f"{type(self).__name__} has no context to set")

    @abstractmethod
    def _state(self) -> dict[str, Any]:
        """The state without the identity."""

    @abstractmethod
    def _restore(self, state: Mapping[str, Any]) -> None:
        """Restores what `_state` returned."""

    def _check_mergeable(self, other: Any) -> None:
        """TypeError, ValueError unless `other` is another reducer with the same arguments."""
        check_another(type(self), self, other)
        check_same(self._owner()["identity"], other._owner()["identity"], "merge: the other")


@runtime_checkable
class Mergeable(Protocol):
    """A reducer whose passes can be divided: parts of the rows are read elsewhere, and merged."""

    def part(self) -> Reducer[Any]:
        """A reducer that `merge` adds after it has read some rows of this pass; it has read none.

        It may be asked for at any time within a pass.
        """

    def context_for(self, start: int, stop: int) -> Any:
        """What a part has to know of the state to read rows start to stop - 1; None: nothing.

        Such as the present distances of these rows, or the score that rows must beat.
        """

    def set_context(self, context: Any) -> None:
        """Tells a part what `context_for` returned, unless it is None, before it reads rows."""

    def merge(self, other: Any) -> None:
        """Adds the other's state; the order of merging does not matter.

        Raises:
            TypeError: the other is of another class, or is this very reducer.
            ValueError: the other has other arguments.
        """
