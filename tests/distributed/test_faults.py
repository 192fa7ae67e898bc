"""Workers that die, shards that fail, bad files and bad rows: as in one process, or an error."""

import os
import shutil
from contextlib import contextmanager
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastal
from fastal import diversity
from fastal.distributed.divided_pass import DividedPass
from fastal.sources.npy import NpyFile
from tests.support.cluster import Cluster, Faults, InProcess, Network
from tests.support.divided import Stop, bits, logged, stopped_after
from tests.support.formats import C, vectors

STATE_LOST = Faults(loss=1.0)


def rows(n, seed=0):
    return np.random.default_rng(seed).standard_normal((n, C)).astype(np.float32)


def files(folder, x, sizes):
    folder.mkdir(exist_ok=True)
    for i, part in enumerate(np.split(x, np.cumsum(sizes)[:-1])):
        np.save(folder / f"{i}.npy", part)
    return folder


def outcome(run):
    """What a run ends in: its result or its error, and what it logged."""
    with logged() as messages:
        try:
            found = bits(run())
        except Exception as error:
            found = type(error), str(error)
    return found, messages


def alike(run, engine=None, **how):
    """Checks that a run with the engine ends as in one process; returns the error or result."""
    want = outcome(lambda: run(**how))
    assert outcome(lambda: run(engine=engine or InProcess(3, 1), **how)) == want
    return want[0]


@pytest.fixture
def pool(tmp_path):
    return files(tmp_path / "pool", rows(200), [60, 0, 90, 50])


# Workers and shards.


@pytest.mark.parametrize("fault", ["death", "error", "loss"])
def test_what_fails_twice_is_done_again(pool, fault):
    engine = InProcess(3, 2, Faults(**{fault: 1.0}))
    alike(lambda **how: fastal.select(pool, 9, chunk_bytes=280, **how), engine)
    n_read = len(engine.cluster.read)
    n_shards = len(set(engine.cluster.read))
    assert n_shards > 10
    assert n_read == (n_shards if fault == "death" else 3 * n_shards)
    assert engine.cluster.n_deaths >= (2 * n_shards if fault == "death" else 0)


def test_a_shard_whose_state_was_lost_may_fail_as_often_as_before(pool):
    engine = InProcess(2, 3, Faults(error=1.0, loss=1.0))
    alike(lambda **how: fastal.select(pool, 9, chunk_bytes=2800, **how), engine)


class Deadly(Cluster):
    """Faults without end, of one shard or of the start."""

    at = 0
    fault = "error"

    def suffers(self, fault, what):
        return fault == self.fault and self.at == (None if what is None else what.start)


@pytest.mark.parametrize(
    ("fault", "at", "error", "words"),
    [
        ("error", 90, Network, "the connection was reset"),
        ("death", 90, OSError, "3 workers died while they read rows 90 to 99: the worker died"),
        ("death", None, OSError, "workers do not start: the worker died"),
    ],
)
def test_what_fails_three_times_ends_the_run(pool, monkeypatch, fault, at, error, words):
    monkeypatch.setattr("tests.support.cluster.Cluster", Deadly)
    monkeypatch.setattr(Deadly, "fault", fault)
    monkeypatch.setattr(Deadly, "at", at)
    engine = InProcess(3, 1)
    with pytest.raises(error, match=words):
        fastal.select(pool, 9, chunk_bytes=336, engine=engine)
    assert [shard.start for shard in engine.cluster.read].count(90) == 3 * (fault == "error")


class DyingInEachPass(Deadly):
    """Every second time that a shard is read, a worker dies of it."""

    fault, at = "death", 90
    n = 0

    def suffers(self, fault, what):
        is_it = super().suffers(fault, what)
        self.n += is_it
        return is_it and self.n % 2 == 1


def test_workers_may_die_of_a_shard_in_every_pass(pool, monkeypatch):
    monkeypatch.setattr("tests.support.cluster.Cluster", DyingInEachPass)
    engine = InProcess(3, 1)
    how = {"chunk_bytes": 336, "memory_bytes": 1}
    alike(lambda **engine: diversity.k_center(pool, 6, **how, **engine), engine)
    assert engine.cluster.n_deaths >= 6


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        (["one", "one", "other"], "instruction set: it is one on .*, this machine, other on"),
        (["one", "other", "other"], "instruction set: it is one on .*, this machine, other on"),
    ],
)
def test_machines_that_differ_are_refused(pool, monkeypatch, facts, message):
    found = iter([*facts, *facts])
    monkeypatch.setattr("fastal.distributed.shard_reader.instruction_set", lambda: next(found))
    with pytest.raises(ValueError, match=f"all machines must have the same {message}"):
        fastal.select(pool, 9, engine=InProcess(3, 1), chunk_bytes=28)


def test_a_state_that_is_lost_again_and_again_ends_the_run(pool, monkeypatch):
    monkeypatch.setattr("tests.support.cluster.MOST_FAULTS", 3)
    with pytest.raises(OSError, match="engine: the state of a shard was lost again and again"):
        fastal.select(pool, 9, engine=InProcess(3, 1, faults=STATE_LOST), chunk_bytes=280)


# Bad rows.


@pytest.mark.parametrize("bad", [[130], [3, 4, 131], [199], range(60, 150), range(200)])
@pytest.mark.parametrize("seed", range(3))
def test_invalid_rows_are_those_of_one_process(tmp_path, bad, seed):
    x = rows(200)
    x[[*bad], 2] = np.nan
    folder = files(tmp_path / "pool", x, [60, 0, 90, 50])
    engine = InProcess(4, seed, Faults(death=0.1, loss=0.1))
    for how in ({}, {"exclude": [0, 130]}, {"among": [1, 2, 3, 130, 131, 160]}):
        found = alike(lambda **how: fastal.select(folder, 9, chunk_bytes=280, **how), engine, **how)
        if not how:
            assert found[0] is fastal.InvalidRows
            assert f"row {min(bad)} ({folder}/" in found[1]
    alike(lambda **how: fastal.select(folder, 9, on_invalid="skip", **how), engine)
    alike(lambda **how: diversity.k_center(folder, 4, on_invalid="skip", **how), engine)
    alike(lambda **how: diversity.CosineClusters(3).fit(folder, **how).inertia, engine)


def test_rows_of_another_shape_are_refused_as_in_one_process(tmp_path):
    folder = tmp_path / "pool"
    folder.mkdir()
    np.save(folder / "a.npy", rows(50))
    np.save(folder / "b.npy", rows(50)[:, :4])
    kind, message = alike(lambda **how: fastal.select(folder, 9, **how))
    assert kind is ValueError
    assert "b.npy" in message


@pytest.mark.parametrize("sizes", [[0], [0, 0, 0]])
def test_a_pool_without_rows_ends_as_in_one_process(tmp_path, sizes):
    folder = files(tmp_path / "pool", rows(0), sizes)
    for run in (
        lambda **how: fastal.select(folder, 9, **how),
        lambda **how: fastal.select(folder, 9, exclude=[], **how),
        lambda **how: fastal.select(folder, per_group=2, groups=[], **how),
        lambda **how: diversity.k_center(folder, 9, **how),
        lambda **how: diversity.CosineClusters(3).fit(folder, **how),
        lambda **how: diversity.CosineClusters(centroids=np.eye(C)).sample(folder, **how),
        lambda **how: fastal.fit_temperature(folder, [], **how),
    ):
        alike(run)
    np.save(folder / "0.npy", rows(0)[:, :1])
    if len(sizes) == 1:
        assert alike(lambda **how: fastal.select(folder, 9, **how))[0] is ValueError


# Bad files.


@contextmanager
def unreadable(row):
    """In the block, one row of the file b.npy cannot be read, as on a broken disk.

    A worker that begins after it reads the rest of the file.
    """
    read = NpyFile.chunks

    def chunks(self, rows, start):
        for first, x, groups in read(self, rows, start):
            if first <= row < first + len(x) and self.file.path.stem == "b":
                raise OSError(f"{self.file}: Input/output error")
            yield first, x, groups

    with patch.object(NpyFile, "chunks", chunks):
        yield


def parquet(path, x, size):
    table = pa.table({"x": vectors(x, "fixed")})
    pq.write_table(table, path, row_group_size=size, compression="zstd", use_dictionary=False)


def damage(path, number):
    """Damages the pages of a row group."""
    column = pq.ParquetFile(path).metadata.row_group(number).column(0)
    content = bytearray(path.read_bytes())
    start = column.data_page_offset
    content[start : start + column.total_compressed_size] = bytes(column.total_compressed_size)
    path.write_bytes(content)


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    """Pools with a file that cannot be read from a block of rows on."""
    root = tmp_path_factory.mktemp("damaged")
    x = rows(300)

    def of(size, number):
        folder = root / f"{size}-{number}"
        if not folder.exists():
            folder.mkdir()
            for name, part in zip("abc", np.split(x, [40, 200]), strict=True):
                parquet(folder / f"{name}.parquet", part, size)
            damage(folder / "b.parquet", number)
        return folder

    return of


def run_skipping(folder, strategy, **how):
    source = fastal.open_pool(folder, on_bad_file="skip")
    found = strategy(source, **how)
    return found, [tuple(skipped) for skipped in source.skipped]


SKIPPING = {
    "select": lambda source, **how: fastal.select(source, 300, **how),
    "core-set": lambda source, **how: diversity.k_center(source, 3, **how),
    "assign": lambda source, **how: (
        diversity.CosineClusters(centroids=np.eye(3, C)).fit(rows(9)).assign(source, **how)
    ),
    "among": lambda source, **how: fastal.select(source, 300, among=range(0, 300, 7), **how),
}
CHUNKS = st.sampled_from([32 * n for n in (5, 10, 23, 60, 300)])


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    folder = tmp_path_factory.mktemp("three")
    for name, part in zip("abc", np.split(rows(300), [40, 200]), strict=True):
        np.save(folder / f"{name}.npy", part)
    return folder


@given(
    st.sampled_from([*SKIPPING][:3]),
    st.integers(0, 159),
    st.integers(1, 6),
    st.integers(0, 2**32),
    st.sampled_from([Faults(), Faults(death=0.1, loss=0.2)]),
    CHUNKS,
)
@settings(max_examples=12, deadline=None)
def test_a_file_that_is_bad_in_the_middle_is_skipped_from_the_same_row(
    three, name, row, workers, seed, faults, chunk_bytes
):
    with unreadable(row):
        skipped = alike(
            lambda **how: run_skipping(three, SKIPPING[name], chunk_bytes=chunk_bytes, **how),
            InProcess(workers, seed, faults),
        )[1]
    assert [file for file, *_ in skipped] == [str(three / "b.npy")]


@given(
    st.sampled_from(["select", "core-set"]),
    st.integers(0, 159),
    st.tuples(*[st.just("local") | st.builds(InProcess, seed=st.integers(0, 2**32))] * 2),
    st.integers(1, 12),
)
@settings(max_examples=8, deadline=None)
def test_a_file_that_was_skipped_stays_so_when_the_run_is_resumed(
    three, tmp_path_factory, name, row, engines, n_saves
):
    saved = tmp_path_factory.mktemp("saved")
    how = {"chunk_bytes": 320, "checkpoint": saved}
    with unreadable(row):
        want = run_skipping(three, SKIPPING[name], chunk_bytes=320)
        try:
            with stopped_after(n_saves):
                found = run_skipping(three, SKIPPING[name], engine=engines[0], **how)
        except Stop:
            found = run_skipping(three, SKIPPING[name], engine=engines[1], resume=True, **how)
    assert bits(found) == bits(want)


@given(
    st.sampled_from(["select", "among"]),
    st.sampled_from([8, 10, 23, 40]),
    st.integers(0, 3),
    st.integers(0, 2**32),
    CHUNKS,
)
@settings(max_examples=8, deadline=None)
def test_rows_before_the_one_from_which_a_file_is_skipped_are_read_and_no_later_ones(
    damaged, name, size, number, seed, chunk_bytes
):
    """Where the chunks of a format are not those of a shard, another row may be the first."""
    folder = damaged(size, number)
    picks, skipped = run_skipping(
        folder, SKIPPING[name], chunk_bytes=chunk_bytes, engine=InProcess(4, seed)
    )
    ((file, row, _),) = skipped
    assert file == str(folder / "b.parquet")
    wanted = set(range(0, 300, 7 if name == "among" else 1))
    assert {*picks.rows.tolist()} == wanted - {*range(40 + row, 200)}
    if name == "select":
        assert row <= number * size < row + max(size, chunk_bytes // 32)


def test_later_shards_of_a_file_that_is_bad_in_the_middle_are_read_again(three):
    """They were read before anybody knew that the file is skipped from an earlier row on."""
    n_again = 0
    for seed in range(5):
        engine = InProcess(4, seed)
        with unreadable(15):
            run_skipping(three, SKIPPING["select"], chunk_bytes=320, engine=engine)
        read = engine.cluster.read
        n_again += sum(read.count(shard) > 1 for shard in {*read} if 60 <= shard.start < 200)
    assert n_again


def test_an_engine_that_does_not_read_them_again_is_found_out(three, monkeypatch):
    monkeypatch.setattr(DividedPass, "_is_stale", lambda *_: False)
    with unreadable(15):
        want = run_skipping(three, SKIPPING["select"], chunk_bytes=320)
        found = run_skipping(three, SKIPPING["select"], chunk_bytes=320, engine=InProcess(4, 1))
    assert bits(found) != bits(want)


def test_a_file_that_is_bad_when_the_pool_is_opened_is_skipped(pool):
    (pool / "2.npy").write_bytes(b"no array")
    alike(lambda **how: run_skipping(pool, SKIPPING["select"], chunk_bytes=280, **how))


def test_a_file_that_is_gone_is_skipped_or_named(pool):
    source = fastal.open_pool(pool, on_bad_file="skip")
    (pool / "2.npy").unlink()
    found = fastal.select(source, 300, engine=InProcess(3, 1), chunk_bytes=280)
    assert sorted(found.rows) == [*range(60), *range(150, 200)]
    assert [(skipped.file, skipped.from_row) for skipped in source.skipped] == [
        (str(pool / "2.npy"), 0)
    ]
    source = fastal.open_pool(files(pool, rows(200), [60, 0, 90, 50]))
    (pool / "2.npy").unlink()
    with pytest.raises(FileNotFoundError, match=r"2\.npy"):
        fastal.select(source, 300, engine=InProcess(3, 1), chunk_bytes=280)


def replaced(path):
    np.save(path, rows(90, seed=1))


def longer(path):
    np.save(path, rows(91, seed=1))


def wider(path):
    np.save(path, np.hstack([rows(90), rows(90)]))


def touched(path):
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))


@pytest.mark.parametrize("change", [replaced, longer, wider, touched])
@pytest.mark.parametrize("on_bad_file", ["raise", "skip"])
def test_a_file_that_changes_after_the_pool_was_opened_is_an_error_that_names_it(
    pool, change, on_bad_file
):
    source = fastal.open_pool(pool, on_bad_file=on_bad_file)
    change(pool / "2.npy")
    with pytest.raises(ValueError, match=r"2\.npy: changed while it was being read"):
        fastal.select(source, 9, engine=InProcess(3, 1), chunk_bytes=280)


# Messages.


def test_a_warning_about_the_first_rows_is_logged_once_in_all_passes(tmp_path):
    x = np.exp(rows(200))
    x /= x.sum(1, keepdims=True)
    folder = files(tmp_path / "pool", x, [60, 140])
    labels = x.argmax(1) * (np.arange(200) % 3 > 0)
    for run in (
        lambda **how: fastal.select(folder, 9, chunk_bytes=280, **how),
        lambda **how: fastal.select(folder, 9, among=range(0, 200, 9), chunk_bytes=28, **how),
        lambda **how: fastal.fit_temperature(folder, labels, chunk_bytes=280, **how),
    ):
        with logged() as messages:
            run()
        assert len(messages) == 1
        alike(run)


def test_a_warning_about_rows_that_are_not_the_first_is_logged_by_neither(tmp_path):
    x = rows(200)
    x[100:] = np.exp(x[100:]) / np.exp(x[100:]).sum(1, keepdims=True)
    folder = files(tmp_path / "pool", x, [60, 140])
    alike(lambda **how: fastal.select(folder, 9, chunk_bytes=280, **how))
    alike(lambda **how: fastal.select(folder, 9, among=range(0, 200, 9), chunk_bytes=28, **how))


def test_a_file_of_which_opening_warned_is_opened_again_without_a_warning(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", x=rows(90))
    with logged() as messages:
        fastal.select(tmp_path, 9, engine=InProcess(3, 1), chunk_bytes=280)
    assert len(messages) == 1
    assert "compressed" in messages[0][1]


# What cannot be divided.


def test_pools_in_memory_and_strategies_of_one_process_are_refused(pool):
    engine = InProcess(3, 1)
    for run, words in (
        (
            lambda: fastal.select(rows(9), 2, engine=engine),
            "wanted files, got a pool in the memory",
        ),
        (lambda: fastal.select([rows(9)], 2, engine=engine), "wanted files, got a pool in the"),
        (
            lambda: diversity.CosineClusters(3, batch_size=9).fit(pool, engine=engine),
            "engine: mini-batches depend on the order of the rows; wanted batch_size=None",
        ),
    ):
        with pytest.raises(ValueError, match=words):
            run()
    assert engine.cluster is None or not engine.cluster.read


def test_a_pool_in_another_folder_is_found_by_its_relative_path(pool, monkeypatch):
    monkeypatch.chdir(pool.parent)
    source = fastal.open_pool("pool")
    want = bits(fastal.select(source, 9))
    elsewhere = pool.parent / "elsewhere"
    shutil.copytree(pool, elsewhere)
    assert bits(fastal.select(source, 9, engine=InProcess(3, 1))) == want
