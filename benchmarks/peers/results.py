"""The file of results: JSON, written whole after each tool."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.peers.measure import Case
from benchmarks.peers.tasks import Size

TIMES = "\N{MULTIPLICATION SIGN}"


class Results(NamedTuple):
    """What was measured.

    Attributes:
        about: the machine, the date, the limits.
        cases: one for each tool, job and size; see `measure`.
    """

    about: dict[str, Any]
    cases: list[Case]

    def of(self, task: str, tool: str | None = None) -> list[Case]:
        """The cases of a job, or of one tool in it."""
        return [
            case for case in self.cases
            if case["task"] == task and tool in (None, case["tool"])
        ]  # fmt: skip


def read(path: Path) -> Results:
    found = json.loads(path.read_text(encoding="utf-8"))
    return Results(found["about"], found["cases"])


def write(path: Path, results: Results) -> None:
    """One case a line, so that two files can be compared."""
    cases = ",\n".join(json.dumps(_rounded(case)) for case in results.cases)
    text = f'{{"about": {json.dumps(results.about)},\n"cases": [\n{cases}\n]}}\n'
    beside = path.with_suffix(".part")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)


def _rounded(value: Any) -> Any:
    """Floats to 4 digits."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: _rounded(of) for key, of in value.items()}
    return [_rounded(of) for of in value] if isinstance(value, list) else value


def seconds(value: float) -> str:
    """A time in words: three digits at most."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if value >= scale or unit == "µs":
            number = value / scale
            return f"{number:,.{0 if number >= 99.5 else 1 if number >= 9.95 else 2}f} {unit}"
    raise AssertionError


def amount(n_bytes: float) -> str:
    """Memory in words."""
    if n_bytes < 1e6:
        return "< 1 MB"
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.0f} MB"


def named(size: Size) -> str:
    """A size in words."""
    return f" {TIMES} ".join(f"{n:,}" for n in size.values())
