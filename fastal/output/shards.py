"""A pool as .npy shards and a manifest: the form that is read at the speed of memory."""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from fastal.base.arrays import as_tensor
from fastal.base.groups import Groups, as_groups
from fastal.base.reducer import Pending, Reducer
from fastal.output.atomic import (
    Beginning,
    Claims,
    new_folder,
    own_folder,
    partial,
    to_disk,
    to_disk_folder,
)
from fastal.sources.labels import as_integers
from fastal.sources.manifest import NAME

_MOST_ROWS = 1 << 20  # of a shard: their ids and groups are held
_CHUNK_BYTES = 32 << 20  # a copy is made of each chunk
_IDS, _GROUPS = "ids", "groups"  # folders of the columns, whatever their names
IdsOf = Callable[[NDArray[np.int64]], Any]


class Shards(NamedTuple):
    """What was written: rows, and shards that hold them."""

    rows: int
    shards: int


class ShardWriter(Reducer[Shards]):
    """Writes rows as they come to .npy shards in a folder, as a reducer; O(chunk) memory.

    Shards are part-00000.npy and so on, beside them a folder for each column, and manifest.json.
    bfloat16 is kept as its bits, which the manifest says. The folder is hidden until `result`.

    Args:
        folder: the folder to be.
        shard_bytes: how large a shard may get.
        id_column: the name of the ids, None without; `ids_of` gives those of rows.
        group_column: the name of the groups that come with the rows, None without.
    """

    def __init__(
        self,
        folder: Path,
        shard_bytes: int,
        id_column: str | None = None,
        ids_of: IdsOf | None = None,
        group_column: str | None = None,
    ) -> None:
        self._folder = folder
        self._aside = partial(folder)  # or, without claims, another
        self._shard_bytes = shard_bytes
        self._id_column = id_column
        self._group_column = group_column
        self._ids_of = ids_of
        self._files: list[dict[str, Any]] = []  # of the manifest
        self._stamps: dict[str, list[int]] = {}  # of files that are whole, by path
        self._open: _Shard | None = None
        self._next_row = 0
        self._lock = -1
        self.takes_groups = group_column is not None
        self.chunk_bytes = _CHUNK_BYTES

    def begin(
        self,
        claims: Claims | None = None,
        run: str | None = None,
        confirm: Callable[[], None] = lambda: None,
        *,
        go_on: bool = False,
    ) -> None:
        """Makes the hidden folder.

        Args:
            claims: proves that a hidden folder which is there already is the run's own; None: the
                folder has a new name, which cannot be told.
            run: tells the run from others; the manifest will say it.
            confirm: called right before the folder takes its place, and may raise.
            go_on: keep what the folder holds.

        Raises:
            ValueError: another run writes it, or it is not the run's own.
        """
        self._run, self._confirm = run, confirm
        if claims is None:
            self._aside, self._lock = new_folder(self._folder)
        else:
            self._lock = own_folder(self._aside, claims, go_on=go_on)
        if go_on:
            return
        _empty(self._aside)
        for column, folder in ((self._id_column, _IDS), (self._group_column, _GROUPS)):
            if column is not None:
                (self._aside / folder).mkdir()

    def look(self, chunk: Any, start: int | None = None, groups: Any = None) -> Pending:
        """Copies rows; see `Reducer.look`. Nothing is written before the chunk is committed."""
        first = self._next_row if start is None else start
        x = as_tensor(chunk, "pool").to("cpu", copy=True)
        labels = None if groups is None else as_groups(groups, len(x), "groups")
        return Pending(lambda: self._write(x, first, labels))

    def _write(self, x: torch.Tensor, first: int, labels: Groups | None) -> None:
        row_bytes = max(1, x[:1].nbytes)
        shard_rows = max(1, min(_MOST_ROWS, self._shard_bytes // row_bytes))
        if not len(x) and not self._files:
            self._shard_for(x)  # a pool without rows has a shape all the same
        done = 0
        while done < len(x):
            shard = self._shard_for(x)
            part = slice(done, done + min(len(x) - done, shard_rows - shard.n_rows))
            shard.append(x[part], first + part.start)
            if labels is not None:
                shard.groups += [labels.values[code] for code in labels.codes[part].tolist()]
            done = part.stop
            if shard.n_rows == shard_rows:
                self._close()
        self._next_row = first + len(x)

    def identity(self) -> dict[str, Any]:
        """How large a shard may get."""
        return {"shard_bytes": self._shard_bytes}

    def _state(self) -> dict[str, Any]:
        """What is in the hidden folder, on disk by then."""
        shard = None if self._open is None else self._open.state_dict()
        for path in self._paths():
            if path not in self._stamps:
                self._stamps[path] = _stamp(self._aside / path)
        return {
            "files": self._files, "open": shard, "next": self._next_row, "stamps": self._stamps,
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues from the hidden folder; ValueError, which names the file, if it has changed."""
        self._restore(state)

    def _restore(self, state: Mapping[str, Any]) -> None:
        self._files, self._next_row = list(state["files"]), state["next"]
        self._stamps = dict(state["stamps"])
        for path in self._paths():
            if not (self._aside / path).is_file():
                raise ValueError(f"{self._aside / path}: is gone")
            if _stamp(self._aside / path) != list(self._stamps[path]):
                raise ValueError(
                    f"{self._aside / path}: changed since the checkpoint was saved; remove both to "
                    "start over"
                )
        self._open = None
        if state["open"] is not None:
            self._open = _Shard.restored(self._aside / self._name(), state["open"])

    def _paths(self) -> Iterator[str]:
        """The files in the hidden folder that are whole."""
        for file in self._files:
            yield file["path"]
            yield from file["columns"].values()

    def result(self) -> Shards:
        """How much was written; the folder is there, whole, from now on."""
        self._close()
        rows = sum(file["rows"] for file in self._files)
        dtypes = {file.pop("dtype") for file in self._files}
        manifest: dict[str, Any] = {"files": self._files}
        columns = {"id_column": self._id_column, "group_column": self._group_column}
        manifest |= {name: column for name, column in columns.items() if column is not None}
        if "bfloat16" in dtypes:
            manifest["dtype"] = "bfloat16"
        if self._run is not None:
            manifest["run"] = self._run
        with (self._aside / NAME).open("w", encoding="utf-8") as file:
            json.dump(manifest, file, indent=1)
            to_disk(file)
        to_disk_folder(self._aside)
        self._confirm()
        self._aside.replace(self._folder)
        to_disk_folder(self._folder.absolute().parent)
        os.close(self._lock)
        return Shards(rows, len(self._files))

    def abandon(self, *, keep: bool) -> None:
        """Ends without a result; what was written is kept to go on from, or removed."""
        if self._open is not None:
            with suppress(OSError):  # the disk is full, which is known
                self._open.file.close()
        if not keep:
            shutil.rmtree(self._aside, ignore_errors=True)
        os.close(self._lock)

    def _shard_for(self, x: torch.Tensor) -> "_Shard":
        """The open shard, a new one where there is none or rows are of another kind."""
        if self._open is not None and not self._open.takes(x):
            self._close()
        if self._open is None:
            kinds = {file["dtype"] for file in self._files} | {_kind(x)}
            if "bfloat16" in kinds and len(kinds) > 1:  # which one manifest cannot say
                raise ValueError(f"pool: {' and '.join(sorted(kinds))} in one pool of shards")
            self._open = _Shard(self._aside / self._name(), x)
        return self._open

    def _name(self) -> str:
        return f"part-{len(self._files):05}.npy"

    def _close(self) -> None:
        if self._open is None:
            return
        shard, name = self._open, self._name()
        shard.close()
        paths = {}
        if self._id_column is not None and self._ids_of is not None:
            paths[self._id_column] = f"{_IDS}/{name}"
            self._save(paths[self._id_column], self._ids_of(shard.rows()), self._id_column)
        if self._group_column is not None:
            paths[self._group_column] = f"{_GROUPS}/{name}"
            groups = np.array(shard.groups, object)
            self._save(paths[self._group_column], groups, self._group_column)
        entry = {"path": name, "rows": shard.n_rows, "dtype": shard.dtype, "columns": paths}
        self._files.append(entry)
        self._open = None

    def _save(self, path: str, values: Any, column: str) -> None:
        with _new(self._aside / path) as file:
            np.save(file, _storable(values, column))
            to_disk(file)


def published(folder: Path, run: str) -> Shards | None:
    """What a folder holds that a run wrote before it was killed; None: it is of no such run.

    Args:
        folder: where it is.
        run: tells it from others.
    """
    with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        manifest = json.loads((folder / NAME).read_bytes())
        if isinstance(manifest, dict) and manifest.get("run") == run:
            files = [(folder / file["path"], file["rows"]) for file in manifest["files"]]
            if all(path.is_file() for path, _ in files):
                return Shards(sum(rows for _, rows in files), len(files))
    return None


class _Shard:
    """One .npy file that grows."""

    def __init__(self, path: Path, x: torch.Tensor) -> None:
        self.dtype = _kind(x)
        self._shape = tuple(x.shape[1:])
        self._spans: list[list[int]] = []  # first row and row after the last, of the pool
        self.groups: list[Any] = []
        self.file = _new(path)
        self._write_header()
        self._first = self.file.tell()
        self._written = Beginning(self.file, "rows", self._first)

    @classmethod
    def restored(cls, path: Path, state: dict[str, Any]) -> "_Shard":
        """Goes on from what `state_dict` gave; ValueError where the file does not hold it."""
        shard = cls.__new__(cls)
        shard.dtype, shard._shape = state["dtype"], tuple(state["shape"])
        shard._spans, shard.groups = [list(span) for span in state["spans"]], list(state["groups"])
        if not path.is_file() or path.is_symlink() or path.stat().st_nlink > 1:
            raise ValueError(f"{path}: is gone, or a link to another file")
        shard.file = path.open("r+b")
        try:
            shard._first = state["first"]
            shard._written = Beginning(shard.file, "rows", shard._first)
            shard._written.check(state["bytes"], state["sha256"])
            shard.file.truncate()
        except BaseException:
            shard.file.close()
            raise
        return shard

    @property
    def n_rows(self) -> int:
        return sum(stop - start for start, stop in self._spans)

    def rows(self) -> NDArray[np.int64]:
        """The rows' numbers in the pool."""
        return np.concatenate([np.arange(*span) for span in [[0, 0], *self._spans]])

    def takes(self, x: torch.Tensor) -> bool:
        return (self.dtype, self._shape) == (_kind(x), x.shape[1:])

    def append(self, x: torch.Tensor, start: int) -> None:
        self.file.write(_bits(x).contiguous().numpy().tobytes())
        if self._spans and self._spans[-1][1] == start:
            self._spans[-1][1] += len(x)
        else:
            self._spans.append([start, start + len(x)])

    def state_dict(self) -> dict[str, Any]:
        n_bytes = self.file.tell()
        return {
            "dtype": self.dtype, "shape": self._shape, "spans": self._spans,
            "groups": self.groups, "first": self._first, "bytes": n_bytes,
            "sha256": self._written.to_disk(n_bytes),
        }  # fmt: skip

    def close(self) -> None:
        self.file.seek(0)
        self._write_header()  # of the same length: NumPy leaves room for a longer shape
        to_disk(self.file)
        self.file.close()

    def _write_header(self) -> None:
        dtype = _bits(torch.empty(0, dtype=getattr(torch, self.dtype), device="cpu")).numpy().dtype
        header = {"descr": dtype.str, "fortran_order": False, "shape": (self.n_rows, *self._shape)}
        np.lib.format.write_array_header_1_0(self.file, header)


def _new(path: Path) -> BinaryIO:
    """A new file; what a killed run had written there, after it saved its state, goes."""
    path.unlink(missing_ok=True)
    return path.open("x+b")


def _empty(folder: Path) -> None:
    """Removes all that is in a folder; links are not followed."""
    for left in folder.iterdir():
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left)
        else:
            left.unlink()


def _stamp(path: Path) -> list[int]:
    """What changes when a file does. A checksum of all shards at each save would take too long."""
    found = path.stat()
    return [found.st_size, found.st_mtime_ns]


def _kind(x: torch.Tensor) -> str:
    return str(x.dtype).removeprefix("torch.")


def _bits(x: torch.Tensor) -> torch.Tensor:
    return x.view(torch.uint16) if x.dtype == torch.bfloat16 else x


def _storable(held: Any, column: str) -> NDArray[Any]:
    """A column as NumPy stores it without pickling: integers, or texts in UTF-8."""
    values: NDArray[Any] = np.asarray(held)
    if values.dtype.kind in "biu":
        return values
    plain = values.tolist()
    if (integers := as_integers(plain)) is not None:
        return integers
    if all(type(value) is bool for value in plain):
        return np.array(plain)
    if None in plain:
        raise ValueError(f"{column}: some are missing, which .npy cannot say; fill them first")
    for value in plain:
        if not isinstance(value, str):
            raise ValueError(f"{column}: wanted integers of 64 bits or text, got {value!r}")
        if value.endswith("\0"):  # which NumPy takes for padding
            raise ValueError(f"{column}: {value!r} ends in a null character: .npy cannot keep it")
    return np.asarray(np.char.encode(np.array(plain, np.str_), "utf-8"))
