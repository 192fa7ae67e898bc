"""Errors that callers catch by name; bad arguments raise plain ValueError or TypeError."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

NAMED_ROWS = 5  # how many rows an error names at most


class InvalidRows(ValueError):  # noqa: N818  (the name is public: a finding about rows)
    """Some rows of a chunk cannot be scored.

    Attributes:
        rows: the first invalid rows, global row numbers, ascending, at most `NAMED_ROWS`.
        count: how many rows of the chunk are invalid.
        span: the chunk examined, as (first row, last row + 1).
        reason: what makes such a row invalid.
        where: file and row of the first invalid row, empty where the pool has no files.
        looks: what they look like instead, where most rows of the chunk are invalid; else empty.
    """

    def __init__(
        self,
        rows: Sequence[int],
        count: int,
        span: tuple[int, int],
        reason: str,
        where: str = "",
        looks: str = "",
    ) -> None:
        self.rows = list(rows)
        self.count = count
        self.span = span
        self.reason = reason
        self.where = where
        self.looks = looks
        place = f" ({where})" if where else ""
        others = ", ".join(map(str, self.rows)) + (", ..." if count > len(self.rows) else "")
        super().__init__(
            f"row {self.rows[0]}{place} {reason}; {count} such among rows {span[0]} to "
            f"{span[1] - 1}: {others}{looks and f'; {looks}'}. on_invalid='skip' leaves them out"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Rebuilt from its arguments, in the process that a worker's error travels to."""
        return type(self), (
            self.rows, self.count, self.span, self.reason, self.where, self.looks
        )  # fmt: skip

    def located(self, where: str) -> "InvalidRows":
        """The same finding, with the file and row of the first invalid row."""
        return InvalidRows(self.rows, self.count, self.span, self.reason, where, self.looks)


class Interrupted(BaseException):
    """A signal asked the run to end. No error: whoever handles those of files lets it pass.

    Attributes:
        signal: its number.
    """

    def __init__(self, number: int) -> None:
        self.signal = number
        super().__init__(f"interrupted by signal {number}")


@contextmanager
def prefixing_errors(name: str) -> Iterator[None]:
    """Within, a pool other than the `pool` is looked at: errors name the argument it came in."""
    try:
        yield
    except InvalidRows as error:
        raise error.located(f"{name}: {error.where}" if error.where else name) from None
    except (ValueError, TypeError) as error:
        if type(error) not in (ValueError, TypeError) or str(error).startswith(name):
            raise
        raise type(error)(f"{name}: {str(error).removeprefix('pool: ')}") from error


@contextmanager
def restoring() -> Iterator[None]:
    """Within, a saved state is restored: ValueError says what it lacks, or how it differs."""
    try:
        yield
    except KeyError as error:
        raise ValueError(f"load_state_dict: the state lacks {error}") from error
    except ValueError as error:
        reason = str(error).removeprefix("load_state_dict: ")  # of a state within this one
        raise ValueError(f"load_state_dict: {reason}") from error
