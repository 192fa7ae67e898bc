"""Draws the picture of the README: `python docs/pictures.py`. Needs matplotlib (extra `demo`).

The heat maps are computed by `fastal.score`. The rates are read from `benchmarks/results`. The same
inputs give the same file.
"""

import argparse
import io
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon

import fastal

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "2026-11-24-cpu-2-cores.txt"
PICTURE = ROOT / "docs" / "images" / "scores-and-speed.svg"

# Providers of the results by the labels of the picture, fastest first, with their colours.
PROVIDERS = {
    "fastal native": ("fastal", "#b5367a"),
    "torch.compile, topk": ("torch.compile", "#3b6fb6"),
    "NumPy, as scikit-activeml": ("NumPy, 3 scores", "#2f8f6b"),
    "eager, sort": ("eager torch", "#8a6d1f"),
}
INK, PAPER, GREY = "#222222", "#ffffff", "#777777"
PIXELS = 128  # of a heat map, each way


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
        r"│ float32 (\d+) classes 2 threads +│ ([^│]+?) +│ ([\d.]+) +│.*of ([\d.]+) +│$",
        re.MULTILINE,
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
    corners = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(3) / 2]])
    x, y = np.meshgrid((np.arange(PIXELS) + 0.5) / PIXELS, (np.arange(PIXELS) + 0.5) / PIXELS)
    y *= corners[2, 1]
    p = np.stack([1 - x - y / np.sqrt(3), x - y / np.sqrt(3), 2 * y / np.sqrt(3)], axis=-1)
    is_far_outside = p.min(-1) < -3 / PIXELS
    p = p.reshape(-1, 3).clip(0, 1)  # beside the triangle: cut off below
    scores = fastal.score(p / p.sum(1, keepdims=True), kind="probs", backend="torch")
    image = None
    for ax, name, values in zip(axes, fastal.Scores._fields, scores, strict=True):
        grid = values.reshape(PIXELS, PIXELS)
        triangle = Polygon(corners, transform=ax.transData, facecolor="none", edgecolor="none")
        ax.add_patch(triangle)
        image = ax.imshow(
            grid, extent=(0, 1, 0, corners[2, 1]), origin="lower", cmap="magma", vmin=0, vmax=1,
            interpolation="none", clip_path=triangle,
        )  # fmt: skip
        sparse = np.ma.masked_where(is_far_outside, grid)[::2, ::2]
        lines = ax.contour(
            x[::2, ::2], y[::2, ::2], sparse, levels=np.arange(0.1, 1, 0.1), colors="white",
            linewidths=0.5, alpha=0.6,
        )  # fmt: skip
        lines.set_clip_path(triangle)
        ax.set_title(name.replace("_", " "), fontsize=9.5, color=INK, pad=13)
        ax.set(xlim=(-0.05, 1.05), ylim=(-0.02, 0.9), aspect="equal")
        ax.axis("off")
        for corner, label in zip(corners, "ABC", strict=True):
            outward = 1.12 * corner - 0.12 * corners.mean(0)
            ax.text(*outward, label, ha="center", va="center", fontsize=8, color=GREY)
    return image


def draw_rates(ax: Axes, rates: Rates) -> None:
    """Draws the rate of each provider by the number of classes, below the read bandwidth."""
    ax.plot(rates.classes, rates.bandwidth, color=GREY, lw=1, ls=(0, (4, 2)))
    ax.annotate(
        "reading alone", (rates.classes[-1], rates.bandwidth[-1]), xytext=(6, 5),
        textcoords="offset points", color=GREY, fontsize=9, va="center",
    )  # fmt: skip
    for name, (label, colour) in PROVIDERS.items():
        of = rates.providers[name]
        ax.plot(rates.classes, of, color=colour, lw=2, marker="o", ms=4)
        ax.annotate(
            label, (rates.classes[-1], of[-1]), xytext=(6, -4 if label == "fastal" else 0),
            textcoords="offset points", color=colour, fontsize=9.5, va="center",
            weight="bold" if label == "fastal" else "normal",
        )  # fmt: skip
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlim(1.6, rates.classes[-1] * 50)
    ax.set_ylim(0.04, 60)
    ax.set_xticks(rates.classes, [_short(n) for n in rates.classes], fontsize=8.5, color=INK)
    ax.set_yticks([0.1, 1, 10], ["0.1", "1", "10"], fontsize=8.5, color=INK)
    ax.minorticks_off()
    ax.set_xlabel("classes", fontsize=9, color=INK)
    ax.set_title("all four scores of float32 logits, GB/s", fontsize=9.5, color=INK, loc="left")
    ax.grid(axis="y", color="#dddddd", lw=0.6)
    ax.tick_params(length=0)
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)
    ax.spines["bottom"].set_color("#bbbbbb")


def _short(n: int) -> str:
    return f"{n // 1000}k" if n > 9999 else f"{n:,}"


def draw(path: Path, rates: Rates) -> None:
    """Writes the picture; its metadata hold the rates that it shows."""
    style = {
        "svg.hashsalt": "fastal",  # names of elements would be random
        "svg.fonttype": "path",  # the same letters on every machine
        "font.family": "DejaVu Sans",
    }
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(9.6, 4.3), facecolor=PAPER)
        grid = figure.add_gridspec(
            2, 3, width_ratios=(1, 1, 2.5), left=0.015, right=0.99, top=0.9, bottom=0.14,
            hspace=0.32, wspace=0.12,
        )  # fmt: skip
        image = draw_scores([figure.add_subplot(grid[n // 2, n % 2]) for n in range(4)])
        bar = figure.colorbar(
            image, cax=figure.add_axes((0.08, 0.085, 0.28, 0.022)), orientation="horizontal"
        )
        bar.set_ticks([0, 1], labels=["0: certain", "1: most uncertain"], fontsize=8, color=INK)
        bar.ax.tick_params(length=0)
        bar.outline.set_visible(False)
        draw_rates(figure.add_subplot(grid[:, 2]), rates)
        figure.text(
            0.99, 0.02, rates.machine.replace("; best of the rounds", ""), fontsize=7.5,
            color=GREY, ha="right",
        )  # fmt: skip
        shown = {name: rates.providers[name] for name in PROVIDERS}
        about = {"results": RESULTS.name, **rates._replace(providers=shown)._asdict()}
        metadata = {"Date": None, "Creator": None, "Description": json.dumps(about)}
        if path.suffix != ".svg":
            figure.savefig(path, dpi=110)
            return
        svg = io.StringIO()
        figure.savefig(svg, format="svg", metadata=metadata)
    # A tenth of a point is enough, and needs half as many bytes.
    text = re.sub(r'(?<= d=")[^"]*', lambda d: re.sub(r"(\.\d)\d+", r"\1", d[0]), svg.getvalue())
    text = "".join(line.rstrip() + "\n" for line in text.splitlines())
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=PICTURE, help="a .svg or .png file")
    draw(parser.parse_args().out, rates_of(RESULTS))
