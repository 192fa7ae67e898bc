"""What each strategy of a simulation is worth, in a few numbers."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastal.simulation.interval import Interval, interval
from fastal.simulation.strategies import RANDOM


class StrategySummary(NamedTuple):
    """What a strategy is worth. All intervals are over the seeds; see `Interval`.

    Attributes:
        strategy: its name.
        final: the score after the last round.
        area: the area under the curve, by the trapezoidal rule, divided by the number of labels
            that were added: the mean score along the curve.
        final_gain: final - that of random rows. The difference is taken seed by seed, so what the
            seeds have in common cancels. None for random rows, or without them.
        area_gain: area - that of random rows, likewise.
    """

    strategy: str
    final: Interval
    area: Interval
    final_gain: Interval | None
    area_gain: Interval | None


def summarised(
    strategies: Sequence[str], n_labelled: NDArray[np.int64], scores: NDArray[np.float64]
) -> list[StrategySummary]:
    """A summary of each strategy.

    Args:
        strategies: the names of S strategies.
        n_labelled: [rounds + 1].
        scores: [S, seeds, rounds + 1].
    """
    final = scores[:, :, -1]
    area = np.trapezoid(scores, n_labelled, axis=2) / (n_labelled[-1] - n_labelled[0])
    baseline = strategies.index(RANDOM) if RANDOM in strategies else None
    return [
        StrategySummary(
            name,
            interval(final[i]),
            interval(area[i]),
            None if baseline in (None, i) else interval(final[i] - final[baseline]),
            None if baseline in (None, i) else interval(area[i] - area[baseline]),
        )
        for i, name in enumerate(strategies)
    ]


def as_text(summaries: Sequence[StrategySummary], n_labels: int) -> str:
    """Summaries as a table of text."""
    lines = [["", f"with {n_labels:,} labels", "minus random", "mean of curve", "minus random"]]
    for name, final, area, final_gain, area_gain in summaries:
        cells = (final, final_gain, area, area_gain)
        lines.append([name, *("" if cell is None else str(cell) for cell in cells)])
    if all(summary.area_gain is None for summary in summaries):
        lines = [[name, final, area] for name, final, _, area, _ in lines]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
