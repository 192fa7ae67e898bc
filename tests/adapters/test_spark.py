"""The page on Spark, in local mode: partitions are read by processes of their own."""

import os
import sys

import numpy as np
import pytest

import fastal
from tests.support.adapter_pages import page_code
from tests.support.checkout import PYTHONPATH

pytest.importorskip("pyspark", reason="pyspark is missing; scripts/test-adapters spark has it")

from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

# Sockets to the JVM that PySpark leaves to the garbage collector.
pytestmark = [
    pytest.mark.full,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
# Many rows tie.
LOGITS = np.random.default_rng(1).integers(-2, 3, size=(2000, 4)).astype(np.float32)
SCHEMA = "id string, logits array<float>"


@pytest.fixture(scope="module")
def spark():
    """A Spark of two processes, which import the same fastal."""
    before = {name: os.environ.get(name) for name in ("PYTHONPATH", "PYSPARK_PYTHON")}
    os.environ.update(PYTHONPATH=PYTHONPATH, PYSPARK_PYTHON=sys.executable)
    builder = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
    session = builder.config("spark.sql.shuffle.partitions", "2").getOrCreate()
    session.sparkContext.setLogLevel("OFF")
    yield session
    session.stop()
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})


@pytest.fixture
def names(spark):
    """What the first block of the page defines: a frame."""
    names = {"__name__": "__main__"}  # functions of a script are sent as they are
    exec(page_code("spark", folder="distributed")[0], names)
    assert names["spark"] is spark
    return names


def frame_of(spark, logits, parts):
    rows = [(f"r{i:04}", row) for i, row in enumerate(logits)]
    return spark.createDataFrame(spark.sparkContext.parallelize(rows, parts), SCHEMA)


def run_page(names):
    for block in page_code("spark", folder="distributed")[1:]:
        exec(block, names)
    return names["picks"], names["batch"].collect()


def test_the_examples_of_the_page_run(names):
    picks, batch = run_page(names)
    want = fastal.select(names["logits"], 100, "margin")
    assert picks.ids.tolist() == [f"r{row:03}" for row in want.rows]
    assert [row.id for row in batch] == picks.ids.tolist()
    assert [row.rank for row in batch] == [*range(1, 101)]
    assert [row.score for row in batch] == want.scores.tolist()
    assert np.array_equal([row.logits for row in batch], names["logits"][want.rows])


@pytest.mark.parametrize(("n_rows", "parts"), [(2000, 1), (2000, 5), (40, 53)])
def test_the_picks_are_those_of_select_with_ties_and_empty_partitions(spark, names, n_rows, parts):
    names["frame"] = frame_of(spark, LOGITS[:n_rows].tolist(), parts)
    picks, _ = run_page(names)
    want = fastal.select(LOGITS[:n_rows], 100, "margin")
    assert picks.ids.tolist() == [f"r{row:04}" for row in want.rows]
    assert picks.scores.tolist() == want.scores.tolist()
    assert len(set(picks.scores.tolist())) < len(picks) / 2  # ties


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([float("nan"), 0.0, 0.0, 0.0], "row 8589934594"),  # 2^33 + 2
        ([1.0, 2.0, 3.0], "ListType can only be casted"),
        (None, "cannot reshape"),
    ],
)
def test_bad_rows_fail(spark, names, bad, message):
    rows = LOGITS[:10].tolist()
    rows[7] = bad
    names["frame"] = frame_of(spark, rows, 2)
    with pytest.raises(PySparkException, match=message):
        run_page(names)


def test_the_states_of_partitions_come_one_after_the_other_from_an_iterator(spark):
    """What the page warns of: `toLocalIterator` begins a job for each partition."""

    def stage_of(batches):
        import pyarrow as pa
        from pyspark import TaskContext

        for _ in batches:
            pass
        stage = TaskContext.get().stageId()
        yield pa.RecordBatch.from_pydict({"stage": [stage]})

    def found():
        return spark.range(100, numPartitions=3).mapInArrow(stage_of, "stage long")

    assert len({row.stage for row in found().collect()}) == 1
    assert len({row.stage for row in found().toLocalIterator()}) == 3
    kept = found().persist()
    assert kept.count() == 3
    assert len({row.stage for row in kept.toLocalIterator()}) == 1
    kept.unpersist()
