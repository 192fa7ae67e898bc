"""The runs of a simulation that are done, saved after each, so that a killed one can be resumed.

A checkpoint is one file: a line with a checksum, then JSON. It is replaced as a whole, so at any
moment there is a complete one.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastal.base.checks import plain
from fastal.ops import instruction_set
from fastal.output.atomic import clear_left, lock, written_whole
from fastal.sources import PathLike
from fastal.version import __version__

_NAME = "simulation"
_MAGIC = b"fastal simulation 1 "  # includes the version of the format, and a space


class FinishedRuns:
    """The scores of the runs that are done, in a folder.

    It is a context manager. Within the context, the folder is locked: no other simulation can use
    it.

    Args:
        folder: the folder, which holds the checkpoint of one simulation. It is made if missing.
        simulation: the arguments of the simulation, as plain values. A checkpoint of a simulation
            with other arguments is refused.
        resume: continue from the folder's checkpoint, if there is one.

    Attributes:
        scores: the scores of each run, by strategy and seed.

    Raises:
        ValueError: on entering the context: there is a checkpoint and `resume` is not set; it is
            damaged; it is of another simulation, and the message says what differs; or another
            simulation uses the folder.
        OSError: the folder cannot be made or written to.
    """

    def __init__(self, folder: PathLike, simulation: Mapping[str, Any], *, resume: bool) -> None:
        self._folder = Path(folder)
        self._path = self._folder / _NAME
        self._resume = resume
        # Scores may differ in their last bits between instruction sets.
        of = {"fastal": __version__, "instructions": instruction_set(), **simulation}
        self._identity = plain(of)
        self.scores: dict[tuple[str, int], list[float]] = {}

    def __enter__(self) -> "FinishedRuns":
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self._folder, os.O_RDONLY)
        try:
            if not lock(self._lock):
                raise ValueError(f"checkpoint: another simulation uses {self._folder}")
            if self._path.exists():
                self._load()
            clear_left(self._path)
        except BaseException:
            os.close(self._lock)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._lock)

    def save(self) -> None:
        """Writes the scores of all runs that are done."""
        runs = [[name, seed, scores] for (name, seed), scores in self.scores.items()]
        payload = json.dumps({"identity": self._identity, "runs": runs}).encode()
        with written_whole(self._path) as file:
            file.write(_head(payload) + payload)

    def remove(self) -> None:
        """Removes the checkpoint, after the simulation is done."""
        self._path.unlink(missing_ok=True)

    def _load(self) -> None:
        if not self._resume:
            raise ValueError(
                f"checkpoint: {self._folder} holds one already: resume it, or remove {self._path}"
            )
        head, _, payload = self._path.read_bytes().partition(b"\n")
        if head + b"\n" != _head(payload):
            raise ValueError(f"checkpoint: {self._path} is damaged; remove it to start over")
        held = json.loads(payload)
        theirs = held["identity"]
        for key in {**theirs, **self._identity}:
            there, here = theirs.get(key), self._identity.get(key)
            if there != here:
                raise ValueError(
                    f"checkpoint: {self._path} is of another simulation: {key} is {there!r} there, "
                    f"{here!r} in this one"
                )
        self.scores = {(name, seed): scores for name, seed, scores in held["runs"]}


def _head(payload: bytes) -> bytes:
    return _MAGIC + hashlib.sha256(payload).hexdigest().encode() + b"\n"
