"""The records as plain text."""

from collections.abc import Sequence
from typing import Any

from fastal.ops.formulas import UNCERTAINTY_SCORES

Record = dict[str, Any]


def report(found: dict[str, Any]) -> str:
    """The text of the report: the machine, the checks, the timings, the verdict."""
    machine = {"date": "", "device": "unknown device"} | next(
        iter(found.get("environment", [])), {}
    )
    named = ("capability", "driver_version", "torch", "triton", "clocks.max.sm", "power.limit")
    facts = [f"{name} {machine[name]}" for name in named if machine.get(name)]
    failures = found["failures"]
    lines = [
        f"{machine['date']}: {', '.join((machine['device'], *facts))}",
        *_checks(found),
        *_timings("Timings, GB/s of logits read", "case", "copy", found.get("timings", [])),
        *_timings("Rows on the host", "memory", "bus", found.get("host", [])),
        "",
        f"{len(failures)} failures" if failures else "All passed",
        *(f"  {failure}" for failure in failures[:40]),
        f"{found['seconds']} s",
    ]
    return "\n".join(lines)


def _checks(found: dict[str, Any]) -> list[str]:
    worst: dict[tuple[str, str], dict[str, float]] = {}
    for record in found.get("correctness", []):
        for dtype, errors in record.get("worst", {}).items():
            row = worst.setdefault(
                (record["backend"], dtype), dict.fromkeys(UNCERTAINTY_SCORES, 0.0)
            )
            for measure, error in errors.items():
                row[measure] = max(row[measure], float(error))
    rows = [(*key, *(f"{error:.1e}" for error in row.values())) for key, row in worst.items()]
    lines = ["", "Worst relative errors (1e-5 is allowed)"]
    lines += _table(("backend", "dtype", *UNCERTAINTY_SCORES), rows)
    checks = {
        step: sum(record.get("checks", 0) for record in records)
        for step, records in found.items()
        if isinstance(records, list) and step != "failures"
    }
    lines += ["", "Checks: " + ", ".join(f"{n} of {step}" for step, n in checks.items() if n)]
    for record in found.get("counts", []):
        if "launches" in record:
            lines.append(
                f"Selection of {record['rows']:,} {record['order']} rows: "
                f"{record['launches']} launches, {record['waits']} waits for the GPU"
            )
    for record in found.get("large", []):
        if "skipped" in record:
            lines.append(f"{record['matrix']}: skipped, {record['skipped']}")
    lines += [f"{record['tool']}: {record['result']}" for record in found.get("sanitizer", [])]
    return lines


def _timings(title: str, of: str, share: str, records: list[Record]) -> list[str]:
    """A table of the times, then the reasons why other variants were skipped."""
    timed = [record for record in records if "ms" in record]
    if not timed:
        return []
    header = (of, "variant", "ms", "p20", "p80", "n", "GB/s", f"of {share}", "TFLOP/s", "clock")
    rows = [_row(record, of, f"share_of_{share}") for record in timed]
    skipped = [f"{r[of]}, {r['variant']}: {r['skipped']}" for r in records if "skipped" in r]
    return ["", title, *_table(header, rows), *skipped]


def _row(record: Record, of: str, share: str) -> tuple[str, ...]:
    return (
        record[of],
        record["variant"],
        *(f"{record[name]:.3f}" for name in ("ms", "ms_p20", "ms_p80")),
        str(record["n"]),
        f"{record['gb_per_s']:.1f}" if "gb_per_s" in record else "",
        f"{record[share]:.1%}" if share in record else "",
        f"{record['tflop_per_s']:.0f}" if "tflop_per_s" in record else "",
        record["clock"],
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table. The first two columns are aligned to the left, others to the right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (header, *rows)
    ]
