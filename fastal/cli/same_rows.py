"""Options that name a second pool of the same rows."""

from collections.abc import Callable
from typing import Any

from fastal.cli.help import pool_option
from fastal.cli.options import with_options
from fastal.cli.other_pool import OtherPool


def same_rows(name: str, what: str) -> Callable[[Any], Any]:
    """Decorates a command with the options of a second pool of the same rows.

    Args:
        name: of the option and of its argument, such as "embeddings".
        what: what the pool holds, for the help.
    """
    option = f"--{name}"
    return with_options(
        pool_option(
            option,
            multiple=True,
            required=True,
            help=f"File of {what}, of the same rows as POOL. Rows are matched by id if --id-column "
            "is given, otherwise by row number. A .npy file has no ids. Repeat the option for "
            "several files.",
        ),
        pool_option(f"{option}-column", help=f"Array or column to read of {option}."),
        pool_option(f"{option}-columns", help=f"Columns to read of {option}, as for --columns."),
    )


def popped(options: dict[str, Any], name: str) -> OtherPool:
    """The pool that the options of `same_rows` name; they are removed from `options`."""
    column, columns = (options.pop(f"{name}_{which}") for which in ("column", "columns"))
    of_columns = (f"--{name}-column", f"--{name}-columns")
    return OtherPool(options.pop(name), column, columns, of_columns, has_same_rows=True)
