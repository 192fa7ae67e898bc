"""A pool as a folder of .npy shards with a manifest, which is read at the speed of memory."""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from fastal.base.arrays import as_tensor
from fastal.base.groups import Groups, as_groups
from fastal.base.reducer import Pending, Reducer, RowStart
from fastal.base.row_numbers import row_numbers
from fastal.output.atomic import new_folder, to_disk, to_disk_folder
from fastal.output.growing_npy import GrowingNpy, dtype_name, save_labels
from fastal.output.resumable import Claims, claimed_folder, partial_path
from fastal.sources.manifest import NAME

_MOST_ROWS = 1 << 20  # per shard, since their ids and groups are in memory until it is complete
_CHUNK_BYTES = 32 << 20  # per chunk, since a copy is made of it
_IDS, _GROUPS = "ids", "groups"  # folders of the columns, whatever the columns' names
IdsOf = Callable[[NDArray[np.int64]], Any]


class Shards(NamedTuple):
    """The numbers of rows and of shards that were written."""

    rows: int
    shards: int


class ShardWriter(Reducer[Shards]):
    """Writes a pool's rows to .npy shards in a folder, as a reducer. Memory is O(chunk).

    The folder holds part-00000.npy and so on, a folder for each column of labels, and
    manifest.json. bfloat16 numbers are stored as their bits, and the manifest says so. The folder
    is hidden until `result`.

    Args:
        folder: the folder to write.
        shard_bytes: the most bytes per shard.
        id_column: the name of the column of ids; None if there are none.
        ids_of: returns the ids of rows, given their numbers.
        group_column: the name of the column of groups, which come with the rows; None if there are
            none.
    """

    reads_gaps = False

    def __init__(
        self,
        folder: Path,
        shard_bytes: int,
        id_column: str | None = None,
        ids_of: IdsOf | None = None,
        group_column: str | None = None,
    ) -> None:
        self._folder = folder
        self._hidden = partial_path(folder)  # `begin` may change it
        self._shard_bytes = shard_bytes
        self._id_column = id_column
        self._group_column = group_column
        self._ids_of = ids_of
        self._files: list[dict[str, Any]] = []  # the entries of the manifest
        self._stamps: dict[str, list[int]] = {}  # of complete files, by their paths
        self._open: GrowingNpy | None = None
        self._next_row = 0
        self._lock = -1
        self.takes_groups = group_column is not None
        self.chunk_bytes = _CHUNK_BYTES

    def begin(
        self,
        claims: Claims | None = None,
        run: str | None = None,
        recheck: Callable[[], None] = lambda: None,
        *,
        resume: bool = False,
    ) -> None:
        """Makes the hidden folder.

        Args:
            claims: says whether an existing hidden folder is the run's own. If None, the hidden
                folder gets a new name that nobody can guess.
            run: identifies the run; written into the manifest.
            recheck: called after the folder is complete and before it is renamed. If it raises,
                the folder is not renamed.
            resume: keep what the folder holds.

        Raises:
            ValueError: another run writes it, or it is not the run's own.
        """
        self._run, self._recheck = run, recheck
        if claims is None:
            self._hidden, self._lock = new_folder(self._folder)
        else:
            self._lock = claimed_folder(self._hidden, claims, resume=resume)
        if resume:
            return
        _empty(self._hidden)
        for column, folder in ((self._id_column, _IDS), (self._group_column, _GROUPS)):
            if column is not None:
                (self._hidden / folder).mkdir()

    def look(self, chunk: Any, start: RowStart = None, groups: Any = None) -> Pending:
        """Copies rows; see `Reducer.look`. Nothing is written before the chunk is committed."""
        x = as_tensor(chunk, "pool").to("cpu", copy=True)
        first = row_numbers(self._next_row if start is None else start, len(x)).start
        labels = None if groups is None else as_groups(groups, len(x), "groups")
        return Pending(lambda: self._write(x, first, labels))

    def _write(self, x: torch.Tensor, first: int, labels: Groups | None) -> None:
        row_bytes = max(1, x[:1].nbytes)
        shard_rows = max(1, min(_MOST_ROWS, self._shard_bytes // row_bytes))
        if not len(x) and not self._files:
            self._shard_for(x)  # a pool without rows is one empty shard, which has its shape
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
        """The most bytes per shard."""
        return {"shard_bytes": self._shard_bytes}

    def _state(self) -> dict[str, Any]:
        """The state to continue from. All rows so far are on disk on return."""
        shard = None if self._open is None else self._open.state_dict()
        for path in self._paths():
            if path not in self._stamps:
                self._stamps[path] = _stamp(self._hidden / path)
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
            if not (self._hidden / path).is_file():
                raise ValueError(f"{self._hidden / path}: is gone")
            if _stamp(self._hidden / path) != list(self._stamps[path]):
                raise ValueError(
                    f"{self._hidden / path}: changed since the checkpoint was saved; remove both "
                    "to start over"
                )
        self._open = None
        if state["open"] is not None:
            self._open = GrowingNpy.restored(self._hidden / self._name(), state["open"])

    def _paths(self) -> Iterator[str]:
        """The complete files in the hidden folder."""
        for file in self._files:
            yield file["path"]
            yield from file["columns"].values()

    def result(self) -> Shards:
        """Completes the folder and makes it visible. Returns how much was written."""
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
        with (self._hidden / NAME).open("w", encoding="utf-8") as file:
            json.dump(manifest, file, indent=1)
            to_disk(file)
        to_disk_folder(self._hidden)
        self._recheck()
        self._hidden.replace(self._folder)
        to_disk_folder(self._folder.absolute().parent)
        os.close(self._lock)
        return Shards(rows, len(self._files))

    def abandon(self, *, keep: bool) -> None:
        """Ends without a result. What was written is kept for a resumed run, or removed."""
        if self._open is not None:
            with suppress(OSError):  # a full disk, for which an error was raised already
                self._open.file.close()
        if not keep:
            shutil.rmtree(self._hidden, ignore_errors=True)
        os.close(self._lock)

    def _shard_for(self, x: torch.Tensor) -> GrowingNpy:
        """The open shard; a new one if there is none, or if the rows do not fit into it."""
        if self._open is not None and not self._open.fits(x):
            self._close()
        if self._open is None:
            dtypes = {file["dtype"] for file in self._files} | {dtype_name(x)}
            if "bfloat16" in dtypes and len(dtypes) > 1:  # a manifest has one dtype for all files
                raise ValueError(f"pool: {' and '.join(sorted(dtypes))} in one pool of shards")
            self._open = GrowingNpy(self._hidden / self._name(), x)
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
            ids = self._ids_of(shard.rows())
            save_labels(self._hidden / paths[self._id_column], ids, self._id_column)
        if self._group_column is not None:
            paths[self._group_column] = f"{_GROUPS}/{name}"
            groups = np.array(shard.groups, object)
            save_labels(self._hidden / paths[self._group_column], groups, self._group_column)
        entry = {"path": name, "rows": shard.n_rows, "dtype": shard.dtype, "columns": paths}
        self._files.append(entry)
        self._open = None


def published(folder: Path, run: str) -> Shards | None:
    """What a run wrote before it was killed, if it had made the folder visible; else None.

    Args:
        folder: the folder.
        run: identifies the run, as for `ShardWriter.begin`.
    """
    with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        manifest = json.loads((folder / NAME).read_bytes())
        if isinstance(manifest, dict) and manifest.get("run") == run:
            files = [(folder / file["path"], file["rows"]) for file in manifest["files"]]
            if all(path.is_file() for path, _ in files):
                return Shards(sum(rows for _, rows in files), len(files))
    return None


def _empty(folder: Path) -> None:
    """Removes everything in a folder. Links are removed, not followed."""
    for left in folder.iterdir():
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left)
        else:
            left.unlink()


def _stamp(path: Path) -> list[int]:
    """Size and time of a file: at each save, checksums of all shards would take too long."""
    found = path.stat()
    return [found.st_size, found.st_mtime_ns]
