"""How picks are shown: a table of the first of them, as text and as HTML."""

import html
from typing import TYPE_CHECKING, Any

from fastal.base.text import shown
from fastal.picks.table import ranked, records

if TYPE_CHECKING:
    from fastal.picks.picks import Picks

_MOST_ROWS = 10
_LONGEST = 40  # characters of a value


def as_text(picks: "Picks") -> str:
    """A line that says what the picks are, and a table of the first of them."""
    names, lines = _lines(picks)
    if not lines:
        return _title(picks)
    cells = [names, *([_cell(value) for value in line] for line in lines)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    is_number = [not isinstance(value, str) for value in lines[0]]

    def aligned(line: list[str]) -> str:
        padded = [
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(line, widths, is_number, strict=True)
        ]
        return "  ".join(padded).rstrip()

    more = ["..."] if len(picks) > len(lines) else []
    return "\n".join([_title(picks), *map(aligned, cells), *more])


def as_html(picks: "Picks") -> str:
    """As `as_text`, for notebooks."""
    names, lines = _lines(picks)

    def row(tag: str, cells: list[str]) -> str:
        return f"<tr>{''.join(f'<{tag}>{html.escape(cell)}</{tag}>' for cell in cells)}</tr>"

    body = [row("td", [_cell(value) for value in line]) for line in lines]
    more = "<p>...</p>" if len(picks) > len(lines) else ""
    table = f"<table>{row('th', names)}{''.join(body)}</table>" if lines else ""
    return f"<p>{html.escape(_title(picks))}</p>{table}{more}"


def _title(picks: "Picks") -> str:
    n = len(picks)
    title = f"{n:,} pick{'' if n == 1 else 's'}"
    if picks.strategy is not None:
        title += f" by {shown(picks.strategy)}"
    return title + (f"; {picks.invalid:,} invalid rows left out" if picks.invalid else "")


def _lines(picks: "Picks") -> tuple[list[str], list[list[Any]]]:
    """The names of the columns, and the plain values of the first picks."""
    table = ranked(picks[:_MOST_ROWS])
    return [_cell(name) for name in table], [[*record.values()] for record in records(table)]


def _cell(value: Any) -> str:
    text = f"{value:.5g}" if isinstance(value, float) else str(value)
    text = shown(" ".join(text[: 2 * _LONGEST].split()))
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
