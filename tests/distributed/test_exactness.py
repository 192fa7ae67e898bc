"""Passes that are divided into shards have the results of one process, bit for bit."""

import json
import os
import signal
from contextlib import contextmanager
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastal
from fastal.base.errors import Interrupted
from fastal.pipeline.drive import Step
from tests.support.cluster import Faults, InProcess
from tests.support.divided import (
    FILES,
    RESUMABLE,
    STRATEGIES,
    Stop,
    bits,
    case,
    cut_at,
    logged,
    run,
    stopped_after,
)

FAULTS = Faults(death=0.1, error=0.1, loss=0.1)
ENGINES = st.builds(
    InProcess,
    workers=st.integers(1, 7),
    seed=st.integers(0, 2**32),
    faults=st.sampled_from([Faults(), FAULTS]),
)
CHUNK_BYTES = st.sampled_from([1, 100, 400, 1000, 1 << 20])
CUTS = st.none() | st.lists(st.floats(0, 1), max_size=12)


@pytest.fixture(scope="module")
def pools(tmp_path_factory):
    return case(tmp_path_factory.mktemp("pools"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("out")


@pytest.fixture(scope="module")
def local(pools, folder):
    """Of a strategy's name: the result in one process, and what was logged."""

    @cache
    def of(name):
        with logged() as messages:
            found = run(name, pools, folder)
        return bits(found), messages

    return of


@pytest.mark.parametrize("name", STRATEGIES)
def test_shards_have_the_result_and_the_messages_of_one_process(name, local, pools, folder):
    engine = InProcess(workers=3, seed=1)
    with logged() as messages:
        found = run(name, pools, folder, engine=engine, chunk_bytes=300)
    assert (bits(found), messages) == local(name)
    assert len(engine.cluster.read) > 1


@given(st.sampled_from([*STRATEGIES]), ENGINES, CHUNK_BYTES, CUTS)
@settings(max_examples=12, deadline=None)
def test_any_workers_order_chunks_bounds_and_faults_give_the_same_result(
    local, pools, folder, name, engine, chunk_bytes, cuts
):
    want = local(name)
    with logged() as messages, cut_at(cuts):
        found = run(name, pools, folder, engine=engine, chunk_bytes=chunk_bytes)
    assert (bits(found), messages) == want


@given(
    st.sampled_from([*RESUMABLE]),
    st.tuples(*[st.just("local") | ENGINES] * 2),
    st.integers(1, 30),
    st.tuples(CHUNK_BYTES, CHUNK_BYTES),
)
@settings(max_examples=12, deadline=None)
def test_a_run_is_resumed_by_this_engine_or_another(
    local, pools, folder, name, engines, n_saves, chunk_bytes
):
    want, _ = local(name)
    saved = folder / "saved"
    how = {"checkpoint": saved}
    try:
        with stopped_after(n_saves):
            found = run(name, pools, folder, engine=engines[0], chunk_bytes=chunk_bytes[0], **how)
    except Stop:
        assert (saved / "checkpoint").exists()
        how["resume"] = True
        found = run(name, pools, folder, engine=engines[1], chunk_bytes=chunk_bytes[1], **how)
    assert bits(found) == want
    assert not list(saved.iterdir())


@pytest.mark.parametrize("name", FILES)
def test_the_record_of_a_command_is_that_of_one_process(pools, tmp_path, name):
    """Of its rows, bytes and passes, of its arguments and of the backend."""

    def record(**how):
        run(name, pools, tmp_path, chunk_bytes=300, **how)
        (path,) = tmp_path.glob("*.run.json")
        return {**json.loads(path.read_text()), "seconds": 0}

    assert record(engine=InProcess(3, 1, FAULTS)) == record()


class Waiting:
    """An engine that waits for its first shard when the user interrupts the run."""

    @contextmanager
    def opened(self, reducer, source, reporter):
        def read(reducer, source, chunk_rows, start):
            os.kill(os.getpid(), signal.SIGINT)
            yield Step(start, 0, 0)

        yield read


@pytest.mark.parametrize("name", ["scores in .npy", "scores in .csv", "fitted and sampled"])
def test_a_run_that_is_interrupted_before_its_first_row_starts_over(local, pools, folder, name):
    saved = folder / "saved"
    with pytest.raises(Interrupted):
        run(name, pools, folder, engine=Waiting(), checkpoint=saved)
    assert not list(saved.iterdir())
    found = run(name, pools, folder, checkpoint=saved, resume=True)
    assert bits(found) == local(name)[0]


@pytest.mark.parametrize("suffix", ["parquet", "npy"])
def test_a_callable_that_depends_on_the_chunk_sees_the_chunks_of_one_process(tmp_path, suffix):
    x = np.random.default_rng(0).standard_normal((900, 4)).astype(np.float32)
    for i, part in enumerate(np.split(x, 3)):
        if suffix == "npy":
            np.save(tmp_path / f"{i}.npy", part)
        else:
            column = pa.FixedSizeListArray.from_arrays(pa.array(part.ravel()), 4)
            pq.write_table(pa.table({"x": column}), tmp_path / f"{i}.parquet", row_group_size=70)

    def by(chunk):
        return chunk[:, 0] - chunk[:, 0].mean()

    how = {"k": 900, "by": by, "chunk_bytes": 16 * 32}
    want, found = (fastal.select(tmp_path, engine=e, **how) for e in ("local", InProcess(3, 1)))
    assert found.rows.tolist() == want.rows.tolist()
    assert found.scores.tolist() == want.scores.tolist()
