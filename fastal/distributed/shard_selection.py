"""Selection in parts, for engines that fastal does not drive: each reads a shard, one merges."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, TypeVar

from fastal.base.checks import checked_count
from fastal.distributed.pool_layout import layout_of
from fastal.picks.picks import Picks
from fastal.pipeline.drive import chunk_rows_of, read_here
from fastal.pipeline.given_groups import with_groups
from fastal.pipeline.row_choice import narrowed
from fastal.pipeline.run_on_pool import log_skipped, with_ids
from fastal.selection.pick_warnings import warn_of
from fastal.selection.selector import Selector
from fastal.selection.stratified import StratifiedSelector
from fastal.sources import open_pool

AnySelector = TypeVar("AnySelector", Selector, StratifiedSelector)


def read_shard(
    selector: AnySelector,
    pool: Any,
    start: int = 0,
    stop: int | None = None,
    *,
    chunk_bytes: int | None = None,
) -> AnySelector:
    """Feeds rows start, start + 1, ... of a pool to a selector, up to the row before `stop`.

    Tasks of a cluster call it, each with a selector of the same arguments and other rows. The
    selectors are pickled, and `merge_shards` makes the picks of them.

    The selector's `layout` becomes that of the pool: the number of its rows, and the names and
    numbers of rows of its files. Selectors of tasks that see different files are not merged.

    Args:
        selector: `fastal.Selector` or `fastal.StratifiedSelector`; it is changed.
        pool: any pool that `fastal.select` takes; each task opens it itself.
        start: the first row.
        stop: the row after the last one; None: the rest of the pool is read.
        chunk_bytes: as for `fastal.select`.

    Returns:
        The selector.

    Raises:
        InvalidRows, ValueError, TypeError, OSError: as `fastal.select`. Rows that the pool does not
            have are a ValueError, and so is another pool than the selector has read before.

    Example:
        >>> import fastal, numpy as np
        >>> pool = np.array([[9.0, 0.0], [0.1, 0.0], [3.0, 0.0], [0.0, 0.5]])
        >>> shards = [fastal.read_shard(fastal.Selector(k=2), pool, i, i + 2) for i in (0, 2)]
        >>> fastal.merge_shards(shards).rows
        array([1, 3])
    """
    _check_selector("selector", selector)
    start = checked_count("start", start, 0)
    stop = None if stop is None else checked_count("stop", stop, 0)
    source = with_groups(open_pool(pool), None, are_wanted=selector.takes_groups)
    n_rows = source.n_rows
    if n_rows is None and (start or stop is not None):
        raise ValueError("pool: wanted a pool whose number of rows is known beforehand")
    if n_rows is not None and not start <= (last := n_rows if stop is None else stop) <= n_rows:
        raise ValueError(f"stop: wanted 0 <= start <= stop <= {n_rows}, got {start} and {last}")
    selector.join_layout(layout_of(source), "pool: it has")
    if n_rows is not None and selector.row_filter is not None:
        selector.row_filter.check(n_rows)
    source = narrowed(source, selector.row_filter)
    n_chunk = chunk_rows_of(source, chunk_bytes or selector.chunk_bytes)
    for _ in read_here(selector, source, n_chunk, start, stop):
        pass
    log_skipped(source)
    return selector


def merge_shards(selectors: Iterable[Selector | StratifiedSelector], pool: Any = None) -> Picks:
    """The picks of selectors that have read the shards of a pool; see `read_shard`.

    Exact: they are the picks of one selector that has read all rows, in any order of the selectors.
    Memory is O(k) for any number of selectors, if an iterator yields them.

    Args:
        selectors: all of the same arguments, at least one. They are not changed.
        pool: the pool, from which ids and carried columns of the picks are read; None: the picks
            have row numbers and scores.

    Raises:
        ValueError: there is no selector; they have different arguments; or they have read shards of
            pools with different files or numbers of rows, or of another pool than `pool`. Row
            numbers alone are known of a selector that was fed by `update`.
        TypeError: one is no selector.

    Example:
        >>> import fastal, numpy as np, pickle
        >>> pool = fastal.open_pool(np.array([[9.0, 0.0], [0.1, 0.0], [0.0, 0.5]]), ids=[7, 8, 9])
        >>> tasks = [
        ...     pickle.dumps(fastal.read_shard(fastal.Selector(k=2), pool, row, row + 1))
        ...     for row in range(3)
        ... ]
        >>> fastal.merge_shards(map(pickle.loads, tasks), pool).ids
        array([8, 9])
    """
    merged: Any = None
    for selector in selectors:
        _check_selector("selectors", selector)
        merged = selector.part() if merged is None else merged
        merged.merge(selector)
    if merged is None:
        raise ValueError("selectors: wanted at least one, got none")
    source = None if pool is None else open_pool(pool)
    if source is None:
        picks: Picks = replace(merged.result(), strategy=merged.strategy)
    else:
        merged.join_layout(layout_of(source), "pool: it has")
        picks = with_ids(merged.result(), source, merged)
    warn_of(picks, merged, source)
    return picks


def _check_selector(name: str, given: Any) -> None:
    """TypeError unless an argument is a selector."""
    if not isinstance(given, (Selector, StratifiedSelector)):
        hint = "; pickle.loads makes a selector of it" if isinstance(given, bytes) else ""
        raise TypeError(
            f"{name}: wanted fastal.Selector or fastal.StratifiedSelector, got "
            f"{type(given).__name__}{hint}"
        )
