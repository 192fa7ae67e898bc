"""The state of a run, saved repeatedly, so that a killed run can be resumed where it was.

A checkpoint is one file: a line with a checksum, then a NumPy archive of the state and of the run's
identity. It is replaced as a whole, so at any moment there is a complete one.
"""

import hashlib
import io
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastal.base.reducer import Reducer
from fastal.ops import instruction_set
from fastal.output.atomic import clear_left, lock, written_whole
from fastal.sources import PathLike, Skipped, Source
from fastal.version import __version__

_NAME = "checkpoint"
# A second file in the folder, which identifies the unfinished output: these bytes, then its device
# and inode.
_CLAIM, _CLAIM_MAGIC = "checkpoint.output", b"fastal output 1 "
_MAGIC = b"fastal checkpoint 3 "  # includes the version of the format, and a space
_SECONDS = 30.0  # the least time between two saves
_PAUSE = 100  # and the least ratio of that time to the duration of the last save


class Checkpoint:
    """Saves a reducer's state in a folder, and restores it.

    It is a context manager. Within the context, the folder is locked: no other run can use it.

    Args:
        folder: the folder, which holds the checkpoint of one run. It is made if it is missing.
        run: what the run does, as plain values. A checkpoint of a run with other values is refused.
        source: the pool. A checkpoint of another pool is refused.
        resume: continue from the folder's checkpoint, if there is one.

    Attributes:
        passes: the number of completed passes over the pool.

    Raises:
        ValueError: the pool has no fingerprint. Or, on entering the context: there is a checkpoint
            and `resume` is not set; it is damaged; it is of another run, and the message says what
            differs; or another run uses the folder.
        OSError: the folder cannot be made or written to.
    """

    def __init__(
        self, folder: PathLike, run: Mapping[str, Any], source: Source, *, resume: bool
    ) -> None:
        pool = source.fingerprint()
        if pool is None:
            raise ValueError("checkpoint: only a pool of files can be resumed")
        self._folder = Path(folder)
        self._path = self._folder / _NAME
        self._claim = self._folder / _CLAIM
        self._resume = resume
        self.passes = 0
        # Scores may differ in their last bits between backends and their instruction sets.
        of = {"fastal": __version__, **run, "instructions": instruction_set(), "pool": pool}
        self._identity = json.loads(json.dumps(of, default=str))
        self._saved = time.monotonic()
        self._took = 0.0
        self._state: dict[str, Any] | None = None

    def __enter__(self) -> "Checkpoint":
        folder = self._folder
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(f"checkpoint: {folder} cannot be written to")
        self._lock = os.open(folder, os.O_RDONLY)
        try:
            if not lock(self._lock):
                raise ValueError(f"checkpoint: another run uses {folder}")
            if self.exists and not self._resume:
                raise ValueError(
                    f"checkpoint: {folder} holds one already: resume it, or remove {self._path}"
                )
            if self.exists:
                self._state = self._load()
                self.passes = self._state["passes"]
            for path in (self._path, self._claim):
                clear_left(path)
            if self._claim.exists() and not self._claim.read_bytes().startswith(_CLAIM_MAGIC):
                raise ValueError(
                    f"checkpoint: {self._claim} was not written by fastal; move it away"
                )
        except BaseException:
            os.close(self._lock)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if not self.exists:
            self._claim.unlink(missing_ok=True)
        os.close(self._lock)

    @property
    def exists(self) -> bool:
        """Whether the folder holds a checkpoint."""
        return self._path.exists()

    @property
    def run(self) -> str:
        """A digest of what the run does and of the pool, which identifies the run."""
        return hashlib.sha256(json.dumps(self._identity, sort_keys=True).encode()).hexdigest()

    def claim(self, made: os.stat_result) -> None:
        """See `Claims.claim`."""
        with written_whole(self._claim) as file:
            file.write(_claim_of(made))

    def claimed(self, found: os.stat_result) -> bool:
        """See `Claims.claimed`."""
        return self._claim.exists() and self._claim.read_bytes() == _claim_of(found)

    @property
    def row(self) -> int:
        """The row to resume from, in its pass; 0 without a checkpoint."""
        return 0 if self._state is None else int(self._state["row"])

    def forget(self) -> None:
        """Removes the checkpoint, so that the run starts over."""
        self.remove()
        self._state = None
        self.passes = 0

    def restore(self, reducer: Reducer[Any], source: Source) -> int:
        """Restores the state of both. Returns the row to resume from, 0 without a checkpoint."""
        if self._state is not None:
            reducer.load_state_dict(self._state["reducer"])
            source.skipped = [Skipped(*skipped) for skipped in self._state["skipped"]]
        return self.row

    @property
    def is_due(self) -> bool:
        """Whether to save now: every 30 seconds, but for at most a hundredth of the run's time."""
        return time.monotonic() - self._saved >= max(_SECONDS, _PAUSE * self._took)

    def save(self, reducer: Reducer[Any], source: Source, row: int) -> None:
        """Saves the state of a reducer that has been updated with all rows before `row`.

        Before the first row of the run, nothing is saved: there is nothing to resume.
        """
        if not row and not self.passes:
            return
        began = time.monotonic()
        state = {
            "reducer": reducer.state_dict(), "row": row, "passes": self.passes,
            "skipped": list(source.skipped),
        }  # fmt: skip
        payload = _packed({"identity": self._identity, "state": state})
        with written_whole(self._path) as file:
            file.write(_MAGIC + hashlib.sha256(payload).hexdigest().encode() + b"\n")
            file.write(payload)
        self._saved = time.monotonic()
        self._took = self._saved - began

    def remove(self) -> None:
        """Removes the checkpoint, after the run is done."""
        self._path.unlink(missing_ok=True)
        self._claim.unlink(missing_ok=True)

    def _load(self) -> dict[str, Any]:
        head, _, payload = self._path.read_bytes().partition(b"\n")
        if head.startswith(_MAGIC[:-2]) and not head.startswith(_MAGIC):
            raise ValueError(f"checkpoint: {self._path} was saved by another version of fastal")
        if head != _MAGIC + hashlib.sha256(payload).hexdigest().encode():
            raise ValueError(f"checkpoint: {self._path} is damaged; remove it to start over")
        held = _unpacked(payload)
        for difference in _differences(held["identity"], self._identity):
            raise ValueError(f"checkpoint: {self._path} is of another run: {difference}")
        state: dict[str, Any] = held["state"]
        return state


def _claim_of(made: os.stat_result) -> bytes:
    return _CLAIM_MAGIC + f"{made.st_dev} {made.st_ino}".encode()


def _packed(tree: Any) -> bytes:
    """Nested dictionaries and lists of plain values and arrays, as bytes."""
    arrays: dict[str, NDArray[Any]] = {}

    def without_arrays(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            arrays[str(len(arrays))] = value
            return {"array": str(len(arrays) - 1)}
        if isinstance(value, dict):
            return {"dict": [[key, without_arrays(held)] for key, held in value.items()]}
        if isinstance(value, bytes):
            return {"bytes": value.hex()}
        if isinstance(value, (list, tuple)):
            return [without_arrays(held) for held in value]
        return value

    text = json.dumps(without_arrays(tree))
    file = io.BytesIO()
    np.savez(file, text=np.frombuffer(text.encode(), np.uint8), **arrays)  # type: ignore[arg-type]
    return file.getvalue()


def _unpacked(payload: bytes) -> Any:
    """The values that `_packed` turned into bytes."""
    with np.load(io.BytesIO(payload), allow_pickle=False) as held:

        def with_arrays(value: Any) -> Any:
            if isinstance(value, dict):
                if "array" in value:
                    return held[value["array"]]
                if "bytes" in value:
                    return bytes.fromhex(value["bytes"])
                return {key: with_arrays(below) for key, below in value["dict"]}
            return [with_arrays(below) for below in value] if isinstance(value, list) else value

        return with_arrays(json.loads(held["text"].tobytes()))


def _differences(theirs: dict[str, Any], ours: dict[str, Any]) -> Iterator[str]:
    """The differences between the identity of a checkpoint and that of this run, for messages."""
    for key in {**theirs, **ours}:
        if key != "pool" and theirs.get(key) != ours.get(key):
            yield f"{key} is {theirs.get(key)!r} there, {ours.get(key)!r} in this run"
    (their_columns, their_skipped, their_files), (columns, skipped, files) = (
        theirs["pool"],
        ours["pool"],
    )
    for what, a, b in (
        ("columns", their_columns, columns),
        ("skipped files", their_skipped, skipped),
    ):
        if a != b:
            yield f"{what} are {a} there, {b} in this run"
    before, now = ({key: stamp for key, *stamp in held} for held in (their_files, files))
    for key in {**before, **now}:
        was, is_now = before.get(key), now.get(key)
        # A remote file has neither size nor time in its stamp, only a digest.
        if was and is_now and was[:2] == is_now[:2] == [0, 0] and was != is_now:
            yield f"the file {key} has changed"
        elif was and is_now and was[:2] == is_now[:2] and was != is_now:
            yield (
                f"the file {key} was replaced since, or touched (its mode, owner, name or hard "
                "links), though its size and time are the same"
            )
        elif was != is_now:
            yield f"the file {key} {_stamped(was)} there, {_stamped(is_now)} in this run"


def _stamped(stamp: list[Any] | None) -> str:
    if stamp is None:
        return "is missing"
    n_bytes, time, _ = stamp
    seconds, rest = divmod(time, 10**9)
    return f"has {n_bytes:,} bytes and the time {seconds}.{rest:09}"
