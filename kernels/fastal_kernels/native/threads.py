"""Threads that work on the rows of one matrix, without the interpreter's lock."""

import functools
import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait

import torch
from torch import Tensor


def in_threads(work: Callable[[], object], n_threads: int, progress: Tensor, n_rows: int) -> None:
    """Calls `work` in so many threads until all rows are done with.

    Args:
        work: takes rows and is done with them for as long as Python need not look for signals;
            False if there were none. Whatever its memory is part of, it keeps alive.
        n_threads: this one is among them.
        progress: [4] int64, as in job.h.
        n_rows: how many rows there are.
    """

    def share() -> None:
        _ = progress
        while work():
            pass  # and Python looks for signals

    helpers: list[Future[None]] = []
    try:
        _start(share, n_threads - 1, helpers)
        share()
    except BaseException:
        progress[0] = n_rows  # nobody finds any more to do
        raise
    finally:
        wait([helper for helper in helpers if not helper.cancel()])
    for helper in helpers:
        if not helper.cancelled():
            helper.result()
    while progress[1] < n_rows:  # by a helper that was refused and came all the same
        time.sleep(1e-4)


def _start(share: Callable[[], None], n_helpers: int, helpers: list[Future[None]]) -> None:
    """Calls `share` in so many other threads, or in as many as can be had; adds them to helpers."""
    try:
        while len(helpers) < n_helpers:
            helpers.append(_pool(torch.get_num_threads() - 1, os.getpid()).submit(share))
    except RuntimeError:
        pass  # the interpreter is ending, or the system has no more threads


@functools.lru_cache(maxsize=1)
def _pool(n_threads: int, _pid: int) -> ThreadPoolExecutor:
    """Threads that wait for work; a forked process, which inherits none, gets its own."""
    return ThreadPoolExecutor(n_threads, thread_name_prefix="fastal")
