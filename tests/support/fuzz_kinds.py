"""Pools that are wrong in other ways than by damaged bytes; see `tests.support.fuzz_formats`.

Of each kind a function that makes a pool in a folder, as a generator of random numbers has it,
reads it, and says what is wrong with what came of it: rows or ids that the pool does not hold, an
error that does not name a file of it in one line.
"""

import datetime
import decimal
import json
import os
import random
import shutil
import socket
import struct
import uuid
import warnings
import zipfile
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import zarr

import fastal
from fastal.base.arrays import as_tensor
from fastal.base.reducer import Pending, Reducer
from fastal.picks.files import PICKS_SUFFIXES, read_picks, write_picks
from fastal.pipeline.drive import run
from fastal.sources import open_pool
from tests.support.formats import BOTH, STEP, WRITERS, C, Pool, data, parts, write

REFUSALS = (OSError, TypeError, ValueError)
DATA = data()
LARGE = data(n=3000)  # many pages, and chunks


class Rows(Reducer):
    """Keeps copies of the chunks that were committed."""

    def __init__(self):
        self.chunks = []

    def look(self, x, start=None):
        copy = np.asarray(as_tensor(x, "x").double()).copy()
        return Pending(lambda: self.chunks.append((start, copy)))

    def identity(self):
        return {}

    def _state(self):
        return {}

    def _restore(self, state):
        pass

    def result(self):
        return self.chunks


def complaint(error, folder):
    """What is wrong with an error about a pool in a folder; None: nothing."""
    says = str(error)
    if isinstance(error, MemoryError) or "\n" in says or str(folder) not in says:
        return f"{type(error).__name__}: {says}"
    return None


def refused(folder, read):
    """What is wrong where a pool must not be read to its end."""
    try:
        read()
    except REFUSALS as error:
        return complaint(error, folder)
    return "it was read"


def read_all(pool, **options):
    """Reads rows, groups and ids of a pool, as a run does."""
    source = open_pool(pool.path, **pool.options, **options)
    run(Rows(), source, chunk_bytes=4 * C * 50)
    if pool.has_labels:
        picks = fastal.select(source, per_group=2)
        assert picks.ids is not None


# --- files that are damaged while they are read


def cut(path, rng):
    os.truncate(path, rng.randrange(path.stat().st_size))


def written_to(path, rng):
    with path.open("r+b") as file:
        file.seek(rng.randrange(path.stat().st_size))
        file.write(rng.randbytes(rng.choice([1, 100, 5000])))


def written_to_secretly(path, rng):
    """Its size and time are as before."""
    stat = path.stat()
    with path.open("r+b") as file:
        file.seek(rng.randrange(stat.st_size))
        file.write(rng.randbytes(100)[: stat.st_size - file.tell()])
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def replaced(path, rng):
    """By a file of zeros of the same size and time."""
    stat = path.stat()
    other = path.with_name("other.tmp")
    other.write_bytes(bytes(stat.st_size))
    os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    other.replace(path)


def gone(path, rng):
    path.unlink()


DAMAGES = [cut, cut, written_to, written_to_secretly, replaced, gone]


def while_read(folder, rng):
    pool = write(rng.choice(list(WRITERS)), folder, LARGE)
    policy = rng.choice(["raise", "skip"])
    path, damage, at = rng.choice(parts(pool)), rng.choice(DAMAGES), rng.randrange(1, 8)

    def on_chunk(rows, n_bytes):
        nonlocal at
        at -= 1
        if not at:
            damage(path, rng)

    rows = np.array([0, 5, len(LARGE.x) - 1])
    try:
        source = open_pool(pool.path, **pool.options, on_bad_file=policy)
        chunks = run(Rows(), source, 4 * C * 300, on_chunk=on_chunk)
        ids = source.ids(rows) if pool.has_labels else LARGE.ids[rows]
    except REFUSALS as error:
        wrong = complaint(error, folder)
        return wrong and f"{damage.__name__}: {wrong}"
    n_rows = 0
    for start, x in chunks:
        if not np.array_equal(x, LARGE.x[start : start + len(x)]):
            return f"{damage.__name__} {path.name}, {policy}: rows from {start} on were made up"
        n_rows += len(x)
    if n_rows != len(LARGE.x) and not source.skipped:
        return f"{damage.__name__} {path.name}: {n_rows} rows"
    if list(ids) != list(LARGE.ids[rows]):
        return f"{damage.__name__} {path.name}: ids were made up: {list(ids)}"
    return None


# --- what is no file


def no_file(folder, rng):
    """A pipe, a device, a folder, a socket, or a link to nothing in the place of a file."""
    pool = write(rng.choice(list(WRITERS)), folder, DATA)
    path = rng.choice(parts(pool))
    path.unlink()
    kind = rng.choice(["pipe", "zero", "random", "folder", "socket", "nothing"])
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "socket":
        # By way of the folder, since such addresses are short.
        here = os.open(".", os.O_RDONLY)
        os.chdir(path.parent)
        socket.socket(socket.AF_UNIX).bind(path.name)
        os.fchdir(here)
        os.close(here)
    else:
        target = {"zero": "/dev/zero", "random": "/dev/urandom", "nothing": "nothing"}[kind]
        path.symlink_to(target)
    try:
        read_all(pool)
        x = np.concatenate([x for _, x in run(Rows(), open_pool(pool.path, **pool.options))])
    except REFUSALS as error:
        return complaint(error, folder)
    # What holds no rows, such as .zattrs, or an array beside them, may be gone.
    return None if np.allclose(x, DATA.x, rtol=1e-2) else f"{kind} for {path.name}: other rows"


# --- what storage does not hold


def without_zarr_chunk(folder, rng):
    pool = write(rng.choice([name for name in WRITERS if "zarr" in name]), folder, DATA)
    stored = [path for path in parts(pool) if path.name[0] != "." and path.name != "zarr.json"]
    rng.choice(stored).unlink()
    return pool


def without_zarr_inner_chunk(folder, rng):
    lost = rng.randrange(len(DATA.x) // 5)
    array = zarr.create_array(
        folder / "a.zarr", shape=DATA.x.shape, dtype="f4", chunks=(5, C), shards=(20, C),
        fill_value=rng.choice([0.0, 0.25, -1.0]),
    )  # fmt: skip
    for block in range(-(-len(DATA.x) // 5)):
        if block != lost:
            array[5 * block : 5 * block + 5] = DATA.x[5 * block : 5 * block + 5]
    return Pool(folder / "a.zarr", {}, False)


def without_hdf5_chunk(folder, rng):
    lost, name = rng.randrange(len(DATA.x) // STEP), rng.choice(["x", "id", "group"])
    columns = {"x": DATA.x, "id": np.arange(len(DATA.x)), "group": np.arange(len(DATA.x)) % 3 + 1}
    with h5py.File(folder / "a.h5", "w") as file:
        for column, values in columns.items():
            chunks = (STEP, *values.shape[1:])
            held = file.create_dataset(column, values.shape, values.dtype, chunks=chunks)
            for first in range(0, len(values), STEP):
                if column != name or first != lost * STEP:
                    held[first : first + STEP] = values[first : first + STEP]
    return Pool(folder / "a.h5", {"column": "x", **BOTH})


def without_hdf5_source(folder, rng):
    """A virtual dataset of two files, one of them gone, without the array, or short."""
    half = len(DATA.x) // 2
    layout = h5py.VirtualLayout((2 * half, C), "f4")
    for i in range(2):
        with h5py.File(folder / f"{i}.h5", "w") as file:
            file["x"] = DATA.x[i * half : (i + 1) * half]
        layout[i * half : (i + 1) * half] = h5py.VirtualSource(f"{i}.h5", "x", (half, C))
    with h5py.File(folder / "all.h5", "w") as file:
        file.create_virtual_dataset("x", layout)
    lost, how = folder / f"{rng.randrange(2)}.h5", rng.randrange(3)
    if how == 0:
        lost.unlink()
    else:
        with h5py.File(lost, "w") as file:
            file["x" if how == 1 else "y"] = DATA.x[: half // (3 - how)]
    return Pool(folder / "all.h5", {}, False)


def without_hdf5_bytes(folder, rng):
    """Rows kept in another file, which is too short."""
    raw = folder / "rows.bin"
    raw.write_bytes(DATA.x.tobytes()[: rng.randrange(DATA.x.nbytes)])
    with h5py.File(folder / "a.h5", "w") as file:
        external = [(str(raw), 0, DATA.x.nbytes)]
        file.create_dataset("x", DATA.x.shape, "f4", external=external)
    return Pool(folder / "a.h5", {}, False)


LOSSES = [
    without_zarr_chunk, without_zarr_inner_chunk, without_hdf5_chunk, without_hdf5_source,
    without_hdf5_bytes,
]  # fmt: skip


def lost(folder, rng):
    loses = rng.choice(LOSSES)
    pool = loses(folder, rng)
    wrong = refused(folder, lambda: read_all(pool))
    return wrong and f"{loses.__name__}: {wrong}"


# --- names that are there twice


def twice(folder, rng):
    """A container that holds two arrays, columns or lists of files of one name."""
    x, kind = DATA.x, rng.choice(["npz", "npz", "pt", "safetensors", "parquet", "arrow", "json"])
    path, options = folder / f"a.{kind}", {}
    if kind == "npz":
        np.save(folder / "x", x)
        names = rng.choice([["x.npy", "x.npy"], ["x", "x.npy"], ["x.npy", "y.npy", "y.npy"]])
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.write(folder / "x.npy", name)
        options = {"column": "x"}
    elif kind == "pt":
        torch.save({1: torch.from_numpy(x), "1": torch.from_numpy(x[::-1].copy())}, path)
        options = {"column": "1"} if rng.random() < 0.5 else {}
    elif kind == "safetensors":
        held = '"x":{"dtype":"F32","shape":[9,7],"data_offsets":[0,252]}'
        header = ("{" + held + "," + held + "}").encode()
        path.write_bytes(struct.pack("<Q", len(header)) + header + x[:9].tobytes())
    elif kind == "json":
        for name in "ab":
            np.save(folder / name, x)
        path.write_text('{"files": ["a.npy"], "files": ["b.npy"]}')
    else:
        rows = pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), C)
        table = pa.Table.from_arrays([rows, rows], ["x", "x"])
        if kind == "parquet":
            pq.write_table(table, path)
        else:
            with pa.ipc.new_file(str(path), table.schema) as file:
                file.write_table(table)
        options = {"column": "x"}
    wrong = refused(folder, lambda: read_all(Pool(path, options, False)))
    return wrong and f"{kind}: {wrong}"


# --- bits of a stored archive


def flipped(folder, rng):
    """A bit of a .npz is another: it is refused by the end, or what it holds is what it held."""
    name = rng.choice(["npz", "npz compressed"])
    pool = write(name, folder, LARGE)
    content = bytearray(pool.path.read_bytes())
    at = rng.choice([rng.randrange(len(content)), rng.randrange(400), -rng.randrange(1, 400)])
    content[at] ^= 1 << rng.randrange(8)
    pool.path.write_bytes(content)
    rows = np.arange(len(LARGE.x))
    try:
        source = open_pool(pool.path, **pool.options)
        start = rng.choice([0, rng.randrange(len(LARGE.x))])
        found = [np.asarray(as_tensor(chunk.x, "x")) for chunk in source.chunks(500, start)]
        ids = source.ids(rows)
    except REFUSALS as error:
        return complaint(error, folder)
    whole = np.array_equal(np.concatenate(found), LARGE.x[start:])
    return None if whole and list(ids) == list(LARGE.ids) else f"{name}: byte {at} was taken"


# --- ids


class Ids(NamedTuple):
    """Values of one kind, each another, and whether they must be read as what they are."""

    values: object  # an Arrow array
    is_plain: bool = False


def a_text(rng, i):
    letters = "é\r\n\"', ;\t\\\0\x1b\u2028😀nulN0."
    return "".join(rng.choices(letters, k=rng.randrange(6))) + f"-{i}" * (i > 0)


def day(rng, i):
    return datetime.datetime(1970, 1, 1) + datetime.timedelta(days=rng.randrange(9), seconds=i)


def ids_of(rng, n):
    """Ids of a random kind."""
    bits = rng.choice([8, 16, 32, 64])
    half, any_sign = 2 ** (bits - 1), rng.choice([-1, 1])
    few = [any_sign * (half - 1 - i) for i in range(n)]  # the largest, or the least
    many = [2 * half - 1 - i for i in range(n)]
    nanoseconds = rng.sample(range(1, 86_400 * 10**9), n)
    at = pa.array(rng.sample(range(10**18), n))
    kinds = {
        "text": lambda: Ids(pa.array([a_text(rng, i) for i in range(n)]), is_plain=True),
        "large text": lambda: Ids(
            pa.array([a_text(rng, i) for i in range(n)], pa.large_string()), is_plain=True
        ),
        "categories": lambda: Ids(
            pa.array([a_text(rng, i) for i in range(n)]).dictionary_encode(), is_plain=True
        ),
        "integers": lambda: Ids(pa.array(few, getattr(pa, f"int{bits}")()), is_plain=True),
        "unsigned": lambda: Ids(pa.array(many, getattr(pa, f"uint{bits}")()), is_plain=True),
        "floats": lambda: Ids(pa.array([float("nan"), *(0.1 + i for i in range(n - 1))])),
        "bytes": lambda: Ids(pa.array([b"\xff%d" % i for i in range(n)])),
        "uuids": lambda: Ids(
            pa.array([uuid.UUID(int=rng.getrandbits(128)).bytes for _ in range(n)], pa.binary(16))
        ),
        "times": lambda: Ids(pa.array([day(rng, i) for i in range(n)], pa.timestamp("us"))),
        "nanoseconds": lambda: Ids(at.cast(pa.timestamp("ns", rng.choice([None, "UTC"])))),
        "times of day": lambda: Ids(pa.array(nanoseconds).cast(pa.time64("ns"))),
        "durations": lambda: Ids(at.cast(pa.duration("ns"))),
        "decimals": lambda: Ids(pa.array([decimal.Decimal(i) / 100 for i in range(n)])),
        "lists": lambda: Ids(pa.array([[i, i + 1] for i in range(n)])),
        "structs": lambda: Ids(pa.array([{"a": i} for i in range(n)])),
        "nulls": lambda: Ids(pa.array([None, *(2**53 + i for i in range(n - 1))], pa.int64())),
    }
    kind = rng.choice(list(kinds))
    return kind, kinds[kind]()


def ids(folder, rng):
    """They come out of every output as they went in, or are refused."""
    n = 9
    kind, given = ids_of(rng, n)
    rows = pa.FixedSizeListArray.from_arrays(pa.array(DATA.x[:n].ravel()), C)
    table = pa.table({"x": rows, "id": given.values})
    try:
        path = stored(folder, rng, table)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None  # no file has such
    try:
        picks = fastal.select(open_pool(path, column="x", id_column="id"), n)
    except REFUSALS as error:
        wrong = complaint(error, folder)
        return wrong and f"{kind}: {wrong}"
    want = [given.values[int(row)].as_py() for row in picks.rows] if given.is_plain else None
    for suffix in PICKS_SUFFIXES:
        out = folder / f"picks{suffix}"
        with out.open("wb") as file:
            write_picks(file, picks, suffix)
        if suffix in (".json", ".jsonl"):
            text = out.read_text("utf-8")
            for part in text.split("\n") if suffix == ".jsonl" else [text]:
                json.loads(part or "0", parse_constant=no_json)
        found = list(map(str, read_picks(out).ids))
        # An empty field of CSV is None.
        kept = [str((one or None) if suffix == ".csv" else one) for one in want or ()]
        if want is not None and found != kept:
            return f"{kind} in {path.suffix} to {suffix}: {found} of {want}"
        if len(set(found)) != n:
            return f"{kind} in {path.suffix} to {suffix}: not each another: {found}"
    return None


def no_json(name):
    raise ValueError(f"no JSON: {name}")


def stored(folder, rng, table):
    """A file of a random format that holds a table."""
    path = folder / f"a.{rng.choice(['parquet', 'arrow', 'npz'])}"
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    elif path.suffix == ".arrow":
        with pa.ipc.new_file(str(path), table.schema) as file:
            file.write_table(table)
    else:
        if table["id"].null_count:
            raise pa.ArrowInvalid("NumPy has no null")
        values = table["id"].to_numpy()
        if values.dtype == object:
            if not all(isinstance(value, str) and value[-1:] != "\0" for value in values):
                raise pa.ArrowInvalid("NumPy has no such type")
            values = values.astype(str)
        x = np.stack(table["x"].to_numpy())
        np.savez(path, x=x, id=values)
    return path


# --- rows of tensors, columns in another order


def tensors(folder, rng):
    """A column of tensors, permuted or not: rows are what the file says, or it is refused."""
    n, shape = 20, [rng.randrange(1, 5) for _ in range(rng.randrange(1, 4))]
    order = rng.sample(range(len(shape)), len(shape))
    x = np.random.default_rng(rng.randrange(99)).standard_normal((n, *shape)).astype("f4")
    kind = pa.fixed_shape_tensor(pa.float32(), shape, permutation=order)
    width = int(np.prod(shape))
    flat = pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), width)
    column = pa.ExtensionArray.from_storage(kind, flat)
    want = x.transpose(0, *(1 + axis for axis in order))  # the file says how it is stored
    table = pa.table({"x": column})
    names = "ab"[: rng.randrange(1, 3)]
    paths = [folder / f"{name}.{rng.choice(['parquet', 'arrow'])}" for name in names]
    for path in paths:
        if path.suffix == ".parquet":
            pq.write_table(table, path, row_group_size=7)
        else:
            with pa.ipc.new_file(str(path), table.schema) as file:
                file.write_table(table, max_chunksize=7)
    if len(paths) == 2 and rng.random() < 0.5:  # the same rows, of no permutation
        paths[1].unlink()
        paths[1] = folder / "b.npy"
        np.save(paths[1], want)
    try:
        chunks = run(Rows(), open_pool(folder), chunk_bytes=500)
    except REFUSALS as error:
        return complaint(error, folder)
    found = [x for _, x in chunks]
    has_shape = {part.shape[1:] for part in found} == {want.shape[1:]}
    if has_shape and np.array_equal(np.concatenate(found), np.concatenate([want] * len(paths))):
        return None
    return f"tensors {shape} permuted by {order} came as rows of shape {found[0].shape[1:]}"


def columns(folder, rng):
    """Shards with a column a class, in another order each: names decide."""
    n_files, n_classes = rng.randrange(2, 4), rng.randrange(2, 13)
    names = [f"logit_{i}" for i in range(n_classes)]
    x = np.random.default_rng(rng.randrange(99)).standard_normal((9, n_classes)).astype("f4")
    is_other = rng.random() < 0.3
    for i in range(n_files):
        order = list(range(n_classes)) if i == 0 else rng.sample(range(n_classes), n_classes)
        held = {names[j]: x[:, j] for j in order}
        if is_other and i == n_files - 1:
            held[f"{names[order[0]]}_other"] = held.pop(names[order[0]])
        if rng.random() < 0.5:
            pq.write_table(pa.table(held), folder / f"{i}.parquet")
        else:
            with pa.ipc.new_file(str(folder / f"{i}.arrow"), pa.table(held).schema) as file:
                file.write_table(pa.table(held))
    column = "logit_*" if is_other else rng.choice(["logit_*", names])
    if is_other:
        return refused(folder, lambda: run(Rows(), open_pool(folder, column=column)))
    try:
        found = run(Rows(), open_pool(folder, column=column))
    except REFUSALS as error:
        return f"refused: {error}"
    if all(np.array_equal(part, x) for _, part in found):
        return None
    return f"{n_classes} classes in another order were mixed up"


KINDS = {
    "while read": while_read,
    "no file": no_file,
    "lost": lost,
    "twice": twice,
    "flipped": flipped,
    "ids": ids,
    "tensors": tensors,
    "columns": columns,
}


def case(name, folder, rng: random.Random):
    """What is wrong with how a pool of a kind was read, None: nothing."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile's, of names that are there twice
        return KINDS[name](Path(folder), rng)
