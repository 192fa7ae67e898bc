"""Every strategy reads the rows that `exclude` and `among` leave, as if there were no others."""

import os
from itertools import pairwise

import array_api_strict as xp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fastal
from fastal import diversity
from fastal.base.reducer import Pending, Reducer
from fastal.pipeline.run_on_pool import run_on_pool
from fastal.pipeline.run_options import RunOptions
from fastal.sources import chosen_rows
from tests.support.matrices import BACKENDS

N, C = 40, 4
RNG = np.random.default_rng(0)
X = RNG.integers(-2, 3, (N, C)).astype(np.float32)  # few values, so that ties are the rule
X[[3, 17, 18]] = np.nan
LABELLED = np.array([[1, 0, 0, 1], [0, 2, 0, 0]], np.float32)
CENTROIDS = np.array([[1, 0, 0, 0], [0, 1, 1, 0], [-1, -1, 0, 1]], np.float32)
LABELS = [row % 3 for row in range(N)]


def largest(x):
    return x.amax(1)


SKIP = {"on_invalid": "skip"}
STRATEGIES = {
    "select": lambda pool, **o: fastal.select(pool, 6, "margin", **SKIP, **o),
    "callable": lambda pool, **o: fastal.select(pool, 6, largest, **SKIP, **o),
    "predicted": lambda pool, **o: fastal.select(
        pool, None, "margin", groups="predicted", per_group=2, **SKIP, **o
    ),
    "quotas": lambda pool, **o: fastal.select(
        pool, 4, "entropy", groups="predicted", per_group=2, **SKIP, **o
    ),
    "cluster_outliers": lambda pool, **o: diversity.cluster_outliers(
        pool, CENTROIDS, 6, **SKIP, **o
    ),
    "model_outliers": lambda pool, **o: diversity.model_outliers(pool, LABELLED, 6, **SKIP, **o),
    "k_center": lambda pool, **o: diversity.k_center(pool, 6, labelled=LABELLED, **SKIP, **o),
    "k_center, nothing labelled": lambda pool, **o: diversity.k_center(
        pool, 6, metric="euclidean", **SKIP, **o
    ),
    "representative": lambda pool, **o: diversity.representative(pool, LABELLED, 6, **SKIP, **o),
    "adaptive": lambda pool, **o: diversity.adaptive_representative(pool, LABELLED, 4, **SKIP, **o),
    "duplicates": lambda pool, **o: diversity.deduplicate(pool, CENTROIDS, 0.9, **SKIP, **o),
    "duplicates, little memory": lambda pool, **o: diversity.deduplicate(
        pool, CENTROIDS, 0.9, memory_bytes=16 * N, **SKIP, **o
    ),
}
RAISING = {
    "select": lambda pool, **o: fastal.select(pool, 6, "margin", **o),
    "k_center": lambda pool, **o: diversity.k_center(pool, 6, labelled=LABELLED, **o),
    "duplicates": lambda pool, **o: diversity.deduplicate(pool, CENTROIDS, 0.9, **o),
}
every_strategy = pytest.mark.parametrize("name", STRATEGIES)
no_deadline = settings(deadline=None, max_examples=25)


def columns_of(found, kept=None):
    """Rows and values of a result; `kept` are the row numbers that the rows of it stand for."""
    if isinstance(found, diversity.Duplicates):
        rows, values, more = found.rows, found.similarity, [found.of]
    else:
        rows, values, more = found.rows, found.scores, []
    rows = [np.asarray(column) for column in (rows, *more)]
    rows = rows if kept is None else [kept[column] for column in rows]
    return [column.tolist() for column in rows], np.asarray(values).tobytes()


def assert_same(found, want, kept):
    assert columns_of(found) == columns_of(want, kept)
    if hasattr(found, "invalid"):
        assert found.invalid == want.invalid


def filters(data):
    """`exclude` and `among` in any form, and the rows that they leave."""
    excluded = data.draw(st.sets(st.integers(0, N - 1), max_size=N - 4))
    chosen = data.draw(st.none() | st.sets(st.integers(0, N - 1), max_size=N))
    kept = sorted((set(range(N)) if chosen is None else chosen) - excluded)
    options = {"exclude": form_of(data, excluded) if excluded else None}
    return options | ({} if chosen is None else {"among": form_of(data, chosen)}), np.array(
        kept, int
    )


def form_of(data, rows):
    rows = data.draw(st.permutations(sorted(rows)))
    mask = np.zeros(N, bool)
    mask[rows] = True
    half = len(rows) // 2
    return data.draw(
        st.sampled_from(
            [
                list(rows),
                np.array(rows, np.int32),
                torch.tensor(rows, dtype=torch.int64),
                mask,
                torch.from_numpy(mask),
                fastal.Picks(np.array(rows, int), np.zeros(len(rows), np.float32)),
                [np.array(rows[:half], int), mask] if half else mask,
            ]
        )
    )


@every_strategy
@no_deadline
@given(data=st.data())
def test_as_if_there_were_no_other_rows(name, data):
    options, kept = filters(data)
    cuts = sorted(data.draw(st.lists(st.integers(0, N), max_size=4)))
    pool = data.draw(st.sampled_from([X, [X[a:b] for a, b in pairwise([0, *cuts, N])]]))
    chunk_bytes = data.draw(st.sampled_from([None, 32, 16 * 7]))
    if not len(kept):
        return
    found = STRATEGIES[name](pool, chunk_bytes=chunk_bytes, **options)
    assert_same(found, STRATEGIES[name](X[kept]), kept)


@pytest.mark.parametrize(("backend", "device"), BACKENDS)
@pytest.mark.parametrize("share", [None, 0, 1])  # of the pool: when chosen rows are gathered
def test_any_backend(monkeypatch, backend, device, share):
    if share is not None:
        monkeypatch.setattr("fastal.pipeline.row_choice._LARGEST_SHARE", share)
    x = torch.from_numpy(X).to(device)
    for options in ({"exclude": [5, 7, 3, 18, 39]}, {"among": [17, 4, 5, 6, 20, 33]}):
        kept = np.array(sorted(options.get("among", {*range(N)} - {*options.get("exclude", [])})))
        for ties in ("first", "random"):
            found = fastal.select(x, 4, "margin", backend=backend, ties=ties, **SKIP, **options)
            scores = fastal.score(X, on_invalid="skip").margin
            assert set(found.rows.tolist()) <= set(kept[np.isfinite(scores[kept])].tolist())
            best = np.sort(scores[kept][np.isfinite(scores[kept])])[::-1][:4]
            np.testing.assert_allclose(found.scores.cpu().numpy(), best, rtol=1e-6)
        assert found.invalid == int(np.isnan(scores[kept]).sum())


@every_strategy
@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize("among", [[2, 5, 9, 10, 11, 30, 38], range(0, 40, 2)])
def test_files(tmp_path, monkeypatch, name, size, among):
    monkeypatch.setattr(chosen_rows, "_WHOLE", size)
    for number, (first, stop) in enumerate([(0, 12), (12, 13), (13, 31), (31, 40)]):
        np.save(tmp_path / f"{number}.npy", X[first:stop])
    kept = np.array(among)
    found = STRATEGIES[name](tmp_path, chunk_bytes=16 * size, among=list(among))
    assert_same(found, STRATEGIES[name](X[kept]), kept)


@every_strategy
@no_deadline
@given(data=st.data())
def test_a_saved_run_continues(tmp_path_factory, name, data):
    """With a checkpoint after each chunk; the run is interrupted anywhere, and continued."""
    folder = tmp_path_factory.mktemp("run")
    options, kept = filters(data)
    if not len(kept):
        return
    np.save(folder / "x.npy", X)
    chunks = data.draw(st.integers(1, 12))
    how = {"chunk_bytes": 16 * 6, "checkpoint": folder / "state", "resume": True, **options}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fastal.pipeline.checkpoint._SECONDS", 0.0)
        patch.setattr("fastal.pipeline.checkpoint._PAUSE", 0)
        with interrupted_after(patch, chunks):
            STRATEGIES[name](folder / "x.npy", **how)
        found = STRATEGIES[name](folder / "x.npy", **how)
    assert_same(found, STRATEGIES[name](X[kept]), kept)


class Stop(Exception):
    """Ends a run."""


class interrupted_after:
    """A context in which a run ends before it reads another chunk than so many."""

    def __init__(self, patch, chunks):
        from fastal.pipeline import drive

        self._patch, self._left, self._take = patch, chunks, drive._take

    def __enter__(self):
        self._patch.setattr("fastal.pipeline.drive._take", self._counting)

    def _counting(self, *arguments):
        if not self._left:
            raise Stop
        self._left -= 1
        return self._take(*arguments)

    def __exit__(self, kind, *_):
        self._patch.setattr("fastal.pipeline.drive._take", self._take)
        return kind is Stop


def test_a_file_that_is_cut_short_after_it_was_opened(tmp_path):
    """Its rows are skipped; the rows of the next file keep their numbers and scores."""
    x = np.random.default_rng(1).standard_normal((4000, C)).astype(np.float32)
    np.save(tmp_path / "a.npy", x[:2000])
    np.save(tmp_path / "b.npy", x[2000:])
    among = [5, 1500, 1999, 2000, 2001, 3999]
    for strategy in (
        lambda pool: fastal.select(pool, 6, "margin", among=among),
        lambda pool: diversity.k_center(pool, 6, labelled=LABELLED, among=among),
    ):
        np.save(tmp_path / "a.npy", x[:2000])
        pool = fastal.open_pool(tmp_path, on_bad_file="skip")
        os.truncate(tmp_path / "a.npy", 20_000)
        found = strategy(pool)
        assert sorted(found.rows.tolist()) == [2000, 2001, 3999]
        want = strategy(x).rows.tolist()
        assert found.rows.tolist() == [row for row in want if row >= 2000]


def test_invalid_rows_are_reported_alike():
    for name, options in (("k_center", {}), ("duplicates", {}), ("select", {})):
        with pytest.raises(fastal.InvalidRows, match="row 17") as caught:
            RAISING[name](X, exclude=[3], **options)
        assert caught.value.rows[0] == 17
        RAISING[name](X, exclude=[3, 17, 18], **options)
    with pytest.raises(fastal.InvalidRows, match="row 17"):
        diversity.CosineClusters(2).fit(X, exclude=[3])
    clusters = diversity.CosineClusters(2, seed=1).fit(X, exclude=[3, 17, 18])
    assert clusters.counts.sum() == N - 3
    sample = clusters.sample(X, 3, exclude=[3, 17, 18, 0, 1])
    assert not {0, 1, 3, 17, 18} & {row for part in sample for row in part.rows.tolist()}


@no_deadline
@given(excluded=st.sets(st.integers(0, N - 1), max_size=20), size=st.integers(1, N))
def test_clusters_are_those_of_the_other_rows(excluded, size):
    """The first centroids are given, since their random choice belongs to row numbers."""
    excluded |= {3, 17, 18}
    kept = np.setdiff1d(np.arange(N), list(excluded))
    found, want = (
        diversity.CosineClusters(centroids=CENTROIDS[:2]).fit(x, chunk_bytes=16 * size, **options)
        for x, options in ((X, {"exclude": list(excluded)}), (X[kept], {}))
    )
    assert found.centroids.tobytes() == want.centroids.tobytes()
    assert found.counts.tolist() == want.counts.tolist()


def test_an_array_of_any_kind_keeps_its_kind():
    x = xp.asarray(X[:10])
    found = fastal.select(x, 2, "margin", on_invalid="skip", among=[1, 2, 5])
    assert type(found.rows) is type(x)


def test_the_kind_is_checked_among_few_rows(caplog):
    probabilities = np.full((400, 4), 0.25)
    fastal.select(probabilities, 2, among=[50, 51, 53])
    assert any("as probabilities have" in message for message in caplog.messages)


class Sums(Reducer):
    """The sum of the rows, and their numbers: a reducer that knows no filter."""

    def __init__(self):
        self.found, self.sum = [], np.zeros(C)

    def look(self, chunk, start=None):
        def commit():
            self.found += np.atleast_1d(start).tolist() if len(chunk) else []
            self.sum += np.asarray(chunk).sum(0)

        return Pending(commit)

    def result(self):
        return self.found, self.sum.tolist()

    def identity(self):
        return {}

    _state = _restore = None


@pytest.mark.parametrize("options", [{"exclude": [3, 17, 18]}, {"among": [1, 5, 30]}])
def test_a_reducer_that_knows_no_filter_gets_the_rows_that_are_left(options):
    kept = np.setdiff1d(options.get("among", np.arange(N)), options.get("exclude", []))
    run_options = RunOptions(16 * 7, **options)
    found = run_on_pool(Sums(), X, run_options, lambda found, _: found)
    assert found == (kept.tolist(), X[kept].sum(0).tolist())
    with pytest.raises(ValueError, match="wanted a pool whose number of rows is known beforehand"):
        run_on_pool(Sums(), iter([X]), RunOptions(exclude=[1]), lambda found, _: found)


def test_reducers_that_need_all_rows_refuse_gaps():
    reducer = diversity.CosineClusters(2, batch_size=50).reducer()
    with pytest.raises(ValueError, match=r"start: .* the rows must have no gaps"):
        reducer.update(X[:3], np.array([2, 5, 9]))


@pytest.mark.parametrize("leave", [{"among": []}, {"among": [3], "exclude": [3]}])
def test_no_row_is_left(leave, caplog):
    groups = {"groups": LABELS, "per_group": 1}
    for options in (
        {"k": 2},
        {"k": None, **groups},
        {"k": None, "groups": "predicted", "per_group": 1},
    ):
        caplog.clear()
        assert len(fastal.select(X, by="margin", **options, **leave)) == 0
        assert "nothing was picked: exclude and among leave no rows" in caplog.messages


def test_groups_of_rows_that_are_left_out_are_no_groups(caplog):
    found = fastal.select(X, None, groups=LABELS, per_group=2, among=[0, 6, 12])
    assert found.groups.tolist() == [0, 0]
    assert not caplog.messages


@no_deadline
@given(data=st.data())
def test_chunks_of_any_rows(data):
    """The numbers of the chunks interleave."""
    order = data.draw(st.permutations([row for row in range(N) if row not in (3, 17, 18)]))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(order)), max_size=3)))
    chunks = [np.sort(order[a:b]).astype(int) for a, b in pairwise([0, *cuts, len(order)])]
    for make, want in (
        (lambda: fastal.Selector(5, "margin"), fastal.select(X, 5, "margin", **SKIP)),
        (lambda: diversity.CoreSet(4), diversity.k_center(X, 4, **SKIP)),
        (
            lambda: diversity.Deduplicator(CENTROIDS, 0.9),
            diversity.deduplicate(X, CENTROIDS, 0.9, **SKIP),
        ),
    ):
        reducer, has_next = make(), True
        while has_next:
            for numbers in chunks:
                reducer.update(X[numbers], numbers)
            has_next = reducer.next_pass()
        assert columns_of(reducer.result()) == columns_of(want)


def test_the_largest_row_number():
    last = 2**63 - 1
    for options, want in (
        ({"exclude": np.array([last])}, [7, 6]),
        ({"among": [last, 5]}, [last, 5]),
    ):
        selector = fastal.Selector(2, lambda x: x[:, 0], **options)
        selector.update(np.array([[0.1], [0.2], [0.3], [0.9]]), np.array([5, 6, 7, last]))
        assert selector.result().rows.tolist() == want
    with pytest.raises(ValueError, match="exclude: row 9223372036854775808 is not in the pool"):
        fastal.Selector(2, exclude=np.array([2**63], np.uint64))
    with pytest.raises(ValueError, match=r"exclude: wanted a mask .* got 3 values for at least 10"):
        fastal.Selector(9, exclude=np.ones(3, bool)).update(np.eye(6), np.array([0, 1, 2, 3, 4, 9]))


@no_deadline
@given(data=st.data())
def test_merging(data):
    """Parts of the pool go to three reducers with the same filter, pass by pass."""
    excluded = data.draw(st.sets(st.integers(0, N - 1), max_size=30)) | {3, 17, 18}
    options = {"exclude": list(excluded)}
    kept = np.setdiff1d(np.arange(N), list(excluded))
    cuts = sorted(data.draw(st.lists(st.integers(0, N), max_size=4)))
    bounds = data.draw(st.permutations(list(pairwise([0, *cuts, N]))))
    for make in (
        lambda **o: fastal.Selector(5, "margin", **o),
        lambda **o: fastal.StratifiedSelector(2, "margin", predicted=True, **o),
        lambda **o: diversity.CoreSet(4, labelled=LABELLED, **o),
    ):
        want, has_next = make(), True
        while has_next:
            want.update(X[kept], kept)
            has_next = want.next_pass()
        found, has_next = make(**options), True
        state = found.state_dict()
        while has_next:
            parts = [make(**options) for _ in range(3)]
            for part in parts:
                part.load_state_dict(state)
            for start, stop in bounds:
                parts[data.draw(st.integers(0, 2))].update(X[start:stop], start)
            if isinstance(found, diversity.CoreSet):
                found = parts[0]
                for part in parts[1:]:
                    found.merge(part)
            else:
                for part in parts:
                    found.merge(part)
            has_next = found.next_pass()
            state = found.state_dict()
        assert columns_of(found.result()) == columns_of(want.result())
