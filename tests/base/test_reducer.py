"""Every reducer reads a chunk without changing its state, and then adds all of it or nothing."""

import pickle
import tempfile

import numpy as np
import pytest
import torch

import fastal
from fastal import diversity
from fastal.base.reducer import Mergeable
from fastal.diversity.adaptive_representative import Adaptive
from fastal.diversity.centroids import CentroidDistance
from fastal.diversity.clustering.assignment import Assignment
from fastal.diversity.clustering.lloyd_pass import LloydPass
from fastal.diversity.mean_direction import MeanDirection
from fastal.diversity.representative import Representativeness, reducer_for
from fastal.ops.reference import unit_sums
from fastal.output.score_files import CsvSink, NpySink, ScoreWriter
from fastal.output.shards import ShardWriter
from fastal.scoring.measure_for import measure_for
from fastal.scoring.scoring_options import ScoringOptions

X = np.random.default_rng(0).standard_normal((60, 4)).astype(np.float32)
SKIP = ScoringOptions("skip")
CENTROIDS = CentroidDistance(X[:3])
FILES = []


def direction(x):
    return unit_sums(torch.from_numpy(x), torch.zeros(len(x), dtype=torch.int64), 1)


def writer(sink):
    FILES.append(tempfile.TemporaryFile("w+b"))  # noqa: SIM115
    sink.open(FILES[-1])
    return ScoreWriter(sink, measure_for(fastal.Scores._fields), SKIP)


REDUCERS = {
    "native": lambda: fastal.Selector(5, on_invalid="skip"),
    "triton": lambda: fastal.Selector(5, on_invalid="skip", backend="triton"),
    "torch": lambda: fastal.Selector(5, on_invalid="skip", backend="torch"),
    "power": lambda: fastal.Selector(5, on_invalid="skip", noise="power"),
    "callable": lambda: fastal.Selector(5, lambda x: x[:, 0]),
    "predicted": lambda: fastal.StratifiedSelector(2, predicted=True, on_invalid="skip"),
    "npy": lambda: writer(NpySink(60, fastal.Scores._fields)),
    "csv": lambda: writer(CsvSink(60, fastal.Scores._fields)),
    "clusters": lambda: diversity.CosineClusters(3, on_invalid="skip").reducer(),
    "pass": lambda: LloydPass(CENTROIDS, SKIP),
    "pass in batches": lambda: LloydPass(CENTROIDS, SKIP, 7),
    "sample": lambda: diversity.CosineClusters(centroids=X[:3], on_invalid="skip").sampler(2),
    "assignment": lambda: Assignment(CENTROIDS, SKIP),
    "k_center": lambda: diversity.CoreSet(4, on_invalid="skip"),
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
