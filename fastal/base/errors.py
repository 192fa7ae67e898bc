"""Errors that callers catch by name, and helpers that complete the messages of other errors.

Bad arguments raise plain ValueError or TypeError.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

NAMED_ROWS = 5  # the most rows that an error names


class InvalidRows(ValueError):  # noqa: N818  (the name is public: a finding about rows)
    """Some rows of a chunk cannot be scored.

    Attributes:
        rows: the first invalid rows, at most `NAMED_ROWS`: row numbers of the pool, ascending; or
            what `renamed` made of them.
        count: the number of invalid rows in the chunk.
        span: the chunk, as (first row, last row + 1).
        reason: what makes such a row invalid.
        where: file and row of the first invalid row; empty if the pool has no files.
        looks: what the rows look like instead, if most rows of the chunk are invalid; else empty.
        n_rows: how many rows of the span were read.
        what: what `rows` number, if they are no rows of the pool; see `renamed`.

    Example:
        >>> import fastal, numpy as np
        >>> try:
        ...     fastal.score(np.array([[0.1, 0.9], [np.nan, 0.0]]))
        ... except fastal.InvalidRows as error:
        ...     print(error.rows, error.count, error.span)
        [1] 1 (0, 2)
    """

    def __init__(
        self,
        rows: Sequence[int],
        count: int,
        span: tuple[int, int],
        reason: str,
        where: str = "",
        looks: str = "",
        n_rows: int | None = None,
        what: str = "",
    ) -> None:
        self.rows = list(rows)
        self.count = count
        self.span = span
        self.reason = reason
        self.where = where
        self.looks = looks
        self.n_rows = span[1] - span[0] if n_rows is None else n_rows
        self.what = what
        place = f" ({where})" if where else ""
        others = ", ".join(map(str, self.rows)) + (", ..." if count > len(self.rows) else "")
        among, advice = "", ""
        if not what:
            among = f" among rows {span[0]} to {span[1] - 1}"
            # No advice where most rows are invalid: skipping them would hide a wrong kind.
            skipping = (
                f"would leave out {count} of {self.n_rows} rows" if looks else "leaves them out"
            )
            advice = f". on_invalid='skip' {skipping}"
        super().__init__(
            f"{what or 'row'} {self.rows[0]}{place} {reason}; {count} such{among}: {others}"
            f"{looks and f'; {looks}'}{advice}"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles the arguments: a worker's error is rebuilt in the parent process."""
        return type(self), (
            self.rows, self.count, self.span, self.reason, self.where, self.looks, self.n_rows,
            self.what,
        )  # fmt: skip

    def located(self, where: str) -> "InvalidRows":
        """The same error, with the file and row of the first invalid row."""
        return InvalidRows(
            self.rows, self.count, self.span, self.reason, where, self.looks, self.n_rows, self.what
        )

    def renamed(self, what: str, rows: Sequence[int]) -> "InvalidRows":
        """The same error for a caller who knows the rows by other numbers, and has no `on_invalid`.

        Args:
            what: where the rows come from and what they are called there.
            rows: the number of each of `rows` there.

        Example:
            >>> import fastal, numpy as np
            >>> candidates, x = [7, 9], np.array([[0.1, 0.9], [np.nan, 0.0]])
            >>> try:
            ...     fastal.score(x)
            ... except fastal.InvalidRows as error:
            ...     print(error.renamed("x: sample", [candidates[row] for row in error.rows]))
            x: sample 9 has NaN, +inf or no finite logit; 1 such: 9
        """
        return InvalidRows(
            rows, self.count, self.span, self.reason, self.where, self.looks, self.n_rows, what
        )


class WrongWidth(ValueError):  # noqa: N818  (a finding about two arguments)
    """Rows given beside a pool have another number of columns than the rows of the pool.

    It is about an argument, so the pipeline does not add the file and row of the pool.

    Args:
        name: the argument that the rows beside the pool came in.
        width: how many columns these rows have.
        wanted: how many columns the rows of the pool have.
        kind: what the rows of the pool are, such as "embeddings".
    """

    def __init__(self, name: str, width: int, wanted: int, kind: str) -> None:
        super().__init__(f"{name}: wanted {wanted} columns, as the {kind} have, got {width}")


class Interrupted(BaseException):
    """A signal asked the run to end.

    It is not an `Exception`: code that handles errors of files does not catch it.

    Attributes:
        signal: the number of the signal.
    """

    def __init__(self, number: int) -> None:
        self.signal = number
        super().__init__(f"interrupted by signal {number}")


@contextmanager
def prefixing_errors(name: str) -> Iterator[None]:
    """A context that reads the pool of argument `name`: errors name that argument, not `pool`."""
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
    """A context that restores a saved state: a ValueError says what it lacks or how it differs."""
    try:
        yield
    except KeyError as error:
        raise ValueError(f"load_state_dict: the state lacks {error}") from error
    except TypeError as error:
        raise ValueError(f"load_state_dict: it is no state: {error}") from error
    except ValueError as error:
        reason = str(error).removeprefix("load_state_dict: ")  # from a state within this one
        raise ValueError(f"load_state_dict: {reason}") from error
