"""Threads that work on blocks of rows, each with torch's ops in that thread alone.

torch divides every op among threads that wait for one another by spinning. If other processes use
the cores, one thread that does not run holds up all others at every op. The threads here wait for
one another once, at the end, without spinning.
"""

import functools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Condition, Lock, Thread
from typing import TypeVar

import torch
from torch import Tensor

Work = Callable[[Iterator[slice]], None]
Result = TypeVar("Result")

_WAIT_SECONDS = 0.1
# For each process, a lock that is held while a thread sets the number of threads of torch. A forked
# process cannot use its parent's lock, which a thread that it lacks may hold.
_SETTING: dict[int, Lock] = {}


def threads_for(x: Tensor) -> int:
    """How many threads may work on rows x: as many as torch uses on a CPU, 1 on a GPU."""
    return torch.get_num_threads() if x.device.type == "cpu" else 1


def in_row_threads(work: Work, x: Tensor, most_rows: int, most_threads: int | None = None) -> None:
    """Calls `work` in threads until all rows are finished.

    In these threads, torch computes each op in one thread. The calling thread only waits, also for
    a single block: torch would divide its ops. The caller's number of threads does not change. If
    the caller has torch use one thread, and for rows on a GPU, the calling thread does the work.

    Args:
        work: finishes the blocks of rows that it takes from an iterator. Each thread calls it once.
            Its results must not depend on which thread takes which block.
        x: the rows.
        most_rows: the most rows of a block.
        most_threads: the most threads to use; None: `threads_for` the rows.

    Raises:
        BaseException: what `work` raised, or the handler of a signal. No thread is at work by then.
    """
    n_rows, n_threads = len(x), threads_for(x)
    if n_threads == 1:
        work(slice(start, min(start + most_rows, n_rows)) for start in range(0, n_rows, most_rows))
        return
    n_threads = max(1, min(n_threads, most_threads or n_threads, -(-n_rows // most_rows)))
    n_blocks = -(-n_rows // (most_rows * n_threads)) * n_threads  # as many for each thread
    job = _Job(work, n_rows, -(-n_rows // max(1, n_blocks)))
    try:
        if not _start(job.share, n_threads):
            job.share()
        job.wait()
    finally:
        job.stop()


def in_one_thread(work: Callable[[], Result]) -> Result:
    """The result of `work` in a thread in which torch computes each op in that thread alone.

    For many small steps on a CPU. It raises what `in_row_threads` raises.
    """
    found: list[Result] = []

    def work_once(blocks: Iterator[slice]) -> None:
        found.extend(work() for _ in blocks)

    in_row_threads(work_once, torch.empty(1, 0, dtype=torch.float32, device="cpu"), 1, 1)
    return found[0]


class _Job:
    """Blocks of rows, and the threads that work on them."""

    def __init__(self, work: Work, n_rows: int, block_rows: int) -> None:
        self._work, self._n_rows, self._block_rows = work, n_rows, block_rows
        self._next_row = 0
        self._n_working = 0
        self._error: BaseException | None = None
        self._changed = Condition()
        self._modes = torch.is_inference_mode_enabled(), torch.is_grad_enabled()

    def share(self) -> None:
        """Works on blocks until none is left."""
        with self._changed:
            if self._next_row >= self._n_rows:
                return
            self._n_working += 1
        inference, grad = self._modes  # each thread has modes of its own
        try:
            with torch.inference_mode(inference), torch.set_grad_enabled(grad):
                self._work(self._claimed())
        except BaseException as error:  # `wait` raises it
            self._error = error
        finally:
            with self._changed:
                if self._error is not None:
                    self._next_row = self._n_rows
                self._n_working -= 1
                self._changed.notify_all()

    def _claimed(self) -> Iterator[slice]:
        while True:
            with self._changed:
                start = self._next_row
                self._next_row += self._block_rows
            if start >= self._n_rows:
                return
            yield slice(start, min(start + self._block_rows, self._n_rows))

    def wait(self) -> None:
        """Waits until all rows are finished, or raises the error of a thread."""
        with self._changed:
            # A signal that comes just before a wait begins does not end it.
            while not self._changed.wait_for(self._is_finished, _WAIT_SECONDS):
                pass
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _is_finished(self) -> bool:
        return self._next_row >= self._n_rows and not self._n_working

    def stop(self) -> None:
        """Has all threads take no more blocks, and waits until they have finished theirs."""
        with self._changed:
            self._next_row = self._n_rows
            self._changed.wait_for(lambda: not self._n_working)


def _start(share: Callable[[], None], n_threads: int) -> int:
    """Calls `share` in so many threads, or in fewer if there are no more; returns in how many."""
    n_started = 0
    try:
        while n_started < n_threads:
            _pool(torch.get_num_threads(), os.getpid()).submit(share)
            n_started += 1
    except RuntimeError:
        pass  # the interpreter is ending, or the system has no more threads
    return n_started


@functools.lru_cache(maxsize=1)
def _pool(n_threads: int, _pid: int) -> ThreadPoolExecutor:
    """Threads that wait for work. A forked process inherits none, and gets its own."""
    return ThreadPoolExecutor(n_threads, "fastal-rows", initializer=_use_one_thread)


def _use_one_thread() -> None:
    """Has torch compute each op that this thread calls in this thread alone.

    `torch.set_num_threads` also sets the number for threads that begin later. So a thread that has
    the number of before sets it again.
    """
    with _SETTING.setdefault(os.getpid(), Lock()):
        n_threads = torch.get_num_threads()
        torch.set_num_threads(1)
        restoring = Thread(target=torch.set_num_threads, args=(n_threads,))
        try:
            restoring.start()
            restoring.join()
        except RuntimeError:  # there are no more threads, so this one cannot have its own number
            torch.set_num_threads(n_threads)
