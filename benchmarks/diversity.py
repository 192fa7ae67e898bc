"""Times diversity sampling on CPUs against other libraries: `python -m benchmarks.diversity`.

Every figure is a ratio within one run. The works that are compared run alternately. Rows are
float32 with 384 columns. faiss is compared if it is installed (pip install faiss-cpu).

    nearest     nearest_centroid, against the bare matrix product of all rows with all centroids
    clusters    CosineClusters.fit, against the least time in which other libraries reach its
                inertia, or stop gaining
    epochs      those of CosineClusters.fit, against those of faiss from the same centroids
    refining    CosineClusters.fit with refine=, against iterations alone that have converged: first
                lines of SciPy's docstrings as TF-IDF weights, and embeddings with 128 columns
    outliers    model_outliers, against NumPy's searchsorted by column, and the loop of the method
    core-set    k_center, against the bare products of all rows with all picks, and
                against a loop with a pass for each pick, of which a part is timed
"""

import argparse
import os
import time
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import torch
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.feature_extraction.text import TfidfVectorizer

import fastal
from benchmarks.interleaved import interleaved, means, seconds
from examples.text import docstrings
from fastal import diversity

WIDTH = 384
ITERATIONS = (1, 2, 3, 5, 8, 12, 20, 30, 50)
SAME = 1.001  # an inertia up to so many times the goal reaches it
GAIN = 0.998  # an inertia above so many times that of the previous number of iterations is no gain


def nearest(rounds: int) -> None:
    x = torch.randn(100_000, WIDTH, generator=torch.Generator().manual_seed(0))
    for k in (2, 100, 1000):
        centroids = torch.nn.functional.normalize(torch.randn(k, WIDTH))
        products = torch.empty(len(x), k)
        taken = interleaved(
            lambda: torch.mm(x, centroids.t(), out=products),
            lambda: diversity.nearest_centroid(x, centroids),
            lambda: diversity.similarities(x, centroids),
            rounds=rounds,
        )
        bare, ours, all_of_them = means(taken)
        print(f"nearest     {k:>5} centroids: {2 * x.numel() * k / ours / 1e9:6.1f} GFLOP/s, "
              f"{bare / ours:6.1%} of the bare product's rate; "
              f"similarities {bare / all_of_them:6.1%}")  # fmt: skip


def embeddings(n_rows: int, seed: int) -> np.ndarray:
    """Rows around 200 centres of unequal weight, so that no 100 clusters fit exactly."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((200, WIDTH)) @ rng.standard_normal((WIDTH, WIDTH)) / WIDTH**0.5
    of_rows = rng.choice(200, n_rows, p=rng.dirichlet(np.ones(200)))
    return (centres[of_rows] + 0.5 * rng.standard_normal((n_rows, WIDTH))).astype(np.float32)


def inertia(units: np.ndarray, labels: np.ndarray) -> float:
    """The inertia of unit rows to the directions of their clusters' sums, for any labels."""
    sums = np.zeros((labels.max() + 1, units.shape[1]))
    np.add.at(sums, labels, units)
    return 2 * float(len(units) - np.linalg.norm(sums, axis=1).sum())


def clusters(rounds: int) -> None:
    k, x = 100, embeddings(200_000, seed=0)
    units = x / np.linalg.norm(x, axis=1, keepdims=True)
    ours, reached = [], []
    for seed in range(rounds):
        found = diversity.CosineClusters(k, seed=seed)
        ours.append(seconds(lambda: found.fit(x)))
        reached.append(inertia(units, found.assign(x).cluster))
    goal, mean = float(np.mean(reached)), float(np.mean(ours))
    print(f"clusters    fastal                    {mean:6.2f} s, inertia {goal:,.0f}")
    for name, fit in rivals(k, units):
        spent, best = least_seconds(fit, units, goal * SAME)
        how = f"{spent:6.2f} s, {spent / mean:5.2f} times as long" if best <= goal * SAME else (
            f"{spent:6.2f} s, {spent / mean:5.2f} times as long, and not there"
        )  # fmt: skip
        print(f"clusters    {name:<25} {how}: inertia {best:,.0f}")


def epochs(rounds: int) -> None:
    """Times nine more epochs from the centroids of the first, without the work before them."""
    try:
        import faiss
    except ModuleNotFoundError:
        print("epochs      faiss is not installed")
        return
    k, x = 100, embeddings(200_000, seed=0)
    units = x / np.linalg.norm(x, axis=1, keepdims=True)
    first = diversity.CosineClusters(k, max_iter=1).fit(x).centroids
    other = faiss.Kmeans(WIDTH, k, niter=9, spherical=True, max_points_per_centroid=len(x) // k)
    taken = interleaved(
        lambda: diversity.CosineClusters(k, max_iter=1).fit(x),
        lambda: diversity.CosineClusters(k, max_iter=10).fit(x),
        lambda: other.train(units, init_centroids=first),
        rounds=rounds,
    )
    assert diversity.CosineClusters(k, max_iter=10).fit(x).n_iter == 10  # it has not converged
    one, ten, of_faiss = means(taken)
    print(f"epochs      the first epoch and all before it {one:.2f} s; 9 more {ten - one:.2f} s, "
          f"faiss from the same centroids {of_faiss:.2f}: "
          f"{of_faiss / (ten - one):.0%} of its rate")  # fmt: skip


def first_lines() -> Iterator[tuple[str, np.ndarray]]:
    """The first lines of 400 and of 1,200 docstrings, as TF-IDF weights."""
    lines = [text.partition("\n")[0] for text in docstrings()[0]]
    np.random.default_rng(0).shuffle(lines)
    for n in (400, 1200):
        x = TfidfVectorizer(stop_words="english").fit_transform(lines[:n])
        yield f"{n:,} texts, {x.shape[1]:,} words", x.toarray().astype(np.float32)


def refining(rounds: int) -> None:
    """Means over seeds, one for each round; the time is that of the processor."""
    rows = embeddings(50_000, seed=0)[:, :128].copy()
    cases = [(name, x, k) for name, x in first_lines() for k in (10, 20, 50)]
    cases += [("50,000 rows, 128 columns", rows, k) for k in (20, 200)]
    for name, x, k in cases:
        for how, options in {
            "10 iterations": {"max_iter": 10},
            "10 iterations, refined": {"max_iter": 10, "refine": 100},
            "converged": {"max_iter": 200},
            "converged, refined once": {"max_iter": 200, "refine": 1},
            "converged, refined": {"max_iter": 200, "refine": 100},
        }.items():
            found = []
            for seed in range(rounds):
                start = time.process_time()
                clusters = diversity.CosineClusters(k, seed=seed, **options).fit(x)
                spent = time.process_time() - start
                found.append((clusters.inertia, clusters.n_iter + 1, spent))
            reached, passes, spent = np.mean(found, axis=0)
            print(f"refining    {name}, {k:>3} clusters, {how:<23}: inertia {reached:9.2f}, "
                  f"{passes:5.1f} passes, {spent:6.2f} s")  # fmt: skip


Fit = Callable[[int], np.ndarray]  # from the largest number of iterations to labels


def rivals(k: int, units: np.ndarray) -> Iterator[tuple[str, Fit]]:
    """Other libraries, on normalised rows. The time to normalise them is not counted."""
    for of, name in ((KMeans, "KMeans"), (MiniBatchKMeans, "MiniBatchKMeans")):
        yield (
            f"scikit-learn {name}",
            lambda n, of=of: of(k, n_init=1, max_iter=n, random_state=0).fit(units).labels_,
        )
    try:
        import faiss
    except ModuleNotFoundError:
        print("clusters    faiss is not installed")
        return
    for name, most in (("all rows", len(units)), ("256 rows a cluster", 256 * k)):

        def fit(n: int, most: int = most) -> np.ndarray:
            found = faiss.Kmeans(WIDTH, k, niter=n, spherical=True, seed=0,
                                 max_points_per_centroid=-(-most // k))  # fmt: skip
            found.train(units)
            return found.index.search(units, 1)[1][:, 0]

        yield f"faiss, {name}", fit


def least_seconds(fit: Fit, units: np.ndarray, goal: float) -> tuple[float, float]:
    """The time of the fewest iterations that reach the goal or stop gaining, and the inertia."""
    before = float("inf")
    for n in ITERATIONS:
        labels: list[np.ndarray] = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings that it did not converge
            spent = seconds(lambda: labels.append(fit(n)))
        reached = inertia(units, labels[-1])
        if reached <= goal or reached > before * GAIN:
            break
        before = reached
    return spent, reached


def rank(value: float, ordered: list[float]) -> float:
    """The rank of a value by the plain loop of the method: a search from the lowest value on."""
    index = next((i for i, other in enumerate(ordered) if value < other), len(ordered))
    if 0 < index < len(ordered):
        below, above = ordered[index - 1], ordered[index]
        return (index - 1 + (value - below) / (above - below)) / len(ordered)
    return index / len(ordered)


def outliers(rounds: int) -> None:
    rng = np.random.default_rng(0)
    for width, n_rows in ((10, 1_000_000), (WIDTH, 50_000)):
        pool = rng.standard_normal((n_rows, width), np.float32)
        for n_validation in (1000, 10_000):
            validation = rng.standard_normal((n_validation, width), np.float32)
            table = np.sort(validation, 0).T.copy()
            measure = diversity.ValidationRank(validation)

            def by_column() -> None:
                for column, values in zip(table, pool.T, strict=True):
                    np.searchsorted(column, values, side="right")

            def by_item(few: int = max(1, 20_000 // n_validation)) -> None:
                ordered = table.tolist()
                for row in pool[:few].tolist():
                    [rank(value, of) for value, of in zip(row, ordered, strict=True)]

            taken = interleaved(
                by_column, lambda: fastal.select(pool, 1000, measure), by_item, rounds=rounds
            )
            numpy, ours, loop = means(taken)
            rate = pool.size / ours
            of_loop = max(1, 20_000 // n_validation) * width / loop
            print(f"outliers    {width:>4} columns, {n_validation:>6,} validation rows: "
                  f"{rate / 1e6:6.1f} M values/s, {numpy / ours:5.1f} times NumPy's searchsorted, "
                  f"{rate / of_loop:7.0f} times the loop ({of_loop / 1e6:.2f} M)")  # fmt: skip


def core_set(rounds: int) -> None:
    k, n_timed = 1000, 20
    gaussian = torch.randn(200_000, WIDTH, generator=torch.Generator().manual_seed(0))
    clustered = torch.from_numpy(embeddings(200_000, seed=1))
    for kind, x, metric in (
        ("gaussian", gaussian, "cosine"),
        ("clustered", clustered, "cosine"),
        ("clustered", clustered, "euclidean"),
    ):
        centres = x[:128].t().contiguous()
        products = torch.empty(len(x), 128)
        nearest = torch.full((len(x),), np.inf)
        taken = interleaved(
            lambda: torch.mm(x, centres, out=products),
            lambda: diversity.k_center(x, k, metric=metric),
            lambda: [torch.minimum(nearest, x @ x[i]).argmax() for i in range(n_timed)],
            rounds=rounds,
        )
        bare, ours, loop = means(taken)
        print(f"core-set    {kind:<9} {metric:<9} k = {k:,}: {ours:5.2f} s, "
              f"{bare * k / 128 / ours:6.1%} of the bare products' rate, "
              f"{loop * k / n_timed / ours:5.1f} times a loop's")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    cases = {
        "nearest": nearest, "clusters": clusters, "epochs": epochs, "refining": refining,
        "outliers": outliers, "core-set": core_set,
    }  # fmt: skip
    parser.add_argument("--rounds", type=int, default=4, help="rounds of each case (default: 4)")
    parser.add_argument(
        "cases", nargs="*", metavar="case", help=f"any of {', '.join(cases)} (default: all)"
    )
    arguments = parser.parse_args()
    print(f"fastal {fastal.__version__}, torch {torch.__version__}, {os.cpu_count()} CPUs, "
          f"{torch.get_num_threads()} threads, {arguments.rounds} rounds")  # fmt: skip
    for name in arguments.cases or cases:
        cases[name](arguments.rounds)


if __name__ == "__main__":
    main()
