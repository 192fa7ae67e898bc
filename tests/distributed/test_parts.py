"""Parts of a reducer: they have read nothing, and merged they are the whole."""

import pickle
import tempfile
from itertools import pairwise
from random import Random

import numpy as np
import pytest
import torch

import fastal
from fastal import diversity
from fastal.base.reducer import Mergeable, Reducer
from fastal.combine.representative_clusters import BestOfClusters, ClusterRepresentativeness
from fastal.commands.diversity import CLUSTERS_DTYPE, ClusterWriter
from fastal.diversity.adaptive_representative import Adaptive
from fastal.diversity.assignment import Assignment
from fastal.diversity.badge import GradientSeeding
from fastal.diversity.centroids import CentroidDistance
from fastal.diversity.clustering.lloyd_pass import LloydPass
from fastal.diversity.gradients import Gradients
from fastal.diversity.mean_direction import MeanDirection
from fastal.diversity.representative import Representativeness, reducer_for
from fastal.labelled.confident_learning import ConfidentLearning
from fastal.labelled.temperature_search import TemperatureSearch
from fastal.ops.reference import unit_sums
from fastal.output.score_files import CsvSink, NpySink, ScoreWriter, table_dtype
from fastal.pipeline.sequential import Sequential
from fastal.scoring.by_name import UncertaintyScore
from fastal.scoring.scoring_options import ScoringOptions
from tests.support.divided import bits

N = 60
X = np.random.default_rng(0).standard_normal((N, 4)).astype(np.float32)
X[[7, 33]] = np.nan
GOOD = X[~np.isnan(X).any(1)]
LABELS = np.where(np.arange(N) % 3, 0, np.nan_to_num(X).argmax(1))
SKIP = ScoringOptions("skip")
CENTROIDS = CentroidDistance(GOOD[:3])
SCORES = fastal.Scores._fields
FILES = []


def direction(x):
    return unit_sums(torch.from_numpy(x), torch.zeros(len(x), dtype=torch.int64), 1)


def of_clusters():
    units = torch.from_numpy(GOOD[:8]).double()
    return BestOfClusters(2, ClusterRepresentativeness(units[:3], units[3:]), SKIP)


def sequential():
    def then(found):
        return fastal.Selector(4, CentroidDistance(found.centroids), on_invalid="skip")

    first = diversity.CosineClusters(3, on_invalid="skip", max_iter=3).reducer()
    return Sequential(first, then, identity={"of": "test"}, options=SKIP, max_passes=5)


class InFile:
    """A writer of scores as a reducer whose result is the content of its file."""

    def __init__(self, sink, kind=ScoreWriter, measure=None):
        self.file = tempfile.TemporaryFile("w+b")  # noqa: SIM115
        FILES.append(self.file)
        self.sink = sink
        self.context = sink.opened(self.file)
        self.context.__enter__()
        self.writer = kind(sink, measure or UncertaintyScore(SCORES, "logits"), SKIP)

    def __getattr__(self, name):
        return getattr(self.writer, name)

    def result(self):
        found = self.writer.result()
        self.sink.finish()
        self.file.seek(0)
        return found, self.file.read()


# By name: a new reducer, and what else it takes for each row.
REDUCERS = {
    "selector": (lambda: fastal.Selector(5, on_invalid="skip"), None),
    "torch": (lambda: fastal.Selector(5, on_invalid="skip", backend="torch"), None),
    "power": (lambda: fastal.Selector(5, on_invalid="skip", noise="power", seed=2), None),
    "random ties": (
        lambda: fastal.Selector(5, lambda x: x[:, 0] * 0, ties="random", seed=4, on_invalid="skip"),
        None,
    ),
    "excluding": (lambda: fastal.Selector(5, on_invalid="skip", exclude=[1, 2, 50]), None),
    "predicted": (
        lambda: fastal.StratifiedSelector(2, predicted=True, on_invalid="skip"),
        None,
    ),
    "quotas": (lambda: fastal.StratifiedSelector(2, k=5, on_invalid="skip"), LABELS),
    "clusters": (
        lambda: diversity.CosineClusters(3, on_invalid="skip", max_iter=4).reducer(),
        None,
    ),
    "pass": (lambda: LloydPass(CENTROIDS, SKIP), None),
    "sample": (
        lambda: diversity.CosineClusters(centroids=GOOD[:3], on_invalid="skip").sampler(2),
        None,
    ),
    "assignment": (lambda: Assignment(CENTROIDS, SKIP), None),
    "core-set": (lambda: diversity.CoreSet(4, memory_bytes=1, on_invalid="skip"), None),
    "core-set in one pass": (lambda: diversity.CoreSet(4, on_invalid="skip"), None),
    "euclidean": (
        lambda: diversity.CoreSet(
            4, metric="euclidean", memory_bytes=600, on_invalid="skip", labelled=GOOD[:2]
        ),
        None,
    ),
    "direction": (lambda: MeanDirection(SKIP), None),
    "representative": (lambda: reducer_for(GOOD[:9], 3, SKIP, adaptive=False, fast=False), None),
    "adaptive": (
        lambda: Adaptive(3, direction(GOOD), direction(GOOD[:9]), Representativeness, SKIP),
        None,
    ),
    "best of clusters": (of_clusters, None),
    "temperature": (lambda: TemperatureSearch("logits", "skip"), LABELS),
    "sequential": (sequential, None),
    "npy": (lambda: InFile(NpySink(N, table_dtype(SCORES))), None),
    "csv": (lambda: InFile(CsvSink(N, table_dtype(SCORES))), None),
    "clusters in csv": (
        lambda: InFile(CsvSink(N, CLUSTERS_DTYPE, "clusters"), ClusterWriter, CENTROIDS),
        None,
    ),
}


def is_text(reducer):
    """Whether a reducer writes rows in the order in which it reads them."""
    return isinstance(getattr(reducer, "sink", None), CsvSink)


@pytest.fixture(autouse=True)
def closing():
    yield
    while FILES:
        FILES.pop().close()


@pytest.fixture(params=REDUCERS)
def kind(request):
    return REDUCERS[request.param]


def read(reducer, labels, start, stop):
    columns = {} if labels is None else {"groups": labels[start:stop]}
    reducer.update(X[start:stop], start, **columns)


def with_values(part, whole, start, stop):
    """The part, with the values of its rows that the whole has."""
    context = whole.context_for(start, stop)
    if context is not None:
        part.set_context(context)
    return part


def sent(part, whole):
    """The part as the whole gets it from another process."""
    found = whole.part()
    found.load_state_dict(pickle.loads(pickle.dumps(part.state_dict())))
    return found


@pytest.mark.parametrize("seed", range(3))
def test_the_merged_parts_of_every_pass_are_the_whole(kind, seed):
    """Parts are asked for before, between and after others are merged, and merged in any order."""
    make, labels = kind
    whole, divided = make(), make()
    random = Random(seed)
    n_passes = 0
    goes_on = True
    while goes_on:
        read(whole, labels, 0, N)
        bounds = [0, *sorted(random.sample(range(1, N), 4)), N]
        shards = [*pairwise(bounds)]
        if not is_text(divided):
            random.shuffle(shards)
        early = [with_values(divided.part(), divided, *shard) for shard in shards[:2]]
        for number, (start, stop) in enumerate(shards):
            if n_passes % 2 and number == 3:  # some rows are read by the whole itself
                read(divided, labels, start, stop)
                continue
            part = early[number] if number < 2 else None
            part = part or with_values(divided.part(), divided, start, stop)
            middle = (start + stop) // 2
            for piece in (start, middle), (middle, stop):
                read(part, labels, *piece)
            divided.merge(sent(part, divided))
        n_passes += 1
        goes_on = whole.next_pass()
        assert divided.next_pass() == goes_on
    assert bits(divided.result()) == bits(whole.result())
    assert divided.invalid == whole.invalid if hasattr(whole, "invalid") else True


def test_a_part_has_read_nothing_even_in_the_middle_of_a_pass(kind):
    make, labels = kind
    reducer = make()
    goes_on = True
    while goes_on:
        fresh = pickle.dumps(reducer.part().state_dict())
        read(reducer, labels, 0, 25)
        part = reducer.part()
        assert pickle.dumps(part.state_dict()) == fresh
        before = pickle.dumps(reducer.state_dict())
        read(with_values(part, reducer, 25, 40), labels, 25, 40)
        assert pickle.dumps(part.state_dict()) != fresh
        assert pickle.dumps(reducer.state_dict()) == before
        assert pickle.dumps(reducer.part().state_dict()) == fresh
        read(reducer, labels, 25, N)
        goes_on = reducer.next_pass()


def test_a_part_is_a_reducer_that_can_be_divided_and_pickled_if_the_whole_can(kind):
    make, labels = kind
    reducer = make()
    part = reducer.part()
    assert isinstance(part, Reducer)
    assert isinstance(part, Mergeable)
    assert part.undividable == reducer.undividable == ""
    read(part.part(), labels, 0, 20)


def test_parts_of_a_core_set_need_the_distances_of_their_rows():
    """A part without them is caught: it forgets what the earlier passes have found."""
    whole, wrong = (diversity.CoreSet(4, memory_bytes=1) for _ in range(2))
    for reducer in (whole, wrong):
        for _ in range(3):
            reducer.update(GOOD, 0)
            reducer.next_pass()
    for start, stop in ((0, 30), (30, len(GOOD))):
        part = wrong.part()
        part.update(GOOD[start:stop], start)
        wrong.merge(part)
    whole.update(GOOD, 0)
    held, forgotten = (reducer.state_dict()["candidates"] for reducer in (whole, wrong))
    assert held["worth"].tolist() != forgotten["worth"].tolist()


def test_a_writer_merges_its_parts_alone():
    one, other = (InFile(NpySink(N, table_dtype(SCORES))).writer for _ in range(2))
    with pytest.raises(TypeError, match="wanted a part of this writer, got a writer with its own"):
        one.merge(other)


@pytest.mark.parametrize(
    ("reducer", "words"),
    [
        (
            lambda: diversity.CosineClusters(3, batch_size=9).reducer(),
            "mini-batches depend on the order of the rows; wanted batch_size=None",
        ),
        (lambda: LloydPass(CENTROIDS, SKIP, 9), "mini-batches depend on the order of the rows"),
        (
            lambda: diversity.Deduplicator(GOOD[:3]),
            "deduplicate has to read all rows in one process",
        ),
        (
            lambda: ConfidentLearning("logits"),
            "label_quality has to read all rows in one process",
        ),
        (
            lambda: GradientSeeding(3, Gradients("logits"), seed=0, options=SKIP, row_filter=None),
            "badge has to read all rows in one process",
        ),
    ],
)
def test_what_cannot_be_divided_says_why(reducer, words):
    assert reducer().undividable.startswith(words)


def test_a_stage_that_cannot_be_divided_is_told_when_its_turn_comes():
    first = diversity.CosineClusters(3, on_invalid="skip", max_iter=1).reducer()
    reducer = Sequential(
        first, lambda found: diversity.Deduplicator(GOOD[:3], on_invalid="skip"),
        identity={}, options=SKIP, max_passes=3,
    )  # fmt: skip
    assert reducer.undividable == ""
    while reducer.current is first:
        reducer.update(X, 0)
        reducer.next_pass()
    assert reducer.undividable == "deduplicate has to read all rows in one process"
