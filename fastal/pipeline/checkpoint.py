"""The state of a run, saved now and then, so that a killed run goes on where it was.

One file: a line with a checksum, then a NumPy archive of the state and of what the run is of. It is
replaced whole, on disk before it is named, so there is always one that is good.
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
# A file beside it: the device and inode of what is written meanwhile, after this.
_CLAIM, _CLAIMS = "checkpoint.output", b"fastal output 1 "
_MAGIC = b"fastal checkpoint 2 "  # the version of the form, and a space
_SECONDS = 30.0  # between two, and at least so many times what the last one took:
_PAUSE = 100


class Checkpoint:
    """Saves a reducer's state in a folder, and restores it; a context, in which no other run may.

    Args:
        folder: made if missing; holds one run's checkpoint.
        run: what the run does, as plain values: a checkpoint of another is refused.
        source: the pool; a checkpoint of another is refused as well.
        resume: go on from the folder's checkpoint if there is one.

    Attributes:
        passes: how many passes over the pool are over, in a run of several.

    Raises:
        ValueError: the pool cannot be told from another; or, where the context begins, the folder
            holds a checkpoint, and `resume` is not set; or it is damaged, or of another run: the
            message says what differs; or another run uses the folder.
        OSError: the folder cannot be made, or written to.
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
        # Backends differ in a score's last bits, and so may the bytes.
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
            if self._claim.exists() and not self._claim.read_bytes().startswith(_CLAIMS):
                raise ValueError(f"checkpoint: {self._claim} is not of a run; move it away")
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
        """Whether the folder holds one."""
        return self._path.exists()

    @property
    def run(self) -> str:
        """What tells this run from others: a digest of what it does, and of the pool."""
        return hashlib.sha256(json.dumps(self._identity, sort_keys=True).encode()).hexdigest()

    def claim(self, made: os.stat_result) -> None:
        """See `Claims`."""
        with written_whole(self._claim) as file:
            file.write(_claim_of(made))

    def claimed(self, found: os.stat_result) -> bool:
        """See `Claims`."""
        return self._claim.exists() and self._claim.read_bytes() == _claim_of(found)

    @property
    def row(self) -> int:
        """The row to go on from, 0 without a checkpoint."""
        return 0 if self._state is None else int(self._state["row"])

    def forget(self) -> None:
        """Starts over."""
        self.remove()
        self._state = None
        self.passes = 0

    def restore(self, reducer: Reducer[Any], source: Source) -> int:
        """Gives their state back to both; the row to go on from, 0 without a checkpoint."""
        if self._state is not None:
            reducer.load_state_dict(self._state["reducer"])
            source.skipped = [Skipped(*skipped) for skipped in self._state["skipped"]]
        return self.row

    @property
    def is_due(self) -> bool:
        """Whether it is time to save: often enough, but never for more than a hundredth of it."""
        return time.monotonic() - self._saved >= max(_SECONDS, _PAUSE * self._took)

    def save(self, reducer: Reducer[Any], source: Source, row: int) -> None:
        """Saves the state of a reducer that has taken all rows before `row`."""
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
        """The run is done: there is nothing to resume."""
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
    return _CLAIMS + f"{made.st_dev} {made.st_ino}".encode()


def _packed(tree: Any) -> bytes:
    """Nested plain values and arrays as bytes."""
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
    """What differs between two runs, as it is said of them."""
    for key in {**theirs, **ours}:
        if key != "pool" and theirs.get(key) != ours.get(key):
            yield f"{key} {theirs.get(key)!r} there, {ours.get(key)!r} here"
    (their_columns, their_skipped, their_files), (columns, skipped, files) = (
        theirs["pool"],
        ours["pool"],
    )
    for what, a, b in (("columns", their_columns, columns), ("skipped", their_skipped, skipped)):
        if a != b:
            yield f"{what} {a} there, {b} here"
    before, now = ({key: stamp for key, *stamp in held} for held in (their_files, files))
    for key in {**before, **now}:
        was, is_now = before.get(key), now.get(key)
        if was and is_now and was[:2] == is_now[:2] == [0, 0] and was != is_now:  # behind a URL
            yield f"the file {key} has changed"
        elif was and is_now and was[:2] == is_now[:2] and was != is_now:
            yield (
                f"the file {key} was replaced since, or touched (its mode, owner, name or hard "
                "links), though it has the size and time that it had"
            )
        elif was != is_now:
            yield f"the file {key} {_stamped(was)} there, {_stamped(is_now)} here"


def _stamped(stamp: list[Any] | None) -> str:
    if stamp is None:
        return "is not"
    n_bytes, time, _ = stamp
    seconds, rest = divmod(time, 10**9)
    return f"has {n_bytes:,} bytes and the time {seconds}.{rest:09}"
