"""Uncertainty sampling of the digits, by the logits of a classifier trained on few of them."""

from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.linear_model import LogisticRegression

from fastal.commands.uncertainty import select_to_file
from fastal.ops.formulas import UNCERTAINTY_SCORES
from fastal.output.atomic import written_whole
from fastal.report.demo.digits import LABELLED, PICKS, Array, Split, digits, split_of, spread
from fastal.report.plots import simplex_heat_maps
from fastal.sources.files import Files
from fastal.uncertainty import select


def run(console: Console, out: Path, seeds: int) -> None:
    """Runs the demo. Writes the logits, the picks and the picture to the folder `out`."""
    x, y = digits()
    split = split_of(len(x), seed=0)
    logits = _logits(x, y, split.labelled, split.pool)
    with written_whole(out / "logits.npy") as file:
        np.save(file, logits)
    console.print(
        f"A classifier trained on {LABELLED} digits predicts a pool of {len(logits):,} others."
        f"\nThe {PICKS} most worth labelling, as picked by\n\n"
        f"  fastal select {out / 'logits.npy'} --k {PICKS}\n",
        highlight=False,
    )
    picks = select_to_file(
        Files([out / "logits.npy"]), PICKS, "margin", out=out / "picks.csv"
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


def _logits(x: Array, y: Array, labelled: Array, rows: Array) -> Array:
    """Logits [rows, 10] float32 of a classifier trained on the labelled rows."""
    model = LogisticRegression(max_iter=1000).fit(x[labelled], y[labelled])
    logits = np.full((len(rows), 10), -np.inf, np.float32)  # -inf: no labelled row has the digit
    logits[:, model.classes_] = model.decision_function(x[rows])
    return logits


def _comparison(x: Array, y: Array, seeds: int) -> Table:
    """Compares what the picks of each strategy are worth, over several splits."""
    strategies = ("random", *UNCERTAINTY_SCORES)
    wrong: dict[str, list[float]] = {name: [] for name in (*strategies, "pool")}
    accuracy: dict[str, list[float]] = {name: [] for name in (*strategies, "before")}

    def held_out_accuracy(split: Split, labelled: Array) -> float:
        predicted = _logits(x, y, labelled, split.held_out).argmax(1)
        return float((predicted == y[split.held_out]).mean())

    for seed in range(seeds):
        split = split_of(len(x), seed)
        logits = _logits(x, y, split.labelled, split.pool)
        is_wrong = logits.argmax(1) != y[split.pool]
        wrong["pool"].append(is_wrong.mean())
        accuracy["before"].append(held_out_accuracy(split, split.labelled))
        for name in strategies:
            rows = select(logits, PICKS, name, seed=seed).rows
            wrong[name].append(is_wrong[rows].mean())
            labelled = np.concatenate((split.labelled, split.pool[rows]))
            accuracy[name].append(held_out_accuracy(split, labelled))

    table = Table(
        "rows labelled", "misclassified among them", "accuracy with them added",
        title=f"What {PICKS} more labels are worth: mean ± standard deviation over {seeds} splits",
    )  # fmt: skip
    table.add_row("none (the whole pool)", spread(wrong["pool"]), spread(accuracy["before"]))
    for name in strategies:
        label = "at random" if name == "random" else f"by {name.replace('_', ' ')}"
        label += " (the default)" if name == "margin" else ""
        table.add_row(label, spread(wrong[name]), spread(accuracy[name]))
    return table
