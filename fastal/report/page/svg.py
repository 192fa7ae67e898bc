"""Charts as SVG text. Colours come from the style of the page, by class."""

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple

from fastal.base.text import shown

_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 12, 12, 44  # pixels around the plot
WIDTH = 440  # pixels of a chart, before it is scaled to the page
# Shapes of markers, as paths around 0 of about the same area. Each series has one, so that no
# reader depends on colours.
_SHAPES = (
    "m-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z",
    "m-3.5-3.5h7v7h-7z",
    "m0-5l4.8 8.4h-9.6z",
    "m0-5l5 5l-5 5l-5-5z",
    "m-1.5-5h3v3.5h3.5v3h-3.5v3.5h-3v-3.5h-3.5v-3h3.5z",
    "m0 5l4.8-8.4h-9.6z",
    "m-4.5-2.5h9v5h-9z",
    "m-2.5-4.5h5v9h-5z",
)
N_SERIES = len(_SHAPES)


class Axis(NamedTuple):
    """An axis of a chart.

    Attributes:
        label: what it shows.
        low: the value at its beginning.
        high: the value at its end.
        is_log: whether it is logarithmic.
    """

    label: str
    low: float
    high: float
    is_log: bool = False

    def ticks(self) -> list[float]:
        """The values that are named: about five round ones, or the powers of 10."""
        if not self.is_log:
            return ticks(self.low, self.high)
        first, last = math.ceil(math.log10(self.low)), math.floor(math.log10(self.high))
        return [10.0**power for power in range(first, last + 1)]


class Frame:
    """A chart with two axes.

    Args:
        x: the horizontal axis.
        y: the vertical axis.
        height: pixels.

    Attributes:
        left: the place where the horizontal axis begins, in pixels.
        right: where it ends.
        top: where the vertical axis ends.
        bottom: where it begins.
    """

    def __init__(self, x: Axis, y: Axis, height: int = 280) -> None:
        self._x, self._y, self._height = x, y, height
        self.left, self.right = _LEFT, WIDTH - _RIGHT
        self.top, self.bottom = _TOP, height - _BOTTOM

    def x_at(self, value: float) -> float:
        """The place of a value on the horizontal axis, in pixels."""
        return _place(value, self._x, self.left, self.right)

    def y_at(self, value: float) -> float:
        """The place of a value on the vertical axis, in pixels."""
        return _place(value, self._y, self.bottom, self.top)

    def svg(self, marks: Iterable[str], alternative: str) -> str:
        """The chart: axes, then marks, which are cut off at the edge of the plot.

        Args:
            marks: SVG elements.
            alternative: the text in place of the picture.
        """
        parts = []
        for value in self._x.ticks():
            x = self.x_at(value)
            parts.append(f'<path class="grid" d="M{x:.1f} {self.top}V{self.bottom}"/>')
            parts.append(text(x, self.bottom + 15, short(value), "tick"))
        for value in self._y.ticks():
            y = self.y_at(value)
            parts.append(f'<path class="grid" d="M{self.left} {y:.1f}H{self.right}"/>')
            parts.append(text(self.left - 6, y + 4, short(value), "tick end"))
        middle = (self.top + self.bottom) / 2
        parts.append(text((self.left + self.right) / 2, self._height - 8, self._x.label, "label"))
        parts.append(
            f'<text class="label" transform="translate(13 {middle:.0f}) rotate(-90)">'
            f"{plain_text(self._y.label)}</text>"
        )
        box = f"{self.right - self.left}", f"{self.bottom - self.top}"
        parts.append(
            f'<svg x="{self.left}" y="{self.top}" width="{box[0]}" height="{box[1]}" '
            f'viewBox="{self.left} {self.top} {box[0]} {box[1]}">{"".join(marks)}</svg>'
        )
        parts.append(f'<path class="axis" d="M{self.left} {self.top}V{self.bottom}H{self.right}"/>')
        return drawing(parts, alternative, self._height)


def padding(value: float) -> float:
    """What an axis has on either side of a value that is its only one.

    It is large enough that the ends of the axis differ, also for large values.

    Example:
        >>> padding(0.25), padding(-3e7)
        (0.5, 30.0)
    """
    return max(0.5, abs(value) * 1e-6)


def drawing(parts: Iterable[str], alternative: str, height: int) -> str:
    """SVG elements as a picture with a text alternative."""
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{plain_text(alternative)}">{"".join(parts)}</svg>'
    )


def text(x: float, y: float, words: str, of_class: str) -> str:
    """A text at a place."""
    return f'<text class="{of_class}" x="{x:.1f}" y="{y:.1f}">{plain_text(words)}</text>'


def marker(x: float, y: float, series: int, title: str = "") -> str:
    """The marker of a series at a place.

    Args:
        x: pixels.
        y: pixels.
        series: its number.
        title: shown when the pointer is over the marker; empty: nothing is.
    """
    inner = f"<title>{plain_text(title)}</title>" if title else ""
    return (
        f'<path class="pick s{series % N_SERIES}" d="M{x:.1f} {y:.1f}'
        f'{_SHAPES[series % N_SERIES]}">{inner}</path>'
    )


def legend(entries: Sequence[tuple[str, str]]) -> str:
    """A list of what the series are.

    Args:
        entries: for each an SVG element around (0, 0), 10 pixels wide, and its name.
    """
    items = "".join(
        f'<li><svg viewBox="-8 -8 16 16" width="16" height="16" aria-hidden="true">{element}</svg>'
        f" {plain_text(name)}</li>"
        for element, name in entries
    )
    return f'<ul class="legend">{items}</ul>'


def heat(paths: dict[int, list[str]], levels: int) -> list[str]:
    """Cells of a heat map, one SVG element for each level.

    Args:
        paths: the paths of the cells, by level from 1 on.
        levels: the highest level.
    """
    return [
        f'<path class="heat" fill-opacity="{level / levels:.2f}" d="{"".join(cells)}"/>'
        for level, cells in sorted(paths.items())
    ]


def plain_text(words: str) -> str:
    """Text as HTML, in which nothing is a tag or controls the reader."""
    return escape(shown(words))


def number(value: float) -> str:
    """A number as people read it."""
    if math.isfinite(value) and value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:.4g}"


def short(value: float) -> str:
    """A number in few characters.

    Example:
        >>> short(2000), short(20000), short(1.5e9)
        ('2,000', '20k', '1500M')
    """
    if abs(value) >= 1e7:
        return f"{value / 1e6:g}M"
    return f"{value / 1e3:g}k" if abs(value) >= 1e4 else number(value)


def ticks(low: float, high: float) -> list[float]:
    """About five round values from low to high.

    Example:
        >>> ticks(0, 1)
        [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{place * step:.12g}") for place in range(first, last + 1)]


def _place(value: float, axis: Axis, first: float, last: float) -> float:
    if axis.is_log:
        position = math.log(value / axis.low) / math.log(axis.high / axis.low)
        return first + position * (last - first)
    return first + (value - axis.low) / (axis.high - axis.low) * (last - first)
