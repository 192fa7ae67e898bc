"""What the strategies of `fastal combine` have in common."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import click

from fastal.cli.help import selection_option
from fastal.cli.options import loading, run_over
from fastal.cli.other_pool import OtherPool

SHARE = selection_option(
    "--share",
    type=click.FLOAT,
    default=0.1,
    show_default=True,
    help="Share of the rows to choose from, the most uncertain ones, above 0 and at most 1.",
)


def run_strategy(
    strategy: str,
    pool: tuple[str, ...],
    options: dict[str, Any],
    others: Mapping[str, OtherPool],
    group_column: str | None = None,
) -> None:
    """Runs a function of `fastal.combine` over files, as `run_over` does.

    Args:
        strategy: the name of the function.
        pool: paths.
        options: by name; those that `run_over` leaves are arguments of the function.
        others: further pools, by argument of the function.
        group_column: of the pool.
    """
    with loading():
        from fastal import combine
        from fastal.commands.combined import strategy_to_file
    command = f"combine {strategy.replace('_', '-')}"
    work = partial(strategy_to_file, command, getattr(combine, strategy))
    run_over(work, pool, options, group_column, others)
