"""Reducers one after the other, each made of what the one before it ended in."""

from collections.abc import Callable
from typing import Any

from fastal.base.errors import restoring
from fastal.base.reducer import Reducer
from fastal.scoring.measure import Blank
from fastal.scoring.scorer import Confirm


class Sequential:
    """A reducer of several passes: those of its stages, in turn, over the same pool.

    Args:
        first: the first stage.
        then: each makes the next stage of the result of the last.
    """

    def __init__(self, first: Reducer[Any], *then: Callable[[Any], Reducer[Any]]) -> None:
        self._then = then
        self._begun = [first]

    @property
    def current(self) -> Any:
        """The stage that is under way."""
        return self._begun[-1]

    def update(
        self,
        chunk: Any,
        start: int | None = None,
        *,
        confirm: Confirm | None = None,
        **groups: Any,
    ) -> None:
        """Takes rows as the stage under way does."""
        self.current.update(chunk, start, confirm=confirm, **groups)

    def next_pass(self) -> bool:
        """Whether the stage under way wants one more, or there is another stage."""
        if getattr(self.current, "next_pass", lambda: False)():
            return True
        return self._begin_next()

    def _begin_next(self) -> bool:
        done = len(self._begun) - 1
        if done == len(self._then):
            return False
        self._begun.append(self._then[done](self.current.result()))
        return True

    def merge(self, other: "Sequential") -> None:
        """Takes in the same stage over other rows.

        Raises:
            ValueError, TypeError: it is at another stage, or of another kind.
        """
        if not isinstance(other, Sequential) or other is self:
            raise TypeError(f"merge: wanted other Sequential, got {other!r}")
        if len(self._begun) != len(other._begun):
            raise ValueError("merge: the other is at another stage")
        self.current.merge(other.current)

    def state_dict(self) -> dict[str, Any]:
        """The states of the stages begun, of those that are over as they ended."""
        return {"stages": [stage.state_dict() for stage in self._begun]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` gave, into what has taken no rows yet.

        Raises:
            ValueError: the state is of other stages.
        """
        with restoring():
            for of_stage in state["stages"]:
                if of_stage is not state["stages"][0] and not self._begin_next():
                    raise ValueError("the state has more stages")
                self.current.load_state_dict(of_stage)

    def result(self) -> Any:
        """What the last stage ended in."""
        return self.current.result()

    @property
    def takes_groups(self) -> bool:
        """Whether the stage under way wants groups."""
        return bool(getattr(self.current, "takes_groups", False))

    @property
    def bar(self) -> float | None:
        """The k-th best score of the stage under way."""
        found: float | None = getattr(self.current, "bar", None)
        return found

    @property
    def blank(self) -> Blank | None:
        """The scores of rows that hold nothing, in the stage under way."""
        return getattr(self.current, "blank", None)

    @property
    def backend_used(self) -> str | None:
        """The backend that looked at the last chunk."""
        found: str | None = getattr(self.current, "backend_used", None)
        return found
