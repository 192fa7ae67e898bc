"""Further pools that a command reads, with columns of their own."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import click


def without_names(paths: Sequence[str]) -> bool:
    """Whether none of these files has names for columns."""
    return all(path.endswith(".npy") for path in paths)


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
        has_same_columns: whether it is read from the columns of the command's pool, in their order.
            Files without names for columns are read whole.
    """

    paths: Sequence[str]
    column: str | None = None
    columns: str | None = None
    options: tuple[str, ...] = ()
    has_same_rows: bool = False
    has_same_columns: bool = False

    def __post_init__(self) -> None:
        if self.column and self.columns:
            raise click.UsageError(f"Wanted one of {' and '.join(self.options)}, got both.")

    def with_columns_of(self, paths: Sequence[str]) -> "OtherPool":
        """A pool of other rows, which is read from the same columns where its files have names."""
        if without_names(paths):
            return OtherPool(paths)
        return OtherPool(paths, self.column, self.columns, self.options)

    def opened(
        self,
        pool: Any,
        *,
        column: str | Sequence[str] | None,
        dtype: str | None,
        id_column: str | None,
        on_bad_file: str,
        **_: Any,
    ) -> Any:
        """The pool of files.

        Args:
            pool: the command's pool, opened.
            column: the column or columns that were read of it.
            dtype: of a column of plain bytes.
            id_column: the column of ids, which is read if the rows are those of the command's pool.
            on_bad_file: as for `fastal.open_pool`, if the rows are those of the command's pool.
        """
        from fastal.sources import open_pool
        from fastal.sources.files import in_column_order_of

        of_rows: dict[str, Any] = {}
        if self.has_same_rows:
            of_rows["on_bad_file"] = on_bad_file
            of_rows["id_column"] = None if without_names(self.paths) else id_column
        if self.has_same_columns:
            column = None if without_names(self.paths) else column
        else:
            column = self.columns.split(",") if self.columns else self.column
        try:
            opened = open_pool(list(self.paths), column=column, dtype=dtype, **of_rows)
        except ValueError as error:
            raise ValueError(self._spelled(str(error))) from error
        return in_column_order_of(pool, opened) if self.has_same_columns else opened

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
