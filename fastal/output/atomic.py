"""Output files that appear whole or not at all, and the form of numbers in them."""

import errno
import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

_BLOCK = 1 << 20  # read in one go of what is written
_CSV_ROWS = 1 << 14  # text is some twenty times the size of the numbers: a little at a time
_PREFIX, _SUFFIX = ".fastal-", ".tmp"  # of a name that `_marked` gives
_OF_ANOTHER_KIND = (errno.ELOOP, errno.EISDIR, errno.ENOTDIR, errno.ENXIO)  # a link is a loop
_OPEN = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


class Claims(Protocol):
    """Remembers, beyond the process, which file or folder a run made: by device and inode."""

    def claim(self, made: os.stat_result) -> None:
        """The run made this, or found it empty; on disk by then."""

    def claimed(self, found: os.stat_result) -> bool:
        """Whether it is what the run made."""


@contextmanager
def written_whole(path: Path, confirm: Callable[[], None] = lambda: None) -> Iterator[BinaryIO]:
    """A file that takes the place of `path` when the block ends, on disk by then.

    If the block raises, or the process dies in it, `path` is what it was. What a process that died
    left behind, the next one that writes `path` removes.

    Args:
        path: the file to be.
        confirm: called right before the file takes its place, and may raise.

    Raises:
        ValueError, OSError: see `checked`.
    """
    path = checked(path)
    with naming(path):
        aside, opened = _made(path, _new_file)
        try:
            with os.fdopen(opened, "wb") as file:
                yield file
                _put(file, aside, path, confirm)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise


@contextmanager
def written_in_parts(
    path: Path,
    claims: Claims,
    confirm: Callable[[], None] = lambda: None,
    *,
    go_on: bool,
    keeps: Callable[[], bool],
) -> Iterator[BinaryIO]:
    """The same, but what was written may stay beside `path` where the block raises.

    Args:
        path: the file to be.
        claims: proves that the file beside `path` is the run's own. No other is written to, unless
            it is empty.
        confirm: as for `written_whole`.
        go_on: open what an earlier block left, which must be there (`partial`), at its beginning.
            Whoever writes it proves by what is in it that it is his own: on another machine, or
            after a restart, files may have other numbers.
        keeps: whether it is to stay.

    Raises:
        ValueError, OSError: see `checked`; or another process is writing it; or the file beside
            `path` is not the run's own.
    """
    path = checked(path)
    aside = partial(path)
    opened = _own_file(aside, claims, go_on=go_on)
    with naming(path), open(aside, "r+b", opener=lambda *_: opened) as file:
        try:
            if not go_on:
                file.truncate()
            yield file
            _put(file, aside, path, confirm)
        except BaseException:
            if not keeps():
                aside.unlink(missing_ok=True)
            raise


def partial(path: Path) -> Path:
    """Where a run with a checkpoint keeps what is not whole yet."""
    path = Path(os.path.realpath(path))
    return path.with_name(f".{path.name}.partial")


def new_folder(path: Path) -> tuple[Path, int]:
    """A folder beside `path`, of a name that cannot be told, and its descriptor, locked."""
    return _made(Path(os.path.realpath(path)), _new_folder)


def own_folder(path: Path, claims: Claims, *, go_on: bool) -> int:
    """Makes a folder, or takes the one that the run made before; its descriptor, locked.

    With `go_on`, what is in it is to prove that; see `written_in_parts`.

    Raises:
        ValueError: another process uses it; or it is there, not empty, and not the run's own.
    """
    with suppress(FileExistsError):
        path.mkdir()
    return _own(
        path,
        os.O_RDONLY,
        claims,
        stat.S_ISDIR,
        lambda _: go_on or not os.listdir(path),  # noqa: PTH208
    )


def clear_left(path: Path) -> None:
    """Removes what processes that died left of `path`.

    That is what bears the mark of a file or folder that fastal made on this machine to become
    `path`, and what no process holds.
    """
    path = Path(os.path.realpath(path))
    with suppress(OSError), os.scandir(path.parent) as entries:
        names = [e.name for e in entries if e.name.startswith(_PREFIX) and not e.is_symlink()]
        for name in names:
            token = name.removeprefix(_PREFIX).partition("-")[0]
            if name == _marked(path, token):
                _remove_left(path.with_name(name))


def checked(path: Path) -> Path:
    """What `path` stands for, where a file can be put there.

    Raises:
        ValueError: it exists and is no regular file.
        OSError: the folder is missing or cannot be written to.
    """
    path = Path(os.path.realpath(path))  # what a link stands for; unlike resolve, never raises
    if path.exists() and not path.is_file():
        raise ValueError(f"{path}: not a regular file")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent}: no such folder")
    if not os.access(path.parent, os.W_OK):
        raise PermissionError(f"{path.parent}: cannot be written to")
    return path


def lock(file: int) -> bool:
    """Locks an open file or folder until it is closed; False: another process holds it."""
    return _locked(file) is not False


def to_disk(file: IO[Any]) -> None:
    """Waits until what was written is on disk."""
    file.flush()
    os.fsync(file.fileno())


def to_disk_folder(path: Path) -> None:
    """Waits until the names in a folder are on disk."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _locked(file: int) -> bool | None:
    """The same; None: the file system has no locks."""
    import fcntl  # there is none on Windows

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _marked(path: Path, token: str) -> str:
    """The name that `path` has while it is written: nobody else gives such a name to a file."""
    # Of this machine: others, to which its locks may not be known, leave it alone.
    of = os.fsencode(f"{token} {os.uname().nodename} {path.name}")
    return f"{_PREFIX}{token}-{hashlib.sha256(of).hexdigest()[:16]}{_SUFFIX}"


def _made(path: Path, make: Callable[[Path], int]) -> tuple[Path, int]:
    """A new file or folder that is to become `path`, and its descriptor, locked."""
    clear_left(path)
    while True:
        aside = path.with_name(_marked(path, secrets.token_hex(8)))
        opened = make(aside)
        # Before it was locked, another process may have taken it for what was left.
        if lock(opened) and _is_at(aside, os.fstat(opened)):
            return aside, opened
        os.close(opened)


def _new_file(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _OPEN, 0o666)


def _new_folder(path: Path) -> int:
    path.mkdir()
    return os.open(path, os.O_RDONLY | _OPEN)


def _remove_left(path: Path) -> None:
    with suppress(OSError):
        opened = os.open(path, os.O_RDONLY | _OPEN)
        try:
            if _locked(opened):
                if stat.S_ISDIR(os.fstat(opened).st_mode):
                    shutil.rmtree(path)
                else:
                    path.unlink()
        finally:
            os.close(opened)


def _own_file(path: Path, claims: Claims, *, go_on: bool) -> int:
    flags = os.O_RDWR | os.O_CREAT
    return _own(path, flags, claims, stat.S_ISREG, lambda found: go_on or not found.st_size)


def _own(
    path: Path,
    flags: int,
    claims: Claims,
    is_kind: Callable[[int], bool],
    is_free: Callable[[os.stat_result], bool],
) -> int:
    """Opens and locks what the run made, or what may be taken: nothing in it can be lost."""
    not_ours = f"{path}: is there already, and not made by this run; move it away to start"
    try:
        opened = os.open(path, flags | _OPEN, 0o666)
    except OSError as error:
        if error.errno in _OF_ANOTHER_KIND:
            raise ValueError(not_ours) from error
        raise
    try:
        found = os.fstat(opened)
        # Whoever held it may have given it its name meanwhile.
        if is_kind(found.st_mode) and not (lock(opened) and _is_at(path, found)):
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


def _is_at(path: Path, found: os.stat_result) -> bool:
    try:
        return os.path.samestat(path.stat(follow_symlinks=False), found)
    except FileNotFoundError:
        return False


def _put(file: BinaryIO, aside: Path, path: Path, confirm: Callable[[], None]) -> None:
    """Gives a file that is open under the name `aside` its name, on disk."""
    to_disk(file)
    confirm()
    aside.replace(path)
    to_disk_folder(path.parent)


@contextmanager
def naming(path: Path | str) -> Iterator[None]:
    """Has an OSError of a file that is written name it, where none is named."""
    try:
        yield
    except OSError as error:
        if error.errno and error.filename is None:  # a full disk
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def csv_lines(*columns: NDArray[Any]) -> Iterator[bytes]:
    """Columns of numbers as CSV, some lines at a time; floats read back to the same bits."""
    for first in range(0, len(columns[0]), _CSV_ROWS):
        # NumPy's own text of a float is the shortest that does.
        texts = [column[first : first + _CSV_ROWS].astype(np.str_).tolist() for column in columns]
        yield "".join(",".join(line) + "\n" for line in zip(*texts, strict=True)).encode()


class Beginning:
    """What a file that is written holds so far, known by its checksum; open for reading as well.

    Args:
        file: the file.
        what: it holds, for messages.
        first: the byte that counts first, after a header that changes.
    """

    def __init__(self, file: BinaryIO, what: str, first: int = 0) -> None:
        self._file = file
        self._what = what
        self._first = first
        self._start_over()

    def changes(self, byte: int) -> None:
        """The file changes from a byte on."""
        if byte < self._bytes:
            self._start_over()

    def to_disk(self, n_bytes: int) -> str:
        """Has the file on disk; the checksum of its bytes up to here, where it then stands."""
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
        """ValueError where the checksum of these bytes is another."""
        if self.to_disk(n_bytes) != checksum:
            raise ValueError(
                f"{self._file.name}: not the {self._what} that the checkpoint goes on from; remove "
                "both to start over"
            )

    def _start_over(self) -> None:
        self._sum, self._bytes = hashlib.sha256(), self._first
