"""Times scores of draws, of items with several rows, of labels, and at a temperature, on CPUs.

    .venv/bin/python -m benchmarks.outputs
    .venv/bin/python -m benchmarks.outputs --only bald,temperature --rounds 20

All works of a table are timed alternately. The first work is a bare read: torch's sum of the array.
"""

import argparse
import logging
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

import fastal
from benchmarks.interleaved import Work, interleaved

K = 1000


def main() -> None:
    options = arguments()
    logging.getLogger("fastal").setLevel(logging.ERROR)
    print(f"fastal {fastal.__version__}, torch {torch.__version__}, ", end="")
    print(f"{torch.get_num_threads()} threads, {options.rounds} rounds\n")
    for name in options.only.split(","):
        TABLES[name](options.rounds)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.outputs", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10, help="how often each work is timed")
    parser.add_argument(
        "--only", default=",".join(TABLES), help="the tables, of " + ",".join(TABLES)
    )
    return parser.parse_args()


def bald(rounds: int, n_rows: int = 1_000_000, n_draws: int = 20, n_classes: int = 10) -> None:
    """BALD beside the formula that baal and small-text use on probabilities."""
    generator = torch.Generator().manual_seed(0)
    x = 3 * torch.randn(n_rows, 1, n_classes, generator=generator)
    x = x + torch.randn(n_rows, n_draws, n_classes, generator=generator)
    probs = torch.softmax(x, 2).numpy()
    apart = [draw.contiguous() for draw in x.unbind(1)]
    n_bytes = x.numel() * x.element_size()
    works = {
        "read": x.sum,
        "bald": partial(fastal.select, x, K, "bald"),
        "all eleven scores": partial(fastal.score, x, draws_axis=1),
        "of an array for each draw": partial(fastal.select, fastal.draws(apart), K, "bald"),
    }
    table(
        f"{K} by BALD of {n_rows} x {n_draws} draws x {n_classes} float32", works, n_bytes, rounds
    )
    works = {"bald": works["bald"], "NumPy formula": lambda: numpy_bald(probs)}
    table("beside the NumPy formula, which gets probabilities", works, n_bytes, 2)
    picks = fastal.select(x, K, "bald").rows.tolist()
    exact = exact_bald(x)
    print(f"  picks equal to those of float64: {picks == best(exact)}; ", end="")
    print(f"of the NumPy formula's {K}: {len(set(picks) & set(best(numpy_bald(probs))))}\n")


def numpy_bald(probs: np.ndarray) -> np.ndarray:
    """The difference of two entropies, whose logarithms get 1e-5 against zeros."""
    entropies = -(probs * np.log(probs + 1e-5)).sum(-1).mean(-1)
    mean = probs.mean(1)
    return -(mean * np.log(mean + 1e-5)).sum(-1) - entropies


def exact_bald(x: torch.Tensor) -> np.ndarray:
    """The mean divergence from the mean, in float64, in parts."""
    found = []
    for part in x.split(50_000):
        p = torch.softmax(part.double(), 2)
        found.append((p * (p / p.mean(1, keepdim=True)).log()).sum(2).mean(1))
    return torch.cat(found).numpy()


def best(scores: np.ndarray) -> list[int]:
    """The rows of the K largest scores, as float32 ranks them."""
    return np.argsort(-scores.astype(np.float32), kind="stable")[:K].tolist()


def segmentation(rounds: int, shape: tuple[int, ...] = (64, 19, 512, 512)) -> None:
    """The mean margin of images whose classes are planes."""
    x = 3 * torch.randn(shape, generator=torch.Generator().manual_seed(0))

    def eager() -> list[torch.Tensor]:
        found = []
        for image in x:
            top = torch.softmax(image, 0).topk(2, 0).values
            found.append((1 - (top[0] - top[1])).mean())
        return found

    def transposed() -> list[torch.Tensor]:
        rows = (image.flatten(1).T.contiguous() for image in x)
        return [fastal.score(pixels).margin.mean() for pixels in rows]

    works = {
        "read": x.sum,
        "in place": partial(fastal.select, x, 10, class_axis=1, aggregate="mean"),
        "a transposed copy, then fastal": transposed,
        "torch eager, an image at a time": eager,
    }
    table(f"mean margin of images {list(shape)} float32", works, 4 * x.numel(), rounds)


def tokens(rounds: int, n_items: int = 20_000, n_classes: int = 9) -> None:
    """The hardest token of each sentence, of ragged sentences in memory and in files."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(5, 201, n_items)
    offsets = np.concatenate([[0], lengths.cumsum()])
    x = (3 * rng.standard_normal((offsets[-1], n_classes))).astype(np.float32)
    with files_of(x, offsets) as (npy, parquet):
        select = partial(fastal.select, k=K, aggregate="max")

        def a_sentence_at_a_time() -> list[float]:
            return [fastal.score(x[first:end]).margin.max() for first, end in pairwise(offsets)]

        works = {
            "read": torch.from_numpy(x).sum,
            "in memory": lambda: select(fastal.items(x, offsets=offsets)),
            ".npy with offsets": lambda: select(fastal.items(npy, offsets=offsets)),
            "Parquet, lists of lists": lambda: select(fastal.open_pool(parquet, ragged=True)),
            "pyarrow reads that file": lambda: pq.read_table(parquet),
            "fastal.score for each sentence": a_sentence_at_a_time,
        }
        title = f"hardest token of {n_items} sentences, {len(x)} tokens x {n_classes} float32"
        table(title, works, x.nbytes, rounds)


@contextmanager
def files_of(x: np.ndarray, offsets: np.ndarray) -> Iterator[tuple[Path, Path]]:
    """The rows as a .npy file, and as lists of lists in a Parquet file without compression."""
    with tempfile.TemporaryDirectory() as folder:
        npy, parquet = Path(folder) / "rows.npy", Path(folder) / "items.parquet"
        np.save(npy, x)
        starts = np.arange(0, x.size + 1, x.shape[1], dtype=np.int32)
        rows = pa.ListArray.from_arrays(starts, pa.array(x.ravel()))
        items = pa.ListArray.from_arrays(offsets.astype(np.int32), rows)
        pq.write_table(pa.table({"logits": items}), parquet, compression="none")
        yield npy, parquet


def multilabel(rounds: int, n_rows: int = 1_000_000, n_labels: int = 80) -> None:
    """The mean margin of independent labels."""
    x = 3 * torch.randn(n_rows, n_labels, generator=torch.Generator().manual_seed(0)) - 3

    def eager() -> torch.Tensor:
        return (1 - (2 * torch.sigmoid(x) - 1).abs()).mean(1)

    select = partial(fastal.select, x, K, kind="multilabel_logits")
    works = {
        "read": x.sum,
        "mean margin": partial(select, aggregate="mean"),
        "mean entropy": partial(select, by="entropy", aggregate="mean"),
        "5 highest": partial(select, aggregate="top5"),
        "torch eager, mean margin": eager,
    }
    table(f"{K} of {n_rows} x {n_labels} labels float32", works, 4 * x.numel(), rounds)


def temperature(rounds: int) -> None:
    """A selection with and without a temperature."""
    for n_rows, n_classes in ((2_000_000, 10), (200_000, 100), (20_000, 1000)):
        x = 3 * torch.randn(n_rows, n_classes, generator=torch.Generator().manual_seed(0))
        select = partial(fastal.select, x, K)
        works = {"temperature 1": select, "temperature 1.7": partial(select, temperature=1.7)}
        table(f"{K} of {n_rows} x {n_classes} float32", works, 4 * x.numel(), 4 * rounds)


TABLES: dict[str, Callable[[int], None]] = {
    "bald": bald,
    "segmentation": segmentation,
    "tokens": tokens,
    "multilabel": multilabel,
    "temperature": temperature,
}


def table(title: str, works: Mapping[str, Work], n_bytes: int, rounds: int) -> None:
    """Prints the median times, their rates, and the rates' ratios to that of the first work."""
    for work in works.values():
        work()
    columns = list(zip(*interleaved(*works.values(), rounds=rounds), strict=True))
    print(title)
    for name, column in zip(works, columns, strict=True):
        median = statistics.median(column)
        ratio = statistics.median(
            first / own for first, own in zip(columns[0], column, strict=True)
        )
        print(f"  {name:<34}{1e3 * median:10.2f} ms{n_bytes / median / 1e9:8.2f} GB/s{ratio:8.1%}")
    print()


if __name__ == "__main__":
    main()
