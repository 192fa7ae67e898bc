"""Pools of every form, read as chunks; one format per file."""

import os
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

from fastal.base.argument_values import BYTES_DTYPES, PICKS_COLUMNS, TASK_COLUMNS
from fastal.base.arrays import is_array
from fastal.base.errors import prefixing_errors
from fastal.base.items import Items
from fastal.sources.array import ArraySource
from fastal.sources.beside import check_beside
from fastal.sources.expand import PathLike
from fastal.sources.files import Files
from fastal.sources.items import ItemPool
from fastal.sources.iterable import IterableSource
from fastal.sources.reader import Columns
from fastal.sources.source import Chunk, Skipped, Source, SourceWithoutFiles

__all__ = ["Chunk", "PathLike", "Skipped", "Source", "open_pool"]


def open_pool(
    pool: Any,
    *,
    column: str | Sequence[str] | None = None,
    id_column: str | None = None,
    group_column: str | None = None,
    dtype: str | None = None,
    ragged: bool = False,
    on_bad_file: str = "raise",
    ids: Any = None,
    carry: Sequence[str] | Mapping[str, Any] | None = None,
    beside: Any = None,
) -> Source:
    """Opens a pool, to be given to `fastal.select`, and says what to read of its files.

    Row numbers are global. They count across files in the order of the files' paths, in whatever
    order the files were named.

    Args:
        pool: one of

            - an array in memory [rows, ...]: torch, NumPy or any DLPack producer; or items of
              several rows that `fastal.items` made;
            - a file: .npy, .npz, .safetensors, .pt, .parquet, .arrow, .feather, .h5, .hdf5 or
              .zarr; or the URL of one, if fsspec knows its protocol;
            - a folder of files, which is searched with its subfolders; a glob such as
              "runs/*/part-*.npy"; a manifest (.json, {"files": [...]}); or a list of any of these.
              The formats may be mixed;
            - an iterable of arrays, each a chunk: a list, a generator, `fastal.predictions`. If an
              item has `logits` (attribute or key), those are used. If an item is a tuple, such as
              (logits, embedding), its first element is used.

            A path that exists is never read as a glob. Folders and globs ignore names that begin
            with "." or "_", and the caches of Hugging Face (cache-*.arrow). If a folder has a
            manifest.json, or the state.json of Hugging Face, only the files listed there are read.
        column: the array or column of predictions, if a file has several; or several columns, one
            per class, in this order. A pattern such as "logit_*" means all columns that match it.
            If their names differ only in numbers, they are ordered by these (logit_2 before
            logit_10), else as in the first file. All files are read in that order, whatever order
            their own columns have. A file whose columns have other names is bad. Without `column`,
            the name of the only possible array or column must be the same in all files. Formats
            without names are exempt. Pools of training, labelled or validation data that are given
            with such a pool are read in its column order; other names are refused.
        id_column: the array or column of ids. The picks then have ids.
        group_column: the array or column of groups, for quotas; or the part before "=" in names of
            folders, as in country=de/part-0.parquet.
        dtype: "float16", "bfloat16", "float32" or "float64": the numbers in a column of plain bytes
            (fixed-size binary in Arrow).
        ragged: for Parquet and Arrow: each row is an item of several rows, a list of lists with a
            length of its own, such as the tokens of a sentence. A list that is missing has no rows.
            See `aggregate` of `fastal.select`.
        on_bad_file: "raise", or "skip" to leave out bad files. A file is bad if it cannot be read,
            is cut short, or has another row shape or other column names than most of the files. The
            pool's `skipped` lists them.
        ids: for an array in memory, or items that `fastal.items` made: an id for each row or item,
            integers or text, as an array or a list. The picks then have ids.
        carry: columns that travel with the rows into the picks and their files, such as texts or
            the addresses of images. For files, the names of their columns. For an array in memory,
            or items, a dictionary from names to values [rows], as arrays or lists. The values are
            text, integers, floats, bools or None; other types, such as lists or times, are refused.
            They are read for the picked rows alone.
        beside: another pool of the same rows, such as the embeddings of the rows whose logits are
            the pool; anything that `pool` may be. `fastal.select(..., groups=clusters)` reads it.
            Both pools have equally many rows. If both have ids, rows are matched by id, in any
            order; else row i belongs to row i. To say what to read of its files, open it first:
            beside=fastal.open_pool("embeddings/", id_column="id").

    Returns:
        The pool. Its files are opened and their headers checked; the rows are read later.

    Raises:
        TypeError: `pool` is none of these. Tuples of arrays, dictionaries, and tables with columns
            of several kinds are refused too, since it is not clear which part of them is meant.
        ValueError, OSError: the pool cannot be read; the message names the file and the reason.
        ModuleNotFoundError: a format needs a package that is not installed; the message names it.

    Example:
        >>> import numpy as np, fastal
        >>> logits = np.array([[2.0, 0.0], [0.5, 0.4], [0.0, 3.0]])
        >>> pool = fastal.open_pool([logits[:1], logits[1:]])  # two chunks of one pool
        >>> fastal.select(pool, k=1).rows
        array([1])
        >>> fastal.open_pool("preds/*.parquet", column="logit_*", id_column="id")
        Traceback (most recent call last):
        FileNotFoundError: preds/*.parquet: no file matches
        >>> pool = fastal.open_pool(logits, ids=[7, 8, 9], carry={"text": ["a", "b", "c"]})
        >>> fastal.select(pool, k=1)[0]["text"]
        'b'
    """
    columns = Columns(
        (column,) if isinstance(column, str) else tuple(column or ()),
        id_column,
        group_column,
        dtype,
        _checked_names(carry),
        bool(ragged),
    )
    if dtype not in (None, *BYTES_DTYPES):
        raise ValueError(f"dtype: wanted float16, bfloat16, float32 or float64, got {dtype!r}")
    opened = _opened(pool, columns, on_bad_file, ids, carry)
    if beside is not None:
        if opened is pool or not isinstance(opened, (Files, SourceWithoutFiles)):
            raise ValueError("beside: the pool is open; give beside where it is opened")
        with prefixing_errors("beside"):
            opened.beside = open_pool(beside)
        check_beside(opened, opened.beside)
    return opened


def _opened(
    pool: Any,
    columns: Columns,
    on_bad_file: str,
    ids: Any,
    carry: Sequence[str] | Mapping[str, Any] | None,
) -> Source:
    """The pool without a pool beside it; see `open_pool`."""
    if isinstance(pool, (str, os.PathLike)):
        _check_for_files(ids, carry)
        return Files([pool], columns, on_bad_file)
    if isinstance(pool, (list, tuple)) and not pool:
        raise ValueError("pool: an empty list")
    if not is_array(pool) and isinstance(pool, (list, tuple)) and _is_path(pool[0]):
        for path in pool:
            if not _is_path(path):
                raise TypeError(f"pool: wanted paths only, got {type(path).__name__} among them")
        _check_for_files(ids, carry)
        return Files(pool, columns, on_bad_file)
    is_in_memory = is_array(pool) or isinstance(pool, Items)
    # Asked once: `isinstance` looks up each member of the protocol.
    opened = pool if isinstance(pool, Source) else None
    if not isinstance(pool, ItemPool) and (not is_in_memory or opened is not None):
        _check_for_neither(ids, carry)
    elif carry is not None and not isinstance(carry, Mapping):
        raise TypeError(
            "carry: wanted a dictionary {name: values} for an array in memory or items, "
            f"got {type(carry).__name__}"
        )
    if columns._replace(carried=()) != Columns() or on_bad_file != "raise":
        raise ValueError(
            "pool: column, id_column, group_column, dtype, ragged and on_bad_file are for pools of "
            "files"
        )
    if isinstance(pool, ItemPool) and (ids is not None or carry is not None):
        return pool.with_columns(ids, carry or {})  # type: ignore[arg-type]
    if opened is not None:
        return opened
    if is_in_memory:
        return ArraySource(pool, ids, carry or {})  # type: ignore[arg-type]
    if isinstance(pool, (Mapping, Set)):
        raise TypeError(
            f"pool: wanted an array, a path or an iterable of arrays, got {type(pool).__name__}; "
            "give the part of it that holds the predictions"
        )
    if isinstance(pool, tuple):
        raise TypeError(
            f"pool: a tuple of {len(pool)} may be (logits, something else); wanted the item that "
            "holds the predictions, or a list of chunks [rows, ...] of one pool"
        )
    if isinstance(pool, Iterable):
        return IterableSource(pool)
    raise TypeError(f"pool: wanted an array, a path or an iterable, got {type(pool).__name__}")


def _checked_names(carry: Any) -> tuple[str, ...]:
    """The names of carried columns; TypeError or ValueError if one cannot be a column of picks."""
    if not (carry is None or isinstance(carry, (str, Sequence, Mapping))):
        raise TypeError(f"carry: wanted names of columns, got {type(carry).__name__}")
    names = (carry,) if isinstance(carry, str) else tuple(carry or ())
    for name in names:
        if not isinstance(name, str) or not name:
            raise TypeError(f"carry: wanted names of columns, got {name!r} among them")
        if name in (*PICKS_COLUMNS, *TASK_COLUMNS):
            raise ValueError(f"carry: the picks have a column {name!r} of their own; rename yours")
        if names.count(name) > 1:
            raise ValueError(f"carry: {name!r} is named twice")
    return names


def _check_for_files(ids: Any, carry: Any) -> None:
    if ids is not None:
        raise ValueError("ids: they are for arrays in memory; name the column with id_column")
    if isinstance(carry, Mapping):
        raise TypeError("carry: wanted the names of the files' columns, got a dictionary")


def _check_for_neither(ids: Any, carry: Any) -> None:
    if ids is not None or carry is not None:
        name = "carry" if ids is None else "ids"
        raise ValueError(
            f"{name}: wanted a pool of files, an array in memory or items; other pools, such as "
            "iterables of chunks, take neither ids nor carry"
        )


def _is_path(x: object) -> bool:
    return isinstance(x, (str, os.PathLike))
