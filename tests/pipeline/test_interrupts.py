"""Signals that ask a run to end, at any moment."""

import os
import signal
import time
import weakref

import pytest

from fastal.base.errors import Interrupted
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
