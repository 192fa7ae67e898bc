"""Writes docs/peers.md and its pictures from a file of results: `python -m benchmarks.peers.page`.

Needs matplotlib (extra `demo`). Without an argument, it reads the newest results. The sentences are
in page.md; all figures come from the results.
"""

import argparse
import re
import textwrap
from pathlib import Path

from benchmarks.peers.measure import Case
from benchmarks.peers.pictures import draw_bars, draw_growth
from benchmarks.peers.results import Results, amount, named, read, seconds
from benchmarks.peers.tasks import TASKS, TOOLS, Size

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "peers.md"
BARS, GROWTH = "peers.svg", "peers-growth.svg"
OURS = "fastal", "skactiveml_adapter"
SAME = 0.999  # the share of the right rows from which an answer counts as the same

FIXED = (
    "A call of fastal opens a pool, checks its arguments and hands the rows to the kernels in "
    "chunks. This takes a fixed time, which shows while the pool is small."
)
PASSES = (
    "fastal reads the pool once for each pick, as the pool may be larger than memory. Each pass "
    "has a fixed cost, which shows while the pool is small."
)
MEASURED_BEFORE = (
    "The version that was measured read the pool once for each pick. Now a pass finds many picks, "
    "which has not been measured beside the others yet."
)
# Why fastal may be slower than a tool with the same answer.
REASONS = {
    "badge": PASSES,
    "core_set": MEASURED_BEFORE,
    "kmeans": (
        "fastal chooses its first centroids by k-means++ and by k-means on a sample, and sums "
        "exactly, so that chunks do not change the clusters. Compare the inertia. The version that "
        "was measured had no native kernel for the nearest centroids."
    ),
    "dedup": (
        "fastal also finds the row that each duplicate is most similar to. The others say only "
        "that there is one."
    ),
    "temperature": (
        "fastal computes the losses in float64, in several passes over the pool. Compare the "
        "errors."
    ),
}


def newest() -> Path:
    return max(RESULTS.glob("*-peers-*.json"))


def page(results: Results, name: str) -> str:
    """The text of the page.

    Args:
        results: what was measured.
        name: the name of their file.
    """
    parts = {"about": about(results, name), "slower": slower(results)}
    parts |= {f"table {task}": table(results, task) for task in TASKS}
    template = Path(__file__).with_name("page.md").read_text(encoding="utf-8")
    return re.sub(r"\{\{([\w ]+)\}\}", lambda found: parts[found[1]], template)


def about(results: Results, name: str) -> str:
    """The machine, the limits and the versions."""
    versions = {
        f"{TOOLS[case['tool']].distribution} {case['version']}"
        for case in results.cases
        if case["version"]
    }
    of = results.about
    return wrapped(
        f"All tables and pictures come from `benchmarks/results/{name}`: {of['date']}, a shared "
        f"{of['machine']} machine, {of['cores']} cores with {of['instructions']}, {of['threads']} "
        f"threads; {', '.join(sorted(versions, key=str.lower))}. The limits of a run are "
        f"{of['limit_seconds']:.0f} seconds and {amount(of['limit_bytes'])}."
    )


def wrapped(text: str, indent: str = "") -> str:
    return textwrap.fill(
        text, 100, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def table(results: Results, task: str) -> str:
    """A row for each tool, a column for each size."""
    sizes = sizes_of(results, task)
    if not sizes:
        return "Not measured."
    head = ["tool", *map(named, sizes), "memory", measure_of(results, task)]
    lines = [row(head), row(["---"] * len(head))]
    for tool in TASKS[task].tools:
        cases = results.of(task, tool)
        if not cases:
            continue
        cells = [cell(results, case) for case in cases]
        cells += [""] * (len(sizes) - len(cells))
        done = [case for case in cases if case["status"] == "done"]
        memory = amount(done[-1]["peak"]) if done else ""
        lines.append(row([TOOLS[tool].label, *cells, memory, agreed(done)]))
    return "\n".join(lines)


def sizes_of(results: Results, task: str) -> list[Size]:
    """The sizes of the tool that came farthest."""
    return max(
        ([case["size"] for case in results.of(task, tool)] for tool in TASKS[task].tools), key=len
    )


def row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def cell(results: Results, case: Case) -> str:
    """The time of a case, or why there is none."""
    status = case["status"]
    if status == "done":
        ours = of_fastal(results, case)
        times = f" ({ratio(case['seconds'] / ours['seconds'])})" if ours else ""
        return seconds(case["seconds"]) + times
    if status == "skipped":
        what = seconds(case["expected"]) if "expected" in case else amount(case["expected_bytes"])
        return f"not run: would take about {what}"
    limits = {
        "stopped": f"stopped: over {results.about['limit_seconds']:.0f} s",
        "memory": f"stopped: over {amount(results.about['limit_bytes'])}",
        "missing": "not installed",
    }
    return limits.get(status, "failed")


def ratio(value: float) -> str:
    return f"{value:,.0f}" if value >= 9.95 else f"{value:.2g}"


def of_fastal(results: Results, case: Case) -> Case | None:
    """fastal's case of the same job and size; None for fastal itself."""
    if case["tool"] in OURS:
        return None
    for tool in OURS:
        for other in results.of(case["task"], tool):
            if other["size"] == case["size"] and other["status"] == "done":
                return other
    return None


def measure_of(results: Results, task: str) -> str:
    """The heading of how well answers agree."""
    names = (name for case in results.of(task) for name in case.get("agreement", ()))
    name = next(names, "")
    return {"shared": "right rows", "error": "largest error"}.get(name, name)


def agreed(done: list[Case]) -> str:
    """The worst agreement of a tool's cases; of cost and inertia, that of the largest size."""
    if not done:
        return ""
    name = next(iter(done[-1]["agreement"]))
    values = [case["agreement"][name] for case in done]
    if name == "shared":
        return "all" if min(values) == 1 else f"{min(values):.1%}"
    return f"{max(values):.1g}" if name == "error" else f"{values[-1]:.4g}"


def slower(results: Results) -> str:
    """The cases in which a tool with the same answer takes less time than fastal."""
    parts = []
    for task in TASKS:
        found = [case for case in results.of(task) if is_faster(results, case)]
        if found:
            name = task.replace("_", "-")
            parts.append(wrapped(f"**{name}**: {REASONS.get(task, FIXED)}"))
            parts.append("\n".join(lines_of(results, found)))
    if not parts:
        return "Nowhere in these tables."
    start = (
        "These tools take less time than fastal for the same answer. For BADGE and clusters, which "
        "have no one right answer, all faster tools are named."
    )
    return "\n\n".join([wrapped(start), *parts])


def is_faster(results: Results, case: Case) -> bool:
    ours = of_fastal(results, case)
    if case["status"] != "done" or ours is None or case["seconds"] >= ours["seconds"]:
        return False
    return case["agreement"].get("shared", 1) >= SAME


def lines_of(results: Results, cases: list[Case]) -> list[str]:
    """A line for each tool: the sizes at which it is faster."""
    lines = []
    for tool in dict.fromkeys(case["tool"] for case in cases):
        parts = []
        for case in cases:
            ours = of_fastal(results, case)
            if case["tool"] == tool and ours is not None:
                took, fastal = seconds(case["seconds"]), seconds(ours["seconds"])
                parts.append(f"{named(case['size'])} in {took}, fastal in {fastal}")
        lines.append(wrapped(f"- {TOOLS[tool].label}: {'; '.join(parts)}", "  "))
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.peers.page", description=__doc__)
    parser.add_argument("results", type=Path, nargs="?", help="a file of results")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="where to write")
    options = parser.parse_args()
    path = options.results or newest()
    results = read(path)
    draw_bars(options.docs / "images" / BARS, results)
    draw_growth(options.docs / "images" / GROWTH, results)
    (options.docs / PAGE.name).write_text(page(results, path.name), encoding="utf-8")


if __name__ == "__main__":
    main()
