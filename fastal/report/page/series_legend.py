"""The legend of charts with picks."""

from collections.abc import Sequence

from fastal.report.page.named_picks import NamedPicks, series_of
from fastal.report.page.svg import legend, marker


def series_legend(given: Sequence[NamedPicks]) -> str:
    """The marker and the name of each series of picks; empty if there are no picks."""
    if not given:
        return ""
    return legend([(marker(0, 0, i), of.name) for i, of in enumerate(series_of(given))])
