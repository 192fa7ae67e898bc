"""Output that a run with a checkpoint leaves unfinished, so that a resumed run can complete it.

It has the fixed name `.NAME.partial`, in the folder of the final path. A file of the user may have
that name too. So a run writes only to a file or folder that it has claimed, or that is empty; and a
resumed run checks that the content is what the checkpoint describes.
"""

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Protocol

from fastal.output.atomic import (
    OPEN_FLAGS,
    is_at,
    lock,
    naming_path_in_errors,
    publish,
    to_disk,
    writable_path,
)

_BLOCK = 1 << 20  # bytes per read while a checksum is computed
# The path is a link (ELOOP) or something else than a regular file or folder.
_WRONG_KIND = (errno.ELOOP, errno.EISDIR, errno.ENOTDIR, errno.ENXIO)


class Claims(Protocol):
    """Remembers on disk, so beyond the process, which file or folder a run made.

    Files are identified by device and inode.
    """

    def claim(self, made: os.stat_result) -> None:
        """Records that the run made this, or found it empty. The record is on disk on return."""

    def claimed(self, found: os.stat_result) -> bool:
        """Whether the run has claimed this."""


@contextmanager
def written_in_parts(
    path: Path,
    claims: Claims,
    recheck: Callable[[], None] = lambda: None,
    *,
    resume: bool,
    keep_on_error: Callable[[], bool],
) -> Iterator[BinaryIO]:
    """As `written_whole`, but if the block raises, the unfinished file may stay for a later run.

    Args:
        path: the file to write.
        claims: says whether the unfinished file is the run's own. No other file is written to,
            unless it is empty.
        recheck: as for `written_whole`.
        resume: open the unfinished file of an earlier run, which must exist (`partial_path`), at
            its beginning. The caller must check by its content that it is the run's own: inodes may
            differ on another machine, or after a restart.
        keep_on_error: says whether the unfinished file stays if the block raises.

    Yields:
        The file, open for writing and reading.

    Raises:
        ValueError, OSError: `path` cannot be written, see `writable_path`; or another process is
            writing it; or the unfinished file is not the run's own.
    """
    path = writable_path(path)
    unfinished = partial_path(path)
    opened = _claimed_file(unfinished, claims, resume=resume)
    with naming_path_in_errors(path), open(unfinished, "r+b", opener=lambda *_: opened) as file:
        try:
            if not resume:
                file.truncate()
            yield file
            publish(file, unfinished, path, recheck)
        except BaseException:
            if not keep_on_error():
                unfinished.unlink(missing_ok=True)
            raise


def partial_path(path: Path) -> Path:
    """Where a run with a checkpoint keeps the unfinished file or folder that becomes `path`."""
    path = Path(os.path.realpath(path))
    return path.with_name(f".{path.name}.partial")


def claimed_folder(path: Path, claims: Claims, *, resume: bool) -> int:
    """Makes a folder, or opens the one that the run made before.

    Args:
        path: the folder.
        claims: says whether an existing folder is the run's own.
        resume: the caller checks by its content that the folder is the run's own; see
            `written_in_parts`.

    Returns:
        Its file descriptor, which holds its lock.

    Raises:
        ValueError: another process uses it; or it exists, is not empty, and is not the run's own.
    """
    with suppress(FileExistsError):
        path.mkdir()
    return _claimed(
        path,
        os.O_RDONLY,
        claims,
        stat.S_ISDIR,
        lambda _: resume or not os.listdir(path),  # noqa: PTH208
    )


class WrittenPrefix:
    """The checksum of the first bytes of a file that is being written.

    A checkpoint stores it. A resumed run then knows whether the file still holds these bytes.

    Args:
        file: the file, open for reading as well.
        what: what the file holds, for messages.
        first: the byte to begin at, behind a header that changes.
    """

    def __init__(self, file: BinaryIO, what: str, first: int = 0) -> None:
        self._file = file
        self._what = what
        self._first = first
        self._start_over()

    def changed_from(self, byte: int) -> None:
        """Must be called before bytes are overwritten: those from `byte` on are read again."""
        if byte < self._bytes:
            self._start_over()

    def to_disk(self, n_bytes: int) -> str:
        """Writes the file to disk, and returns the checksum of its first `n_bytes` bytes.

        The file's position is then behind these bytes.
        """
        to_disk(self._file)
        self._file.seek(self._bytes)
        while self._bytes < n_bytes:
            block = self._file.read(min(_BLOCK, n_bytes - self._bytes))
            if not block:
                break
            self._sum.update(block)
            self._bytes += len(block)
        return self._sum.hexdigest()

    def check(self, n_bytes: int, checksum: str) -> None:
        """ValueError unless the first `n_bytes` bytes have this checksum."""
        if self.to_disk(n_bytes) != checksum:
            raise ValueError(
                f"{self._file.name}: not the {self._what} that the checkpoint was saved with; "
                "remove both to start over"
            )

    def _start_over(self) -> None:
        self._sum, self._bytes = hashlib.sha256(), self._first


def _claimed_file(path: Path, claims: Claims, *, resume: bool) -> int:
    flags = os.O_RDWR | os.O_CREAT
    return _claimed(path, flags, claims, stat.S_ISREG, lambda found: resume or not found.st_size)


def _claimed(
    path: Path,
    flags: int,
    claims: Claims,
    is_kind: Callable[[int], bool],
    is_free: Callable[[os.stat_result], bool],
) -> int:
    """Opens and locks what the run has claimed; or claims what is free.

    Args:
        path: the file or folder.
        flags: to open it with.
        claims: says what the run has claimed.
        is_kind: whether a mode is that of a regular file, or of a folder, as wanted.
        is_free: whether it may be claimed, since nothing in it can be lost.
    """
    not_ours = f"{path}: exists already, and was not made by this run; move it away first"
    try:
        opened = os.open(path, flags | OPEN_FLAGS, 0o666)
    except OSError as error:
        if error.errno in _WRONG_KIND:
            raise ValueError(not_ours) from error
        raise
    try:
        found = os.fstat(opened)
        # The process that had locked it may have renamed it before the lock was free.
        if is_kind(found.st_mode) and not (lock(opened) and is_at(path, found)):
            raise ValueError(f"{path}: another run is writing it")
        has_one_name = found.st_nlink == 1 or stat.S_ISDIR(found.st_mode)
        if not is_kind(found.st_mode) or not has_one_name:
            raise ValueError(not_ours)
        if not claims.claimed(found):
            if not is_free(found):
                raise ValueError(not_ours)
            claims.claim(found)
    except BaseException:
        os.close(opened)
        raise
    return opened
