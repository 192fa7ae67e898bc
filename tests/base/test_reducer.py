"""Every reducer reads a chunk without changing its state, and then adds all of it or nothing."""

import pickle
import tempfile

import numpy as np
import pytest
import torch

import fastal
from fastal import diversity
from fastal.base.reducer import Mergeable, Pending, Reducer
from fastal.diversity.adaptive_representative import Adaptive
from fastal.diversity.assignment import Assignment
from fastal.diversity.centroids import CentroidDistance
from fastal.diversity.clustering.lloyd_pass import LloydPass
from fastal.diversity.mean_direction import MeanDirection
from fastal.diversity.representative import Representativeness, reducer_for
from fastal.ops.reference import unit_sums
from fastal.output.score_files import CsvSink, NpySink, ScoreWriter, table_dtype
from fastal.output.shards import ShardWriter
from fastal.scoring.by_name import UncertaintyScore
from fastal.scoring.scoring_options import ScoringOptions

X = np.random.default_rng(0).standard_normal((60, 4)).astype(np.float32)
SKIP = ScoringOptions("skip")
CENTROIDS = CentroidDistance(X[:3])
FILES = []


def direction(x):
    return unit_sums(torch.from_numpy(x), torch.zeros(len(x), dtype=torch.int64), 1)


def writer(sink):
    FILES.append(tempfile.TemporaryFile("w+b"))  # noqa: SIM115
    sink.opened(FILES[-1]).__enter__()
    return ScoreWriter(sink, UncertaintyScore(fastal.Scores._fields, "logits"), SKIP)


REDUCERS = {
    "native": lambda: fastal.Selector(5, on_invalid="skip"),
    "triton": lambda: fastal.Selector(5, on_invalid="skip", backend="triton"),
    "torch": lambda: fastal.Selector(5, on_invalid="skip", backend="torch"),
    "power": lambda: fastal.Selector(5, on_invalid="skip", noise="power"),
    "callable": lambda: fastal.Selector(5, lambda x: x[:, 0]),
    "predicted": lambda: fastal.StratifiedSelector(2, predicted=True, on_invalid="skip"),
    "npy": lambda: writer(NpySink(60, table_dtype(fastal.Scores._fields))),
    "csv": lambda: writer(CsvSink(60, table_dtype(fastal.Scores._fields))),
    "clusters": lambda: diversity.CosineClusters(3, on_invalid="skip").reducer(),
    "pass": lambda: LloydPass(CENTROIDS, SKIP),
    "pass in batches": lambda: LloydPass(CENTROIDS, SKIP, 7),
    "sample": lambda: diversity.CosineClusters(centroids=X[:3], on_invalid="skip").sampler(2),
    "assignment": lambda: Assignment(CENTROIDS, SKIP),
    "k_center": lambda: diversity.CoreSet(4, memory_bytes=1, on_invalid="skip"),
    "deduplicate": lambda: diversity.Deduplicator(X[:3], on_invalid="skip"),
    "direction": lambda: MeanDirection(SKIP),
    "representative": lambda: reducer_for(X[:9], 3, SKIP, adaptive=False, fast=False),
    "adaptive": lambda: Adaptive(3, direction(X), direction(X[:9]), Representativeness, SKIP),
}


@pytest.fixture(autouse=True)
def closing():
    yield
    while FILES:
        FILES.pop().close()


@pytest.fixture(params=REDUCERS)
def reducer(request):
    return REDUCERS[request.param]


@pytest.mark.parametrize("n_before", [0, 30])
def test_a_chunk_that_is_read_and_discarded_leaves_no_trace(reducer, n_before):
    one, other = reducer(), reducer()
    for each in (one, other):
        each.update(X[:n_before], 0)
    with_nan = X[30:].copy()
    with_nan[3, 1] = np.nan
    for chunk in (X[30:], with_nan):
        one.look(chunk, 30).discard()
    assert pickle.dumps(one.state_dict()) == pickle.dumps(other.state_dict())
    for each in (one, other):
        each.update(X[n_before:], n_before)
        each.next_pass()
    assert pickle.dumps(one.state_dict()) == pickle.dumps(other.state_dict())


def test_a_chunk_that_is_read_changes_the_state_when_it_is_committed(reducer):
    one, other = reducer(), reducer()
    one.look(X, 0).commit()
    other.update(X, 0)
    assert pickle.dumps(one.state_dict()) == pickle.dumps(other.state_dict())
    assert pickle.dumps(one.state_dict()) != pickle.dumps(reducer().state_dict())


def test_what_identifies_a_run_is_plain(reducer):
    found = reducer().arguments()
    assert pickle.loads(pickle.dumps(found)) == found
    assert found == reducer().arguments()


def test_reducers_that_merge_say_so():
    can = {name for name, reducer in REDUCERS.items() if isinstance(reducer(), Mergeable)}
    assert REDUCERS.keys() - can == {"deduplicate"}


def test_shards_are_written_by_one_writer(tmp_path):
    assert not isinstance(ShardWriter(tmp_path / "out", 1 << 20), Mergeable)


@pytest.mark.parametrize("backend", ["triton", "native", "torch"])
def test_a_chunk_that_another_look_replaces_leaves_no_trace(backend):
    one, other = (fastal.Selector(3, backend=backend) for _ in range(2))
    one.look(X[:20], 0)  # neither committed nor discarded, as after an interrupt
    for each in (one, other):
        each.update(X, 0)
    assert one.result().rows.tolist() == other.result().rows.tolist()


def test_reducers_of_other_arguments_do_not_merge_or_restore():
    pairs = [
        (REDUCERS["adaptive"](), Adaptive(3, direction(X), direction(X), Representativeness, SKIP)),
        (LloydPass(CENTROIDS, SKIP), LloydPass(CentroidDistance(X[3:6]), SKIP)),
        (reducer_for(X[:9], 3, SKIP, adaptive=False, fast=False),
         reducer_for(X[:9], 4, SKIP, adaptive=False, fast=False)),
    ]  # fmt: skip
    for one, other in pairs:
        with pytest.raises(ValueError, match="merge: the other has"):
            one.merge(other)
        with pytest.raises(ValueError, match="load_state_dict: the state has"):
            one.load_state_dict(other.state_dict())


def test_options_that_change_no_result_do_not_keep_states_apart():
    one, other = (
        reducer_for(X[:9], 3, ScoringOptions("skip", name), adaptive=False, fast=False)
        for name in ("auto", "torch")
    )
    one.update(X[:30], 0)
    other.update(X[30:], 30)
    one.merge(other)
    other.load_state_dict(one.state_dict())


class Count(Reducer):
    """The number of rows; its identity is what the test gives it."""

    def __init__(self, identity):
        self.n, self.given = 0, identity

    def look(self, chunk, start=None):
        def commit():
            self.n += len(chunk)

        return Pending(commit)

    def result(self):
        return self.n

    def identity(self):
        return self.given

    def _state(self):
        return {"n": self.n}

    def _restore(self, state):
        self.n = state["n"]


class OtherCount(Count):
    """Another class with the same identity."""


def test_states_of_another_class_are_refused_and_identities_become_plain():
    one = Count({"k": np.int64(3), "pair": (1, 2)})
    one.update(X)
    state = one.state_dict()
    assert state["identity"] == {"k": 3, "pair": [1, 2]}
    twin = Count({"k": 3, "pair": [1, 2]})
    twin.load_state_dict(state)
    assert twin.result() == 60
    with pytest.raises(
        ValueError, match="the state has class='Count', this one class='OtherCount'"
    ):
        OtherCount({"k": 3, "pair": [1, 2]}).load_state_dict(state)
    with pytest.raises(TypeError, match="x: wanted plain values as identity, got <object"):
        Count({"x": object()}).state_dict()


@pytest.mark.parametrize("make", [
    lambda: fastal.Selector(3),
    lambda: fastal.StratifiedSelector(3, predicted=True),
    lambda: diversity.CosineClusters(centroids=X[:3]).sampler(2),
])  # fmt: skip
def test_a_pickled_reducer_takes_more_rows_than_its_buffer_holds(make):
    x = np.random.default_rng(0).standard_normal((200_000, 4)).astype(np.float32)
    one, twin = make(), pickle.loads(pickle.dumps(make()))
    for each in (one, twin):
        each.update(x)
    assert pickle.dumps(one.state_dict()) == pickle.dumps(twin.state_dict())


def test_a_reducer_is_pickled_whatever_library_its_chunks_are_of():
    xp = pytest.importorskip("array_api_strict")
    selector = fastal.Selector(3)
    selector.update(xp.asarray(X))
    twin = pickle.loads(pickle.dumps(selector))
    assert isinstance(twin.result().rows, type(xp.asarray([1])))
