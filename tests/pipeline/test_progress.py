"""Progress of strategies that Python calls: what stderr shows, and that nothing else changes."""

import inspect
import io
import itertools
import re
import signal
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import fastal
from fastal import diversity
from fastal.pipeline import progress as reporting

RNG = np.random.default_rng(0)
X = RNG.standard_normal((4000, 6)).astype(np.float32)
CENTROIDS = X[:3]
CHUNK = 32 * 400  # bytes: 400 rows

STRATEGIES = {
    "select": lambda **how: fastal.select(X, 9, **how),
    "quotas": lambda **how: fastal.select(X, 9, groups="predicted", per_group=3, **how),
    "random": lambda **how: fastal.select(X, 9, "random", **how),
    "k_center": lambda **how: diversity.k_center(X, 4, **how),
    "badge": lambda **how: diversity.badge(X, X, 4, **how),
    "typiclust": lambda **how: diversity.typiclust(X, 4, **how),
    "representative": lambda **how: diversity.representative(X, X[:5], 4, **how),
    "adaptive": lambda **how: diversity.adaptive_representative(X, X[:5], 4, **how),
    "model_outliers": lambda **how: diversity.model_outliers(X, X[:50], 4, **how),
    "cluster_outliers": lambda **how: diversity.cluster_outliers(X, CENTROIDS, 4, **how),
    "deduplicate": lambda **how: diversity.deduplicate(X, CENTROIDS, 0.999, **how),
    "fit": lambda **how: diversity.CosineClusters(3).fit(X, **how).centroids,
    "assign": lambda **how: diversity.CosineClusters(centroids=CENTROIDS).assign(X, **how),
    "sample": lambda **how: diversity.CosineClusters(centroids=CENTROIDS).sample(X, **how),
}


class Stream(io.StringIO):
    """A stderr that remembers what it was given."""

    def __init__(self, is_terminal):
        super().__init__()
        self._is_terminal = is_terminal

    def isatty(self):
        return self._is_terminal


@pytest.fixture
def stderr(monkeypatch):
    def set_to(where):
        stream = Stream(where == "terminal")
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setattr(reporting, "_SECONDS_A_BAR", 0.0)
        for name, value in (("TERM", "xterm"), ("COLUMNS", "150")):
            monkeypatch.setenv(name, value)
        for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
            monkeypatch.delenv(name, raising=False)
        kernel = SimpleNamespace(kernel=object() if where == "notebook" else None)
        ipython = SimpleNamespace(get_ipython=lambda: kernel)
        monkeypatch.setitem(sys.modules, "IPython", ipython)
        return stream

    return set_to


def plain(result):
    """What can be compared of a result."""
    parts = result if isinstance(result, tuple) else (result,)
    return repr([plain(p) if isinstance(p, tuple) else np.asarray(p).tolist() for p in parts])


@pytest.mark.parametrize("where", ["terminal", "notebook", "file"])
@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_shows_progress_if_asked(stderr, capsys, name, where):
    stream = stderr(where)
    want = STRATEGIES[name](chunk_bytes=CHUNK)
    assert stream.getvalue() == ""
    got = STRATEGIES[name](chunk_bytes=CHUNK, progress=True)
    assert plain(got) == plain(want)
    shown = stream.getvalue()
    last = shown.replace("\r", "\n").splitlines()[-1]
    assert re.search(r"4,000 rows, .* GB in .* s: .* rows/s, .* GB/s", last)
    assert ("━" in shown) == (where != "file")
    if where != "file":
        assert re.search(r"100% .* rows/s, 0:00 left", shown)
    assert capsys.readouterr().out == ""


def test_all_that_read_a_pool_can_show_progress():
    functions = [getattr(module, name) for module in (fastal, diversity) for name in module.__all__]
    functions += [getattr(diversity.CosineClusters, name) for name in ("fit", "assign", "sample")]
    found = 0
    for function in functions:
        parameters = inspect.signature(function).parameters if callable(function) else {}
        if "chunk_bytes" in parameters and function is not fastal.read_shard:  # a task of a cluster
            assert parameters["progress"].default is False, function
            found += 1
    assert found == 13


def test_the_bar_has_the_time_left_and_the_kth_score(stderr):
    stream = stderr("notebook")
    picks = fastal.select(X, 9, chunk_bytes=CHUNK, progress=True)
    lines = stream.getvalue().split("\r")
    shares = [re.match(r"(━*)╌* +(\d+)% .*\d+ rows/s, \d+:\d\d left, k-th score", x) for x in lines]
    shares = [(len(found[1]), int(found[2])) for found in shares if found]
    assert shares == [(round(i / 10 * 20), round(i / 10 * 100)) for i in range(1, 11)]
    assert f"k-th score {picks.scores[-1]:.4f}" in lines[-3]
    assert lines[-2].strip() == ""  # the bar is gone
    assert lines[-1].endswith(f"k-th score {picks.scores[-1]:.4g}\n")
    of_bar = lines[1:-1]
    for before, line in itertools.pairwise(of_bar):
        assert len(line) >= len(before.rstrip())  # a shorter line covers the one before


@pytest.mark.parametrize("where", ["terminal", "notebook"])
def test_a_key_is_not_called_a_score(stderr, where):
    stream = stderr(where)
    fastal.select(X, 9, noise="power", chunk_bytes=CHUNK, progress=True)
    assert "k-th key" in stream.getvalue()
    assert "k-th score" not in stream.getvalue()


def test_passes_that_are_known_late_are_counted(stderr):
    stream = stderr("notebook")
    diversity.deduplicate(X, CENTROIDS, 0.999, memory_bytes=2500 * 6 * 4, progress=True)
    shares = [int(share) for share in re.findall(r"(\d+)% pass", stream.getvalue())]
    n_passes = int(re.search(r"(\d+) passes of 4,000 rows", stream.getvalue())[1])
    assert n_passes > 2
    assert shares == [50, *(round(100 * i / n_passes) for i in range(2, n_passes + 1))]


@pytest.mark.parametrize("where", ["terminal", "notebook"])
def test_without_a_number_of_rows_the_rows_are_shown(stderr, where):
    stream = stderr(where)
    fastal.select(iter([X[:1000], X[1000:]]), 9, progress=True)
    assert re.search(r"4,000 rows .* GB/s", stream.getvalue())  # the summary has a comma there
    assert "%" not in stream.getvalue()
    assert "left" not in stream.getvalue()


@pytest.mark.parametrize("where", ["terminal", "notebook", "file"])
def test_ctrl_c_stays_a_keyboard_interrupt_and_leaves_the_terminal_as_it_was(stderr, where):
    stream = stderr(where)
    handler = signal.getsignal(signal.SIGINT)
    n_calls = 0

    def by(x):
        nonlocal n_calls
        n_calls += 1
        if n_calls == 3:
            signal.raise_signal(signal.SIGINT)
        return x[:, 0]

    with pytest.raises(KeyboardInterrupt):
        fastal.select(X, 9, by, chunk_bytes=CHUNK, progress=True)
    assert n_calls == 3
    assert signal.getsignal(signal.SIGINT) is handler
    assert sys.stderr is stream
    shown = stream.getvalue()
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == (where == "terminal")
    if where == "notebook":
        assert shown.endswith(" \r")


def test_what_a_callable_prints_goes_where_it_did(stderr, capsys):
    stderr("terminal")

    def by(x):
        sys.stdout.write("scored\n")
        return x[:, 0]

    fastal.select(X, 9, by, progress=True)
    assert capsys.readouterr().out == "scored\n"


@pytest.mark.parametrize("where", ["terminal", "file"])
def test_a_resumed_run_says_where_it_began(stderr, tmp_path, monkeypatch, where):
    monkeypatch.setattr("fastal.pipeline.checkpoint._SECONDS", 0.0)
    monkeypatch.setattr("fastal.pipeline.checkpoint._PAUSE", 0.0)
    np.save(tmp_path / "x.npy", X)
    how = {"chunk_bytes": CHUNK, "checkpoint": tmp_path / "state"}
    n_calls = 0

    class Stops(fastal.scoring.by_random.RandomScore):
        def scores(self, rows):
            nonlocal n_calls
            n_calls += 1
            if n_calls == 4:
                raise KeyboardInterrupt
            return super().scores(rows)

    with pytest.raises(KeyboardInterrupt):
        fastal.select(tmp_path / "x.npy", 9, Stops(3), **how)
    stream = stderr(where)
    picks = fastal.select(tmp_path / "x.npy", 9, Stops(3), **how, resume=True, progress=True)
    assert picks.rows.tolist() == fastal.select(X, 9, "random", seed=3).rows.tolist()
    assert stream.getvalue().startswith("resumed at row 1,200\n")
