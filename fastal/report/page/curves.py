"""Learning curves, and the table of what strategies are worth."""

import math
from collections.abc import Sequence

import numpy as np

from fastal.report.page.svg import N_SERIES, Axis, Frame, legend, marker, padding, plain_text
from fastal.simulation.interval import interval
from fastal.simulation.result import Simulation
from fastal.simulation.strategies import RANDOM

_LARGEST = 1e150  # the squares of such scores are finite


def learning_curves(name: str, simulation: Simulation) -> str:
    """Charts of the mean over seeds with its 95% confidence interval, and the summary.

    A chart has at most `N_SERIES` strategies. All charts of a simulation have the same axes.

    Args:
        name: of the simulation.
        simulation: the curves.

    Raises:
        ValueError: there are fewer than two rounds, or a score is NaN or beyond 1e150.
    """
    if len(simulation.n_labelled) < 2:
        n_rounds = len(simulation.n_labelled)
        raise ValueError(f"{name}: wanted the scores of two or more rounds, got {n_rounds}")
    is_valid = np.abs(simulation.scores) < _LARGEST  # false for NaN
    if not is_valid.all():
        i, seed, at = np.argwhere(~is_valid)[0]
        got = simulation.scores[i, seed, at]
        raise ValueError(
            f"{name}: wanted scores from -{_LARGEST:g} to {_LARGEST:g}, got {got} for "
            f"{simulation.strategies[i]}, seed {simulation.seeds[seed]}, round {at}"
        )
    charts = _charts(simulation.strategies)
    figures = []
    for i, places in enumerate(charts):
        title = f"<h4>Chart {i + 1} of {len(charts)}</h4>" if len(charts) > 1 else ""
        figures.append(f"<figure>{title}{_chart(simulation, places)}</figure>")
    n_seeds = len(simulation.seeds)
    seeds = (
        f"The lines are means over {n_seeds} seeds. The bands are their 95% confidence intervals, "
        "cut off at the edge of the chart."
        if n_seeds > 1
        else "There is one seed, so there are no intervals."
    )
    reference = (
        " Each chart has random rows, to compare with."
        if len(charts) > 1 and RANDOM in simulation.strategies
        else ""
    )
    return (
        f'<h3>{plain_text(name)}</h3><div class="charts">{"".join(figures)}</div>'
        f'<p class="note-text">{seeds}{reference}</p>{_table(simulation)}'
    )


def _charts(strategies: Sequence[str]) -> list[list[int]]:
    """The places of the strategies of each chart. If there are several, all begin with random."""
    if len(strategies) <= N_SERIES:
        return [list(range(len(strategies)))]
    in_each = [place for place, name in enumerate(strategies) if name == RANDOM]
    others = [place for place, name in enumerate(strategies) if name != RANDOM]
    n_charts = math.ceil(len(others) / (N_SERIES - len(in_each)))
    return [[*in_each, *part.tolist()] for part in np.array_split(others, n_charts)]


def _chart(simulation: Simulation, places: Sequence[int]) -> str:
    """A chart of the strategies at these places, with its legend."""
    labels = simulation.n_labelled
    low, high = float(simulation.scores.min()), float(simulation.scores.max())
    pad = 0.05 * (high - low) or padding(low)
    frame = Frame(
        Axis("labelled rows", float(labels[0]), float(labels[-1])),
        Axis(simulation.metric, low - pad, high + pad),
        320,
    )
    xs = [frame.x_at(float(n)) for n in labels]
    bands, lines, entries = [], [], []
    for of, place in enumerate(places):
        found = [interval(of_seeds) for of_seeds in simulation.scores[place].T]
        if len(simulation.seeds) > 1:
            upper = [f"{x:.1f} {frame.y_at(f.high):.1f}" for x, f in zip(xs, found, strict=True)]
            lower = [f"{x:.1f} {frame.y_at(f.low):.1f}" for x, f in zip(xs, found, strict=True)]
            bands.append(f'<path class="band s{of}" d="M{"L".join(upper + lower[::-1])}z"/>')
        points = [(x, frame.y_at(f.mean)) for x, f in zip(xs, found, strict=True)]
        line = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        lines.append(f'<path class="line s{of}" d="M{line}"/>')
        lines += [marker(x, y, of) for x, y in points]
        entries.append((marker(0, 0, of), simulation.strategies[place]))
    names = ", ".join(simulation.strategies[place] for place in places)
    alternative = (
        f"Learning curves of {names} from {labels[0]:,} to {labels[-1]:,} labels; the table below "
        "has the numbers"
    )
    return frame.svg(bands + lines, alternative) + legend(entries)


def _table(simulation: Simulation) -> str:
    """The summary; see `Simulation.summary`."""
    summary = simulation.summary()
    has_gain = any(of.area_gain is not None for of in summary)
    last = int(np.max(simulation.n_labelled))
    names = ["strategy", f"with {last:,} labels", "mean of curve"]
    if has_gain:
        names[2:2] = ["minus random"]
        names.append("minus random")
    head = "".join(f'<th scope="col">{plain_text(name)}</th>' for name in names)
    body = []
    for of in summary:
        gains = (of.final_gain, of.area_gain)
        cells = [of.final, gains[0], of.area, gains[1]] if has_gain else [of.final, of.area]
        texts = "".join(
            f"<td>{'' if cell is None else plain_text(str(cell))}</td>" for cell in cells
        )
        body.append(f'<tr><th scope="row">{plain_text(of.strategy)}</th>{texts}</tr>')
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="Summary of the strategies">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )
