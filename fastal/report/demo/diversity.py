"""Diversity sampling of the digits, by the embeddings of a network trained on few of them."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from fastal.commands.diversity import cluster_to_file, outliers_to_file, represent_to_file
from fastal.diversity import (
    CosineClusters,
    adaptive_representative,
    cluster_outliers,
    model_outliers,
    representative,
)
from fastal.output.atomic import written_whole
from fastal.picks.picks import Picks
from fastal.report.demo.digits import LABELLED, PICKS, Array, Split, digits, split_of, spread
from fastal.report.demo.network import Network
from fastal.report.plots import map_of_picks
from fastal.sources.files import Files

_CLUSTERS = 10


class Embedded(NamedTuple):
    """Embeddings of a split, by a network trained on its labelled rows."""

    pool: Array
    labelled: Array
    held_out: Array
    predicted: Array  # digits, of the pool


class Strategy(NamedTuple):
    """What the demo of a strategy shows.

    Attributes:
        commands: command lines, with {out} for the folder.
        picks: does what the command lines do. Returns picks by role.
        compared: choices of rows to label, by name. The demo measures what each is worth.
    """

    commands: tuple[str, ...]
    picks: Callable[[Path], dict[str, Picks]]
    compared: dict[str, Callable[[Embedded], Array]]


def run(console: Console, out: Path, seeds: int, name: str) -> None:
    """Runs the demo of a strategy. Writes embeddings, picks and picture to the folder `out`."""
    strategy = STRATEGIES[name]
    x, y = digits()
    split = split_of(len(x), seed=0)
    embedded = _embedded(x, y, split, seed=0)
    for part in ("pool", "labelled", "held_out"):
        with written_whole(out / _FILES[part]) as file:
            np.save(file, getattr(embedded, part))
    commands = "\n".join(f"  fastal {command.format(out=out)}" for command in strategy.commands)
    console.print(
        f"A network trained on {LABELLED} digits computes embeddings of a pool of "
        f"{len(split.pool):,} others.\nThe rows worth labelling, as picked by\n\n{commands}\n",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    picks = strategy.picks(out)
    console.print(_table(picks, embedded.predicted, y[split.pool]))
    console.print(_comparison(strategy, x, y, seeds))
    rows = {picked_as: of.rows for picked_as, of in picks.items()}
    picture = map_of_picks(out / f"{name}.png", embedded.pool, y[split.pool], rows)
    console.print(f"The pool, and where in it the picks are: {picture}", highlight=False)


_FILES = {"pool": "embeddings.npy", "labelled": "labelled.npy", "held_out": "validation.npy"}


def _embedded(x: Array, y: Array, split: Split, seed: int) -> Embedded:
    network = Network(x[split.labelled], y[split.labelled], seed)
    pool, labelled, held_out = (
        network.embeddings(x[rows]) for rows in (split.pool, split.labelled, split.held_out)
    )
    return Embedded(pool, labelled, held_out, network.predictions(x[split.pool]))


def _table(picks: dict[str, Picks], predicted: Array, true: Array) -> Table:
    table = Table("picked as", "row", "score", "predicted", "true", "")
    for picked_as, of in picks.items():
        for row, score in zip(of.rows, of.scores, strict=True):
            verdict = "" if predicted[row] == true[row] else "wrong"
            values = map(str, (row, f"{score:.4f}", predicted[row], true[row]))
            table.add_row(picked_as, *values, verdict)
        table.add_section()
    return table


def _comparison(strategy: Strategy, x: Array, y: Array, seeds: int) -> Table:
    """Compares what the picks and as many random rows are worth, over several splits."""
    found: dict[str, list[tuple[float, float, float]]] = {}
    for seed in range(seeds):
        split = split_of(len(x), seed)
        embedded = _embedded(x, y, split, seed)
        picked = {"none (the whole pool)": np.arange(len(split.pool))}
        picked |= {name: rows(embedded) for name, rows in strategy.compared.items()}
        rng = np.random.default_rng(seeds + seed)
        for n_rows in sorted({len(rows) for rows in picked.values()})[:-1]:
            picked[f"{n_rows} at random"] = rng.choice(len(split.pool), n_rows, replace=False)
        for name, rows in picked.items():
            label = y[split.pool[rows]]
            is_wrong = embedded.predicted[rows] != label
            added = rows if len(rows) < len(split.pool) else rows[:0]
            labelled = np.concatenate((split.labelled, split.pool[added]))
            network = Network(x[labelled], y[labelled], seed)
            is_right = network.predictions(x[split.held_out]) == y[split.held_out]
            values = len(np.unique(label)), is_wrong.mean(), is_right.mean()
            found.setdefault(name, []).append(values)
    return _compared(found, seeds)


def _compared(found: dict[str, list[tuple[float, float, float]]], seeds: int) -> Table:
    table = Table(
        "rows labelled", "distinct digits", "misclassified among them", "accuracy with them added",
        title=f"What the labels are worth: mean ± standard deviation over {seeds} splits",
    )  # fmt: skip
    for name, values in found.items():
        n_digits, wrong, accuracy = (list(column) for column in zip(*values, strict=True))
        table.add_row(name, spread(n_digits, ".1f"), spread(wrong), spread(accuracy))
    return table


def _pool(out: Path, part: str = "pool") -> Files:
    return Files([out / _FILES[part]])


def _clusters(out: Path) -> dict[str, Picks]:
    picks = cluster_to_file(_pool(out), _CLUSTERS, 1, out=out / "clusters.csv")
    roles = picks["role"]
    return {
        role: Picks(picks.rows[roles == role], picks.scores[roles == role])
        for role in ("centroid", "outlier", "random")
    }


def _sample(embedded: Embedded) -> Array:
    sample = CosineClusters(_CLUSTERS).fit(embedded.pool).sample(embedded.pool)
    return np.concatenate([picks.rows for picks in sample])


def _outliers(out: Path) -> dict[str, Picks]:
    of_model = outliers_to_file(
        _pool(out), PICKS, validation=_pool(out, "held_out"), out=out / "model-outliers.csv"
    )
    of_clusters = outliers_to_file(
        _pool(out), PICKS, n_clusters=_CLUSTERS, out=out / "cluster-outliers.csv"
    )
    return {"model outlier": of_model, "cluster outlier": of_clusters}


def _cluster_outliers(embedded: Embedded) -> Array:
    centroids = CosineClusters(_CLUSTERS).fit(embedded.pool).centroids
    rows: Array = cluster_outliers(embedded.pool, centroids, PICKS).rows
    return rows


def _representative(out: Path) -> dict[str, Picks]:
    plain, adaptive = (
        represent_to_file(
            _pool(out), _pool(out, "labelled"), PICKS, adaptive=adaptive, out=out / name
        )
        for adaptive, name in ((False, "representative.csv"), (True, "adaptive.csv"))
    )
    return {"representative": plain, "adaptive": adaptive}


_OUTLIERS = "outliers {out}/embeddings.npy --k 20 "
_REPRESENT = "represent {out}/embeddings.npy --k 20 --training {out}/labelled.npy "
STRATEGIES = {
    "clusters": Strategy(
        ("cluster {out}/embeddings.npy --clusters 10 --out {out}/clusters.csv",),
        _clusters,
        {"30 of clusters": _sample, "10 centroids of them": lambda e: _sample(e)[:_CLUSTERS]},
    ),
    "outliers": Strategy(
        (
            _OUTLIERS + "--validation {out}/validation.npy --out {out}/model-outliers.csv",
            _OUTLIERS + "--clusters 10 --out {out}/cluster-outliers.csv",
        ),
        _outliers,
        {
            "20 model outliers": lambda e: model_outliers(e.pool, e.held_out, PICKS).rows,
            "20 cluster outliers": _cluster_outliers,
        },
    ),
    "representative": Strategy(
        (
            _REPRESENT + "--out {out}/representative.csv",
            _REPRESENT + "--adaptive --out {out}/adaptive.csv",
        ),
        _representative,
        {
            "20 representative": lambda e: representative(e.pool, e.labelled, PICKS).rows,
            "20 adaptive": lambda e: adaptive_representative(e.pool, e.labelled, PICKS).rows,
        },
    ),
}
