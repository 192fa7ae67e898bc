"""Pools of every form to chunks, one format a file."""

import os
from collections.abc import Iterable
from typing import Any

from fastal.arrays import is_array
from fastal.sources.array import ArraySource
from fastal.sources.files import Files
from fastal.sources.iterable import IterableSource
from fastal.sources.source import Source

__all__ = ["Source", "open_pool"]


def open_pool(pool: Any) -> Source:
    """The source of a pool.

    Args:
        pool: an array in memory [rows, ...] (torch, NumPy, any DLPack producer); a .npy file, a
            folder of them, a glob, or a list of these; or an iterable of arrays. Row numbers are
            global: across files in the order of their paths, however they were named.

    Raises:
        TypeError: none of these.
        ValueError, OSError: what `pool` names cannot be read; the message says which file and why.
    """
    if isinstance(pool, (str, os.PathLike)):
        return Files([pool])
    if is_array(pool):
        return ArraySource(pool)
    if isinstance(pool, (list, tuple)) and not pool:
        raise ValueError("pool: an empty list")
    if isinstance(pool, (list, tuple)) and isinstance(pool[0], (str, os.PathLike)):
        for path in pool:
            if not isinstance(path, (str, os.PathLike)):
                raise TypeError(f"pool: wanted paths only, got {type(path).__name__} among them")
        return Files(pool)
    if isinstance(pool, Iterable):
        return IterableSource(pool)
    raise TypeError(f"pool: wanted an array, a path or an iterable, got {type(pool).__name__}")
