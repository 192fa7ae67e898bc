"""Further pools that a command reads, with columns of their own."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import click


def without_names(paths: Sequence[str]) -> dict[str, None]:
    """No column to read, if these files have no names for columns."""
    return {"column": None} if all(path.endswith(".npy") for path in paths) else {}


@dataclass(frozen=True)
class OtherPool:
    """A further pool of a command.

    Attributes:
        paths: its files; if there are none, there is no such pool.
        column: the column to read.
        columns: the columns to read, separated by commas.
        options: the options of `column` and `columns`, such as "--embeddings-column"; or of the
            first alone.
        has_same_rows: whether its rows are those of the command's pool, which ids may match.
    """

    paths: Sequence[str]
    column: str | None = None
    columns: str | None = None
    options: tuple[str, ...] = ()
    has_same_rows: bool = False

    def __post_init__(self) -> None:
        if self.column and self.columns:
            raise click.UsageError(f"Wanted one of {' and '.join(self.options)}, got both.")

    def with_columns_of(self, paths: Sequence[str]) -> "OtherPool":
        """A pool of other rows, which is read from the same columns where its files have names."""
        if without_names(paths):
            return OtherPool(paths)
        return OtherPool(paths, self.column, self.columns, self.options)

    def opened(
        self, *, dtype: str | None, id_column: str | None, on_bad_file: str, **_: Any
    ) -> Any:
        """The pool of files.

        Args:
            dtype: of a column of plain bytes.
            id_column: the column of ids, which is read if the rows are those of the command's pool.
            on_bad_file: as for `fastal.open_pool`, if the rows are those of the command's pool.
        """
        from fastal.sources import open_pool

        of_rows: dict[str, Any] = {}
        if self.has_same_rows:
            of_rows["on_bad_file"] = on_bad_file
            of_rows["id_column"] = None if without_names(self.paths) else id_column
        column = self.columns.split(",") if self.columns else self.column
        try:
            return open_pool(list(self.paths), column=column, dtype=dtype, **of_rows)
        except ValueError as error:
            raise ValueError(self._spelled(str(error))) from error

    def _spelled(self, message: str) -> str:
        """A message about columns, with the options of this pool."""
        if not self.options:
            return message
        one, *several = self.options
        message = re.sub(r"(?<=: )column(?=: )", one, message)
        return message.replace(
            ", or columns, one per class",
            f", or {several[0]}, one per dimension" if several else "",
        )
