"""The main job on real data: which digits to label next, and what labelling them is worth.

Needs scikit-learn and matplotlib (extra `demo`).
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from fastal.jobs import select_to_file
from fastal.outputs import written_whole
from fastal.plots import simplex_heat_maps
from fastal.scores import MEASURES
from fastal.sources.files import Files
from fastal.uncertainty import select

_LABELLED, _HELD_OUT, _PICKS = 50, 600, 20

Array = NDArray[Any]


class Split(NamedTuple):
    """Rows of the digits for one seed: labelled at first, unlabelled pool, and held out."""

    labelled: Array
    pool: Array
    held_out: Array


def run_demo(out: Path, seeds: int) -> None:
    """Runs the demo and prints it; leaves logits, picks and picture in the folder `out`.

    Args:
        out: a folder, made if missing.
        seeds: over how many random splits to compare the picks with random rows.
    """
    console = Console()
    out.mkdir(parents=True, exist_ok=True)
    x, y = load_digits(return_X_y=True)
    x = x / 16  # pixels are 0 to 16
    split = _split(len(x), seed=0)
    logits = _logits(x, y, split.labelled, split.pool)
    with written_whole(out / "logits.npy") as file:
        np.save(file, logits)
    console.print(
        f"A classifier trained on {_LABELLED} digits predicts a pool of {len(logits):,} others."
        f"\nThe {_PICKS} most worth labelling, as picked by\n\n"
        f"  fastal select {out / 'logits.npy'} --k {_PICKS} --by margin\n",
        highlight=False,
    )
    picks = select_to_file(
        Files([out / "logits.npy"]), _PICKS, "margin", out=out / "picks.csv",
        kind="logits", on_invalid="raise", backend="auto",
    )  # fmt: skip
    table = Table("rank", "row", "score", "predicted", "true", "")
    for rank, (row, score) in enumerate(zip(picks.rows, picks.scores, strict=True), 1):
        predicted, true = logits[row].argmax(), y[split.pool[row]]
        verdict = "" if predicted == true else "wrong"
        table.add_row(str(rank), str(row), f"{score:.4f}", str(predicted), str(true), verdict)
    console.print(table)

    console.print(_comparison(x, y, seeds))
    picture = simplex_heat_maps(out / "simplex.png")
    console.print(f"The four scores on three labels: {picture}", highlight=False)


def _split(n_rows: int, seed: int) -> Split:
    order = np.random.default_rng(seed).permutation(n_rows)
    return Split(*np.split(order, (_LABELLED, n_rows - _HELD_OUT)))


def _logits(x: Array, y: Array, labelled: Array, rows: Array) -> Array:
    """Logits [rows, 10] float32 of a classifier trained on the labelled rows."""
    model = LogisticRegression(max_iter=1000).fit(x[labelled], y[labelled])
    logits = np.full((len(rows), 10), -np.inf, np.float32)
    logits[:, model.classes_] = model.decision_function(x[rows])  # −inf: a digit it has not seen
    return logits


def _comparison(x: Array, y: Array, seeds: int) -> Table:
    """What the picks of each strategy are worth, over several splits."""
    strategies = ("random", *MEASURES)
    wrong: dict[str, list[float]] = {name: [] for name in (*strategies, "pool")}
    accuracy: dict[str, list[float]] = {name: [] for name in (*strategies, "before")}

    def held_out_accuracy(split: Split, labelled: Array) -> float:
        predicted = _logits(x, y, labelled, split.held_out).argmax(1)
        return float((predicted == y[split.held_out]).mean())

    for seed in range(seeds):
        split = _split(len(x), seed)
        logits = _logits(x, y, split.labelled, split.pool)
        is_wrong = logits.argmax(1) != y[split.pool]
        wrong["pool"].append(is_wrong.mean())
        accuracy["before"].append(held_out_accuracy(split, split.labelled))
        for name in strategies:
            if name == "random":
                rng = np.random.default_rng(seeds + seed)
                rows = rng.choice(len(logits), _PICKS, replace=False)
            else:
                rows = select(logits, _PICKS, name).rows
            wrong[name].append(is_wrong[rows].mean())
            labelled = np.concatenate((split.labelled, split.pool[rows]))
            accuracy[name].append(held_out_accuracy(split, labelled))

    table = Table(
        "rows labelled", "misclassified among them", "accuracy with them added",
        title=f"What {_PICKS} more labels are worth: mean ± standard deviation over {seeds} splits",
    )  # fmt: skip
    table.add_row("none (the whole pool)", _spread(wrong["pool"]), _spread(accuracy["before"]))
    for name in strategies:
        label = "at random" if name == "random" else f"by {name.replace('_', ' ')}"
        table.add_row(label, _spread(wrong[name]), _spread(accuracy[name]))
    return table


def _spread(shares: list[float]) -> str:
    return f"{np.mean(shares):.1%} ± {np.std(shares):.1%}"
