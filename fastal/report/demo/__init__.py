"""The strategies on real data: which digits to label next, and what their labels are worth.

Needs scikit-learn and matplotlib (extra `demo`).
"""

from pathlib import Path

from rich.console import Console

from fastal.report.demo import diversity, uncertainty


def run_demo(out: Path, seeds: int, strategy: str = "uncertainty") -> None:
    """Runs the demo and prints it. Writes the pool, the picks and the picture to the folder `out`.

    Args:
        out: a folder, made if missing.
        seeds: number of random splits over which picks and random rows are compared.
        strategy: "uncertainty", or one of `diversity.STRATEGIES`.
    """
    out.mkdir(parents=True, exist_ok=True)
    if strategy == "uncertainty":
        uncertainty.run(Console(), out, seeds)
    else:
        diversity.run(Console(), out, seeds, strategy)
