"""Arrow and Parquet columns: shapes of rows, nulls, and files that change while they are read."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fastal
from fastal.commands.convert import convert_pool
from fastal.sources import open_pool
from tests.support.checkout import ROOT, environment

DATA = ROOT / "tests" / "data"  # written by Polars 2.1 and by arrow-rs
SUFFIXES = [".parquet", ".arrow", ".feather"]
RNG = np.random.default_rng(5)


def save(path, table, step=7):
    """Writes a table in row groups or record batches of `step` rows."""
    if path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=step)
        return path
    new = pa.ipc.new_file if path.suffix == ".arrow" else pa.ipc.new_stream
    with new(str(path), table.schema) as writer:
        writer.write_table(table, max_chunksize=step)
    return path


def tensors(x, order=None):
    """Rows [n, ...] as a column of tensors, stored with their axes in the given order."""
    order = order or list(range(x.ndim - 1))
    stored = x.transpose(0, *(1 + axis for axis in order))
    # The permutation gives, for each logical axis, its place among the stored ones.
    kind = pa.fixed_shape_tensor(
        pa.from_numpy_dtype(x.dtype), stored.shape[1:], permutation=np.argsort(order).tolist()
    )
    size = int(np.prod(x.shape[1:]))
    flat = pa.FixedSizeListArray.from_arrays(pa.array(stored.ravel()), size)
    return pa.ExtensionArray.from_storage(kind, flat)


def read(pool, rows=5, start=0):
    return np.concatenate([np.asarray(chunk.x) for chunk in pool.chunks(rows, start)])


def nested(x, kind):
    """Rows as lists of lists; each letter of `kind` is a level: fixed-size, list or large list."""
    item = pa.from_numpy_dtype(x.dtype)
    for letter, size in zip(kind[::-1], x.shape[:0:-1], strict=True):
        of = {"f": lambda t, n: pa.list_(t, n), "l": lambda t, _: pa.list_(t),
              "g": lambda t, _: pa.large_list(t)}  # fmt: skip
        item = of[letter](item, size)
    return pa.array(x.tolist(), item)


@settings(max_examples=25, deadline=None)
@given(
    shape=st.lists(st.integers(1, 4), max_size=3),
    data=st.data(),
    dtype=st.sampled_from(["f2", "f4", "f8"]),
)
def test_rows_have_the_shape_in_the_schema(tmp_path_factory, shape, data, dtype):
    folder = tmp_path_factory.mktemp("pool")
    x = RNG.normal(size=(20, *shape)).astype(dtype)
    orders = st.permutations(range(len(shape)))
    n_files = 4
    for i, part in enumerate(np.split(x, n_files)):
        save(
            folder / f"{i}{data.draw(st.sampled_from(SUFFIXES))}",
            pa.table({"x": tensors(part, data.draw(orders))}), 2,
        )  # fmt: skip
    pool = open_pool(folder)
    assert {reader.row_shape for reader in pool.files} == {tuple(shape)}
    assert pool.row_bytes == x[0].nbytes
    np.testing.assert_array_equal(read(pool, data.draw(st.integers(1, 30))), x)


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_permuted_tensors_are_read_as_arrow_reads_them(tmp_path, order):
    column = tensors(RNG.normal(size=(20, 2, 5)).astype("f4"), order)
    path = save(tmp_path / "a.arrow", pa.table({"x": column}))
    np.testing.assert_array_equal(read(open_pool(path)), column.to_numpy_ndarray())
    given = RNG.normal(size=(20, 5, 2)).astype("f4").transpose(0, 2, 1)
    column = pa.FixedShapeTensorArray.from_numpy_ndarray(given)  # its type has the permutation
    path = save(tmp_path / "b.parquet", pa.table({"x": column}))
    np.testing.assert_array_equal(read(open_pool(path)), given)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kind", ["ff", "lf", "fl", "ll", "gl", "lfl"])
def test_lists_of_lists(tmp_path, suffix, kind):
    x = RNG.normal(size=(20, 2, 3, 4)[: 1 + len(kind)]).astype("f4")
    path = save(tmp_path / f"a{suffix}", pa.table({"x": nested(x, kind)}))
    pool = open_pool(path)
    assert pool.files[0].row_shape == x.shape[1:]
    assert pool.row_bytes == x[0].nbytes
    for rows, start in ((3, 0), (20, 8)):
        np.testing.assert_array_equal(read(pool, rows, start), x[start:])


def lists(rows):
    return pa.array(rows, pa.list_(pa.list_(pa.float32())))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_lists_of_lists_with_missing_lists(tmp_path, suffix):
    nan = np.nan
    rows = [None, [None, None], [[1, 2], None], [[3, None], [5, 6]]]
    want = [[[nan] * 2] * 2, [[nan] * 2] * 2, [[1, 2], [nan] * 2], [[3, nan], [5, 6]]]
    pool = open_pool(save(tmp_path / f"a{suffix}", pa.table({"x": lists(rows)}), 2))
    np.testing.assert_array_equal(read(pool), np.array(want, "f4"))
    for bad in ([[[1, 2], [3]]], [[[1, 2]], [[1, 2], [3, 4]]], [[], [[1, 2]]]):
        path = save(tmp_path / f"b{suffix}", pa.table({"x": lists(bad)}))
        with pytest.raises(ValueError, match=r"b\..*: lists of .* values in 'x'"):
            read(open_pool(path))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_rows_of_two_dimensions_behave_as_those_of_npy(tmp_path, suffix):
    x = RNG.normal(size=(30, 2, 5)).astype("f4")
    path = save(tmp_path / f"a{suffix}", pa.table({"x": tensors(x, [1, 0])}))
    np.save(tmp_path / "a.npy", x)
    for pool in (path, tmp_path / "a.npy"):
        with pytest.raises(ValueError, match=r"wanted \[rows, classes\], got shape \(\d+, 2, 5\)"):
            fastal.select(pool, 3)
    shapes = set()

    def first(chunk):
        shapes.add(tuple(chunk.shape[1:]))
        return chunk[:, 1, 4]

    assert fastal.select(path, 3, first).rows.tolist() == fastal.select(x, 3, first).rows.tolist()
    assert shapes == {(2, 5)}
    convert_pool(open_pool(path), tmp_path / "out", shard_bytes=200)
    np.testing.assert_array_equal(read(open_pool(tmp_path / "out")), x)
    save(tmp_path / f"b{suffix}", pa.table({"x": tensors(x.reshape(30, 10))}))
    with pytest.raises(ValueError, match=r"rows of shape \(10,\), where .* of shape \(2, 5\)"):
        open_pool([path, tmp_path / f"b{suffix}"])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_columns_whose_rows_have_different_shapes_are_refused(tmp_path, suffix):
    ragged = pa.StructArray.from_arrays(
        [pa.array([[1.0, 2.0], [3.0]]), pa.array([[2], [1]], pa.list_(pa.int32(), 1))],
        ["data", "shape"],
    )
    marks = {
        "ARROW:extension:name": "arrow.variable_shape_tensor", "ARROW:extension:metadata": "{}"
    }  # fmt: skip
    schema = pa.schema([pa.field("x", ragged.type, metadata=marks)])
    path = save(tmp_path / f"a{suffix}", pa.Table.from_arrays([ragged], schema=schema))
    for options in ({}, {"column": "x"}):
        with pytest.raises(TypeError, match="of one shape, got tensors of different shapes in 'x'"):
            open_pool(path, **options)
    for column in ([[1, 2]], [[[1], [2]]], [1], pa.array([[1, 2]], pa.list_(pa.int8(), 2))):
        path = save(tmp_path / f"a{suffix}", pa.table({"x": column}))
        with pytest.raises(TypeError, match=r"a\..*wanted floating-.* in 'x'; convert .* to float"):
            open_pool(path, column="x")


NULLS = {
    "no rows": pa.table({"id": pa.nulls(0), "x": pa.nulls(0)}),
    "nulls alone": pa.table({"id": pa.nulls(3), "x": pa.nulls(3)}),
    "missing lists alone": pa.table({"id": pa.nulls(3), "x": pa.nulls(3, pa.list_(pa.float32()))}),
    "lists of nulls": pa.table({"id": pa.nulls(3), "x": pa.array([[None] * 3, None, [None] * 3])}),
}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("options", [{}, {"column": "x"}])
@pytest.mark.parametrize("place", ["a", "m", "z"])
@pytest.mark.parametrize("what", NULLS)
def test_partitions_without_any_row_shape(tmp_path, what, place, options, suffix):
    x = RNG.normal(size=(20, 3)).astype("f4")
    for name, part in (("b", x[:9]), ("n", x[9:])):
        table = pa.table({"id": [f"i{i}" for i in range(len(part))], "x": part.tolist()})
        save(tmp_path / f"{name}.parquet", table)
    save(tmp_path / f"{place}{suffix}", NULLS[what])
    pool = open_pool(tmp_path, **options)
    n_missing = len(NULLS[what])
    assert pool.n_rows == 20 + n_missing
    first = {"a": 0, "m": 9, "z": 20}[place]
    want = np.insert(x, [first] * n_missing, np.nan, axis=0)
    np.testing.assert_array_equal(read(pool), want)
    picks = fastal.select(pool, 99, on_invalid="skip")
    assert (len(picks.rows), picks.invalid) == (20, n_missing)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_one_column_per_class_with_columns_of_nulls(tmp_path, suffix):
    save(tmp_path / f"a{suffix}", pa.table({"p0": pa.nulls(2), "p1": pa.nulls(2)}))
    save(tmp_path / f"b{suffix}", pa.table({"p1": [1.0, 2.0], "p0": pa.nulls(2)}))
    save(tmp_path / f"c{suffix}", pa.table({"p1": pa.nulls(0), "p0": pa.nulls(0)}))
    want = [[np.nan] * 2] * 2 + [[np.nan, 1], [np.nan, 2]]
    np.testing.assert_array_equal(read(open_pool(tmp_path, column="p*")), want)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_columns_of_nulls_do_not_determine_which_to_read(tmp_path, suffix):
    """Two columns are candidates: another file decides between them, or the pool is refused."""
    table = pa.table({"note": pa.nulls(2), "x": pa.nulls(2)})
    save(tmp_path / f"a{suffix}", table)
    with pytest.raises(ValueError, match=rf"a\{suffix}: no row of its columns has values"):
        open_pool(tmp_path)
    save(tmp_path / f"b{suffix}", pa.table({"x": [[1.0, 2.0]]}))
    assert read(open_pool(tmp_path)).tolist()[2:] == [[1, 2]]
    save(tmp_path / f"b{suffix}", pa.table({"y": [[1.0, 2.0]]}))
    with pytest.raises(ValueError, match=rf"a\{suffix}: no column 'y'; it has note, x"):
        open_pool(tmp_path)


def test_missing_lists_may_have_values_of_their_own(tmp_path):
    values, starts = pa.array(np.arange(8, dtype="f4")), pa.array([0, 2, 6, 8], pa.int32())
    column = pa.ListArray.from_arrays(starts, values, mask=pa.array([False, True, False]))
    path = save(tmp_path / "a.arrow", pa.table({"x": column}))
    np.testing.assert_array_equal(read(open_pool(path)), [[0, 1], [np.nan] * 2, [6, 7]])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_name_that_is_not_utf_8(tmp_path, suffix):
    x = RNG.normal(size=(20, 3)).astype("f4")
    save(tmp_path / f"a{suffix}", pa.table({"x": x.tolist(), "id": np.arange(20)}))
    path = tmp_path / os.fsdecode(b"\xff\xfe" + suffix.encode())
    (tmp_path / f"a{suffix}").rename(path)
    picks = fastal.select(open_pool(path, id_column="id"), 3)
    assert picks.ids.tolist() == fastal.select(x, 3).rows.tolist()


PLAIN = {
    "fixed": lambda x: {"x": pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), x.shape[1])},
    "lists": lambda x: {"x": pa.array(x.tolist(), pa.list_(pa.float32()))},
    "wide": lambda x: {f"p{i}": x[:, i].copy() for i in range(x.shape[1])},
}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("new", [pa.ipc.new_file, pa.ipc.new_stream])
@pytest.mark.parametrize("kind", ["fixed", "lists"])
def test_bodies_of_batches_are_mapped_and_not_copied(tmp_path, kind, new):
    x = RNG.normal(size=(64, 1024)).astype("f4")
    table = pa.table({**PLAIN[kind](x), "g": pa.array(["a"] * 64).dictionary_encode()})
    path = tmp_path / "a.arrow"
    with new(str(path), table.schema) as writer:
        writer.write_table(table)
    pool = open_pool(path, group_column="g")
    chunk = next(pool.chunks(64)).x
    maps = Path("/proc/self/maps").read_text().splitlines()
    spans = [line.split()[0].split("-") for line in maps if "a.arrow" in line]
    address = chunk.__array_interface__["data"][0]
    assert any(int(first, 16) <= address < int(last, 16) for first, last in spans)


# Reads a file again and again. Each time, it is cut short after one step more, as if by another
# process.
CUT = """
import os, sys, shutil, faulthandler
import fastal
from fastal.sources import arrow_ipc
faulthandler.enable()
path, column, n_bytes = sys.argv[1], sys.argv[2], os.path.getsize(sys.argv[1] + ".whole")
whole = path + ".whole"
options = dict(column=column or None, id_column="id", group_column="g")
read, matrix_of = arrow_ipc._PartlyMapped.read, arrow_ipc.matrix_of
left = 0
def cutting(of):
    def cut(*given):
        global left
        found = of(*given)
        left -= 1
        if left == 0:
            os.truncate(path, to)
        return found
    return cut
arrow_ipc._PartlyMapped.read = arrow_ipc._PartlyMapped.read_buffer = cutting(read)
arrow_ipc.matrix_of = cutting(matrix_of)
done = 0
for to in (0, 4096, n_bytes // 2, n_bytes - 4096):
    for at in range(1, 400, 5):
        shutil.copyfile(whole, path)
        left = at
        try:
            pool = fastal.open_pool(path, **options)
            fastal.select(pool, 9, per_group=3, chunk_bytes=4096)
        except (OSError, ValueError) as error:
            assert path in str(error), error
            done += 1
        else:
            if left > 0:
                break
print(done, flush=True)
os._exit(0)  # reading is tested here; a thread of a library may abort the end of the interpreter
"""


@pytest.mark.skipif(sys.platform != "linux", reason="truncates a file that is mapped")
@pytest.mark.parametrize(
    ("kind", "new", "compression"),
    [("fixed", "new_file", None), ("lists", "new_file", None), ("lists", "new_stream", None),
     ("wide", "new_stream", "lz4")],
)  # fmt: skip
@pytest.mark.full
def test_a_file_that_is_cut_short_at_any_step_of_reading(tmp_path, kind, new, compression):
    x = RNG.normal(size=(640, 16)).astype("f4")
    views = pa.array([f"a long name of row {i}" for i in range(640)], pa.string_view())
    groups = pa.array([f"group {i % 5}" for i in range(640)])
    table = pa.table({**PLAIN[kind](x), "id": views, "g": groups})
    path = tmp_path / "a.arrow"
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with getattr(pa.ipc, new)(f"{path}.whole", table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=128)
    done = subprocess.run(
        [sys.executable, "-c", CUT, str(path), "p*" if kind == "wide" else ""],
        capture_output=True, text=True,
        env=environment(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > 20


def test_a_footer_with_too_many_batches_is_refused(tmp_path):
    """The footer has the number of batches. A file that ends earlier is not complete."""
    x = pa.table({"x": RNG.normal(size=(20, 3)).tolist()})
    path = save(tmp_path / "a.arrow", x, 5)
    content = bytearray(path.read_bytes())
    at = content.index(b"\xff\xff\xff\xff", 16)  # the beginning of the first batch
    content[at + 4 : at + 8] = bytes(4)  # the end mark of a stream
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.arrow: .*0 record batches, where its footer says 4"):
        open_pool(path)


def test_missing_rows_of_bfloat16_are_nan(tmp_path):
    x = torch.from_numpy(RNG.normal(size=(20, 3)).astype("f4")).bfloat16()
    rows = [row.tobytes() for row in x.view(torch.int16).numpy()]
    save(tmp_path / "a.parquet", pa.table({"x": pa.array(rows, pa.binary(6))}))
    save(tmp_path / "b.parquet", pa.table({"x": pa.nulls(2)}))
    chunks = [chunk.x for chunk in open_pool(tmp_path, dtype="bfloat16").chunks(99)]
    assert {chunk.dtype for chunk in chunks} == {torch.bfloat16}
    assert chunks[-1].isnan().all() and chunks[-1].shape == (2, 3)


@pytest.mark.parametrize("name", ["polars", "arrow-rs"])
def test_files_of_other_writers(name):
    """Files without a schema before the batches, with dictionaries after them, or other marks."""
    pool = fastal.open_pool(DATA / f"{name}.arrow", column="p", id_column="id")
    picks = fastal.select(pool, 2, "margin")
    assert (picks.rows.tolist(), picks.ids.tolist()) == ([1, 3], ["b", "d"])
