"""Signals that ask a run to end, at any moment."""

import itertools
import os
import signal
import sys
import time
import weakref

import click
import pytest
from click.testing import CliRunner

from fastal.base.errors import Interrupted
from fastal.cli import options
from fastal.cli.options import reports_bad_input
from fastal.pipeline import interrupts
from fastal.pipeline.interrupts import interruptible, raising


class Held:
    pass


@pytest.mark.parametrize("context", [raising, interruptible])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_within_a_callback_whose_errors_python_swallows(context, number, capfd):
    held = Held()
    times = 1 if context is raising else 2  # a first signal is only noted
    callback = weakref.ref(held, lambda _: [os.kill(os.getpid(), number) for _ in range(times)])
    with context(), pytest.raises(Interrupted) as caught:  # noqa: PT012
        del held
        time.sleep(5)
    assert callback() is None
    assert caught.value.signal == number
    assert capfd.readouterr().err == ""


def test_a_signal_while_an_interrupted_run_cleans_up_is_ignored():
    cleaned = False
    with raising(), pytest.raises(Interrupted):  # noqa: PT012
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
        finally:
            try:
                raise OSError
            except OSError:
                os.kill(os.getpid(), signal.SIGINT)
                cleaned = True
    assert cleaned


def signal_at(moment):
    """Sends SIGINT before an instruction of the modules that handle signals, the moment-th."""
    files, passed = {interrupts.__file__, options.__file__}, 0

    def trace(frame, event, _):
        nonlocal passed
        if frame.f_code.co_filename not in files:
            return None
        frame.f_trace_opcodes = True
        passed += event == "opcode"
        if passed == moment:
            sys.settrace(None)
            os.kill(os.getpid(), signal.SIGINT)
        return trace

    return trace


@pytest.mark.parametrize("signals", [0, 1, 2])
def test_a_command_ends_with_one_line_whenever_a_signal_comes(signals):
    @click.command()
    @reports_bad_input
    def command():
        with interruptible() as check:
            for _ in range(signals):
                os.kill(os.getpid(), signal.SIGINT)
            check()

    found = set()
    for moment in itertools.count(1):
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        sys.settrace(signal_at(moment))
        try:
            done = CliRunner().invoke(command)
            all_passed = sys.gettrace() is not None
        finally:
            sys.settrace(None)
            for number, handler in before.items():
                signal.signal(number, handler)
        if all_passed:
            break
        found.add((done.exit_code, done.stderr))
    assert moment > 100
    # Before a command begins and after it has ended, click handles the signal.
    allowed = {(130, "interrupted by signal 2\n"), (1, "\nAborted!\n")}
    assert found <= (allowed if signals else {*allowed, (0, "")})
    assert (130, "interrupted by signal 2\n") in found
