"""Signals that come while Ray starts, without Ray."""

import signal

import pytest

from fastal.base.errors import Interrupted
from fastal.distributed.ray_connection import _own_signals


class Exiting:
    """Something whose end Python calls, as it calls what is registered for a fork."""

    def __del__(self):
        raise SystemExit(15)


def start():
    """Sets a handler, as Ray does, and swallows an exit."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Exiting()


@pytest.mark.parametrize(
    ("handler", "ends"), [(lambda *_: None, Interrupted), (signal.SIG_DFL, SystemExit)]
)
def test_an_exit_that_python_swallowed_ends_the_run(handler, ends):
    before = signal.signal(signal.SIGTERM, handler)
    try:
        with pytest.raises(ends) as found, _own_signals():
            start()
        assert signal.getsignal(signal.SIGTERM) == handler
    finally:
        signal.signal(signal.SIGTERM, before)
    assert getattr(found.value, "code", 15) == 15
