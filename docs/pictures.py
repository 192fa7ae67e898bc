"""Draws the picture of the README: `python docs/pictures.py`. Needs matplotlib (extra `demo`).

The heat maps are computed by `fastal.score`. The rates are read from `benchmarks/results`. The same
inputs give the same file.
"""

import argparse
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.tri import Triangulation

import fastal

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "2026-11-24-cpu-2-cores.txt"
PICTURE = ROOT / "docs" / "images" / "scores-and-speed.svg"

# Providers of the results by the labels of the picture, fastest first, with their colours.
PROVIDERS = {
    "fastal native": ("fastal", "#b5367a"),
    "torch.compile, topk": ("torch.compile", "#3b6fb6"),
    "NumPy, as scikit-activeml": ("NumPy", "#2f8f6b"),
    "eager, sort": ("eager torch", "#8a6d1f"),
}
INK, PAPER, GREY = "#222222", "#ffffff", "#777777"
STEPS = 240  # even odds of two and of three classes are points of the grid


class Rates(NamedTuple):
    """What a file of results says of float32 logits on two threads.

    Attributes:
        machine: the first line, which names the machine.
        classes: [n] class counts, ascending.
        bandwidth: [n] GB/s at which torch's reductions read the same matrix.
        providers: [n] GB/s of each provider, by its name in the file.
    """

    machine: str
    classes: list[int]
    bandwidth: list[float]
    providers: dict[str, list[float]]


def rates_of(path: Path) -> Rates:
    """Reads the table that `python -m benchmarks.cpu --results` wrote."""
    text = path.read_text(encoding="utf-8")
    row = re.compile(
        r"│ float32 (\d+) classes 2 threads +│ ([^│]+?) +│ ([\d.]+) +│.*of ([\d.]+) +│$", re.MULTILINE
    )
    bandwidth: dict[int, float] = {}
    providers: dict[str, dict[int, float]] = {}
    for classes, provider, rate, of in row.findall(text):
        bandwidth[int(classes)] = float(of)
        providers.setdefault(provider, {})[int(classes)] = float(rate)
    counts = sorted(bandwidth)
    return Rates(
        machine=text.strip().splitlines()[0],
        classes=counts,
        bandwidth=[bandwidth[n] for n in counts],
        providers={name: [of[n] for n in counts] for name, of in providers.items()},
    )


def draw_scores(axes: list[Axes]) -> Any:
    """Draws each score over all predictions of three classes; a corner is a certain prediction."""
    i, j = np.meshgrid(np.arange(STEPS + 1), np.arange(STEPS + 1), indexing="ij")
    inside = i + j <= STEPS
    p = np.stack([i[inside], j[inside], STEPS - i[inside] - j[inside]], axis=1) / STEPS
    scores = fastal.score(p, kind="probs", backend="torch")
    corners = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(3) / 2]])
    triangles = Triangulation(*(p @ corners).T)
    image = None
    for ax, name, values in zip(axes, fastal.Scores._fields, scores, strict=True):
        image = ax.tripcolor(
            triangles, values, shading="gouraud", cmap="magma", vmin=0, vmax=1, rasterized=True
        )
        ax.tricontour(
            triangles, values, levels=np.arange(0.1, 1, 0.1), colors="white", linewidths=0.5,
            alpha=0.6,
        )  # fmt: skip
        ax.set_title(name.replace("_", " "), fontsize=9, color=INK, pad=9)
        ax.set_aspect("equal")
        ax.axis("off")
        for corner, label in zip(corners, "ABC", strict=True):
            outward = 1.1 * corner - 0.1 * corners.mean(0)
            ax.text(*outward, label, ha="center", va="center", fontsize=7, color=GREY)
    return image


def draw_rates(ax: Axes, rates: Rates) -> None:
    """Draws the rate of each provider by the number of classes, below the read bandwidth."""
    ax.plot(rates.classes, rates.bandwidth, color=GREY, lw=1, ls=(0, (4, 2)))
    ax.annotate(
        "reading alone", (rates.classes[-1], rates.bandwidth[-1]), xytext=(6, 5),
        textcoords="offset points", color=GREY, fontsize=8, va="center",
    )  # fmt: skip
    for name, (label, colour) in PROVIDERS.items():
        of = rates.providers[name]
        ax.plot(rates.classes, of, color=colour, lw=2, marker="o", ms=4)
        ax.annotate(
            label, (rates.classes[-1], of[-1]), xytext=(6, -4 if label == "fastal" else 0),
            textcoords="offset points", color=colour, fontsize=8.5, va="center",
            weight="bold" if label == "fastal" else "normal",
        )  # fmt: skip
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlim(1.6, rates.classes[-1] * 25)
    ax.set_ylim(0.04, 60)
    ax.set_xticks(rates.classes, [f"{n:,}" for n in rates.classes], fontsize=7.5, color=INK)
    ax.set_yticks([0.1, 1, 10], ["0.1", "1", "10"], fontsize=7.5, color=INK)
    ax.minorticks_off()
    ax.set_xlabel("classes", fontsize=8.5, color=INK)
    ax.set_title("all four scores of float32 logits, GB/s", fontsize=9, color=INK, loc="left")
    ax.grid(axis="y", color="#dddddd", lw=0.6)
    ax.tick_params(length=0)
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)
    ax.spines["bottom"].set_color("#bbbbbb")


def draw(path: Path, rates: Rates) -> None:
    """Writes the picture; its metadata hold the rates that it shows."""
    style = {
        "svg.hashsalt": "fastal",  # names of elements would be random
        "svg.fonttype": "path",  # the same letters on every machine
        "font.family": "DejaVu Sans",
    }
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(9.6, 3.9), facecolor=PAPER)
        grid = figure.add_gridspec(
            2, 3, width_ratios=(1, 1, 2.5), left=0.015, right=0.99, top=0.9, bottom=0.15,
            hspace=0.3, wspace=0.12,
        )  # fmt: skip
        image = draw_scores([figure.add_subplot(grid[n // 2, n % 2]) for n in range(4)])
        bar = figure.colorbar(
            image, cax=figure.add_axes((0.08, 0.085, 0.28, 0.022)), orientation="horizontal"
        )
        bar.set_ticks([0, 1], labels=["0: certain", "1: most uncertain"], fontsize=7, color=INK)
        bar.ax.tick_params(length=0)
        bar.outline.set_visible(False)
        draw_rates(figure.add_subplot(grid[:, 2]), rates)
        figure.text(
            0.99, 0.02, rates.machine.replace("; best of the rounds", ""), fontsize=6.5,
            color=GREY, ha="right",
        )  # fmt: skip
        shown = {name: rates.providers[name] for name in PROVIDERS}
        about = {"results": RESULTS.name, **rates._replace(providers=shown)._asdict()}
        metadata = {"Date": None, "Creator": None, "Description": json.dumps(about)}
        path.parent.mkdir(parents=True, exist_ok=True)
        of_svg = {"metadata": metadata} if path.suffix == ".svg" else {}
        figure.savefig(path, dpi=110, **of_svg)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=PICTURE, help="a .svg or .png file")
    draw(parser.parse_args().out, rates_of(RESULTS))
