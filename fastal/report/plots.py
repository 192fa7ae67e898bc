"""Pictures of scores and of picks. Needs matplotlib (extra `demo`)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.tri import Triangulation
from numpy.typing import NDArray

from fastal.ops.formulas import Scores
from fastal.output.atomic import written_whole
from fastal.uncertainty import score

_STEPS = 240  # the grid has the points of even odds of two and of three labels


def simplex_heat_maps(path: Path) -> Path:
    """Draws each score over all predictions of a three-label problem and writes a PNG.

    There is a triangle for each score. A corner is a certain prediction of one label, the centre
    is a prediction of even odds.

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


def map_of_picks(
    path: Path, embeddings: NDArray[Any], labels: NDArray[Any], picks: Mapping[str, NDArray[Any]]
) -> Path:
    """Draws a pool along its first two principal components, marks the picks and writes a PNG.

    Args:
        path: the file.
        embeddings: [N, D].
        labels: [N] integers from 0 to 9. Each label has a colour.
        picks: row numbers by role. Each role has a marker.
    """
    centred = embeddings - embeddings.mean(0)
    _, lengths, directions = np.linalg.svd(centred, full_matrices=False)
    x, y = directions[:2] @ centred.T
    shares = lengths[:2] ** 2 / (lengths**2).sum()
    figure = Figure(figsize=(9, 6), layout="constrained")
    ax = figure.subplots()
    colours = matplotlib.colormaps["tab10"]
    for label in np.unique(labels):
        of = labels == label
        ax.scatter(x[of], y[of], s=12, color=colours(int(label)), alpha=0.3, lw=0, label=str(label))
    for (name, rows), marker in zip(picks.items(), "oX^sD", strict=False):
        ax.scatter(x[rows], y[rows], s=70, marker=marker, color=colours(labels[rows]),
                   edgecolors="black", label=name)  # fmt: skip
    ax.set_xlabel(f"first principal component, {shares[0]:.0%} of the variance")
    ax.set_ylabel(f"second, {shares[1]:.0%}")
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), title="digits, and picks")
    with written_whole(path) as file:
        figure.savefig(file, dpi=150, format="png")
    return path
