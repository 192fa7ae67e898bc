"""Times combined strategies, transfer learning and BADGE on CPUs: `python -m benchmarks.combine`.

clustered   clustered_uncertainty of 10 million rows x 100 classes and 64-wide embeddings in
            files: seconds and peak memory. The files take 6.6 GB in the folder --folder.
transfer    transfer_uncertainty of a million rows x 128 in a file and in memory, with 10,000
            validation rows, against one reading of them
badge       BADGE of 100,000 rows x 100 classes x 64 features, k = 100; and of fewer rows
            against scikit-activeml, if it is installed, with a test of what both pick
"""

import argparse
import logging
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy.stats import chisquare

import fastal
from benchmarks.files import read
from benchmarks.interleaved import interleaved, means, seconds
from fastal import combine, diversity
from tests.support.memory import peak

K = 1000


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.combine", description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(TABLES), help="the tables to make")
    parser.add_argument("--rows", type=int, default=10_000_000, help="rows of clustered")
    parser.add_argument("--folder", help="where to write files; default: that of temporary files")
    options = parser.parse_args()
    logging.getLogger("fastal").setLevel(logging.ERROR)
    print(f"fastal {fastal.__version__}, torch {torch.__version__}, ", end="")
    print(f"{torch.get_num_threads()} threads\n")
    for name in options.only.split(","):
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            TABLES[name](Path(folder), options)


def clustered(folder: Path, options: argparse.Namespace) -> None:
    """In a process of its own, whose peak memory is that of the strategy."""
    paths = [folder / "logits.npy", folder / "embeddings.npy"]
    for path, width in zip(paths, (100, 64), strict=True):
        write_normal(path, options.rows, width)
    code = f"""
from fastal import combine
measure(lambda: combine.clustered_uncertainty(sys.argv[1], sys.argv[2], {K}))
"""
    began = time.perf_counter()
    anonymous = peak(code, *paths)
    print(f"clustered_uncertainty of {options.rows:,} rows x 100, embeddings 64 wide, k = {K}:")
    print(f"  {time.perf_counter() - began:.1f} s with the start of Python, ", end="")
    print(f"{anonymous / 1e6:,.0f} MB beside the page cache\n")


def transfer(folder: Path, _: argparse.Namespace) -> None:
    path = folder / "hidden.npy"
    write_normal(path, 1_000_000, 128)
    pool = torch.from_numpy(np.load(path))
    rng = np.random.default_rng(1)
    validation = rng.normal(size=(10_000, 128)).astype(np.float32)
    is_correct = validation[:, :5].sum(1) + 2 * rng.normal(size=10_000) < 2
    works: dict[str, Callable[[], object]] = {
        "sum in memory": pool.sum,
        "in memory": partial(combine.transfer_uncertainty, pool, validation, is_correct, K),
        "read the file": lambda: read(path),
        "of the file": partial(combine.transfer_uncertainty, path, validation, is_correct, K),
    }
    taken = dict(zip(works, means(interleaved(*works.values(), rounds=6)), strict=True))
    print("transfer_uncertainty of 1,000,000 rows x 128, 10,000 validation rows:")
    for name, of_read in (("in memory", "sum in memory"), ("of the file", "read the file")):
        ratio = taken[name] / taken[of_read]
        print(f"  {name:<12}{taken[name]:8.3f} s, {ratio:6.1f} times {of_read}")
    print()


def badge(*_: object) -> None:
    k = 100
    rng = np.random.default_rng(2)

    def rows(n: int, n_classes: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        sizes = (n, n_classes), (n, width)
        return tuple(rng.normal(size=size).astype(np.float32) for size in sizes)

    logits, x = rows(100_000, 100, 64)
    diversity.badge(logits, x, k)
    taken = seconds(partial(diversity.badge, logits, x, k))
    print(f"BADGE of 100,000 rows x 100 classes x 64, k = {k}: {taken:.2f} s")
    try:
        from skactiveml.base import SkactivemlClassifier
        from skactiveml.pool import Badge
    except ModuleNotFoundError:
        print("  scikit-activeml is not installed\n")
        return

    class Given(SkactivemlClassifier):
        """A classifier with given probabilities."""

        def fit(self, *_: object) -> "Given":
            return self

        def predict_proba(self, *_: object) -> np.ndarray:
            return self.probs

    def theirs(logits: np.ndarray, x: np.ndarray, k: int, seed: int) -> list[int]:
        model = Given(classes=list(range(logits.shape[1])))
        model.probs = torch.softmax(torch.from_numpy(logits).double(), 1).numpy()
        unlabelled = np.full(len(x), np.nan)
        return Badge(random_state=seed).query(x, unlabelled, model, fit_clf=False, batch_size=k)

    small = logits[:10_000], x[:10_000]
    ours, others = means(
        interleaved(partial(diversity.badge, *small, k), partial(theirs, *small, k, 0), rounds=2)
    )
    print(f"  of 10,000 rows: {ours:.3f} s; scikit-activeml {others:.2f} s, ", end="")
    print(f"{others / ours:.0f} times as long")
    logits, x = rows(25, 4, 3)
    expected = second_pick(logits, x)
    print("  p of a chi-square test of the second picks among 25 rows, against the definition:")
    for name, pick, n_seeds in (
        ("fastal", lambda seed: diversity.badge(logits, x, 2, seed=seed).rows[1], 16_000),
        ("scikit-activeml", lambda seed: theirs(logits, x, 2, seed)[1], 4000),
    ):
        counts = np.bincount([pick(seed) for seed in range(n_seeds)], minlength=25)
        found = chisquare(counts[expected > 0], n_seeds * expected[expected > 0])
        print(f"  {name:<16}{found.pvalue:8.1e}, {n_seeds:,} seeds")
    print()


def second_pick(logits: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The probability of each row to be the second pick, by the definition, in float64."""
    probs = torch.softmax(torch.from_numpy(logits).double(), 1).numpy()
    factors = probs - np.eye(probs.shape[1])[probs.argmax(1)]
    gradients = (factors[:, :, None] * x[:, None, :]).reshape(len(x), -1)
    first = gradients[np.square(gradients).sum(1).argmax()]
    squares: np.ndarray = np.square(gradients - first).sum(1)
    return squares / squares.sum()


def write_normal(path: Path, n: int, width: int) -> None:
    """Writes random rows [n, width] float32."""
    rng = np.random.default_rng(width)
    array = np.lib.format.open_memmap(path, "w+", np.float32, (n, width))
    for start in range(0, n, 1 << 18):
        array[start : start + (1 << 18)] = rng.standard_normal(
            array[start : start + (1 << 18)].shape
        )
    array.flush()


TABLES = {"clustered": clustered, "transfer": transfer, "badge": badge}

if __name__ == "__main__":
    main()
