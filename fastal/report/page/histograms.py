"""Histograms of the scores of a pool, with the picks marked."""

from collections.abc import Sequence

import numpy as np

from fastal.report.page.distribution import BINS, Distribution, is_same_score
from fastal.report.page.named_picks import NamedPicks, Series, series_of
from fastal.report.page.series_legend import series_legend
from fastal.report.page.svg import Axis, Frame, number, plain_text, text

_RUG = 7  # pixels of the line that marks a pick


def histograms(
    distributions: Sequence[Distribution], given: Sequence[NamedPicks]
) -> tuple[str, list[str]]:
    """A chart for each score of a pool.

    Returns:
        The charts as HTML, and a warning for picks that say that they are by a score and are not.
    """
    series = series_of(given) if given else []
    charts, warnings = [], []
    for of in distributions:
        thresholds = []
        place = 0
        for picks in given:
            in_pool = of.of_picks[place : place + len(picks.picks)]
            place += len(picks.picks)
            if not len(in_pool):
                continue
            if is_same_score(picks.scores, in_pool):
                thresholds.append((picks, float(in_pool.min())))
            elif picks.strategy == of.name:
                warnings.append(
                    f"{picks.name}: its scores are not {of.name} of this pool: it is of another "
                    "pool, kind or temperature"
                )
        charts.append(_chart(of, series, thresholds, is_alone=len(given) == 1))
    key = series_legend(given)
    if series:
        order = " A line for each series, in the order of the names." if len(series) > 1 else ""
        key += f'<p class="note-text">The marks at the top are the scores of the picks.{order}</p>'
    return f'<div class="charts">{"".join(charts)}</div>{key}', warnings


def _chart(
    of: Distribution,
    series: Sequence[Series],
    thresholds: Sequence[tuple[NamedPicks, float]],
    *,
    is_alone: bool,
) -> str:
    words = of.name.replace("_", " ")
    # Above the highest bar there is room for the picks and the threshold.
    most = max(1.0, float(of.counts.max()))
    rows = Axis("rows, logarithmic", 0.5, 0.5 * (2 * most) ** 1.4, is_log=True)
    frame = Frame(Axis(words, of.low, of.high), rows, 230)
    width = (of.high - of.low) / BINS
    bars = "".join(
        f"M{frame.x_at(of.low + i * width) + 0.5:.1f} {frame.bottom}"
        f"V{frame.y_at(count):.1f}H{frame.x_at(of.low + (i + 1) * width) - 0.5:.1f}"
        f"V{frame.bottom}z"
        for i, count in enumerate(of.counts.tolist())
        if count
    )
    marks = [f'<path class="bar" d="{bars}"/>']
    for i, one in enumerate(series):
        values = of.of_picks[one.places]
        finite = values[np.isfinite(values)].astype(float).tolist()
        places = sorted({round(frame.x_at(value)) for value in finite})
        y = frame.top + 2 + i * (_RUG + 2)
        lines = "".join(f"M{x} {y}v{_RUG}" for x in places)
        marks.append(f'<path class="rug s{i}" d="{lines}"/>')
    for _, threshold in thresholds:
        x = frame.x_at(threshold)
        marks.append(f'<path class="threshold" d="M{x:.1f} {frame.top}V{frame.bottom}"/>')
        if is_alone:
            is_left = x > (frame.left + frame.right) / 2
            beside = "note end" if is_left else "note"
            name = f"lowest pick {number(threshold)}"
            marks.append(text(x + (-5 if is_left else 5), frame.top + 32, name, beside))
    lowest = "".join(f"; the lowest of {p.name} is {number(t)}" for p, t in thresholds)
    alternative = f"Histogram of {words} over {of.n_rows:,} rows{lowest}"
    more = f" {of.not_finite:,} rows have no score." if of.not_finite else ""
    caption = f"{plain_text(words)}, {of.n_rows:,} rows.{more}"
    return f"<figure>{frame.svg(marks, alternative)}<figcaption>{caption}</figcaption></figure>"
