"""Times the pipeline over files, against memory and disk: `python -m benchmarks.files`.

A run takes about 5 minutes. It writes a pool of 4 GB, float32 logits of 1000 classes, to a folder,
and removes it. Every figure is a ratio within one run. The works that are compared run alternately,
in an order that is reversed every other round. The sums over all rounds are divided, because the
speed of some disks varies.

    mapped      the pool in the page cache, against the same backend on a tensor in memory
    cold        the pool from the disk, against reading the file alone
    overlap     reading and scoring at once, against the longer of the two alone
    checkpoint  80 GB in the page cache with a checkpoint every second, against none
    memory      highest anonymous memory while 80 GB are read
    formats     reading each format from the page cache on one thread, and selecting from it
"""

import argparse
import os
import shutil
import statistics
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

import fastal
from benchmarks.interleaved import interleaved, means, seconds
from fastal.pipeline import checkpoint
from fastal.sources.files import Files

CLASSES = 1000


def write_pool(path: Path, n_bytes: int) -> None:
    rows = n_bytes // CLASSES // 4
    header = {"descr": "<f4", "fortran_order": False, "shape": (rows, CLASSES)}
    block = np.random.default_rng(0).standard_normal((10_000, CLASSES), np.float32) * 3
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for first in range(0, rows, len(block)):
            file.write(block[: rows - first] * np.float32(1 + first / rows))


def forget(path: Path) -> None:
    """Makes the system drop the file's pages from the page cache."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read(path: Path) -> None:
    """Reads the whole file into a buffer that stays in the CPU's cache."""
    buffer = bytearray(4 << 20)
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def mapped(path: Path, rounds: int) -> None:
    tensor = torch.from_numpy(np.load(path))

    def compare(what: str) -> None:
        taken = interleaved(
            lambda: fastal.select(tensor, 1000), lambda: fastal.select(path, 1000), rounds=rounds
        )
        report("mapped", what, path.stat().st_size, taken, "in memory")

    compare("as just written")
    forget(path)
    fastal.select(path, 1000)
    compare("read before from the disk")


def cold(path: Path, rounds: int) -> None:
    taken = interleaved(
        lambda: read(path), lambda: fastal.select(path, 1000),
        rounds=2 * rounds, before=lambda: forget(path),
    )  # fmt: skip
    report("cold", "select", path.stat().st_size, taken, "plain read")


def consume(pool: Path) -> None:
    for chunk in Files([pool]).chunks(8192):
        del chunk


def overlap(path: Path, parquet: Path, rounds: int) -> None:
    tensor = torch.from_numpy(np.load(path))  # a memory map would keep the file's pages
    taken = interleaved(
        lambda: consume(path), lambda: fastal.select(tensor, 1000),
        lambda: fastal.select(path, 1000), rounds=2 * rounds, before=lambda: forget(path),
    )  # fmt: skip
    report_overlap("cold .npy, native", taken)
    part = tensor[: Files([parquet]).n_rows]
    torch.set_num_threads(1)
    for backend in ("auto", "torch"):
        taken = interleaved(
            lambda: consume(parquet), lambda: fastal.select(part, 1000, backend=backend),
            lambda: fastal.select(parquet, 1000, backend=backend), rounds=2 * rounds,
        )  # fmt: skip
        report_overlap(f"Parquet, {backend}, 1 thread", taken)
    torch.set_num_threads(os.cpu_count() or 1)


def linked(path: Path, n: int) -> list[Path]:
    """Hard links to one file: a pool that is larger than the memory it takes."""
    folder = path.parent / "linked"
    folder.mkdir(exist_ok=True)
    links = [folder / f"{i:03}.npy" for i in range(n)]
    for link in links:
        if not link.exists():
            os.link(path, link)
    return links


def checkpointing(path: Path, rounds: int) -> None:
    checkpoint._SECONDS = 1.0  # not 30: the whole run takes about 4
    pool, folder = linked(path, 20), path.parent / "checkpoint"
    save, saving = checkpoint.Checkpoint.save, []
    checkpoint.Checkpoint.save = lambda *given: saving.append(seconds(lambda: save(*given)))
    for k in (1000, 1_000_000):
        saving.clear()
        taken = interleaved(
            lambda: fastal.select(pool, k), lambda: fastal.select(pool, k, checkpoint=folder),
            rounds=rounds,
        )  # fmt: skip
        report("checkpoint", f"k = {k:,}", 20 * path.stat().st_size, taken, "without")
        if not saving:
            print(f"{'':11} none was saved within a second: wanted a larger --gb")
            continue
        each = statistics.mean(saving)
        print(f"{'':11} one takes {each * 1e3:.1f} ms: every 30 s, {each / 30:.2%} of the time")


def memory(path: Path) -> None:
    def anonymous() -> int:
        status = Path("/proc/self/status").read_text()
        return int(status.split("RssAnon:")[1].split()[0]) * 1024

    pool, peak, done = linked(path, 20), 0, threading.Event()

    def sample() -> None:
        nonlocal peak
        while not done.wait(0.001):
            peak = max(peak, anonymous())

    fastal.select(path, 1000)
    before = anonymous()
    sampler = threading.Thread(target=sample)
    sampler.start()
    fastal.select(pool, 1000)
    done.set()
    sampler.join()
    size = 20 * path.stat().st_size / 1e9
    print(
        f"memory      {size:.0f} GB: {max(0, peak - before) / 1e6:.0f} MB above the "
        f"{before / 1e6:.0f} MB before"
    )


def write_formats(folder: Path, x: np.ndarray) -> Iterator[tuple[str, Path]]:
    import h5py
    import pyarrow as pa
    import pyarrow.parquet as pq
    import zarr
    from safetensors.numpy import save_file

    np.save(folder / "x.npy", x)
    yield ".npy", folder / "x.npy"
    np.savez(folder / "x.npz", x=x)
    yield ".npz, stored", folder / "x.npz"
    save_file({"x": x}, folder / "x.safetensors")
    yield ".safetensors", folder / "x.safetensors"
    torch.save(torch.from_numpy(x), folder / "x.pt")
    yield ".pt", folder / "x.pt"
    lists = pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), CLASSES)
    binary = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(4 * CLASSES), len(x), [None, pa.py_buffer(x)]
    )
    table = pa.table({"x": lists})
    with pa.ipc.new_file(str(folder / "x.arrow"), table.schema) as file:
        file.write_table(table, max_chunksize=8192)
    yield ".arrow", folder / "x.arrow"
    pq.write_table(table, folder / "lists.parquet")
    yield ".parquet, lists", folder / "lists.parquet"
    pq.write_table(table, folder / "plain.parquet", compression="none", use_dictionary=False)
    yield ".parquet, lists, uncompressed, no dictionary", folder / "plain.parquet"
    pq.write_table(
        pa.table({"x": binary}), folder / "binary.parquet", compression="none", use_dictionary=False
    )
    yield ".parquet, fixed-size binary, the same", folder / "binary.parquet"
    with h5py.File(folder / "x.h5", "w") as file:
        file["x"] = x
    yield ".h5, contiguous", folder / "x.h5"
    array = zarr.create_array(str(folder / "x.zarr"), data=x, chunks=(8192, CLASSES))
    del array
    yield ".zarr, compressed", folder / "x.zarr"


def formats(folder: Path, x: np.ndarray, rounds: int) -> None:
    for name, path in write_formats(folder, x):
        pool = fastal.open_pool(path, dtype="float32" if "binary" in name else None)

        def touch() -> None:
            for chunk in pool.chunks(8192):
                np.asarray(chunk.x)[..., ::16].max()  # reads one value of each cache line

        taken = interleaved(touch, lambda: fastal.select(pool, 1000), rounds=rounds)
        read_at, selected_at = (x.nbytes / mean / 1e9 for mean in means(taken))
        print(f"formats     {name:<45} {read_at:6.2f} GB/s read, {selected_at:6.2f} selected from")


def report(case: str, what: str, n_bytes: int, taken: list[list[float]], other: str) -> None:
    theirs, ours = means(taken)
    rate, limit = n_bytes / ours / 1e9, n_bytes / theirs / 1e9
    print(f"{case:<11} {what:<26} {rate:6.2f} GB/s, {other} {limit:6.2f}: {theirs / ours:6.1%}")


def report_overlap(what: str, taken: list[list[float]]) -> None:
    reading, scoring, both = means(taken)
    print(
        f"overlap     {what:<26} {both:6.3f} s, reading {reading:.3f}, scoring {scoring:.3f}: "
        f"{both / max(reading, scoring) - 1:+.1%} over the longer"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--folder", type=Path, help="where to write the pool (default: temporary)")
    parser.add_argument("--gb", type=float, default=4.0, help="size of the pool (default: 4)")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of each case (default: 7)")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="fastal-files-", dir=arguments.folder))
    try:
        pool = folder / "pool.npy"
        write_pool(pool, int(arguments.gb * 1e9))
        print(f"fastal {fastal.__version__}, torch {torch.__version__}, {os.cpu_count()} CPUs, "
              f"{arguments.gb:g} GB, {arguments.rounds} rounds")  # fmt: skip
        mapped(pool, arguments.rounds)
        checkpointing(pool, arguments.rounds)
        memory(pool)
        x = np.load(pool, mmap_mode="r")[: int(4e8) // CLASSES // 4]
        formats(folder, np.array(x), arguments.rounds)
        overlap(pool, folder / "plain.parquet", arguments.rounds)
        cold(pool, arguments.rounds)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
