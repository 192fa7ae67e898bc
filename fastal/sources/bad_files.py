"""What happens to a bad file: the run stops, or the rest of the file is skipped and recorded."""

import errno
from collections.abc import Sequence
from threading import Lock
from typing import Any

from fastal.sources.location import Location
from fastal.sources.source import Skipped

# Too many open files, no memory: the machine is the cause, not the file.
_MACHINE_ERRORS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


class BadFiles:
    """Decides between raising and skipping, and records what is skipped.

    Args:
        on_bad_file: "raise" or "skip".

    Raises:
        ValueError: `on_bad_file` is neither.

    Attributes:
        are_skipped: whether bad files are skipped.
    """

    def __init__(self, on_bad_file: str) -> None:
        if on_bad_file not in ("raise", "skip"):
            raise ValueError(f"on_bad_file: wanted raise or skip, got {on_bad_file!r}")
        self.are_skipped = on_bad_file == "skip"
        self._skipped: dict[str, Skipped] = {}  # by the file's name
        # Two threads report: the one that reads ahead, and the one that works on the chunks.
        self._lock = Lock()

    def __getstate__(self) -> dict[str, Any]:
        """The record; another process has a lock of its own."""
        return {name: value for name, value in vars(self).items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=Lock())

    @property
    def skipped(self) -> list[Skipped]:
        """The files that are skipped, each once, from the lowest row that was reported."""
        return list(self._skipped.values())

    def restore(self, skipped: Sequence[Skipped]) -> None:
        """Replaces the record by that of an earlier run, which is being resumed."""
        self._skipped = {left_out.file: left_out for left_out in skipped}

    def report(self, file: Location, from_row: int, error: Exception) -> None:
        """Skips a file from a row on; or raises the error, where bad files are not skipped.

        A missing package and an error of the machine are always raised.
        """
        if not self.are_skipped or isinstance(error, ImportError):
            raise error
        if isinstance(error, OSError) and error.errno in _MACHINE_ERRORS:
            raise error
        new = Skipped(str(file), from_row, " ".join(str(error).split()))
        with self._lock:
            known = self._skipped.setdefault(new.file, new)
            if from_row < known.from_row:
                self._skipped[new.file] = new

    def first_skipped_row(self, file: Location) -> int | None:
        """The row from which on a file is skipped, by this run or an earlier one; None: never."""
        skipped = self._skipped.get(str(file))
        return None if skipped is None else skipped.from_row
