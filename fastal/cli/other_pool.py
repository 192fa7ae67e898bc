"""Further pools that a command reads, with columns of their own."""

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
        option: the option that names the pool, such as "--embeddings"; options of the columns begin
            with it.
        has_same_rows: whether its rows are those of the command's pool, which ids may match.
    """

    paths: Sequence[str]
    column: str | None = None
    columns: str | None = None
    option: str = ""
    has_same_rows: bool = False

    def __post_init__(self) -> None:
        if self.column and self.columns:
            raise click.UsageError(
                f"Wanted one of {self.option}-column and {self.option}-columns, got both."
            )

    def with_columns_of(self, paths: Sequence[str]) -> "OtherPool":
        """A pool of other rows, which is read from the same columns where its files have names."""
        return (
            OtherPool(paths)
            if without_names(paths)
            else OtherPool(paths, self.column, self.columns)
        )

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
        return open_pool(list(self.paths), column=column, dtype=dtype, **of_rows)
