"""The pictures of docs/peers.md, drawn from results. The same results give the same files."""

import io
import math
import re
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from benchmarks.peers.results import TIMES, Results, named, seconds
from benchmarks.peers.tasks import TASKS, TOOLS

INK, PAPER, GREY = "#222222", "#ffffff", "#777777"
COLOURS = {
    "fastal": "#b5367a",
    "skactiveml_adapter": "#b5367a",
    "torch_eager": "#8a6d1f",
    "torch_compile": "#3b6fb6",
    "numpy_scipy": "#2f8f6b",
    "scikit_learn": "#d1792b",
    "faiss": "#555555",
    "modal": "#6a4fb3",
    "skactiveml": "#c0392b",
    "baal": "#1f9aa8",
    "small_text": "#7d8c2f",
    "cleanlab": "#a05a8c",
    "per_item": "#9a9a9a",
}
SHORT = {"per_item": "per item, by the book", "skactiveml_adapter": "fastal in scikit-activeml"}
WIDTHS = {"width": "columns"}
BARS = "three"  # the job of the bars
SWEPT = [name for name, task in TASKS.items() if len(task.sizes) > 1]
STYLE = {
    "svg.hashsalt": "fastal",  # names of elements would be random
    "svg.fonttype": "path",  # the same letters on every machine
    "font.family": "DejaVu Sans",
}


def draw_bars(path: Path, results: Results) -> None:
    """Seconds of each tool for the job of the README, shortest first."""
    last = {case["tool"]: case for case in results.of(BARS)}
    done = [case for case in last.values() if case["status"] == "done"]
    late = [case for case in last.values() if case["status"] == "stopped"]
    limit = results.about["limit_seconds"]
    cases = sorted(done, key=lambda case: case["seconds"]) + late
    ours = next(case["seconds"] for case in done if case["tool"] == "fastal")
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8, 0.5 + 0.34 * len(cases)), facecolor=PAPER)
        ax = figure.add_axes((0.24, 0.1, 0.72, 0.78))
        for place, case in enumerate(cases):
            tool, taken = case["tool"], case.get("seconds", limit)
            over = "over " if case in late else ""
            text = f"{over}{seconds(taken)}"
            if tool != "fastal":
                text += f"   {over}{taken / ours:,.{int(taken / ours < 9.95)}f} {TIMES}"
            ax.barh(place, taken, color=COLOURS[tool], height=0.66)
            ax.text(taken * 1.08, place, text, va="center", fontsize=9, color=INK)
        labels = [SHORT.get(case["tool"], TOOLS[case["tool"]].label) for case in cases]
        ax.set_yticks(range(len(cases)), labels, fontsize=9, color=INK)
        ax.get_yticklabels()[0].set_weight("bold" if cases[0]["tool"] == "fastal" else "normal")
        ax.invert_yaxis()
        ax.set_xscale("log")
        longest = max(case.get("seconds", limit) for case in cases)
        ax.set_xlim(10 ** math.floor(math.log10(ours)), 9 * longest)
        figure.text(0.02, 0.93, _title(results), fontsize=9.5, color=INK)
        ax.xaxis.set_minor_locator(NullLocator())
        ticks = [tick for tick in (1e-3, 1e-2, 0.1, 1, 10, 100) if tick >= ax.get_xlim()[0]]
        _plain(ax, ticks)
        ax.tick_params(length=0)
        _save(figure, path)


def _title(results: Results) -> str:
    size, threads = named(results.of(BARS)[0]["size"]), results.about["threads"]
    return f"{TASKS[BARS].title.capitalize()}; {size} logits, {threads} threads"


def draw_growth(path: Path, results: Results) -> None:
    """Seconds by rows, a panel for each job that has several sizes."""
    tasks = [task for task in SWEPT if results.of(task)]
    columns = 3
    rows = -(-len(tasks) // columns)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.6, 2.5 * rows + 0.7), facecolor=PAPER)
        axes = figure.subplots(rows, columns, squeeze=False).flatten()
        for ax in axes[len(tasks) :]:
            ax.axis("off")
        drawn: dict[str, Any] = {}
        for ax, task in zip(axes, tasks, strict=False):
            drawn |= _panel(ax, results, task)
        order = [tool for tool in TOOLS if tool in drawn]
        labels = [SHORT.get(tool, TOOLS[tool].label) for tool in order]
        figure.tight_layout(rect=(0, 0.55 / figure.get_figheight(), 1, 1))
        figure.legend([drawn[tool] for tool in order], labels, loc="lower center", ncols=5,
                      fontsize=8, frameon=False)  # fmt: skip
        _save(figure, path)


def _panel(ax: Axes, results: Results, task: str) -> dict[str, Any]:
    """The lines of one job, of sizes that differ in rows alone; those of its tools."""
    drawn = {}
    others = [{key: n for key, n in case["size"].items() if key != "rows"}
              for case in results.of(task)]  # fmt: skip
    for tool in TASKS[task].tools:
        points = [
            (case["size"]["rows"], case["seconds"])
            for case in results.of(task, tool)
            if case["status"] == "done" and case["size"] == case["size"] | others[0]
        ]
        if points:
            is_ours = COLOURS[tool] == COLOURS["fastal"]
            (drawn[tool],) = ax.plot(*zip(*points, strict=True), color=COLOURS[tool], marker="o",
                                     ms=3, lw=2.4 if is_ours else 1.3,
                                     zorder=3 if is_ours else 2)  # fmt: skip
    ax.set_xscale("log")
    ax.set_yscale("log")
    name = task.replace("_", "-")
    widths = ", ".join(f"{n} {WIDTHS.get(key, key)}" for key, n in others[0].items())
    ax.set_title(f"{name}: {widths}", fontsize=8.5, color=INK, loc="left")
    low, high = ax.get_ylim()
    steps = (1, 3) if high < 50 * low else (1,)
    ticks = [step * 10.0**power for power in range(-5, 3) for step in steps]
    ticks = [tick for tick in ticks if low <= tick <= high]
    ax.set_yticks(ticks, [seconds(tick).replace(".00", "").replace(".0", "") for tick in ticks])
    sizes = [case["size"] for case in results.of(task)]
    counts = sorted({size["rows"] for size in sizes if size | others[0] == size})
    ax.set_xticks(counts, [_short(n) for n in counts])
    ax.minorticks_off()
    ax.grid(axis="y", color="#dddddd", lw=0.6)
    ax.tick_params(length=0, labelsize=7.5, labelcolor=INK)
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)
    ax.spines["bottom"].set_color("#bbbbbb")
    return drawn


def _short(n: int) -> str:
    return f"{n // 1_000_000} M" if n >= 1_000_000 else f"{n // 1000} k" if n >= 1000 else str(n)


def _plain(ax: Axes, ticks: list[float]) -> None:
    words = [seconds(tick).replace(".00", "").replace(".0", "") for tick in ticks]
    ax.set_xticks(ticks, words, fontsize=8.5, color=INK)
    ax.grid(axis="x", color="#dddddd", lw=0.6)
    ax.set_axisbelow(True)
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)
    ax.spines["bottom"].set_color("#bbbbbb")


def _save(figure: Figure, path: Path) -> None:
    svg = io.StringIO()
    figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    # A tenth of a point is enough, and needs half as many bytes.
    text = re.sub(r'(?<= d=")[^"]*', lambda d: re.sub(r"(\.\d)\d+", r"\1", d[0]), svg.getvalue())
    path.write_text("".join(line.rstrip() + "\n" for line in text.splitlines()), encoding="utf-8")
