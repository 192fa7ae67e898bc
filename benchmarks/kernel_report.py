"""The cost of the kernels, read from their machine code: `python -m benchmarks.kernel_report`.

Compiles every configuration of the launch table ahead of time, for GPUs that this machine need not
have. The instruction counts are facts about the code. The shares of a card's memory rate are
predictions from these counts, never measurements. A run takes minutes.
"""

import argparse
import json
import multiprocessing
import os
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from types import ModuleType

from benchmarks import cosine_cases, draws_cases, ranks_cases, sass
from benchmarks.ahead_of_time import TARGETS, Case, compiled
from benchmarks.roofline import CARDS, Work, predicted_bound

_THREADS = 128  # threads of a program for narrow rows
# Sections of other ops. Each has CASES and `report`, and TITLE, HEADER and `line` of its table.
SECTIONS = [cosine_cases, ranks_cases, draws_cases]
CARDS_OF = {"sm_80": ("A100",), "sm_90": ("H100", "H200"), "sm_100": ("B200",), "gfx942": ()}
# By path through the launch table: one row and several rows a thread, loads of 4 to 16 bytes; 4, 8,
# 32, 128 and 256 lanes a row, loads of 16 bytes and of 8, windows for rows that begin anywhere.
NARROW, MIDDLE, LARGE = (2, 3, 10, 16, 32), (33, 100, 256, 1000, 1001), (
    4096, 32_000, 50_257, 131_072, 262_144,
)  # fmt: skip
CASES = [
    *(Case(n, dtype) for n in (*NARROW, *MIDDLE, *LARGE) for dtype in ("bf16", "fp32")),
    *(Case(n, "fp16") for n in (10, 1000, 131_072)),
    *(Case(n, "fp32", measures=("entropy",)) for n in (2, 10)),
    *(Case(n, "bf16", measures=("least_confidence",)) for n in (1000, 131_072)),
    *(Case(n, "fp32", measures=(), by="entropy") for n in (2, 10)),
    *(Case(n, "bf16", measures=(), by="entropy") for n in (1000, 131_072)),
    *(Case(n, "bf16", measures=("entropy",)) for n in (1000, 131_072)),
    *(Case(n, "fp32", kind="probs") for n in (10, 1000, 131_072)),
    Case(10, "bf16", stride_c=3),
]


def report(case: Case, target: str) -> dict:
    """All figures of one kernel, as plain values."""
    kernel, constants, binary = compiled(case, target)
    code, resources = sass.code(binary), sass.resources(binary)
    usual = [loop for loop in code.loops if not _in_double(loop.instructions)]
    # The hot loop is the innermost loop with the most loads. Narrow rows have no loop.
    hot = max(
        (loop for loop in usual if loop.innermost and loop.instructions.loads),
        key=lambda loop: loop.instructions.loads.total(),
        default=None,
    )
    per_row, trips = _per_row(case, constants, code, usual, hot)
    body = hot.instructions if hot else code.instructions
    elements = _elements(case, constants, trips)
    moved = case.n_classes * case.itemsize + 4 * len(case.measures)
    slow = per_row["mufu"] + per_row["convert"]
    lines = _l1_lines(case, constants)
    work = Work(moved, per_row["total"], slow, per_row["shuffle"], per_row["fp32"], lines)
    return {
        "target": target,
        "case": asdict(case),
        "name": str(case),
        "kernel": kernel.__name__,
        "loop": hot is not None,
        "loop_instructions": body.total,
        "loop_elements": elements,
        "loop_trips": trips,
        "loop_kinds": dict(sorted(body.kinds.items())),
        "loop_loads": dict(sorted(body.loads.items())),
        "row_slots_per_element": per_row["total"] / case.n_classes,
        "row_kinds": {kind: count for kind, count in sorted(per_row.items()) if count},
        "kernel_kinds": dict(sorted(code.instructions.kinds.items())),
        "resources": asdict(resources),
        "bytes_per_row": moved,
        "predicted": {
            card: asdict(predicted_bound(work, CARDS[card])) for card in CARDS_OF[target]
        },
    }


def _in_double(instructions: sass.Instructions) -> bool:
    """Whether a loop is the second read of rows with huge logits, which sums in float64."""
    return any(op.startswith(("DADD", "v_add_f64")) for op in instructions.opcodes)


def _per_row(case, constants, code, usual, hot) -> tuple[Counter, int]:
    """The instructions of a usual row, by kind and in total, and the trips of the hot loop.

    Instructions count once for each lane. Code outside the loops counts in full, including rare
    branches.
    """
    outside = _counts(code.instructions)
    rare = [loop for loop in code.loops if _in_double(loop.instructions)]
    if rare:
        outside -= _counts(max(rare, key=lambda loop: loop.instructions.total).instructions)
    if "P" in constants:
        rows = constants["P"] * constants["PER"] / _THREADS
        return Counter({kind: n / rows for kind, n in outside.items()}), 0
    groups, lanes = constants["GROUPS"], constants["G"]
    per_row, trips = Counter(), 0
    group = (
        max(usual, key=lambda loop: loop.instructions.total, default=None) if groups > 1 else None
    )
    once = outside - _counts(group.instructions) if group else outside
    inner = hot if hot is not group else None
    body = _counts(group.instructions) if group else once
    if inner:
        tile = constants["V"] * lanes
        tiles = (constants["C"] // tile - 1) // constants["UNROLL"] * constants["UNROLL"]
        trips = tiles // sum(inner.instructions.loads.values())
        body = body - _counts(inner.instructions)
        for kind, n in _counts(inner.instructions).items():
            per_row[kind] += n * trips * lanes
    for kind, n in body.items():
        per_row[kind] += n * lanes
    if group:
        for kind, n in once.items():
            per_row[kind] += n * lanes / groups
    parts = case.n_classes / constants["C"]
    return Counter({kind: parts * n for kind, n in per_row.items()}), trips


def _counts(instructions: sass.Instructions) -> Counter:
    return instructions.kinds + Counter(total=instructions.total)


def _l1_lines(case, constants) -> float:
    """The lines of 128 bytes that L1 looks up for a row, for aligned and contiguous rows."""
    if "P" in constants:
        run = constants["PER"] * case.n_classes
        lines = min(32, -(-32 * run * case.itemsize // 128))
        return run / constants["V"] * lines / (32 * constants["PER"])
    tile = constants["G"] * constants["V"]
    # Rows begin anywhere within a line, at multiples of a load.
    of_tile = 1 + (tile - constants["V"]) * case.itemsize / 128
    return -(-case.n_classes // tile) * of_tile


def _elements(case, constants, trips) -> float:
    """Elements of a lane in one trip of the hot loop; without trips, in the row or the kernel."""
    if "P" in constants:
        return case.n_classes * constants["P"] * constants["PER"] / _THREADS
    return constants["V"] * constants["UNROLL"] if trips else case.n_classes / constants["G"]


def text(found: list[dict]) -> str:
    """The report, with one table for each target."""
    lines = []
    for target in TARGETS:
        lines += _table(found, target, "what is compiled", _HEADER, _line)
        if CARDS_OF[target]:
            lines += ["", f"{target}: predicted, not measured: share of the memory rate at most"]
            lines += _predictions([one for one in found if one["target"] == target])
    return "\n".join(lines).strip()


def _text_of(section: ModuleType, found: list[dict]) -> str:
    """The report of another op, with one table for each target."""
    title = f"{section.TITLE}, what is compiled"
    tables = (_table(found, target, title, section.HEADER, section.line) for target in TARGETS)
    return "\n".join(line for table in tables for line in table).strip()


def _table(
    found: list[dict], target: str, title: str, header: str, line: Callable[[dict], str]
) -> list[str]:
    of_target = [line(one) for one in found if one["target"] == target]
    return ["", f"{target}: {title}", header, *of_target]


_HEADER = (
    f"{'kernel':<50}{'instr/el':>9}{'row/el':>8}{'loads':>12}{'MUFU/el':>8}{'SHFL':>5}{'BAR':>4}"
    f"{'ATOM':>5}{'regs':>5}{'spill':>6}{'smem':>6}{'warps':>6}{'bytes/row':>10}"
)


def _line(one: dict) -> str:
    loop, resources = one["loop_kinds"], one["resources"]
    per_element = one["loop_instructions"] / one["loop_elements"]
    mufu = (loop.get("mufu", 0) + loop.get("convert", 0)) / one["loop_elements"]
    loads = "+".join(f"{n}x{width}B" for width, n in one["loop_loads"].items())
    registers = resources.get("registers", resources.get("vgpr"))
    spills = sass.spilled(resources)
    shared = resources.get("shared", resources.get("lds"))
    return (
        f"{one['name']:<50}{per_element:>9.2f}{one['row_slots_per_element']:>8.1f}{loads:>12}"
        f"{mufu:>8.2f}{loop.get('shuffle', 0):>5}{loop.get('barrier', 0):>4}"
        f"{one['kernel_kinds'].get('atomic', 0):>5}{registers:>5}{spills:>6}{shared:>6}"
        f"{resources.get('resident_warps', '-'):>6}{one['bytes_per_row']:>10}"
    )


def _predictions(found: list[dict]) -> list[str]:
    cards = list(found[0]["predicted"])
    bounds = ("issue", "slow", "shuffle", "fp32", "L1")
    lines = [f"{'':<50}" + "".join(f"  {card + ': ' + ' '.join(bounds):<42}" for card in cards)]
    for one in found:
        line = f"{one['name']:<50}"
        for card in cards:
            predicted = one["predicted"][card]
            shares = predicted["predicted_shares"]
            cells = " ".join(f"{min(shares[bound], 99):6.2f}" for bound in bounds)
            line += f"  {cells + ' ' + predicted['binding']:<42}"
        lines.append(line)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="all figures, as JSON")
    arguments = parser.parse_args()
    if os.environ.get("TRITON_INTERPRET") == "1":
        sys.exit("kernel_report compiles: unset TRITON_INTERPRET")
    sections = [(report, CASES, text)]
    sections += [
        (section.report, section.CASES, partial(_text_of, section)) for section in SECTIONS
    ]
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        found = []
        for of_case, cases, _ in sections:
            jobs = [(case, target) for target in TARGETS for case in cases]
            found.append(list(pool.map(of_case, *zip(*jobs, strict=True), chunksize=4)))
    if arguments.json:
        print(json.dumps([one for section in found for one in section], indent=1))
    else:
        texts = (as_text(one) for (_, _, as_text), one in zip(sections, found, strict=True))
        print("\n\n".join(texts))


if __name__ == "__main__":
    main()
