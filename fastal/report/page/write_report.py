"""Writes a report: what a run picked, and why."""

import logging
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from fastal.base.argument_values import UNCERTAINTY_SCORES
from fastal.base.checks import check_choice
from fastal.base.errors import prefixing_errors
from fastal.output.target import Target
from fastal.pipeline.run_on_pool import run_on_pool
from fastal.pipeline.run_options import RunOptions
from fastal.report.page.curves import learning_curves
from fastal.report.page.distribution import distributions_of
from fastal.report.page.document import document
from fastal.report.page.facts import facts
from fastal.report.page.histograms import histograms
from fastal.report.page.inputs import Inputs, inputs_of
from fastal.report.page.maps import cluster_map, probability_maps
from fastal.report.page.named_picks import NamedPicks, all_rows, marked_places
from fastal.report.page.picks_table import picks_table, table_controls
from fastal.report.page.pool_summary import PoolSummarizer, PoolSummary
from fastal.report.page.projection import projected
from fastal.report.page.svg import plain_text
from fastal.sources import PathLike, open_pool
from fastal.sources.files import Files
from fastal.sources.source import Source
from fastal.version import __version__

_log = logging.getLogger("fastal")


def write_report(
    run: Any,
    out: PathLike,
    *,
    pool: Any = None,
    embeddings: Any = None,
    by: str | None = None,
    kind: str = "logits",
    temperature: float = 1.0,
    title: str = "fastal report",
    progress: bool = False,
) -> list[str]:
    """Writes one HTML page that shows a run: scores, maps, learning curves, and the picks.

    The page holds its style, its script and its pictures. It opens from a file and loads nothing
    but the images that the picks carry. A part of the page whose input is missing is left out, and
    the page says which argument adds it.

    Args:
        run: one of these, or a list of several:

            - `Picks`, or a file of picks;
            - a `Simulation`, or the .csv file that `Simulation.save` writes;
            - a file of scores that `fastal score` wrote (.npy or .csv);
            - a folder with such files, which are recognised by what they hold.
        out: the .html file, which appears whole or not at all.
        pool: the predictions [N, C], any pool that `fastal.select` takes. It is read once, and only
            counts are kept. Picks are matched by row number.
        embeddings: the embeddings [N, D], files or an array. A random sample of the rows and the
            picked rows are read.
        by: the score of the map of three classes: one of the four uncertainty scores. None: the
            score of the picks, if it is one of the four, else "margin".
        kind: what the pool holds: "logits", "probs" or "log_probs".
        temperature: logits are divided by it.
        title: the heading of the page.
        progress: show progress on stderr while the pool is read.

    Returns:
        A line for each input that was used or left out.

    Raises:
        ValueError: nothing in `run` is recognised; a file is damaged; a picked row is not in the
            pool; the page is one of the inputs; or an argument is wrong, which the message names.
        TypeError: `run` is of another type.
        OSError: a file cannot be read or written.

    Example:
        >>> import fastal, numpy as np
        >>> from pathlib import Path
        >>> logits = np.random.default_rng(0).standard_normal((500, 3))
        >>> picks = fastal.select(logits, k=10)
        >>> fastal.report.write_report(picks, "report.html", pool=logits)
        ['used margin: 10 picks, in memory']
        >>> "<h2>Scores</h2>" in Path("report.html").read_text()
        True
    """
    if not isinstance(title, str):
        raise TypeError(f"title: wanted a text, got {type(title).__name__}")
    if by is not None:
        check_choice("by", by, UNCERTAINTY_SCORES)
    if pool is None and (kind != "logits" or temperature != 1.0):
        raise ValueError("kind and temperature: they are for the pool; wanted pool, too")
    sources = [_opened("pool", pool), _opened("embeddings", embeddings)]
    reads = [source if isinstance(source, Files) else None for source in sources]
    target = Target(Path(out), (".html",), *reads, has_record=False)
    pool, embeddings = sources
    inputs = inputs_of(run, Path(out))
    page = _Page(inputs)
    summary = None
    if pool is not None:
        reducer = PoolSummarizer(kind, temperature, all_rows(inputs.picks))
        options = RunOptions(progress=progress)
        summary = run_on_pool(reducer, pool, options, lambda found, _: found)
    if by is not None and (summary is None or summary.n_classes != 3):
        got = "no pool" if summary is None else f"{summary.n_classes}"
        raise ValueError(f"by: it is for the map of three classes; wanted a pool of 3, got {got}")
    page.add_facts()
    page.add_scores(summary)
    page.add_probabilities(summary, by)
    page.add_embeddings(embeddings, summary)
    page.add_curves()
    table = page.add_picks(Path(out))
    page.add_origin()
    with target.written() as file:
        file.write(document(title, page.sections, table))
    for line in page.warnings:
        _log.warning("%s", line)
    return page.lines


class _Page:
    """The sections of a page, and what they lack.

    Args:
        inputs: what the page is made of.

    Attributes:
        sections: HTML by heading.
        warnings: what the reader must know.
        lines: what was used and what was left out.
    """

    def __init__(self, inputs: Inputs) -> None:
        self._inputs = inputs
        self._rows = all_rows(inputs.picks)
        self._missing: list[str] = []
        self.sections: dict[str, str] = {}
        self.warnings = list(inputs.warnings)
        self.lines = [f"used {line}" for line in inputs.used]
        self.lines += [f"left out {line}" for line in inputs.left_out]

    def add_facts(self) -> None:
        if self._inputs.picks:
            self.sections["The run"] = facts(self._inputs.picks)

    def add_scores(self, summary: PoolSummary | None) -> None:
        charts = [] if summary is None else [("pool", summary.distributions)]
        for name, path in self._inputs.score_files.items():
            charts.append((name, distributions_of(path, self._rows)))
        parts = []
        for name, distributions in charts:
            html, warnings = histograms(distributions, self._inputs.picks)
            parts.append(f"<h3>{plain_text(name)}</h3>{html}" if len(charts) > 1 else html)
            self.warnings += warnings
        if parts:
            self.sections["Scores"] = "".join(parts)
        else:
            self._missing.append(
                "histograms of the scores: give predictions (--pool, in Python pool=), or the file "
                "of fastal score among the inputs"
            )

    def add_probabilities(self, summary: PoolSummary | None, by: str | None) -> None:
        if summary is None:
            self._missing.append(
                "the map of the probabilities, for three classes or more: give predictions "
                "(--pool, in Python pool=)"
            )
        elif summary.n_classes > 2:
            score = by or _score_of(self._inputs.picks)
            self.sections["Probabilities"] = probability_maps(summary, self._inputs.picks, score)

    def add_embeddings(self, embeddings: Any, summary: PoolSummary | None) -> None:
        if embeddings is None:
            self._missing.append(
                "the map of the pool: give embeddings (--embeddings, in Python embeddings=)"
            )
            return
        with prefixing_errors("embeddings"):
            marked = marked_places(self._inputs.picks)
            found = projected(embeddings, self._rows, marked)
            if summary is not None and found.n_rows != (wanted := summary.distributions[0].n_rows):
                raise ValueError(f"wanted {wanted:,} rows, as the pool has, got {found.n_rows:,}")
        self.sections["Embeddings"] = cluster_map(found, self._inputs.picks)

    def add_curves(self) -> None:
        if not self._inputs.simulations:
            self._missing.append(
                "learning curves: give the .csv file of a simulation among the inputs"
            )
            return
        self.sections["Learning curves"] = "".join(
            learning_curves(name, of) for name, of in self._inputs.simulations.items()
        )

    def add_picks(self, out: Path) -> dict[str, Any] | None:
        if not self._inputs.picks:
            self._missing.append("the table of picks: give files of picks among the inputs")
            return None
        table, notes = picks_table(self._inputs.picks, out)
        self.sections["Picks"] = table_controls(table, notes)
        return table

    def add_origin(self) -> None:
        now = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
        html = f"<p>fastal {__version__} wrote this page on {now}.</p>{_list(self.lines)}"
        if self.warnings:
            html += f"<h3>Warnings</h3>{_list(self.warnings)}"
        if self._missing:
            html += f"<h3>What is not on this page</h3>{_list(self._missing)}"
        self.sections["How this page was made"] = html


def _opened(name: str, given: Any) -> Source | None:
    if given is None:
        return None
    with prefixing_errors(name):
        return open_pool(given)


def _list(lines: list[str]) -> str:
    items = "".join(f"<li>{plain_text(line)}</li>" for line in lines)
    return f'<ul class="lines">{items}</ul>'


def _score_of(given: list[NamedPicks]) -> str:
    """The first uncertainty score that picks were made by; "margin" if there is none."""
    return next((of.strategy for of in given if of.strategy in UNCERTAINTY_SCORES), "margin")
