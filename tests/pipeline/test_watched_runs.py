"""Runs that a command watches: counted, and stopped by a signal."""

import os
import signal

import numpy as np
import pytest

import fastal
from fastal.base.errors import Interrupted
from fastal.pipeline.progress import Meter, Reporter
from fastal.pipeline.watched_runs import watched_runs, watching

X = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)


def test_runs_in_the_block_are_counted_and_others_are_not(capsys):
    wanted = fastal.select(X, 3)
    with watching(Reporter()) as runs:
        assert watched_runs() is runs
        found = [fastal.select(X, 3), fastal.select(X[:20], 3)]
    fastal.select(X, 3)
    assert watched_runs() is None
    assert found[0].rows.tolist() == wanted.rows.tolist()
    assert [meter.rows for meter in runs.meters] == [50, 20]
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_the_block_may_end_in_an_error():
    with pytest.raises(ValueError, match="k: "), watching(Reporter()):
        fastal.select(X, 0)
    assert watched_runs() is None


def test_a_signal_in_the_last_chunk_is_not_lost(monkeypatch):
    count = Meter.count

    def signalled(*args):
        count(*args)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Meter, "count", signalled)
    with pytest.raises(Interrupted), watching(Reporter(quiet=True)):
        fastal.select(X, 3)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_signal_after_the_last_chunk_is_not_lost(monkeypatch):
    monkeypatch.setattr(Meter, "stop", lambda _: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(Interrupted), watching(Reporter(quiet=True)):
        fastal.select(X, 3)
