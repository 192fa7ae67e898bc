"""Threads that work on blocks of rows: each row once, torch's settings, errors and interrupts."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastal_kernels import row_threads
from fastal_kernels.row_threads import in_one_thread, in_row_threads, threads_for
from tests.support.checkout import environment


@pytest.fixture(autouse=True)
def two_threads(threads):
    threads(2)


def rows(n_rows):
    return torch.empty(n_rows, 0)


def seen(n_rows, most_rows, n_threads=None):
    """The blocks that the threads took, in order of their rows."""
    blocks = []
    in_row_threads(blocks.extend, rows(n_rows), most_rows, n_threads)
    return sorted(blocks, key=lambda block: block.start)


@settings(deadline=None, max_examples=60)
@given(
    n_rows=st.integers(0, 300),
    most_rows=st.integers(1, 320),
    n_threads=st.sampled_from([None, 1, 2]),
)
def test_each_row_is_in_one_block(n_rows, most_rows, n_threads):
    blocks = seen(n_rows, most_rows, n_threads)
    assert [row for block in blocks for row in range(block.start, block.stop)] == [*range(n_rows)]
    assert all(0 < block.stop - block.start <= most_rows for block in blocks)


def test_blocks_are_divided_evenly():
    assert [block.stop - block.start for block in seen(1000, 400)] == [250] * 4


def fresh(function):
    """What a function returns in a thread that has begun for it."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


def test_torch_uses_one_thread_there_and_as_many_as_before_elsewhere(threads):
    threads(3)
    inside = []
    met = threading.Barrier(3)

    def work(claimed):
        met.wait(timeout=30)  # three threads are at work at once
        inside.extend((torch.get_num_threads(), threading.get_ident()) for _ in claimed)

    in_row_threads(work, rows(300), 1)
    assert {n for n, _ in inside} == {1}
    assert threading.get_ident() not in {ident for _, ident in inside}
    assert torch.get_num_threads() == fresh(torch.get_num_threads) == 3


def test_a_number_of_threads_that_torch_has_not_read_yet_stays(threads):
    """torch reads the number that was set for all threads when a thread first needs it."""
    code = """
import torch
from fastal_kernels.row_threads import in_row_threads
torch.set_num_threads(3)
in_row_threads(list, torch.empty(8, 0), 1)
print(torch.get_num_threads())
"""
    python = [sys.executable, "-c", code]
    done = subprocess.run(python, capture_output=True, timeout=60, env=environment())
    assert done.stdout == b"3\n", done.stderr


def test_the_number_of_threads_stays_if_no_thread_can_set_it_again(threads, monkeypatch):
    class Ended:
        def __init__(self, target, args):
            pass

        def start(self):
            raise RuntimeError("can't start new thread")

    threads(3)
    monkeypatch.setattr(row_threads, "Thread", Ended)
    fresh(row_threads._use_one_thread)
    assert torch.get_num_threads() == fresh(torch.get_num_threads) == 3


def test_as_many_threads_as_torch_uses_and_none_for_a_gpu(threads):
    threads(3)
    assert threads_for(torch.empty(1)) == 3
    assert threads_for(torch.empty(1, device="meta")) == 1


def test_threads_within_a_thread_are_not_started(threads):
    threads(2)
    inside = []

    def work(claimed):
        for _ in claimed:
            in_row_threads(lambda blocks: inside.extend(map(str, blocks)), rows(4), 1)

    in_row_threads(work, rows(2), 1)
    assert len(inside) == 8


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_the_modes_of_the_caller_hold_in_the_threads(mode):
    """A tensor that was made in inference mode cannot be changed outside it."""
    with mode():
        out, modes = torch.zeros(4), []
        want = torch.is_inference_mode_enabled(), torch.is_grad_enabled()

        def work(claimed):
            for block in claimed:
                out[block] += 1
                modes.append((torch.is_inference_mode_enabled(), torch.is_grad_enabled()))

        in_row_threads(work, rows(4), 1)
    assert out.tolist() == [1] * 4
    assert set(modes) == {want}


def test_an_error_in_a_thread_is_raised_when_no_thread_is_at_work():
    at_work, blocks = [], []

    def work(claimed):
        for block in claimed:
            at_work.append(block)
            blocks.append(block)
            time.sleep(0.01)
            at_work.remove(block)
            if block.start == 1:
                raise ZeroDivisionError("of a row")

    with pytest.raises(ZeroDivisionError, match="of a row"):
        in_row_threads(work, rows(1000), 1)
    assert not at_work
    assert len(blocks) < 20
    assert seen(3, 1)  # the threads take other work


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_an_interrupt_is_raised_when_no_thread_is_at_work():
    at_work, blocks = [], []
    main = threading.main_thread().ident

    def work(claimed):
        for block in claimed:
            at_work.append(block)
            blocks.append(block)
            if block.start == 1:
                signal.pthread_kill(main, signal.SIGINT)
            time.sleep(0.01)
            at_work.remove(block)

    with pytest.raises(KeyboardInterrupt):
        in_row_threads(work, rows(1000), 1)
    assert not at_work
    assert len(blocks) < 200


def test_one_block_is_worked_on_in_a_thread_too_unless_torch_uses_one(threads):
    """In the calling thread, torch would divide the ops of the block among threads that spin."""
    for n_threads in (2, 1):
        threads(n_threads)
        inside = []

        def work(claimed, inside=inside):
            inside.extend((block, threading.get_ident()) for block in claimed)

        in_row_threads(work, rows(5), 9)
        ((block, ident),) = inside
        assert block == slice(0, 5)
        assert (ident == threading.get_ident()) == (n_threads == 1)


def test_without_threads_the_caller_works_alone(monkeypatch):
    """There are none at the end of the interpreter, or if the system has no more threads."""

    class Ended:
        def submit(self, share):
            raise RuntimeError("cannot schedule new futures after interpreter shutdown")

    monkeypatch.setattr(row_threads, "_pool", lambda n_threads, pid: Ended())
    assert len(seen(5, 1)) == 5


def test_a_thread_whose_start_seemed_to_fail_is_waited_for(monkeypatch):
    started, blocks = threading.Event(), []

    class Failing:
        def submit(self, share):
            threading.Thread(target=share).start()
            started.wait(timeout=30)
            raise RuntimeError("can't start new thread")

    def work(claimed):
        is_late = threading.current_thread() is not threading.main_thread()
        for block in claimed:
            started.set()
            time.sleep(0.1 * is_late)
            blocks.append(block.start)

    monkeypatch.setattr(row_threads, "_pool", lambda n_threads, pid: Failing())
    in_row_threads(work, rows(8), 1)
    assert sorted(blocks) == [*range(8)]


def test_a_thread_that_starts_late_finds_no_rows():
    late = []
    job = row_threads._Job(late.append, 4, 2)
    job.stop()
    job.share()
    assert not late


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.full
def test_a_forked_process_has_threads_of_its_own():
    code = """
import os, torch
from fastal_kernels.row_threads import in_row_threads
torch.set_num_threads(2)
def blocks():
    found = []
    in_row_threads(found.extend, torch.empty(10, 0), 1)
    return len(found)
blocks()
child = os.fork()
if child == 0:
    os._exit(blocks())
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    python = [sys.executable, "-c", code]
    done = subprocess.run(python, capture_output=True, timeout=60, env=environment())
    assert done.stdout == b"10\n", done.stderr


def test_one_thread_returns_what_the_work_returns_or_raises_its_error(threads):
    threads(3)
    assert in_one_thread(torch.get_num_threads) == 1
    assert in_one_thread(threading.get_ident) != threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        in_one_thread(lambda: 1 / 0)
    assert torch.get_num_threads() == 3
