"""Pictures of the measures. Needs matplotlib (extra `demo`)."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.tri import Triangulation

from fastal.outputs import written_whole
from fastal.scores import Scores
from fastal.uncertainty import score

_STEPS = 240  # even odds of two and of three labels are points of the grid


def simplex_heat_maps(path: Path) -> Path:
    """Draws each score over all predictions of a three-label problem and writes a PNG.

    A corner of a triangle is a certain prediction of one label, the middle is even odds.

    Source: Munro, Human-in-the-Loop Machine Learning, section 3.2, its heat maps.
    """
    # Every point of the simplex whose coordinates are multiples of 1 / _STEPS.
    i, j = np.meshgrid(np.arange(_STEPS + 1), np.arange(_STEPS + 1), indexing="ij")
    inside = i + j <= _STEPS
    p = np.stack([i[inside], j[inside], _STEPS - i[inside] - j[inside]], axis=1) / _STEPS
    scores = score(p, kind="probs")

    corners = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(3) / 2]])
    triangles = Triangulation(*(p @ corners).T)
    figure = Figure(figsize=(11, 3.2), layout="constrained")
    axes = figure.subplots(1, len(Scores._fields))
    for ax, name, values in zip(axes, Scores._fields, scores, strict=True):
        image = ax.tripcolor(triangles, values, shading="gouraud", cmap="inferno", vmin=0, vmax=1)
        levels = np.arange(0.1, 1, 0.1)
        ax.tricontour(triangles, values, levels=levels, colors="white", linewidths=0.4)
        ax.set_title(name.replace("_", " "), pad=16)
        ax.set_aspect("equal")
        ax.axis("off")
        for corner, label in zip(corners, "ABC", strict=True):
            outward = 1.08 * corner - 0.08 * corners.mean(0)
            ax.text(*outward, label, ha="center", va="center")
    figure.colorbar(image, ax=axes, label="score: 1 = most uncertain", shrink=0.8)
    with written_whole(path) as file:
        figure.savefig(file, dpi=150, format="png")
    return path
