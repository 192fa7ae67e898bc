"""Maps of a pool with the picks on them: of probabilities, and of embeddings."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastal.report.page.named_picks import (
    MOST_MARKED,
    NamedPicks,
    all_rows,
    marked_places,
    series_of,
)
from fastal.report.page.pool_summary import STEPS, PoolSummary
from fastal.report.page.projection import Projection
from fastal.report.page.series_legend import series_legend
from fastal.report.page.svg import WIDTH, Axis, Frame, drawing, heat, marker, padding, text
from fastal.uncertainty import score

_LEVELS = 10  # of a heat map
_SIDE = 330  # pixels of a side of the simplex
_HEIGHT = 340
_Places = Callable[[int], tuple[float, float]]  # of a pick, in pixels


def probability_maps(found: PoolSummary, given: Sequence[NamedPicks], by: str) -> str:
    """Maps of the predicted probabilities of a pool.

    With three classes they are triangles: the score of every prediction, and the rows of the pool.
    With more, it is a map of the two largest probabilities.

    Args:
        found: the pool, which has three classes or more.
        given: the picks.
        by: the score.
    """
    if found.n_classes == 3:
        return _simplexes(found, given, by)
    frame = Frame(
        Axis("largest probability", 0, 1), Axis("second largest probability", 0, 0.5), 300
    )
    paths: dict[int, list[str]] = {}
    for (i, j), level in _levels(found.cells).items():
        x, y = frame.x_at(i / STEPS), frame.y_at(j / STEPS / 2)
        right, top = frame.x_at((i + 1) / STEPS), frame.y_at((j + 1) / STEPS / 2)
        paths.setdefault(level, []).append(f"M{x:.1f} {y:.1f}H{right:.1f}V{top:.1f}H{x:.1f}z")
    edge = "".join(
        f"{'ML'[i > 0]}{frame.x_at(x):.1f} {frame.y_at(y):.1f}"
        for i, (x, y) in enumerate([(0, 0), (0.5, 0.5), (1, 0)])
    )
    p = found.of_picks
    markers, note = _markers(given, p, lambda i: (frame.x_at(p[i, 0]), frame.y_at(p[i, 1])))
    marks = [*heat(paths, _LEVELS), f'<path class="edge" d="{edge}"/>', *markers]
    alternative = (
        f"Map of the two largest probabilities of the rows of the pool, with {len(p):,} picks"
    )
    most = int(found.cells.max())
    return (
        f"<figure>{frame.svg(marks, alternative)}{series_legend(given)}<figcaption>Cells of a "
        f"stronger colour have more rows, on a logarithmic scale; at most {most:,}. A certain "
        f"prediction is at the lower right. No prediction is above the lines.{note}"
        "</figcaption></figure>"
    )


def cluster_map(found: Projection, given: Sequence[NamedPicks]) -> str:
    """A map of embeddings along two principal components."""
    finite = found.of_picks[np.isfinite(found.of_picks).all(1)]
    points = np.concatenate([found.sample, finite])
    low, high = points.min(0), points.max(0)
    pad = np.where(high > low, 0.04 * (high - low), [padding(value) for value in low])
    low, high = low - pad, high + pad
    shares = [f"{share:.0%} of the variance" for share in found.shares]
    frame = Frame(
        Axis(f"first principal component, {shares[0]}", low[0], high[0]),
        Axis(f"second, {shares[1]}", low[1], high[1]),
        360,
    )
    dots = "".join(f"M{frame.x_at(x):.1f} {frame.y_at(y):.1f}h0" for x, y in found.sample.tolist())
    places = found.of_picks
    markers, note = _markers(
        given,
        places,
        lambda i: (frame.x_at(places[i, 0]), frame.y_at(places[i, 1])),
    )
    alternative = (
        f"Map of {len(found.sample):,} of {found.n_rows:,} embeddings along two principal "
        f"components, with {len(places):,} picks"
    )
    svg = frame.svg([f'<path class="dots" d="{dots}"/>', *markers], alternative)
    return (
        f"<figure>{svg}{series_legend(given)}<figcaption>The dots are {len(found.sample):,} random "
        f"rows of {found.n_rows:,}. The axes are their principal components.{note}"
        "</figcaption></figure>"
    )


def _simplexes(found: PoolSummary, given: Sequence[NamedPicks], by: str) -> str:
    """Triangles whose corners are certain predictions."""
    i, j = np.meshgrid(np.arange(STEPS), np.arange(STEPS), indexing="ij")
    is_cell = np.stack([i + j < STEPS, i + j < STEPS - 1], 2)
    centre = np.stack([np.stack([i, j], 2) + 1 / 3, np.stack([i, j], 2) + 2 / 3], 2) / STEPS
    p = np.concatenate([centre, 1 - centre.sum(3, keepdims=True)], 3)
    values = np.zeros(is_cell.shape)
    values[is_cell] = getattr(score(p[is_cell], kind="probs"), by)
    of_score = {
        tuple(cell): max(1, round(values[tuple(cell)] * _LEVELS))
        for cell in np.argwhere(is_cell).tolist()
    }
    words = by.replace("_", " ")
    of_picks = found.of_picks
    markers, note = _markers(given, of_picks, lambda i: _corner(of_picks[i, 0], of_picks[i, 1]))
    first = _simplex(of_score, markers, f"Heat map of {words} over all predictions, with the picks")
    second = _simplex(
        _levels(found.cells), markers, "Heat map of the rows of the pool, with the picks"
    )
    most = f"{int(found.cells.max()):,}"
    captions = (
        f"The {words} of every prediction: a stronger colour is more uncertain.",
        f"The rows of the pool, on a logarithmic scale; a cell has at most {most}.",
    )
    figures = "".join(
        f"<figure>{svg}<figcaption>{caption}</figcaption></figure>"
        for svg, caption in zip((first, second), captions, strict=True)
    )
    corner = f"<p>A corner is a certain prediction of one class.{note}</p>"
    return f'<div class="charts">{figures}</div>{series_legend(given)}{corner}'


def _simplex(levels: dict[tuple[int, ...], int], markers: Sequence[str], alternative: str) -> str:
    paths: dict[int, list[str]] = {}
    for (i, j, is_upper), level in levels.items():
        third = (1, 1) if is_upper else (0, 0)
        places = [_corner((i + a) / STEPS, (j + b) / STEPS) for a, b in (third, (1, 0), (0, 1))]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        paths.setdefault(level, []).append(f"M{path}z")
    corners = [_corner(1, 0), _corner(0, 1), _corner(0, 0)]
    edge = "L".join(f"{x:.1f} {y:.1f}" for x, y in corners)
    names = [
        text(x, y + (18 if y > _HEIGHT / 2 else -8), f"class {number}", "tick")
        for number, (x, y) in enumerate(corners)
    ]
    outline = f'<path class="edge" d="M{edge}z"/>'
    return drawing([*heat(paths, _LEVELS), outline, *names, *markers], alternative, _HEIGHT)


def _corner(a: float, b: float) -> tuple[float, float]:
    """The place of a prediction with the probabilities a and b of the first two classes."""
    c = 1 - a - b
    left, bottom = (WIDTH - _SIDE) / 2, _HEIGHT - 26
    return left + _SIDE * (b + c / 2), bottom - _SIDE * c * 3**0.5 / 2


def _levels(cells: NDArray[np.int64]) -> dict[tuple[int, ...], int]:
    """The level of each cell with rows, from 1 to `_LEVELS`, on a logarithmic scale."""
    most = max(2, int(cells.max()))
    return {
        tuple(cell): 1 + round((_LEVELS - 1) * float(np.log(cells[tuple(cell)]) / np.log(most)))
        for cell in np.argwhere(cells).tolist()
    }


def _markers(
    given: Sequence[NamedPicks], values: NDArray[Any], at: _Places
) -> tuple[list[str], str]:
    """Markers of picks whose values [k, ...] are finite, and a note if not all are marked."""
    rows = all_rows(given)
    marked = marked_places(given)
    shown = set(marked[np.isfinite(values[marked]).all(axis=1)].tolist())
    series = series_of(given) if given else []
    markers = [
        marker(*at(place), i, f"row {rows[place]}, {of.name}")
        for i, of in enumerate(series)
        for place in of.places.tolist()
        if place in shown
    ]
    if len(marked) == len(rows):
        return markers, ""
    each = f"{MOST_MARKED // len(series):,} picks{' of each series' if len(series) > 1 else ''}"
    return markers, f" Only the first {each} are marked."
