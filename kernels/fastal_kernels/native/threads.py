"""Threads that work on the rows of one matrix, without the interpreter's lock."""

import functools
import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait

import torch
from torch import Tensor


def in_threads(work: Callable[[], object], n_threads: int, progress: Tensor, n_rows: int) -> None:
    """Calls `work` in n_threads threads until all rows are finished.

    Args:
        work: claims rows and finishes them, for as long as Python need not check for signals.
            Returns False if there were no rows. It keeps the memory alive that it uses.
        n_threads: the number of threads, including the calling one.
        progress: int64, `struct progress` of job.h.
        n_rows: the number of rows.
    """

    def share() -> None:
        _ = progress
        while work():
            pass  # between calls, Python checks for signals

    helpers: list[Future[None]] = []
    try:
        _start(share, n_threads - 1, helpers)
        share()
    except BaseException:
        progress[0] = n_rows  # no thread finds more rows to claim
        raise
    finally:
        wait([helper for helper in helpers if not helper.cancel()])
    for helper in helpers:
        if not helper.cancelled():
            helper.result()
    while progress[1] < n_rows:  # a helper whose start seemed to fail may be at work
        time.sleep(1e-4)


def _start(share: Callable[[], None], n_helpers: int, helpers: list[Future[None]]) -> None:
    """Calls `share` in n_helpers other threads, or in fewer if there are no more.

    Appends their futures to helpers.
    """
    try:
        while len(helpers) < n_helpers:
            helpers.append(_pool(torch.get_num_threads() - 1, os.getpid()).submit(share))
    except RuntimeError:
        pass  # the interpreter is ending, or the system has no more threads


@functools.lru_cache(maxsize=1)
def _pool(n_threads: int, _pid: int) -> ThreadPoolExecutor:
    """Threads that wait for work. A forked process inherits none, and gets its own."""
    return ThreadPoolExecutor(n_threads, thread_name_prefix="fastal")
