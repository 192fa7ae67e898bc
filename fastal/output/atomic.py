"""Output files and folders that appear whole or not at all.

A file is written under another name, `.fastal-TOKEN-HASH.tmp` in the same folder, and locked. When
it is complete and on disk, it is renamed. If its process is killed, the file stays behind. Then the
name identifies it, and the lock, which ends with the process, is free.
"""

import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, BinaryIO

_PREFIX, _SUFFIX = ".fastal-", ".tmp"  # of the names that `_temporary_name` makes
# How files and folders are opened: links are not followed, and a pipe does not block.
OPEN_FLAGS = (
    getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
)


@contextmanager
def written_whole(path: Path, recheck: Callable[[], None] = lambda: None) -> Iterator[BinaryIO]:
    """A new file that replaces `path` when the block ends, and is on disk by then.

    If the block raises, or the process dies in it, `path` is unchanged. Files that killed processes
    left for the same `path` are removed.

    Args:
        path: the file to write. If it is a link, the file it leads to is replaced.
        recheck: called after the file is complete and before it replaces `path`. If it raises,
            `path` is unchanged.

    Yields:
        The file, open for writing and reading.

    Raises:
        ValueError, OSError: `path` cannot be written; see `writable_path`.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.txt"
        >>> with written_whole(path) as file:
        ...     _ = file.write(b"text")
        ...     path.exists()
        False
        >>> path.read_bytes()
        b'text'
    """
    path = writable_path(path)
    with naming_path_in_errors(path):
        names: list[Path] = []
        try:
            temporary, opened = _made(path, _new_file, names)
            with os.fdopen(opened, "wb") as file:
                yield file
                publish(file, temporary, path, recheck)
        except BaseException:
            for temporary in names:
                temporary.unlink(missing_ok=True)
            raise


def new_folder(path: Path) -> tuple[Path, int]:
    """Makes a folder that is to become `path`, under a name that nobody can guess.

    Returns:
        The folder, and its file descriptor, which holds its lock.
    """
    return _made(Path(os.path.realpath(path)), _new_folder, [])


def clear_left(path: Path) -> None:
    """Removes what killed processes left of `path`.

    These are the files and folders that fastal made on this machine to become `path`, and that no
    process has locked.
    """
    path = Path(os.path.realpath(path))
    with suppress(OSError), os.scandir(path.parent) as entries:
        names = [e.name for e in entries if e.name.startswith(_PREFIX) and not e.is_symlink()]
        for name in names:
            token = name.removeprefix(_PREFIX).partition("-")[0]
            if name == _temporary_name(path, token):
                _remove_left(path.with_name(name))


def writable_path(path: Path) -> Path:
    """The path with all links resolved, after checking that a file can be written there.

    Raises:
        ValueError: it exists and is not a regular file.
        OSError: its folder is missing or cannot be written to.
    """
    path = Path(os.path.realpath(path))  # unlike Path.resolve, it never raises
    if path.exists() and not path.is_file():
        raise ValueError(f"{path}: not a regular file")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent}: no such folder")
    if not os.access(path.parent, os.W_OK):
        raise PermissionError(f"{path.parent}: cannot be written to")
    return path


def lock(file: int) -> bool:
    """Locks an open file or folder until it is closed; False if another process has locked it.

    True also if the file system has no locks.
    """
    return _locked(file) is not False


def is_at(path: Path, found: os.stat_result) -> bool:
    """Whether `path` still names the file or folder with this status."""
    try:
        return os.path.samestat(path.stat(follow_symlinks=False), found)
    except FileNotFoundError:
        return False


def publish(file: BinaryIO, temporary: Path, path: Path, recheck: Callable[[], None]) -> None:
    """Renames an open file from `temporary` to `path`, with content and name on disk."""
    to_disk(file)
    recheck()
    temporary.replace(path)
    to_disk_folder(path.parent)


def to_disk(file: IO[Any]) -> None:
    """Waits until all that was written to a file is on disk."""
    file.flush()
    os.fsync(file.fileno())


def to_disk_folder(path: Path) -> None:
    """Waits until the names in a folder are on disk."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def naming_path_in_errors(path: Path | str) -> Iterator[None]:
    """An OSError raised in the block, such as that of a full disk, names the path it was writing.

    An error that names a file already is unchanged.
    """
    try:
        yield
    except OSError as error:
        if error.errno and error.filename is None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def _locked(file: int) -> bool | None:
    """As `lock`, but None if the file system has no locks."""
    import fcntl  # Windows has no such module

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _temporary_name(path: Path, token: str) -> str:
    """The name of `path` while it is written: no other program gives such a name to a file."""
    # The machine is part of the name. Another machine may not see this one's locks, so it must not
    # take the file for one that was left.
    of = os.fsencode(f"{token} {os.uname().nodename} {path.name}")
    return f"{_PREFIX}{token}-{hashlib.sha256(of).hexdigest()[:16]}{_SUFFIX}"


def _made(path: Path, make: Callable[[Path], int], names: list[Path]) -> tuple[Path, int]:
    """A new file or folder that is to become `path`, and its file descriptor, locked.

    Its name is added to `names` before it is made: a signal may interrupt at any moment.
    """
    clear_left(path)
    while True:
        temporary = path.with_name(_temporary_name(path, secrets.token_hex(8)))
        names.append(temporary)
        opened = make(temporary)
        # Another process may have removed it as left behind, in the moment before it was locked.
        if lock(opened) and is_at(temporary, os.fstat(opened)):
            return temporary, opened
        os.close(opened)


def _new_file(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | OPEN_FLAGS, 0o666)


def _new_folder(path: Path) -> int:
    path.mkdir()
    return os.open(path, os.O_RDONLY | OPEN_FLAGS)


def _remove_left(path: Path) -> None:
    """Removes a file or folder, unless a process has locked it or locks cannot say."""
    with suppress(OSError):
        opened = os.open(path, os.O_RDONLY | OPEN_FLAGS)
        try:
            if _locked(opened):
                if stat.S_ISDIR(os.fstat(opened).st_mode):
                    shutil.rmtree(path)
                else:
                    path.unlink()
        finally:
            os.close(opened)
