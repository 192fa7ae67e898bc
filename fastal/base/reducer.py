"""What a query strategy is: a reducer over the pool."""

from typing import Any, Protocol, TypeVar

Result = TypeVar("Result", covariant=True)


class Reducer(Protocol[Result]):
    """Takes a pool chunk by chunk and ends in a result that no chunking changes.

    The pipeline, a cluster engine and a caller's own loop drive every strategy through these five
    methods, so streaming, resuming and distributing are written once.

    One that takes several passes over the pool has a method `next_pass` as well. It is called after
    the last chunk of a pass, and says whether the chunks are to come once more.
    """

    def update(self, chunk: Any, start: int | None = None) -> None:
        """Takes rows start, start + 1, ... of the pool; None: where the last chunk ended.

        One that has a keyword argument `confirm` is given a function, which it calls when it has
        looked at all of the chunk and taken none of it; what that raises leaves the state as it
        was. So a file that is cut short meanwhile leaves no trace. To others it happens afterwards.
        """

    def merge(self, other: Any) -> None:
        """Takes in a reducer of the same kind that saw other rows; the order does not matter."""

    def state_dict(self) -> dict[str, Any]:
        """The state as plain values and NumPy arrays, a copy."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores exactly what `state_dict` gave; refuses the state of another configuration."""

    def result(self) -> Result:
        """What came of the rows so far; more may follow."""
