"""Times what later rounds of a loop add to a selection: rows that are left out, ties, kinds.

    .venv/bin/python -m benchmarks.rounds
    .venv/bin/python -m benchmarks.rounds --rounds 40 --folder FOLDER

All works of a table are timed alternately. `among` reads a mapped file of 8 GB, which is written as
a sparse file into a temporary folder, or into FOLDER.
"""

import argparse
import logging
import statistics
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch

import fastal
from benchmarks.interleaved import Work, interleaved
from fastal.scoring.by_name import UncertaintyScore

ROWS, CLASSES, K = 2_000_000, 10, 1000
FILE_ROWS, CHOSEN = 200_000_000, 10_000


def main() -> None:
    options = arguments()
    logging.getLogger("fastal").setLevel(logging.ERROR)
    print(f"fastal {fastal.__version__}, torch {torch.__version__}, ", end="")
    print(f"{torch.get_num_threads()} threads, {options.rounds} rounds\n")
    logits = (3 * np.random.default_rng(0).standard_normal((ROWS, CLASSES))).astype(np.float32)
    of = f"select {K} of {ROWS} x {CLASSES} float32"
    table(of, exclusions(logits), options.rounds)
    table(of, ties(logits), options.rounds)
    table(f"{of}, rounded, so that many rows tie", ties(np.round(logits)), options.rounds)
    table("the first chunk", {"select": partial(fastal.select, logits, K)} | kinds(logits), 10)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        among = among_few(Path(folder) / "pool.npy")
        table(f"select 100 among {CHOSEN} of {FILE_ROWS} x {CLASSES} in a mapped file", among, 10)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.rounds", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20, help="how often the selections are timed")
    parser.add_argument("--folder", type=Path, help="where the mapped file is written")
    return parser.parse_args()


def exclusions(logits: np.ndarray) -> dict[str, Work]:
    """A selection without and with rows that are left out, a tenth of the pool."""
    rows = np.random.default_rng(1).permutation(ROWS)[: ROWS // 10]
    mask = np.zeros(ROWS, bool)
    mask[rows] = True
    best = np.argsort(-fastal.score(logits).margin)[: ROWS // 10]
    select = partial(fastal.select, logits, K)
    return {
        "select": select,
        "exclude a mask": partial(select, exclude=mask),
        "exclude row numbers": partial(select, exclude=rows),
        "exclude the best rows": partial(select, exclude=best),
    }


def ties(logits: np.ndarray) -> dict[str, Work]:
    """A selection that picks the first of equal rows, and one that draws among them.

    Both read one matrix alone, since the caches hold part of it.
    """
    select = partial(fastal.select, logits, K)
    return {"ties first": select, "ties random": partial(select, ties="random")}


def kinds(logits: np.ndarray) -> dict[str, Work]:
    """The check whether the first rows are of another kind."""
    measure, x = UncertaintyScore(("margin",), "logits"), torch.from_numpy(logits)
    return {"check of the kind": lambda: measure.suspect(x, 0)}


def among_few(path: Path) -> dict[str, Work]:
    """A selection among few rows of a file that is mapped into memory."""
    shape = (FILE_ROWS, CLASSES)
    pool = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    rng = np.random.default_rng(0)
    rows = np.sort(rng.choice(FILE_ROWS, CHOSEN, replace=False))
    pool[rows] = rng.standard_normal((CHOSEN, CLASSES))
    del pool
    return {"from the path": partial(fastal.select, path, 100, among=rows)}


def table(title: str, works: Mapping[str, Work], rounds: int) -> None:
    """Prints the median times, and their ratio to the first work of the table."""
    for work in works.values():
        work()
    columns = zip(*interleaved(*works.values(), rounds=rounds), strict=True)
    medians = [statistics.median(column) for column in columns]
    print(title)
    for name, median in zip(works, medians, strict=True):
        print(f"  {name:<34}{1e3 * median:9.3f} ms {median / medians[0]:7.1%}")
    print()


if __name__ == "__main__":
    main()
