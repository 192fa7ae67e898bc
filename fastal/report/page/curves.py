"""Learning curves, and the table of what strategies are worth."""

import numpy as np

from fastal.report.page.svg import N_SERIES, Axis, Frame, legend, marker, plain_text
from fastal.simulation.interval import interval
from fastal.simulation.result import Simulation


def learning_curves(name: str, simulation: Simulation) -> str:
    """A chart of the mean over seeds with its 95% confidence interval, and the summary."""
    labels = simulation.n_labelled
    low, high = float(simulation.scores.min()), float(simulation.scores.max())
    pad = 0.05 * (high - low) or 0.5
    frame = Frame(
        Axis("labelled rows", float(labels[0]), float(labels[-1])),
        Axis(simulation.metric, low - pad, high + pad),
        320,
    )
    n_seeds = len(simulation.seeds)
    bands, lines, entries = [], [], []
    for i, (strategy, scores) in enumerate(
        zip(simulation.strategies, simulation.scores, strict=True)
    ):
        of = i % N_SERIES
        found = [interval(of_seeds) for of_seeds in scores.T]
        xs = [frame.x_at(float(n)) for n in labels]
        if n_seeds > 1:
            upper = [f"{x:.1f} {frame.y_at(f.high):.1f}" for x, f in zip(xs, found, strict=True)]
            lower = [f"{x:.1f} {frame.y_at(f.low):.1f}" for x, f in zip(xs, found, strict=True)]
            bands.append(f'<path class="band s{of}" d="M{"L".join(upper + lower[::-1])}z"/>')
        places = [(x, frame.y_at(f.mean)) for x, f in zip(xs, found, strict=True)]
        line = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        lines.append(f'<path class="line s{of}" d="M{line}"/>')
        lines += [marker(x, y, of) for x, y in places]
        entries.append((marker(0, 0, of), strategy))
    seeds = (
        f"The lines are means over {n_seeds} seeds. The bands are their 95% confidence intervals, "
        "cut off at the edge of the chart."
        if n_seeds > 1
        else "There is one seed, so there are no intervals."
    )
    alternative = (
        f"Learning curves of {', '.join(simulation.strategies)} from {labels[0]:,} to "
        f"{labels[-1]:,} labels; the table below has the numbers"
    )
    return (
        f"<h3>{plain_text(name)}</h3><figure>{frame.svg(bands + lines, alternative)}"
        f"{legend(entries)}<figcaption>{seeds}</figcaption></figure>{_table(simulation)}"
    )


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
