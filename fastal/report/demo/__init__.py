"""The main jobs on real data: which digits to label next, and what labelling them is worth.

Needs scikit-learn and matplotlib (extra `demo`).
"""

from pathlib import Path

from rich.console import Console

from fastal.report.demo import diversity, uncertainty


def run_demo(out: Path, seeds: int, strategy: str = "uncertainty") -> None:
    """Runs the demo and prints it; leaves what was read, picks and picture in the folder `out`.

    Args:
        out: a folder, made if missing.
        seeds: over how many random splits to compare the picks with random rows.
        strategy: "uncertainty", or one of `diversity.STRATEGIES`.
    """
    out.mkdir(parents=True, exist_ok=True)
    if strategy == "uncertainty":
        uncertainty.run(Console(), out, seeds)
    else:
        diversity.run(Console(), out, seeds, strategy)
