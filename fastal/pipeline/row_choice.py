"""Which rows of a pool a strategy may pick, as its caller says it."""

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastal.base.arrays import as_tensor
from fastal.base.errors import prefixing_errors
from fastal.base.row_filter import RowFilter, combined, rows_in, rows_of
from fastal.picks.files import PICKS_SUFFIXES, read_rows
from fastal.picks.picks import Picks
from fastal.sources import Source
from fastal.sources.chosen_rows import ChosenRows

_log = logging.getLogger("fastal")
_BLOCK = 1 << 18  # ids that are read at once
# If fewer of the rows are chosen, to gather them takes less time than to read all rows.
_LARGEST_SHARE = 1 / 4


def row_filter_for(exclude: Any, among: Any, source: Source) -> RowFilter | None:
    """The filter that the arguments `exclude` and `among` of a strategy ask for.

    Args:
        exclude: the rows that must not be picked: row numbers, a mask [N], picks, a file of picks,
            or a list of several of these; None: no rows.
        among: the only rows that may be picked, in the same forms; None: all rows.
        source: the pool.

    Raises:
        TypeError, ValueError, OSError: a bad argument; the message names it.
    """
    return combined(
        *(
            None if given is None else _rows(name, given, source)
            for given, name in ((exclude, "exclude"), (among, "among"))
        )
    )


def narrowed(source: Source, row_filter: RowFilter | None) -> Source:
    """The source, or its chosen rows if they are so few that it is cheaper to gather them."""
    if row_filter is None or not row_filter.are_read:
        return source
    n_rows = source.n_rows
    if n_rows is None:  # such a source can be read from its first row only
        return source
    if row_filter.n_left(n_rows) > _LARGEST_SHARE * n_rows:
        return source
    return ChosenRows(source, row_filter.rows)


def gathered_rows(source: Source, row_filter: RowFilter) -> ChosenRows:
    """The source without the rows that a filter leaves out."""
    rows = row_filter.rows
    if not row_filter.are_read:
        if source.n_rows is None:
            raise ValueError("exclude: wanted a pool whose number of rows is known beforehand")
        rows = np.setdiff1d(np.arange(source.n_rows), rows, assume_unique=True)
    return ChosenRows(source, rows)


def _rows(name: str, given: Any, source: Source) -> NDArray[Any]:
    """The rows of an argument, ascending; or a mask of the pool."""
    if not _are_several(given):
        return _rows_of_one(name, given, source)
    found = [_rows_of_one(name, one, source) for one in given]
    return np.unique(np.concatenate([rows_of(one) for one in found]))


def _are_several(given: Any) -> bool:
    """Whether a list holds arguments, not row numbers or the values of a mask."""
    if not isinstance(given, (list, tuple)) or hasattr(given, "rows") or not given:
        return False
    return not isinstance(given[0], (int, float, np.generic))


def _rows_of_one(name: str, given: Any, source: Source) -> NDArray[Any]:
    if isinstance(given, (str, os.PathLike)):
        return _rows_in_file(name, Path(given), source)
    if isinstance(given, Picks):
        return _rows_of_picks(name, as_tensor(given.rows, name).cpu().numpy(), given.ids, source)
    return rows_in(given, name, source.n_rows)


def _rows_in_file(name: str, path: Path, source: Source) -> NDArray[Any]:
    if not path.exists():
        raise FileNotFoundError(f"{name}: {path}: no such file")
    if path.suffix not in PICKS_SUFFIXES:
        raise ValueError(f"{name}: wanted a {' or '.join(PICKS_SUFFIXES)} file, got {path}")
    with prefixing_errors(name):
        rows, ids = read_rows(path)
    if rows is not None and not len(rows):
        _log.warning("%s: %s holds no rows", name, path)
    if ids is None or source.ids(np.empty(0, np.int64)) is None:
        _compare_pools(path, source)
    return _rows_of_picks(name, rows, ids, source, ids_are_text=path.suffix == ".csv")


def _rows_of_picks(
    name: str,
    rows: NDArray[np.int64] | None,
    ids: NDArray[Any] | None,
    source: Source,
    *,
    ids_are_text: bool = False,
) -> NDArray[Any]:
    """The rows of picks: by id if they and the pool have ids, else by number."""
    by_id = None
    if ids is not None:
        values = plain_list(ids)
        known = [one for one in values if one is not None]
        by_id = _rows_with_ids(name, known, source, ids_are_text)
    if by_id is None and rows is None:
        raise ValueError(f"{name}: the picks have ids and no rows, and the pool has no ids")
    if by_id is None:
        return rows_in(rows, name, source.n_rows)
    if rows is None:
        return by_id
    without_id = rows[np.array([one is None for one in values], bool)]
    return np.union1d(by_id, rows_of(rows_in(without_id, name, source.n_rows)))


def plain_list(ids: Any) -> list[Any]:
    """Ids as Python values."""
    values: list[Any] = np.asarray(ids).tolist()
    return values


def _rows_with_ids(
    name: str, ids: list[Any], source: Source, are_text: bool
) -> NDArray[np.int64] | None:
    """The rows with these ids, ascending; None if the pool has no ids.

    Raises:
        TypeError: the pool's ids are of another type.
        ValueError: an id is in the pool twice; or, for `among`, it is not in the pool.
    """
    wanted = set(ids)
    found: dict[Any, int] = {}
    is_decided = are_text
    for rows, of_rows in _ids_of_pool(source):
        if of_rows is None:
            return None
        values = plain_list(of_rows)
        if not is_decided and any(value is not None for value in values):
            are_text, is_decided = _compared_as_text(name, ids, values), True
        for row, one in zip(rows.tolist(), values, strict=True):
            value = str(one) if are_text and one is not None else one
            if value in wanted and found.setdefault(value, row) != row:
                raise ValueError(
                    f"{name}: the id {value!r} is in the pool twice: rows {found[value]} and {row}"
                )
    missing = [one for one in ids if one not in found]
    if missing and name == "among":
        raise ValueError(f"among: the id {missing[0]!r} is not in the pool")
    if missing:
        _log.warning(
            "%s: %d of %d ids are not in the pool, the first is %r",
            name, len(missing), len(ids), missing[0],
        )  # fmt: skip
    return np.sort(np.fromiter(found.values(), np.int64, len(found)))


def _compared_as_text(name: str, ids: list[Any], of_pool: list[Any]) -> bool:
    """Whether ids are compared as text; TypeError if they are of another type than the pool's."""
    kinds, of_pool_kinds = ({type(one) for one in some} - {type(None)} for some in (ids, of_pool))
    if kinds == {str} and int in of_pool_kinds:  # a file may hold integers as text
        return True
    if not kinds or kinds & of_pool_kinds:
        return False
    theirs, ours = (
        " and ".join(sorted(kind.__name__ for kind in some)) for some in (kinds, of_pool_kinds)
    )
    raise TypeError(f"{name}: the ids are {theirs}, those of the pool {ours}")


def _ids_of_pool(source: Source) -> Iterator[tuple[NDArray[np.int64], Any]]:
    """Row numbers and their ids, block by block; an empty block first."""
    none = np.empty(0, np.int64)
    if source.ids(none) is None:
        yield none, None
        return
    if source.n_rows is None:
        raise ValueError("pool: it has ids, and does not say how many rows it has")
    for first in range(0, source.n_rows, _BLOCK):
        rows = np.arange(first, min(first + _BLOCK, source.n_rows))
        yield rows, source.ids(rows)


def _compare_pools(path: Path, source: Source) -> None:
    """Warns if the record beside a file of picks says that they are of another pool.

    Files that were written anew are no other pool: in a loop, each round has new predictions.
    """
    try:
        record = json.loads(path.with_name(f"{path.stem}.run.json").read_text("utf-8"))
        n_rows, names = record["pool_rows"], [of["file"] for of in record["pool"]]
    except (OSError, ValueError, KeyError, TypeError):
        return  # there is no such record
    files = [str(reader.file) for reader in getattr(source, "files", ())]
    if source.n_rows not in (None, n_rows):
        differs = f"has {source.n_rows} rows, that of the picks has {n_rows}"
    elif files and files != names:
        differs = f"has other files than that of the picks, such as {files[0]}"
    else:
        return
    _log.warning(
        "%s: the picks are matched by row number, since picks or pool have no ids, but the pool %s",
        path, differs,
    )  # fmt: skip
