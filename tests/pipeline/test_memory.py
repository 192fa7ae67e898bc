"""Peak memory, measured in separate processes."""

import subprocess
import sys

import numpy as np
import pytest

from fastal_kernels import native
from tests.support.memory import peak

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]


@pytest.fixture
def pool(tmp_path):
    """2 GB of logits in a sparse file."""
    path = tmp_path / "pool.npy"
    shape = (2_000_000_000 // 4000, 1000)
    np.lib.format.open_memmap(path, "w+", np.float32, shape)
    return path


def test_the_measurement_notices_a_copy_of_the_matrix(tmp_path):
    np.save(tmp_path / "pool.npy", np.zeros((25_000, 1000), np.float32))  # 100 MB
    assert peak("measure(lambda: np.load(sys.argv[1]).sum())", tmp_path / "pool.npy") > 90e6


SELECT = "measure(lambda: fastal.select(sys.argv[1], 1000, backend=sys.argv[2]))"


@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_a_mapped_pool_of_2_gb_takes_less_than_64_mb(pool, backend):
    assert peak(SELECT, pool, backend) < 64e6


@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_a_mapped_pool_of_two_classes_takes_less_than_64_mb(tmp_path, backend):
    np.lib.format.open_memmap(tmp_path / "pool.npy", "w+", np.float16, (50_000_000, 2))
    assert peak(SELECT, tmp_path / "pool.npy", backend) < 64e6


@pytest.mark.skipif(bool(native.reasons()), reason="not compiled here")
def test_native_scores_of_1_gb_take_less_than_16_mb():
    """No copy of the matrix of any dtype: 4 MB of scores, and a tile per thread."""
    code = """
torch.set_num_threads(2)
for dtype in (torch.float32, torch.bfloat16, torch.float64):
    x = torch.zeros(1, dtype=dtype).expand(2**18, 1000)
    fastal.score(x[:1000], backend='native')
    measure(lambda: fastal.score(x, backend='native'))
"""
    assert peak(code) < 16e6


IMAGES = (1500, 21, 128, 64)  # 1 GB of planes, [N, C, H, W]


@pytest.mark.skipif(bool(native.reasons()), reason="not compiled here")
@pytest.mark.parametrize("how", ["class_axis=1", "kind='multilabel_logits'"])
def test_images_are_read_in_place(tmp_path, how):
    """No transposed copy: the scores of the images, and the best of them."""
    np.lib.format.open_memmap(tmp_path / "images.npy", "w+", np.float32, IMAGES)
    code = f"""
measure(lambda: fastal.select(sys.argv[1], 100, aggregate='mean', {how}))
x = np.load(sys.argv[1], mmap_mode='r')
measure(lambda: fastal.score(x, aggregate='max', {how}))
"""
    assert peak(code, tmp_path / "images.npy") < 16e6


@pytest.mark.parametrize("how", ["class_axis=1", "kind='multilabel_logits'"])
def test_images_take_constant_memory_in_torch(tmp_path, how):
    np.lib.format.open_memmap(tmp_path / "images.npy", "w+", np.float32, (200, *IMAGES[1:]))
    code = (
        f"measure(lambda: fastal.select(sys.argv[1], 9, aggregate='mean', backend='torch', {how}))"
    )
    assert peak(code, tmp_path / "images.npy") < 256e6


@pytest.mark.skipif(bool(native.reasons()), reason="not compiled here")
def test_the_highest_take_a_score_a_pixel(tmp_path):
    """Each thread holds the scores of one image."""
    np.lib.format.open_memmap(tmp_path / "images.npy", "w+", np.float16, (8, 2, 4096, 4096))
    code = """
torch.set_num_threads(2)
how = {'aggregate': 'top100', 'class_axis': 1}
measure(lambda: fastal.select(sys.argv[1], 2, **how))
"""
    assert peak(code, tmp_path / "images.npy") < 2 * 4 * 4096**2 + 16e6


def test_items_that_straddle_chunks_take_constant_memory(tmp_path):
    np.lib.format.open_memmap(tmp_path / "rows.npy", "w+", np.float32, (1_000_000, 200))
    np.save(tmp_path / "lengths.npy", np.full(10_000, 100))
    code = """
items = fastal.items(sys.argv[1], lengths=sys.argv[2])
measure(lambda: fastal.select(items, 100, aggregate='mean', chunk_bytes=1_000_000))
"""
    assert peak(code, tmp_path / "rows.npy", tmp_path / "lengths.npy") < 32e6


def test_ragged_columns_take_constant_memory(tmp_path):
    path = tmp_path / "ragged.parquet"
    write = """
starts = np.arange(0, len(x) + 1, 100)
items = pa.ListArray.from_arrays(pa.array(starts, pa.int32()), lists)
pq.write_table(pa.table({'p': items}), path, row_group_size=50)
"""
    subprocess.run([sys.executable, "-c", WRITE + write, path], check=True)
    code = """
pool = fastal.open_pool(sys.argv[1], ragged=True)
measure(lambda: fastal.select(pool, 100, aggregate='mean'))
"""
    assert peak(code, path) < 200e6


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_the_scores_of_hidden_states_take_less_than_64_mb(backend, dtype):
    """The logits would take 246 MB: 2048 rows of 30,000 classes in float32."""
    code = """
backend, dtype = sys.argv[1], getattr(torch, sys.argv[2])
hidden, weight = (torch.zeros(n, 32, dtype=dtype) for n in (2048, 30_000))
head = fastal.Head(weight)
head.score(hidden[:1], backend=backend)  # what is loaded once
measure(lambda: head.score(hidden, backend=backend))
"""
    assert peak(code, backend, dtype) < 64e6


def test_a_product_of_all_logits_would_take_more():
    code = """
hidden, weight = torch.zeros(2048, 32), torch.zeros(30_000, 32)
measure(lambda: fastal.score(hidden @ weight.T))
"""
    assert peak(code) > 240e6


@pytest.mark.parametrize("suffix", ["csv", "npy"])
def test_all_scores_to_a_file_take_less_than_128_mb(tmp_path, suffix):
    """Four scores per row of a chunk, twice, and a block of text."""
    np.lib.format.open_memmap(tmp_path / "pool.npy", "w+", np.float16, (3_000_000, 2))
    code = """
from pathlib import Path
from fastal.commands.uncertainty import score_to_file
from fastal.sources.files import Files
pool, out = sys.argv[1:]
measure(lambda: score_to_file(Files([pool]), fastal.Scores._fields, out=Path(out)))
"""
    assert peak(code, tmp_path / "pool.npy", tmp_path / f"scores.{suffix}") < 128e6


@pytest.mark.parametrize(("suffix", "most"), [("csv", 128e6), ("npy", 128e6), ("parquet", 256e6)])
def test_all_clusters_to_a_file_take_constant_memory(tmp_path, suffix, most):
    """12 million clusters would take 144 MB. For Parquet, Arrow holds some row groups."""
    np.lib.format.open_memmap(tmp_path / "pool.npy", "w+", np.float16, (12_000_000, 2))
    np.save(tmp_path / "c.npy", np.eye(2))
    code = """
from pathlib import Path
import pyarrow.parquet
from fastal.commands.diversity import assign_to_file
from fastal.sources.files import Files
pool, centroids, out = sys.argv[1:]
measure(lambda: assign_to_file(Files([pool]), Path(centroids), out=Path(out)))
"""
    paths = tmp_path / "pool.npy", tmp_path / "c.npy", tmp_path / f"clusters.{suffix}"
    assert peak(code, *paths) < most


def test_clusters_as_groups_take_24_bytes_a_row(tmp_path):
    """12 bytes in parts and 12 in one piece; a chunk of either pool takes the rest."""
    n_rows = 12_000_000
    np.lib.format.open_memmap(tmp_path / "pool.npy", "w+", np.float16, (n_rows, 2))
    code = """
import numpy as np
from fastal import diversity
clusters = diversity.CosineClusters(centroids=np.eye(2))
pool = fastal.open_pool(sys.argv[1], beside=sys.argv[1])
measure(lambda: fastal.select(pool, by="margin", groups=clusters, per_group=3))
"""
    assert peak(code, tmp_path / "pool.npy") < 24 * n_rows + 64e6


def test_a_hundred_million_scores_take_constant_memory():
    code = """
selector = fastal.Selector(1000, lambda scores: scores)
def work(n_chunks):
    generator = torch.Generator().manual_seed(0)
    for _ in range(n_chunks):
        selector.update(torch.rand(1_000_000, generator=generator))
work(10)  # after these, the heap is as large as a chunk needs
measure(lambda: work(90))
assert len(selector.result().rows) == 1000
"""
    assert peak(code) < 40e6  # a few chunks; the scores are ten times this


def test_scores_in_the_worst_order_take_constant_memory():
    code = """
selector = fastal.Selector(1000, lambda scores: scores)
def work(first, last):
    for i in range(first, last):
        selector.update(torch.arange(i * 250_000, (i + 1) * 250_000) / 1e8)
work(0, 10)
measure(lambda: work(10, 100))
assert selector.result().rows[0] >= 24_000_000
"""
    assert peak(code) < 40e6  # a few chunks; the scores are ten times this


FORMATS = {
    "a.parquet": "pq.write_table(table, path, row_group_size=2**30, use_dictionary=False)",
    "lists.parquet": "pq.write_table(table.set_column(0, 'p', lists), path, row_group_size=2**30)",
    "long.parquet": """
rows = pa.ListArray.from_arrays(pa.array(np.arange(0, x.size + 1, 250_000), pa.int32()), flat)
pq.write_table(pa.table({'p': rows}), path, use_dictionary=False)
""",
    "a.arrow": """
with pa.ipc.new_file(path, table.schema) as file:
    file.write_table(table)
""",
    "batches.arrow": """
options = pa.ipc.IpcWriteOptions(compression='lz4')
with pa.ipc.new_file(path, table.schema, options=options) as file:
    file.write_table(table, max_chunksize=1000)
""",
    "a.h5": "h5py.File(path, 'w').create_dataset('x', data=x, chunks=(1000, 99), shuffle=True)",
    "whole.h5": "h5py.File(path, 'w').create_dataset('x', data=x)",
    "a.zarr": "zarr.create_array(path, shape=x.shape, chunks=(1000, 500), dtype='f4')[:] = x",
    "a.npz": "np.savez_compressed(path, x=x)",
    "stored.npz": "np.savez(path, x=x)",
}
WRITE = """
import sys
import h5py, numpy as np, pyarrow as pa, pyarrow.parquet as pq, zarr
path, n = sys.argv[1], 75_000
x = np.tile(np.arange(1000, dtype='f4') % 7, (n, 1))
flat = pa.array(x.ravel())
lists = pa.ListArray.from_arrays(pa.array(np.arange(0, x.size + 1, 1000), pa.int32()), flat)
table = pa.table({'p': pa.FixedSizeListArray.from_arrays(flat, 1000), 'id': np.arange(n)})
"""


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_of_300_mb_takes_less_than_200_mb(tmp_path, name):
    """Two chunks of 32 MB, the memory for decoding, and the library itself."""
    path = tmp_path / name
    subprocess.run([sys.executable, "-c", WRITE + FORMATS[name], path], check=True)
    code = """
path = sys.argv[1]
options = {'id_column': 'id'} if path.endswith(('a.parquet', 'a.arrow')) else {}
def work():
    picks = fastal.select(fastal.open_pool(path, **options), 100)
    assert len(picks.rows) == 100
measure(work)
"""
    assert peak(code, path) < 200e6


def test_a_parquet_file_of_a_thousand_columns_takes_less_than_300_mb(tmp_path):
    """Each column takes a page and a buffer of 32 kB."""
    path = tmp_path / "wide.parquet"
    write = """
wide = pa.table({f'p{i}': x[:, i].copy() for i in range(1000)})
pq.write_table(wide, path, use_dictionary=False, compression='none')
"""
    subprocess.run([sys.executable, "-c", WRITE + write, path], check=True)
    code = "measure(lambda: fastal.select(fastal.open_pool(sys.argv[1], column='p*'), 100))"
    assert peak(code, path) < 300e6
