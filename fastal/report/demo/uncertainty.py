"""Uncertainty sampling of the digits, by the logits of a classifier trained on few of them."""

from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.linear_model import LogisticRegression

from fastal import combine, diversity
from fastal.commands.uncertainty import select_to_file
from fastal.ops.formulas import UNCERTAINTY_SCORES
from fastal.output.atomic import written_whole
from fastal.picks.picks import Picks
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
    of_pool: list[float] = []
    before: list[float] = []
    wrong: dict[str, list[float]] = {}
    accuracy: dict[str, list[float]] = {}

    def held_out_accuracy(split: Split, labelled: Array) -> float:
        predicted = _logits(x, y, labelled, split.held_out).argmax(1)
        return float((predicted == y[split.held_out]).mean())

    for seed in range(seeds):
        split = split_of(len(x), seed)
        logits = _logits(x, y, split.labelled, split.pool)
        is_wrong = logits.argmax(1) != y[split.pool]
        of_pool.append(is_wrong.mean())
        before.append(held_out_accuracy(split, split.labelled))
        for name, picks in _picks(logits, x[split.pool], x[split.labelled], seed).items():
            wrong.setdefault(name, []).append(is_wrong[picks.rows].mean())
            labelled = np.concatenate((split.labelled, split.pool[picks.rows]))
            accuracy.setdefault(name, []).append(held_out_accuracy(split, labelled))

    table = Table(
        "rows labelled", "misclassified among them", "accuracy with them added",
        title=f"What {PICKS} more labels are worth: mean ± standard deviation over {seeds} splits",
    )  # fmt: skip
    table.add_row("none (the whole pool)", spread(of_pool), spread(before))
    for name in wrong:
        table.add_row(name, spread(wrong[name]), spread(accuracy[name]))
    return table


def _picks(logits: Array, x: Array, labelled: Array, seed: int) -> dict[str, Picks]:
    """What each strategy picks, by its name. The embeddings are the pixels x.

    Args:
        logits: [n, 10] of the pool.
        x: [n, D] of the pool.
        labelled: [m, D] of the labelled digits.
        seed: of all random choices.
    """
    by_score = {
        f"by {name.replace('_', ' ')}": select(logits, PICKS, name) for name in UNCERTAINTY_SCORES
    }
    return {
        "at random": select(logits, PICKS, "random", seed=seed),
        **by_score,
        "by margin, power noise": select(logits, PICKS, noise="power", seed=seed),
        "clustered uncertainty": combine.clustered_uncertainty(logits, x, PICKS, seed=seed),
        "diverse": combine.diverse(logits, x, PICKS, labelled=labelled),
        "ranked batch": combine.ranked_batch(logits, x, PICKS, labelled=labelled),
        "BADGE": diversity.badge(logits, x, PICKS, seed=seed),
        "TypiClust": diversity.typiclust(x, PICKS, labelled=labelled, seed=seed),
    }
