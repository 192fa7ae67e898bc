"""Damages files in every way and reads them; writes what is not as it should be.

    python -m tests.support.fuzz_formats FOLDER SEED CASES NAME ...

A name is that of a format, whose files are damaged, or of a kind of wrong pool in
`tests.support.fuzz_kinds`. A process of its own, whose memory is limited: crashes and growth show.
It says which case it reads before it does.
"""

import faulthandler
import logging
import random
import resource
import shutil
import sys
import warnings
from functools import partial
from pathlib import Path

import numpy as np

from fastal.base.arrays import as_tensor
from fastal.sources import open_pool
from tests.support import fuzz_kinds
from tests.support.formats import data, parts, write

MOST = 1 << 30  # more than the libraries have mapped when they are loaded
MOST_SECONDS = 20  # of a case
LIBRARIES = ["parquet zstd", "arrow zstd", "zarr group", "hdf5 in chunks"]


def damaged(content: bytes, rng: random.Random) -> bytes:
    """The content cut short, with some bits or bytes changed, with a run of bytes set or moved."""
    n = len(content)
    found = bytearray(content)
    # Headers are at the ends, and small.
    at = rng.choice(
        [rng.randrange(n), rng.randrange(min(n, 400)), n - 1 - rng.randrange(min(n, 400))]
    )
    kind = rng.randrange(6)
    if kind == 0:
        return content[:at]
    if kind == 1:
        found[at] ^= 1 << rng.randrange(8)
    elif kind == 2:
        found[at] = rng.choice([0, 1, 127, 128, 255, rng.randrange(256)])
    elif kind == 3:
        found[at : at + rng.choice([2, 4, 8, 64])] = rng.choice([b"\xff", b"\0", b"\x7f", b"9"]) * 8
    elif kind == 4:
        for _ in range(rng.randrange(2, 20)):
            found[rng.randrange(n)] = rng.randrange(256)
    else:
        other = rng.randrange(n)
        found[at : at + 16] = content[other : other + 16]
    return bytes(found)


def read(pool):
    """What is wrong with how a damaged pool was read; None: it was refused; "": nothing."""
    try:
        source = open_pool(pool.path, **pool.options)
        if source.n_rows > 1e6:
            return f"{source.n_rows} rows" if source.n_rows >= 2**63 else None
        row = 0
        for chunk in source.chunks(50):
            x = as_tensor(chunk.x, "x")
            if chunk.start != row or len(x) > 50 or tuple(x.shape[1:]) != source.files[0].row_shape:
                return f"chunk {chunk.start} of shape {tuple(x.shape)}"
            np.asarray(x.double()).sum()
            row += len(x)
        if row != source.n_rows:
            return f"{row} of {source.n_rows} rows"
        # The HDF5 library reads some damaged texts for ever.
        if pool.has_labels and Path(pool.path).suffix != ".h5":
            source.ids(np.arange(min(row, 20)))
    except (OSError, TypeError, ValueError) as error:
        says = str(error)
        if type(error) is MemoryError or "\n" in says or str(Path(pool.path).parent) not in says:
            return f"{type(error).__name__}: {says}"
        return None
    return ""


def damaging(name, root):
    """A case of files of a format, each of which is damaged, read and mended."""
    pool = write(name, root, data())
    assert read(pool) == ""
    whole = {path: path.read_bytes() for path in parts(pool)}

    def case(rng):
        path = rng.choice(list(whole))
        path.write_bytes(damaged(whole[path], rng))
        try:
            wrong = read(pool)
        finally:
            path.write_bytes(whole[path])
        return wrong and f"{path.name}: {wrong}"

    return case


def of_kind(name, root):
    """A case of a kind of wrong pools, of any format, whose libraries have begun their threads."""
    for library in LIBRARIES:
        assert read(write(library, root, data())) == ""
    return partial(fuzz_kinds.case, name, root)


def main():
    folder, seed, cases, *names = sys.argv[1:]
    warnings.simplefilter("ignore")  # data that happen to be infinite, and the like
    logging.disable(logging.WARNING)
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    for name in names:
        root = Path(folder) / name.replace(" ", "-")
        shutil.rmtree(root, ignore_errors=True)
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
        of = of_kind(name, root) if name in fuzz_kinds.KINDS else damaging(name, root)
        resource.setrlimit(resource.RLIMIT_AS, (at_most(), hard))
        for case in range(int(cases)):
            sys.stderr.write(f"{name}: case {case}\n")
            faulthandler.dump_traceback_later(MOST_SECONDS, exit=True)
            try:
                wrong = of(random.Random(f"{name} {seed} {case}"))
            except BaseException as error:
                wrong = f"escaped: {type(error).__name__}: {error}"
            faulthandler.cancel_dump_traceback_later()
            if wrong:
                sys.stdout.write(f"{name}: case {case}: {wrong}\n")


def at_most() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize() + MOST


if __name__ == "__main__":
    main()
