"""The learning curves of a simulation as a picture. Needs matplotlib (extra `demo`)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastal.output.atomic import written_whole
from fastal.simulation.interval import interval

# So many strategies have a legend in the axes. More have it beside them.
_FEW = 5
# Colours come again after ten strategies, with another line.
_LINES = "-", "--", "-.", ":"
_COLOURS = 10


class Curves(NamedTuple):
    """What the picture shows; see `Simulation`."""

    strategies: Sequence[str]
    n_labelled: NDArray[np.int64]
    scores: NDArray[np.float64]
    metric: str


def write(path: Path, curves: Curves) -> None:
    """Draws curves and writes an image file, whole or not at all."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ModuleNotFoundError(
            "plot needs matplotlib: pip install 'fastal[demo]'", name="matplotlib"
        ) from None
    n = len(curves.strategies)
    size = (7, 4.5) if n <= _FEW else (9.5, max(4.5, 0.2 * n + 1))
    figure = Figure(figsize=size, layout="constrained")
    formats = figure.canvas.get_supported_filetypes()
    suffix = path.suffix.removeprefix(".")
    if suffix not in formats:
        wanted = ", ".join(f".{known}" for known in sorted(formats))
        raise ValueError(f"path: wanted one of {wanted}, got {path}")
    draw(figure.subplots(), curves)
    with written_whole(path) as file:
        figure.savefig(file, dpi=150, format=suffix)


def draw(axes: Any, curves: Curves) -> None:
    """Draws on axes of matplotlib, for each strategy the mean and its 95% confidence interval."""
    n_seeds = curves.scores.shape[1]
    for i, (name, scores) in enumerate(zip(curves.strategies, curves.scores, strict=True)):
        mean, low, high = np.array([interval(of_seeds) for of_seeds in scores.T]).T
        (line,) = axes.plot(
            curves.n_labelled, mean, _LINES[i // _COLOURS % len(_LINES)], color=f"C{i % _COLOURS}",
            marker="o", markersize=3, label=name,
        )  # fmt: skip
        if n_seeds > 1:
            axes.fill_between(
                curves.n_labelled, low, high, color=line.get_color(), alpha=0.2, linewidth=0
            )
    axes.set_xlabel("labelled rows")
    axes.set_ylabel(curves.metric)
    band = f"mean over {n_seeds} seeds ± 95% confidence" if n_seeds > 1 else "one seed"
    beside = (
        {} if len(curves.strategies) <= _FEW else {"loc": "upper left", "bbox_to_anchor": (1, 1)}
    )
    axes.legend(title=band, **beside)
