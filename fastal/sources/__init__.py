"""Pools of every form to chunks, one format a file."""

import os
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

from fastal.base.arrays import is_array
from fastal.base.choices import BYTES_DTYPES
from fastal.sources.array import ArraySource
from fastal.sources.expand import PathLike
from fastal.sources.files import Files
from fastal.sources.iterable import IterableSource
from fastal.sources.reader import Columns
from fastal.sources.source import Chunk, Skipped, Source

__all__ = ["Chunk", "PathLike", "Skipped", "Source", "open_pool"]


def open_pool(
    pool: Any,
    *,
    column: str | Sequence[str] | None = None,
    id_column: str | None = None,
    group_column: str | None = None,
    dtype: str | None = None,
    on_bad_file: str = "raise",
) -> Source:
    """A pool, to be given to `fastal.select`, with what is to be read of its files.

    Args:
        pool: an array in memory [rows, ...] (torch, NumPy, any DLPack producer); a file (.npy,
            .npz, .safetensors, .pt, .parquet, .arrow, .feather, .h5, .hdf5, .zarr; formats may be
            mixed), a URL of one that fsspec knows, a folder of them, a glob, a manifest
            ({"files": [...]}, .json), or a list of these; or an iterable of arrays, chunk by chunk:
            a list, a generator, `fastal.predictions`; of an output with `logits`, these; of a tuple
            such as (logits, embedding), its first. Row numbers are global: across files in the
            order of their paths, however they were named. A folder is searched with its subfolders.
            Names that begin with "." or "_", and the caches of Hugging Face (cache-*.arrow), are no
            shards of a folder or of a glob. A manifest.json or Hugging Face's state.json says which
            files its folder has. A name that exists is never taken for a glob.
        column: the array or column that holds the predictions, where there are several; or several
            columns, one a class, in this order. A pattern such as "logit_*" stands for all columns
            that match: by number where their names differ in numbers alone (logit_2 before
            logit_10), else in the order of the first file. All files are read in that order,
            whatever their own. A file with other names is refused; without `column` too, where each
            file has one array or column that can be meant. Formats without names are exempt. Beside
            such a pool, several columns of training, labelled or validation data are read in the
            pool's order; other names are refused.
        id_column: the array or column of ids; the picks then have them.
        group_column: the array or column of groups, for quotas; or the name before "=" in the
            names of folders, as in country=de/part-0.parquet.
        dtype: what a column of plain bytes (Arrow's fixed-size binary) holds, "float32" and so on.
        on_bad_file: "raise", or "skip" to leave out files that cannot be read, are cut short, or
            have rows of another shape or columns of other names than most of the files; the pool's
            `skipped` lists them.

    Raises:
        TypeError: none of these; a tuple of arrays, a dictionary and a table whose columns are of
            several kinds are refused, since what is meant of them cannot be told.
        ValueError, OSError: what `pool` names cannot be read; the message says which file and why.
        ModuleNotFoundError: a format needs a package that is not installed; it says which.
    """
    columns = Columns(
        (column,) if isinstance(column, str) else tuple(column or ()),
        id_column,
        group_column,
        dtype,
    )
    if dtype not in (None, *BYTES_DTYPES):
        raise ValueError(f"dtype: wanted float16, bfloat16, float32 or float64, got {dtype!r}")
    if isinstance(pool, (str, os.PathLike)):
        return Files([pool], columns, on_bad_file)
    if isinstance(pool, (list, tuple)) and not pool:
        raise ValueError("pool: an empty list")
    if not is_array(pool) and isinstance(pool, (list, tuple)) and _is_path(pool[0]):
        for path in pool:
            if not _is_path(path):
                raise TypeError(f"pool: wanted paths only, got {type(path).__name__} among them")
        return Files(pool, columns, on_bad_file)
    if columns != Columns() or on_bad_file != "raise":
        raise ValueError("pool: column, id_column and their like are for pools of files")
    if isinstance(pool, Source):
        return pool
    if is_array(pool):
        return ArraySource(pool)
    if isinstance(pool, (Mapping, Set)):
        raise TypeError(
            f"pool: wanted an array, a path or an iterable of arrays, got {type(pool).__name__}; "
            "give what of it holds the predictions"
        )
    if isinstance(pool, tuple):
        raise TypeError(
            f"pool: a tuple of {len(pool)} may be (logits, something else); wanted its item that "
            "holds the predictions, or a list of chunks [rows, ...] of one pool"
        )
    if isinstance(pool, Iterable):
        return IterableSource(pool)
    raise TypeError(f"pool: wanted an array, a path or an iterable, got {type(pool).__name__}")


def _is_path(x: object) -> bool:
    return isinstance(x, (str, os.PathLike))
