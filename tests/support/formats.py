"""One matrix, with ids and groups, written in every format and layout."""

import json
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.torch
import torch
import zarr

N, C = 211, 7
STEP = 23  # rows of a row group, a record batch, a chunk


class Data(NamedTuple):
    """What is written."""

    x: Any
    ids: Any
    groups: Any


class Pool(NamedTuple):
    """A pool, the arguments of `open_pool` for it, and whether it has ids and groups."""

    path: Any
    options: Any = MappingProxyType({})
    has_labels: bool = True


def parts(pool):
    """The files that a pool is made of."""
    path = Path(pool.path)
    folder = path if path.is_dir() else path.parent
    return sorted(p for p in folder.rglob("*") if p.is_file())


def data(dtype: str = "float32", n: int = N) -> Data:
    rng = np.random.default_rng(7)
    x = rng.standard_normal((n, C)).astype(dtype)
    ids = np.array([f"é-{7 * i}" for i in range(n)], object)
    return Data(x, ids, np.array(["ab", "c", "dé"], object)[rng.integers(0, 3, n)])


BOTH = {"id_column": "id", "group_column": "group"}


def _npy(path, d):
    np.save(path / "a.npy", d.x)
    return Pool(path / "a.npy", {}, False)


def _npz(save):
    def write(path, d):
        save(path / "a.npz", x=d.x, id=d.ids.astype(str), group=d.groups.astype(str), one=d.x[:, 0])
        return Pool(path / "a.npz", {"column": "x", **BOTH})

    return write


def _safetensors(path, d):
    tensors = {"x": torch.from_numpy(d.x), "odd": torch.zeros(3, dtype=torch.uint8)}
    safetensors.torch.save_file(tensors, path / "a.safetensors", {"made": "here"})
    return Pool(path / "a.safetensors", {}, False)


def _pt(path, d):
    torch.save(torch.from_numpy(d.x), path / "a.pt")
    return Pool(path / "a.pt", {}, False)


def _pt_dict(path, d):
    whole = torch.zeros(len(d.x), 2 * C + 1, dtype=torch.from_numpy(d.x).dtype)
    whole[:, 1 : 2 * C : 2] = torch.from_numpy(d.x)
    held = {"x": whole[:, 1 : 2 * C : 2], "epoch": 3, "loss": torch.zeros(4), "name": "resnet"}
    torch.save(held, path / "b.pt")
    return Pool(path / "b.pt", {}, False)


def _hdf5(**options):
    def write(path, d):
        with h5py.File(path / "a.h5", "w") as file:
            file.create_dataset("x", data=d.x, **options)
            file["val/id"] = d.ids.tolist()
            file["group"] = np.char.encode(d.groups.astype(str), "utf-8")
            file["nothing"] = h5py.Empty("f4")
        return Pool(path / "a.h5", {"id_column": "val/id", "group_column": "group"})

    return write


def _zarr_array(**options):
    def write(path, d):
        array = zarr.create_array(path / "a.zarr", shape=d.x.shape, dtype=d.x.dtype, **options)
        array[:] = d.x
        return Pool(path / "a.zarr", {}, False)

    return write


def _zarr_group(path, d):
    group = zarr.open_group(path / "b.zarr", mode="w", zarr_format=2)
    group.create_array("x", data=d.x, chunks=(STEP, 4))
    group.create_array("xx", data=np.zeros(3))
    for name, values in (("id", d.ids), ("group", d.groups)):
        array = group.create_array(name, shape=len(d.x), dtype=str, chunks=(50,))
        array[:] = values.astype("T")
    return Pool(path / "b.zarr", BOTH)


def _manifest(path, d):
    half = len(d.x) // 2
    files = []
    for name, part in (("b", slice(0, half)), ("c", slice(half, None))):
        np.save(path / f"{name}.npy", d.x[part])
        np.save(path / f"{name}-id.npy", d.ids[part].astype(str))
        np.save(path / f"{name}-group.npy", d.groups[part].astype(str))
        columns = {"id": f"{name}-id.npy", "group": str(path / f"{name}-group.npy")}
        files.append({"path": f"./{name}.npy", "columns": columns, "rows": len(d.x[part])})
    (path / "m.json").write_text(json.dumps({"files": files, **BOTH}))
    return Pool(path / "m.json")


def vectors(x: Any, kind: str) -> Any:
    """The rows of a matrix as an Arrow array."""
    item = pa.from_numpy_dtype(x.dtype)
    if kind == "binary":
        return pa.array([row.tobytes() for row in x], pa.binary(x.itemsize * C))
    if kind in ("list", "large_list"):
        of = {"list": pa.ListArray, "large_list": pa.LargeListArray}[kind]
        starts = np.arange(0, x.size + 1, C, "i4" if kind == "list" else "i8")
        return of.from_arrays(pa.array(starts), pa.array(x.ravel()))
    rows = pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), C)
    if kind == "fixed":
        return rows
    return pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(item, [C]), rows)


VIEW = pa.string_view()
# Older versions read such columns, but do not write them.
PARQUET_VIEW = VIEW if int(pa.__version__.split(".")[0]) >= 21 else pa.string()
VECTORS = ["fixed", "list", "large_list", "tensor", "binary", "wide", "named"]


def table(d: Data, kind: str, view: Any = VIEW) -> tuple[Any, dict[str, Any]]:
    """A table of the data, and the arguments of `open_pool` for it."""
    ids, groups = pa.array(d.ids.tolist()), pa.array(d.groups.tolist())
    if kind == "list":
        ids, groups = ids.cast(pa.large_string()), groups.dictionary_encode()
    elif kind == "large_list":
        ids, groups = ids.cast(view), groups.cast(pa.large_string())
    elif kind == "tensor":
        ids, groups = ids.dictionary_encode(), groups.cast(view)
    columns = {"id": ids, "other": np.arange(len(d.x)) / 3}
    if kind not in ("wide", "named"):
        options = {"dtype": str(d.x.dtype)} if kind == "binary" else {}
        return pa.table({**columns, "x": vectors(d.x, kind), "group": groups}), {**options, **BOTH}
    columns |= {f"logit_{i}": d.x[:, i] for i in range(C)}
    column = "logit_*" if kind == "wide" else [f"logit_{i}" for i in range(C)]
    return pa.table({**columns, "group": groups}), {"column": column, **BOTH}


def _parquet(kind, **options):
    def write(path, d):
        held, given = table(d, kind, PARQUET_VIEW)
        pq.write_table(held, path / "a.parquet", row_group_size=STEP, **options)
        return Pool(path / "a.parquet", given)

    return write


def _ipc(kind, new, name="a.arrow", compression=None):
    def write(path, d):
        held, given = table(d, kind)
        options = pa.ipc.IpcWriteOptions(compression=compression)
        with (
            pa.OSFile(str(path / name), "wb") as file,
            new(file, held.schema, options=options) as writer,
        ):
            writer.write_table(held.slice(0, 0))
            for batch in held.to_batches()[:1]:
                writer.write_batch(batch.slice(0, 0))
            writer.write_table(held, max_chunksize=STEP)
        return Pool(path / name, given)

    return write


WRITERS: dict[str, Callable[[Any, Data], Pool]] = {
    "npy": _npy,
    "npz": _npz(np.savez),
    "npz compressed": _npz(np.savez_compressed),
    "safetensors": _safetensors,
    "pt": _pt,
    "pt of a dictionary": _pt_dict,
    "hdf5": _hdf5(),
    "hdf5 in chunks": _hdf5(chunks=(STEP, 3), compression="gzip"),
    "hdf5 in large chunks": _hdf5(chunks=(N, C), shuffle=True, maxshape=(None, C)),
    "zarr": _zarr_array(chunks=(STEP, 4)),
    "zarr in shards": _zarr_array(chunks=(5, C), shards=(20, C)),
    "zarr 2": _zarr_array(chunks=(STEP, C), zarr_format=2),
    "zarr group": _zarr_group,
    "manifest": _manifest,
    **{f"parquet {kind}": _parquet(kind) for kind in VECTORS},
    "parquet zstd": _parquet("fixed", compression="zstd", version="1.0", data_page_size=300),
    "parquet plain": _parquet("list", use_dictionary=False, data_page_version="2.0"),
    **{f"arrow {kind}": _ipc(kind, pa.ipc.new_file) for kind in VECTORS},
    **{f"stream {kind}": _ipc(kind, pa.ipc.new_stream) for kind in VECTORS},
    "arrow zstd": _ipc("wide", pa.ipc.new_file, compression="zstd"),
    "stream lz4": _ipc("list", pa.ipc.new_stream, compression="lz4"),
    "feather": _ipc("fixed", pa.ipc.new_file, "a.feather", compression="lz4"),
}


def write(name: str, folder: Any, d: Data) -> Pool:
    folder.mkdir(exist_ok=True, parents=True)
    return WRITERS[name](folder, d)
