"""Missing storage of an HDF5 file or a zarr folder is an error, and never read as zeros.

Rows of zeros would be the most uncertain of all, and picked first.
"""

import os
import subprocess
import sys

import h5py
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

import fastal
from fastal.sources import array_file, hdf5_storage, open_pool
from fastal.sources.hdf5_storage import _n_mapped
from tests.support.checkout import PYTHONPATH
from tests.support.formats import WRITERS, C, data, write
from tests.support.refusals import refused

N = 40
X = 9 * np.random.default_rng(0).normal(size=(N, C)).astype("f4")
WANT = fastal.select(X, 9).rows.tolist()
VDS = h5py.VirtualSource


def picks(pool, **options):
    return fastal.select(open_pool(pool, **options), 9).rows.tolist()


def file(path, **datasets):
    with h5py.File(path, "w") as held:
        for name, values in datasets.items():
            held[name] = values
    return path


def virtual(path, *sources, shape=X.shape, name="x", **options):
    """Makes a virtual dataset from pairs of an index and a source."""
    layout = h5py.VirtualLayout(shape, "f4")
    for index, source in sources:
        layout[index] = source
    with h5py.File(path, "a") as held:
        held.create_virtual_dataset(name, layout, **options)
    return path


def halves(folder):
    for i, part in enumerate((X[:20], X[20:])):
        file(folder / f"{i}.h5", a=part)
    sources = [(np.s_[20 * i : 20 * i + 20], VDS(f"{i}.h5", "a", (20, C))) for i in (0, 1)]
    return virtual(folder / "x.h5", *sources)


def unwritten(path, rows, **options):
    """Makes a dataset in chunks of 10 rows, of which only the given rows are written."""
    with h5py.File(path, "w") as held:
        dataset = held.create_dataset("a", X.shape, "f4", chunks=(10, 2), **options)
        dataset[rows] = X[rows]
    return path


def linked(path, link):
    with h5py.File(path, "w") as held:
        held["groups/b"] = link
    return path


# Each of these functions makes a virtual dataset of all rows of X.


def in_columns(folder):
    file(folder / "a.h5", a=X[:, :3], b=X[:, 3:])
    left, right = (VDS("a.h5", name, (N, n)) for name, n in (("a", 3), ("b", C - 3)))
    return virtual(folder / "x.h5", (np.s_[:, :3], left), (np.s_[:, 3:], right))


def interleaved(folder):
    file(folder / "a.h5", a=X[::2], b=X[1::2])
    even, odd = (VDS("a.h5", name, (N // 2, C)) for name in "ab")
    return virtual(folder / "x.h5", (np.s_[::2], even), (np.s_[1::2], odd))


def picked_out(folder):
    source = VDS(str(file(folder / "a.h5", a=X)), "a", X.shape)
    odd = [0, 3, 4, 11, 39]
    rest = np.setdiff1d(np.arange(N), odd).tolist()
    return virtual(folder / "x.h5", (odd, source[odd]), (rest, source[rest]))


def of_the_same_file(folder):
    path = file(folder / "x.h5", a=X[:, 0], b=X)
    return virtual(path, (np.s_[:], VDS(".", "b", X.shape))), {"column": "x"}


def of_virtual_ones(folder):
    halves(folder)
    return virtual(folder / "y.h5", (np.s_[:], VDS("x.h5", "x", X.shape)))


def behind_links(folder):
    file(folder / "a.h5", a=X)
    linked(folder / "b.h5", h5py.ExternalLink("a.h5", "a"))
    linked(folder / "c.h5", h5py.ExternalLink("b.h5", "/groups"))
    with h5py.File(folder / "c.h5", "a") as held:
        held["soft"] = h5py.SoftLink("groups/b/b")
    return virtual(folder / "x.h5", (np.s_[:], VDS("c.h5", "./soft", X.shape)))


def moved(folder):
    """An absolute path that no longer exists: libhdf5 also searches the folder of the file."""
    file(folder / "a.h5", a=X)
    return virtual(folder / "x.h5", (np.s_[:], VDS("/gone/a.h5", "a", X.shape)))


def written_where_it_is_read(folder):
    unwritten(folder / "a.h5", np.s_[10:30])
    file(folder / "b.h5", a=X)
    b = VDS("b.h5", "a", X.shape)
    return virtual(
        folder / "x.h5",
        (np.s_[:10], b[:10]),
        (np.s_[10:30], VDS("a.h5", "a", X.shape)[10:30]),
        (np.s_[30:], b[30:]),
    )


@pytest.mark.parametrize(
    "make",
    [halves, in_columns, interleaved, picked_out, of_the_same_file, of_virtual_ones, behind_links,
     moved, written_where_it_is_read],
)  # fmt: skip
def test_complete_virtual_datasets_are_read(tmp_path, make):
    path = make(tmp_path)
    path, options = path if isinstance(path, tuple) else (path, {})
    source = open_pool(path, **options)
    assert fastal.select(source, 9, chunk_bytes=300).rows.tolist() == WANT
    others = {p.name for p in tmp_path.iterdir()} - {path.name}
    assert {p.name for p in source.files[0].file.parts} == others


def test_sources_are_found_by_the_prefix_of_libhdf5(tmp_path, monkeypatch):
    halves(tmp_path)
    (tmp_path / "sources").mkdir()
    (tmp_path / "0.h5").rename(tmp_path / "sources/0.h5")
    refused(tmp_path / "x.h5", r"its source a in 0\.h5: no such file")
    monkeypatch.setenv("HDF5_VDS_PREFIX", f"{tmp_path}/gone:{tmp_path}/sources")
    assert picks(tmp_path / "x.h5") == WANT
    monkeypatch.setenv("HDF5_VDS_PREFIX", "${ORIGIN}/sources")
    refused(tmp_path / "x.h5", "HDF5_VDS_PREFIX: wanted folders")


def test_a_change_of_a_source_changes_the_fingerprint(tmp_path):
    source = open_pool(halves(tmp_path))
    before = source.fingerprint()
    os.utime(tmp_path / "1.h5", ns=(1, 2**62))
    assert open_pool(tmp_path / "x.h5").fingerprint() != before
    with pytest.raises(ValueError, match="changed while it was being read"):
        fastal.select(source, 3)


def missing_file(folder):
    (folder / "0.h5").unlink()


def missing_dataset(folder):
    file(folder / "0.h5", b=X[:20])


def a_group(folder):
    file(folder / "0.h5", **{"a/a": X[:20]})


def no_hdf5(folder):
    (folder / "0.h5").write_bytes(b"no HDF5")


def cut_short(folder):
    os.truncate(folder / "0.h5", (folder / "0.h5").stat().st_size // 2)


def a_pipe(folder):
    (folder / "0.h5").unlink()
    os.mkfifo(folder / "0.h5")


def fewer_rows(folder):
    file(folder / "0.h5", a=X[:19])


def never_written(folder):
    with h5py.File(folder / "0.h5", "w") as held:
        held.create_dataset("a", (20, C), "f4")


def never_written_in_part(folder):
    with h5py.File(folder / "0.h5", "w") as held:
        held.create_dataset("a", (20, C), "f4", chunks=(10, 2))[:, :2] = 1


def a_ring(folder):
    (folder / "0.h5").unlink()
    virtual(folder / "0.h5", (np.s_[:], VDS("x.h5", "x", X.shape)[:20]), shape=(20, C), name="a")


def a_ring_through_links(folder):
    (folder / "0.h5").unlink()
    linked(folder / "c.h5", h5py.ExternalLink("x.h5", "x"))
    source = VDS("c.h5", "groups/b", X.shape)[:20]
    virtual(folder / "0.h5", (np.s_[:], source), shape=(20, C), name="a")


def links_in_a_ring(folder):
    with h5py.File(folder / "0.h5", "w") as held:
        held["a"] = h5py.SoftLink("b")
        held["b"] = h5py.SoftLink("a")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (missing_file, "its source a in 0.h5: no such file"),
        (missing_dataset, "its source a in 0.h5: no such dataset"),
        (a_group, "its source a in 0.h5: no such dataset"),
        (no_hdf5, None),
        (cut_short, None),
        (a_pipe, "0.h5: not a regular file"),
        (fewer_rows, r"its shape \(19, 7\)"),
        (never_written, "0.h5: /a: 1 of 1 chunks were never written"),
        (never_written_in_part, "0.h5: /a: 6 of 8 chunks were never written"),
        (a_ring, "made of itself"),
        (a_ring_through_links, "made of itself"),
        (links_in_a_ring, "behind more than 16 links"),
    ],
)
@pytest.mark.parametrize("level", ["once", "twice"])
def test_incomplete_virtual_datasets_are_refused(tmp_path, damage, words, level):
    path = halves(tmp_path) if level == "once" else of_virtual_ones(tmp_path)
    damage(tmp_path)
    refused(path, words)
    file(tmp_path / "z.h5", x=X)
    halved = {"pool": [path, tmp_path / "z.h5"], "on_bad_file": "skip"}
    assert fastal.select(open_pool(**halved), 9).rows.tolist() == WANT


def test_a_virtual_dataset_with_unmapped_values_is_refused(tmp_path):
    source = VDS(str(file(tmp_path / "a.h5", a=X)), "a", X.shape)
    virtual(tmp_path / "rows.h5", (np.s_[1:], source[1:]))
    refused(tmp_path / "rows.h5", "7 of 280 values of this virtual dataset have no source")
    twice = [(np.s_[:, :2], source[:, :2]), (np.s_[:, 1:3], source[:, 1:3])]
    virtual(tmp_path / "columns.h5", *twice)
    refused(tmp_path / "columns.h5", "160 of 280")
    refused(virtual(tmp_path / "nothing.h5"), "280 of 280")


def test_a_virtual_dataset_made_of_itself_is_refused(tmp_path):
    for name in (".", str(tmp_path / "x.h5"), "x.h5"):
        (tmp_path / "x.h5").unlink(missing_ok=True)
        refused(virtual(tmp_path / "x.h5", (np.s_[:], VDS(name, "x", X.shape))), "made of itself")


@pytest.mark.parametrize("name", ["a.h5", "part-%b.h5"])
def test_a_virtual_dataset_that_grows_with_its_sources_is_refused(tmp_path, name):
    for i in range(3):
        file(tmp_path / f"part-{i}.h5", a=X)
    with h5py.File(tmp_path / "a.h5", "w") as held:
        held.create_dataset("a", data=X, maxshape=(None, C))
    endless = h5py.h5s.UNLIMITED
    space, source = (h5py.h5s.create_simple(X.shape, (endless, C)) for _ in range(2))
    space.select_hyperslab((0, 0), (endless, 1), (N, 1), (N, C))
    if "%" not in name:
        source.select_hyperslab((0, 0), (endless, 1), (N, 1), (N, C))
    options = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    options.set_virtual(space, name.encode(), b"a", source)
    with h5py.File(tmp_path / "x.h5", "w") as held:
        h5py.h5d.create(held.id, b"x", h5py.h5t.IEEE_F32LE, space, options)
    refused(tmp_path / "x.h5", "grows with its sources")


@pytest.mark.full
def test_a_virtual_dataset_of_too_many_pieces_is_refused(tmp_path, monkeypatch):
    """The time of libhdf5 grows with the square of their number, so the test has fewer."""
    monkeypatch.setattr(hdf5_storage, "_MOST_PIECES", 1024)
    n = 2 * 1_030
    file(tmp_path / "a.h5", a=np.ones((n // 2, 2), "f4"), b=np.ones((2 * n, 2), "f4"))
    odd = VDS("a.h5", "a", (n // 2, 2))
    virtual(tmp_path / "x.h5", (np.s_[::2], odd), (np.s_[1::2], odd), shape=(n, 2))
    virtual(tmp_path / "y.h5", (np.s_[:], VDS("a.h5", "b", (2 * n, 2))[::2]), shape=(n, 2))
    for name in ("x.h5", "y.h5"):
        refused(tmp_path / name, "has over 1,024 pieces")


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.tuples(*(st.integers(0, 8) for _ in "1234"), *(st.integers(1, 3) for _ in "12")))
)
def test_mapped_values_are_counted_once(boxes):
    class Source:
        def __init__(self, index):
            self.vspace = self.src_space = h5py.h5s.create_simple((9, 9))
            start, stride, count = zip(
                *((s.start, s.step, len(range(*s.indices(9)))) for s in index), strict=True
            )
            self.vspace.select_hyperslab(start, count, stride, (1, 1))

    class Dataset:
        shape, size = (9, 9), 81

    is_mapped = np.zeros((9, 9), bool)
    sources = []
    for a, b, c, d, *steps in boxes:
        (a, b), (c, d) = sorted((a, b)), sorted((c, d))
        index = np.s_[a : b + 1 : steps[0], c : d + 1 : steps[1]]
        is_mapped[index] = True
        sources.append(Source(index))
    assert _n_mapped(Dataset, sources) == is_mapped.sum()


@pytest.mark.full
def test_more_sources_than_a_process_may_open(tmp_path):
    """libhdf5 keeps sources open, and reads zeros for those that it cannot open."""
    sources = []
    for i in range(100):
        file(tmp_path / f"{i}.h5", a=np.full((10, C), i % 7, "f4") + np.arange(C))
        sources.append((np.s_[10 * i : 10 * i + 10], VDS(f"{i}.h5", "a", (10, C))))
    virtual(tmp_path / "x.h5", *sources, shape=(1000, C))
    code = """
import os, resource, sys
import numpy as np
import fastal
pool = fastal.open_pool(sys.argv[1])
list(pool.chunks(10))
n_open, outcomes = len(os.listdir("/proc/self/fd")), []
for limit in range(n_open + 8, n_open + 60):
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, 1000))
    try:
        read = [np.array(chunk.x) for chunk in pool.chunks(300)]  # of 30 sources
    except (OSError, ValueError) as error:
        assert "Too many open files" in str(error)
        outcomes.append("refused")
    else:
        assert (np.concatenate(read)[:, 1] - 1 == np.arange(1000) // 10 % 7).all(), limit
        outcomes.append("whole")
assert outcomes == sorted(outcomes)
print(*sorted(set(outcomes)))
"""
    environment = {"PYTHONPATH": PYTHONPATH}
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "x.h5"],
        capture_output=True, text=True, env=environment,
    )  # fmt: skip
    assert done.stdout == "refused whole\n", done.stderr


def external(path, *parts):
    with h5py.File(path, "w") as held:
        held.create_dataset("x", X.shape, "f4", external=list(parts))
    return path


def test_external_storage_must_be_complete_and_in_the_folder(tmp_path, monkeypatch):
    (tmp_path / "pool").mkdir()
    path = tmp_path / "pool/x.h5"
    monkeypatch.chdir(tmp_path / "pool")
    X[:20].tofile(tmp_path / "pool/0.bin")
    X[20:].tofile(tmp_path / "pool/1.bin")
    half = X[:20].nbytes
    whole = external(path, ("0.bin", 0, half), ("1.bin", 0, h5py.h5f.UNLIMITED))
    source = open_pool(whole)
    assert fastal.select(source, 9).rows.tolist() == WANT
    assert [p.name for p in source.files[0].file.parts] == ["0.bin", "1.bin"]
    outer = virtual(tmp_path / "pool/y.h5", (np.s_[:], VDS("x.h5", "x", X.shape)))
    assert picks(outer) == WANT
    os.truncate(tmp_path / "pool/1.bin", half - 1)
    for pool in (whole, outer):
        refused(pool, "it is shorter than what it should hold")
    (tmp_path / "pool/1.bin").unlink()
    for pool in (whole, outer):
        refused(pool, "no such file")
    X.tofile(tmp_path / "secret")
    refused(external(path, (str(tmp_path / "secret"), 0, 2 * half)), "in the folder of")
    refused(external(path, ("../secret", 0, 2 * half)), "in the folder of")
    (tmp_path / "pool/link").symlink_to(tmp_path / "secret")
    refused(external(path, ("link", 0, 2 * half)), "in the folder of")
    os.mkfifo(tmp_path / "pool/pipe")
    refused(external(path, ("pipe", 0, 2 * half)), "wanted a regular file")


def test_missing_parts_with_a_nan_fill_value_are_invalid_rows(tmp_path):
    want = [row for row in fastal.select(X, N).rows.tolist() if row >= 20]
    halves(tmp_path)
    with h5py.File(tmp_path / "x.h5", "a") as held:
        sources = held["x"].virtual_sources()
        del held["x"]
    assert len(sources) == 2
    (tmp_path / "0.h5").unlink()
    layout = [(np.s_[20 * i : 20 * i + 20], VDS(f"{i}.h5", "a", (20, C))) for i in (0, 1)]
    virtual(tmp_path / "x.h5", *layout, fillvalue=np.nan)
    unwritten(tmp_path / "y.h5", np.s_[20:], fillvalue=np.nan)
    array = zarr.create_array(
        tmp_path / "z.zarr", shape=X.shape, chunks=(10, C), dtype="f4", fill_value=np.nan
    )
    array[20:] = X[20:]
    for name in ("x.h5", "y.h5", "z.zarr"):
        found = fastal.select(open_pool(tmp_path / name), N, on_invalid="skip")
        assert (found.rows.tolist(), found.invalid) == (want, 20)
        with pytest.raises(fastal.InvalidRows):
            picks(tmp_path / name)
    never = tmp_path / "0.h5"  # its fill value is not NaN; the outer one's does not matter
    with h5py.File(never, "w") as held:
        held.create_dataset("a", (20, C), "f4")
    refused(tmp_path / "x.h5", "never written")


@pytest.mark.parametrize("name", ["id", "group"])
def test_ids_and_groups_that_are_not_stored_are_refused(tmp_path, name):
    beside = {"column": "x", f"{name}_column": name}
    with h5py.File(tmp_path / "a.h5", "w") as held:
        held["x"] = X
        held.create_dataset(name, (N,), "i8", chunks=(10,))[:30] = 1
    with h5py.File(tmp_path / "b.h5", "w") as held:
        held["x"] = X
        held.create_dataset(name, (N,), h5py.string_dtype(), chunks=(10,))[:30] = ["a"] * 30
    file(tmp_path / "c.h5", x=X)
    ones = VDS("a.h5", name, (N,))
    virtual(tmp_path / "c.h5", (np.s_[:], ones), shape=(N,), name=name)
    for zarr_format in (2, 3):
        group = zarr.open_group(tmp_path / f"{zarr_format}.zarr", zarr_format=zarr_format)
        group.create_array("x", data=X)
        group.create_array(name, shape=N, chunks=10, dtype="i8")[:30] = 1
    for pool in ("a.h5", "b.h5", "c.h5"):
        refused(tmp_path / pool, "1 of 4 chunks were never written", **beside)
    for pool in ("2.zarr", "3.zarr"):
        refused(tmp_path / pool, f"1 of 4 chunks of '{name}' are missing", **beside)


LAYOUTS = {
    "3": {"chunks": (10, 3)},
    "3 with dots": {
        "chunks": (10, 3), "chunk_key_encoding": {"name": "default", "separator": "."}
    },
    "2": {"chunks": (10, 3), "zarr_format": 2},
    "2 with slashes": {
        "chunks": (10, 3), "zarr_format": 2,
        "chunk_key_encoding": {"name": "v2", "separator": "/"},
    },
    "fill value": {"chunks": (10, 3), "fill_value": 7},
    "shards": {"chunks": (10, 2), "shards": (20, 4)},
    "shards, index first": {
        "chunks": (10, 2), "shards": {"shape": (20, 4), "index_location": "start"}
    },
}  # fmt: skip


def chunks_of(folder):
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.name[0] in "c0123456789")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_lost_zarr_chunks_are_refused(tmp_path, layout):
    path = tmp_path / "a.zarr"
    zarr.create_array(path, shape=X.shape, dtype="f4", **LAYOUTS[layout])[:] = X
    assert picks(path) == WANT
    for chunk in chunks_of(path):
        held = chunk.read_bytes()
        chunk.unlink()
        key = chunk.relative_to(path).as_posix()
        refused(path, rf"1 of \d+ chunks are missing \(the first: {key}\).*write_empty_chunks")
        (path / f"{key}-0").write_bytes(held)
        refused(path, "missing")  # the chunk has another name
        (path / f"{key}-0").unlink()
        for size in (0, len(held) // 2):
            chunk.write_bytes(held[:size])
            refused(path)
        chunk.write_bytes(held)
    with path.joinpath(key).open("ab") as file:
        file.truncate(1 << 40)
    refused(path, "1,099,511,627,776 bytes, which is no chunk")


@pytest.mark.parametrize("layout", ["shards", "shards, index first"])
@pytest.mark.parametrize("where", ["here", "url"])
def test_lost_zarr_chunks_in_shards_are_refused(tmp_path, layout, where):
    path = (
        tmp_path / "a.zarr" if where == "here" else f"memory://{tmp_path.name}-{layout[-5:]}.zarr"
    )
    array = zarr.create_array(str(path), shape=(45, C), dtype="f4", **LAYOUTS[layout])
    array[:] = 1 + X[np.arange(45) % N]
    assert len(picks(path)) == 9  # the last shards have chunks outside the array
    array[30:40, 2:4] = 0
    refused(path, r"1 of 20 chunks are missing \(the first: in c/1/0\).*write_empty_chunks")
    with zarr.config.set({"array.write_empty_chunks": True}):
        array = zarr.open(str(path), mode="r+")
        array[30:40, 2:4] = 0
    assert len(picks(path)) == 9


def test_zarr_shards_that_cannot_be_checked_are_refused(tmp_path):
    for name, codecs in (("a", {"filters": zarr.codecs.TransposeCodec(order=(1, 0))}),):
        path = tmp_path / f"{name}.zarr"
        zarr.create_array(path, shape=X.shape, dtype="f4", chunks=(10, C), shards=(20, C), **codecs)
        zarr.open(path, mode="r+")[:] = X
        assert picks(path) == WANT


def test_only_regular_files_of_a_zarr_folder_are_opened(tmp_path):
    for name in ("zarr.json", ".zarray", ".zattrs", "c/0/0", "x/zarr.json"):
        for make in (os.mkfifo, lambda p: p.symlink_to("/dev/zero")):
            path = tmp_path / "a.zarr"
            if path.exists():
                subprocess.run(["rm", "-r", path], check=True)
            zarr.create_array(path, data=X)
            (path / name).parent.mkdir(exist_ok=True, parents=True)
            (path / name).unlink(missing_ok=True)
            make(path / name)
            refused(path, f"{name}: not a regular file")
    (path / name).unlink()
    (path / name).write_bytes(b"")
    os.truncate(path / name, 1 << 40)
    refused(path, "1,099,511,627,776 bytes, wanted metadata")
    (path / name).unlink()
    (path / "loop").symlink_to(".")
    (path / "to-nothing").symlink_to("gone")
    assert picks(path) == WANT


def test_hdf5_groups_within_groups(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as held:
        group = held
        for _ in range(900):
            group = group.create_group("x")
        group["a"] = X
        group["up"] = held["/"]
        held["again"] = group["a"]
        held["soft"] = h5py.SoftLink("again")
        held["gone"] = h5py.ExternalLink("gone.h5", "x")
        held["b/first"] = np.arange(N)
    assert picks(tmp_path / "a.h5", id_column="b/first") == WANT
    assert picks(tmp_path / "a.h5", column="again") == WANT
    with h5py.File(tmp_path / "a.h5", "a") as held:
        group = held["x" + "/x" * 899]
        for _ in range(2000):
            group = group.create_group("x")
    refused(tmp_path / "a.h5", "nested more than 1,000 deep")


@pytest.mark.parametrize("name", [n for n in WRITERS if n.startswith(("hdf5", "zarr"))])
@pytest.mark.parametrize("n_bytes", [100, 3000])
def test_blocks_larger_than_a_read_may_be(tmp_path, monkeypatch, caplog, name, n_bytes):
    d = data()
    pool, options, has_labels = write(name, tmp_path, d)
    want = fastal.select(open_pool(pool, **options), 20)
    monkeypatch.setattr(array_file, "_MOST_BYTES", n_bytes)
    source = open_pool(pool, **options)
    read = list(source.chunks(50))
    assert max(chunk.x.nbytes for chunk in read) <= max(n_bytes, d.x[:1].nbytes)
    np.testing.assert_array_equal(np.concatenate([np.asarray(chunk.x) for chunk in read]), d.x)
    assert fastal.select(source, 20).rows.tolist() == want.rows.tolist()
    if has_labels:
        assert np.concatenate([chunk.groups for chunk in read]).tolist() == d.groups.tolist()
        assert source.ids(np.arange(len(d.x))).tolist() == d.ids.tolist()
    is_split = name == "hdf5 in large chunks" or (n_bytes == 100 and name != "hdf5")
    assert ("each chunk is read several times" in caplog.text) == is_split
