"""Signals that ask a run to end, at any moment."""

import ast
import os
import signal
import subprocess
import sys
import time
import weakref

import pytest

from fastal.base.errors import Interrupted
from fastal.pipeline.interrupts import interruptible, raising
from tests.support.checkout import environment


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


# Runs a command that gets so many signals. Forks for each line of the modules that handle signals,
# and sends one more before this line. Prints how each process ended, and what it said. An exception
# that a trace function raises may count as being handled for ever, so each gets a process.
SIGNAL_BEFORE_EACH_LINE = """
import itertools, os, signal, sys
import click
from fastal.cli import options
from fastal.pipeline import interrupts

@click.command()
@options.reports_bad_input
def command():
    with interrupts.interruptible() as check:
        for _ in range(int(sys.argv[1])):
            os.kill(os.getpid(), signal.SIGINT)
        check()

def run(moment):
    passed = 0
    def trace(frame, event, _):
        nonlocal passed
        if frame.f_code.co_filename not in (interrupts.__file__, options.__file__):
            return None
        passed += event == "line"
        if passed == moment:
            sys.settrace(None)
            os.kill(os.getpid(), signal.SIGINT)
        return trace
    sys.settrace(trace)
    try:
        command(args=[])
    except SystemExit as end:
        is_last = passed < moment
        sys.settrace(None)
        sys.stderr.flush()
        os._exit(end.code + 2 * is_last)

for moment in itertools.count(1):
    receiver, sender = os.pipe()
    process = os.fork()
    if process == 0:
        os.dup2(sender, 2)
        run(moment)
    os.close(sender)
    said = open(receiver).read()
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    if status in (2, 132):
        break
    print((status, said))
"""


@pytest.mark.parametrize("signals", [0, 1, 2])
def test_a_command_ends_with_one_line_whenever_a_signal_comes(signals):
    command = [sys.executable, "-c", SIGNAL_BEFORE_EACH_LINE, str(signals)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=True)
    assert not done.stderr
    found = [ast.literal_eval(line) for line in done.stdout.splitlines()]
    assert len(found) > 25
    # Before a command begins and after it has ended, click handles the signal.
    interrupted, aborted = (130, "interrupted by signal 2\n"), (1, "\nAborted!\n")
    assert {*found} <= {interrupted, aborted, *([] if signals else [(0, "")])}
    assert interrupted in found
