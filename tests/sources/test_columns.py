"""Columns and arrays are matched by name, across the files of a pool and of the other pools."""

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch
import zarr
from click.testing import CliRunner

import fastal
from fastal import diversity
from fastal.cli import main
from fastal.sources import open_pool

N, C = 40, 12
X = np.random.default_rng(3).standard_normal((N, C)).astype(np.float32)
NAMES = [f"logit_{i}" for i in range(C)]


def write(path, x, names=NAMES, order=None):
    """Writes one column per class, in the given order."""
    columns = dict(zip(names, x.T, strict=True))
    table = pa.table({name: columns[name].copy() for name in order or names})
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    else:
        with pa.ipc.new_file(str(path), table.schema) as writer:
            writer.write_table(table)
    return path


def read(source):
    return np.concatenate([np.asarray(chunk.x) for chunk in source.chunks(7)])


SHUFFLED = [NAMES[i] for i in np.random.default_rng(0).permutation(C)]


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_files_with_columns_in_another_order(tmp_path, suffix):
    write(tmp_path / f"a{suffix}", X[:20], order=SHUFFLED)
    write(tmp_path / f"b{suffix}", X[20:], order=SHUFFLED[::-1])
    for column in ("logit_*", NAMES, ["logit_?", "logit_1?"]):
        source = open_pool(tmp_path, column=column)
        assert source.names == tuple(NAMES)
        np.testing.assert_array_equal(read(source), X)


def test_names_that_differ_in_numbers_are_ordered_by_them(tmp_path):
    path = write(tmp_path / "a.parquet", X, order=sorted(NAMES))  # logit_10 before logit_2
    np.testing.assert_array_equal(read(open_pool(path, column="logit_*")), X)


def test_other_names_are_in_the_order_of_the_first_file(tmp_path):
    names = ["cat", "dog", "ant", "bee", *NAMES[4:]]
    write(tmp_path / "a.parquet", X[:20], names)
    write(tmp_path / "b.arrow", X[20:], names, sorted(names))
    source = open_pool(tmp_path, column="*")
    assert source.names == tuple(names)
    np.testing.assert_array_equal(read(source), X)
    # Columns of several patterns are in the order of the patterns.
    source = open_pool(tmp_path, column=["logit_*", "*"])
    np.testing.assert_array_equal(read(source), np.roll(X, 8, axis=1))


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([*NAMES[:-1], "logit_x"], "lacks 'logit_11' and has 'logit_x'"),
        ([f"logit_{i + 1}" for i in range(C)], "lacks 'logit_0' and has 'logit_12'"),
        (NAMES[:-1], "lacks 'logit_11'"),
        ([*NAMES, "logit_12"], "has 'logit_12'"),
    ],
)
def test_other_names_are_refused_or_skipped(tmp_path, suffix, names, words):
    write(tmp_path / "a.parquet", X)
    other = write(tmp_path / f"b{suffix}", np.resize(X, (N, len(names))), names)
    write(tmp_path / "c.arrow", X)
    with pytest.raises(
        ValueError, match=rf"b\{suffix}: its columns differ from .*a\.parquet: it {words}$"
    ):
        open_pool(tmp_path, column="logit_*")
    source = open_pool(tmp_path, column="logit_*", on_bad_file="skip")
    assert [skipped.file for skipped in source.skipped] == [str(other)]
    np.testing.assert_array_equal(read(source), np.concatenate([X, X]))


def _npz(path, **arrays):
    np.savez(path, **arrays)


def _pt(path, **arrays):
    torch.save({name: torch.from_numpy(x) for name, x in arrays.items()}, path)


def _safetensors(path, **arrays):
    safetensors.torch.save_file({n: torch.from_numpy(x) for n, x in arrays.items()}, path)


def _h5(path, **arrays):
    with h5py.File(path, "w") as file:
        for name, x in arrays.items():
            file[name] = x


def _zarr(path, **arrays):
    group = zarr.open_group(path, mode="w")
    for name, x in arrays.items():
        group.create_array(name, data=x)


def _parquet(path, **arrays):
    pq.write_table(pa.table({name: pa.array(x.tolist()) for name, x in arrays.items()}), path)


def _arrow(path, **arrays):
    table = pa.table({name: pa.array(x.tolist()) for name, x in arrays.items()})
    with pa.ipc.new_stream(str(path), table.schema) as writer:
        writer.write_table(table)


NAMED = {
    ".npz": _npz, ".pt": _pt, ".safetensors": _safetensors, ".h5": _h5, ".zarr": _zarr,
    ".parquet": _parquet, ".arrow": _arrow,
}  # fmt: skip


@pytest.mark.parametrize("suffix", NAMED)
def test_the_only_array_must_have_the_same_name_in_all_files(tmp_path, suffix):
    np.save(tmp_path / "0.npy", X)  # a format without names agrees with all others
    torch.save(torch.from_numpy(X), tmp_path / "1.pt")
    _npz(tmp_path / "2.npz", logits=X)
    NAMED[suffix](tmp_path / f"3{suffix}", logits=X)
    assert open_pool(tmp_path).names == ("logits",)
    NAMED[suffix](tmp_path / f"4{suffix}", emb=X)
    with pytest.raises(ValueError, match=rf"4\{suffix}: column: .*'emb', in .*2\.npz 'logits'"):
        open_pool(tmp_path)
    source = open_pool(tmp_path, on_bad_file="skip")
    assert [skipped.file for skipped in source.skipped] == [str(tmp_path / f"4{suffix}")]


@pytest.fixture
def beside(tmp_path):
    """A pool; the same rows with columns in another order; the same with other names."""
    write(tmp_path / "pool.parquet", X, ["b", "a", *NAMES[2:]])
    write(tmp_path / "same.parquet", X[:9], ["b", "a", *NAMES[2:]], ["a", *NAMES[2:], "b"])
    write(tmp_path / "other.parquet", X[:9], ["b", "c", *NAMES[2:]])
    np.save(tmp_path / "pool.npy", X)
    np.save(tmp_path / "same.npy", X[:9])
    return tmp_path


CALLS = {
    "training": lambda pool, other: diversity.representative(pool, other, 5),
    "labelled": lambda pool, other: diversity.k_center(pool, 5, labelled=other),
    "validation": lambda pool, other: diversity.model_outliers(pool, other, 5),
}
COMMANDS = {"training": "represent", "labelled": "core-set", "validation": "outliers"}


@pytest.mark.parametrize("name", CALLS)
def test_other_pools_are_read_in_the_column_order_of_the_pool(beside, name):
    def opened(file):
        return open_pool(beside / file, column="*")

    want = CALLS[name](X, X[:9])
    other = opened("same.parquet")
    picks = CALLS[name](opened("pool.parquet"), other)
    assert picks.rows.tolist() == want.rows.tolist()
    assert other.names != opened("pool.parquet").names  # the caller's own pool is not changed
    assert CALLS[name](opened("pool.parquet"), X[:9]).rows.tolist() == want.rows.tolist()
    with pytest.raises(ValueError, match=rf"^{name}: .*other\.parquet: .* lacks 'a' and has 'c'"):
        CALLS[name](opened("pool.parquet"), opened("other.parquet"))


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_read_other_pools_in_the_column_order_of_the_pool(beside, name):
    def run(other):
        options = ["--columns", "*", f"--{name}", str(beside / other), "--k", "5", "--quiet"]
        return CliRunner().invoke(main, [COMMANDS[name], str(beside / "pool.parquet"), *options])

    want = CALLS[name](X, X[:9]).rows.tolist()
    for other in ("same.parquet", "same.npy"):
        done = run(other)
        assert done.exit_code == 0, done.output
        assert [int(line.split(",")[1]) for line in done.stdout.splitlines()[1:]] == want
    done = run("other.parquet")
    assert done.exit_code == 2
    assert "lacks 'a' and has 'c'" in done.stderr


def test_vectors_of_other_pools_may_have_any_name(tmp_path):
    _npz(tmp_path / "pool.npz", logits=X)
    _npz(tmp_path / "training.npz", emb=X[:5])
    want = diversity.representative(X, X[:5], 3).rows.tolist()
    for training in (tmp_path / "training.npz", open_pool(tmp_path / "training.npz")):
        picks = diversity.representative(open_pool(tmp_path / "pool.npz"), training, 3)
        assert picks.rows.tolist() == want


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int64, bool])
def test_quantised_rows_are_refused_in_every_argument(tmp_path, dtype):
    rows = (X[:9] * 20).astype(dtype)
    words = "wanted float.*got torch.*convert"
    np.savez(tmp_path / "a.npz", centroids=rows)
    np.save(tmp_path / "a.npy", rows)
    np.save(tmp_path / "pool.npy", X)
    for pool in (rows, tmp_path / "a.npy"):
        with pytest.raises(TypeError, match=f"logits: {words}"):
            fastal.select(pool, 3)
    for given in (rows, tmp_path / "a.npy", open_pool(tmp_path / "a.npz", column="centroids")):
        for name, call in CALLS.items():
            with pytest.raises(TypeError, match=f"^{name}: .*{words}"):
                call(X, given)
            with pytest.raises(TypeError, match=words):
                call(given, X)
    for call in (
        lambda: diversity.nearest_centroid(X, rows),
        lambda: diversity.similarities(X, rows),
        lambda: diversity.cluster_outliers(X, rows, 3),
        lambda: diversity.deduplicate(X, rows),
        lambda: diversity.CosineClusters(centroids=rows),
        lambda: diversity.CentroidDistance(rows),
        lambda: diversity.CoreSet(3, labelled=rows),
        lambda: diversity.ValidationRank(rows),
    ):
        with pytest.raises(TypeError, match=words):
            call()
    commands = [
        *((command, f"--{name}", "a.npy", "--k", "3") for name, command in COMMANDS.items()),
        ("cluster", "--centroids", "a.npz"), ("cluster", "--centroids", "a.npy"),
        ("outliers", "--centroids", "a.npy", "--k", "3"),
    ]  # fmt: skip
    for command, option, file, *more in commands:
        given = [command, str(tmp_path / "pool.npy"), option, str(tmp_path / file), *more]
        done = CliRunner().invoke(main, given)
        assert done.exit_code == 2, done.output
        assert f"{option[2:]}: " in done.stderr and "convert it to float" in done.stderr
