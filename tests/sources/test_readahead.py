"""Reading ahead: bytes that are not in memory are read in order, and chunks one ahead."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from itertools import pairwise

import numpy as np
import pytest

from fastal.sources import prefetch, readahead
from fastal.sources.prefetch import prefetched
from fastal.sources.readahead import ReadAhead
from tests.support.checkout import environment


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, np.arange(3_000_000, dtype=np.float32))  # 12 MB
    return path


@pytest.fixture
def reads(monkeypatch):
    """Offset and length of all reads, except the probes of one byte."""
    found, preadv = [], os.preadv

    def counted(fd, buffers, offset, *flags):
        n = preadv(fd, buffers, offset, *flags)
        if not flags:
            found.append((offset, n))
        return n

    monkeypatch.setattr(os, "preadv", counted)
    return found


def fetch(path, *parts):
    array = np.load(path, mmap_mode="r")
    with ReadAhead.for_array(array) as fetch:
        for part in parts:
            fetch(part)


def test_bytes_in_memory_are_not_read(file, reads):
    file.read_bytes()
    fetch(file, slice(0, 3_000_000))
    assert reads == []


@pytest.mark.parametrize("nowait", [None, getattr(os, "RWF_NOWAIT", None)])
def test_bytes_on_disk_are_read_once_and_in_order(file, reads, monkeypatch, nowait):
    monkeypatch.setattr(readahead, "_NOWAIT", nowait)
    monkeypatch.setattr(ReadAhead, "_is_cached", lambda self, byte: False)
    fetch(file, slice(10, 2_500_000), slice(2_500_000, 3_000_000))
    assert reads[0][0] == 128 + 40
    assert all(a + n == b for (a, n), (b, _) in pairwise(reads))
    assert sum(n for _, n in reads) == 12_000_000 - 40
    assert max(n for _, n in reads) <= readahead._BLOCK


def test_everything_is_read_if_the_file_system_cannot_probe(file, reads, monkeypatch):
    preadv = os.preadv

    def refused(fd, buffers, offset, *flags):
        if flags:
            raise OSError(95, "Operation not supported")
        return preadv(fd, buffers, offset)

    monkeypatch.setattr(os, "preadv", refused)
    fetch(file, slice(0, 5))
    assert reads == [(128, 20)]


def test_a_file_that_became_shorter_is_an_error(file):
    array = np.load(file, mmap_mode="r")
    with ReadAhead.for_array(array) as fetch:
        os.truncate(file, 1000)
        with pytest.raises(ValueError, match="cut short"):
            fetch(slice(2_000_000, 3_000_000))


def test_without_preadv_the_file_is_not_read_ahead(file, monkeypatch):
    opened, open_ = [], os.open
    monkeypatch.setattr(
        os, "open", lambda path, *a, **k: opened.append(path) or open_(path, *a, **k)
    )
    fetch(file, slice(0, 3_000_000))
    assert opened == [file] * 2  # with it: to read, and to ask what is in memory
    opened.clear()
    monkeypatch.delattr(os, "preadv")
    fetch(file, slice(0, 3_000_000))
    assert opened == []


def test_a_thread_reads_one_chunk_ahead():
    asked, closed = [], []

    def chunks():
        try:
            for i in range(5):
                asked.append((i, threading.get_ident()))
                yield i
        finally:
            closed.append(True)

    found = []
    for chunk in prefetched(chunks()):
        found.append(chunk)
        for _ in range(1000):
            if len(asked) == min(5, chunk + 2):
                break
            threading.Event().wait(0.005)
        assert len(asked) == min(5, chunk + 2)
    assert found == list(range(5))
    assert threading.get_ident() not in {thread for _, thread in asked}
    assert closed

    ahead = prefetched(chunks())
    next(ahead)
    closed.clear()
    ahead.close()
    assert closed


def test_an_error_ahead_is_raised_when_its_chunk_is_due():
    def chunks():
        yield 1
        raise OSError("the disk")

    ahead = prefetched(chunks())
    assert next(ahead) == 1
    with pytest.raises(OSError, match="the disk"):
        next(ahead)


def test_signals_while_waiting_are_raised():
    """The first interrupts the wait for a chunk, the second the wait for the thread to end."""
    may_continue, closed = threading.Event(), []

    def chunks():
        try:
            may_continue.wait()
            yield "chunk"
        finally:
            closed.append(threading.get_ident())

    def stop(number, frame):
        raise KeyboardInterrupt

    def send():
        for _ in range(2):
            time.sleep(0.1)
            signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)
        time.sleep(0.1)
        may_continue.set()

    before = signal.signal(signal.SIGUSR1, stop)
    sender = threading.Thread(target=send)
    sender.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            next(prefetched(chunks()))
        sender.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
    while not closed:
        time.sleep(0.01)
    assert closed != [threading.get_ident()]


@pytest.mark.full
def test_a_signal_at_any_moment_ends_the_reader():
    """Only the error of the signal is raised, and every thread ends."""
    begun, closed = [], []

    def chunks():
        begun.append(1)
        try:
            yield from range(3)
        finally:
            closed.append(1)

    def stop(number, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, stop)
    try:
        for trial in range(1000):
            with suppress(KeyboardInterrupt):
                try:
                    signal.setitimer(signal.ITIMER_REAL, 1e-5 + trial * 1e-6)
                    for _ in range(20):
                        assert list(prefetched(chunks())) == [0, 1, 2]
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.signal(signal.SIGALRM, before)
    for _ in range(500):
        if len(begun) == len(closed):
            break
        time.sleep(0.01)
    assert len(begun) == len(closed)


def test_chunks_are_read_without_a_thread_if_none_is_left(monkeypatch):
    def refused(function, arguments):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(prefetch, "start_new_thread", refused)
    closed = []

    def chunks():
        try:
            yield 1
            yield 2
        finally:
            closed.append(1)

    assert list(prefetched(chunks())) == [1, 2]
    ahead = prefetched(chunks())
    assert next(ahead) == 1
    ahead.close()
    assert len(closed) == 2


@pytest.mark.full
def test_a_process_can_end_while_chunks_are_read(file):
    """The interpreter ends the thread first. A forked process has no such thread."""
    code = f"""
import os
import numpy as np
from fastal.sources import open_pool
np.save({str(file) + ".npy"!r}, np.zeros((100, 4), np.float32))
chunks = open_pool({str(file) + ".npy"!r}).chunks(10)
next(chunks)
if pid := os.fork():
    os.waitpid(pid, 0)
else:
    del chunks
    print("forked", flush=True)
    os._exit(0)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60,
        env=environment(),
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "forked\n"), done.stderr
