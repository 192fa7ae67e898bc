"""Uncertainty scores of rows of predictions: the matrix is read once, the scores written once.

Reads N * C elements, writes 4 N bytes a score asked for; accumulates in float32. NaN in every score
of an invalid row.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import torch
import triton
from torch import Tensor

from fastal_kernels.launch import Isa, Matrix, Narrow, Wide, configuration, part_of, wide
from fastal_kernels.narrow import narrow_kernel
from fastal_kernels.topk import Candidates
from fastal_kernels.wide import merge_kernel, wide_kernel

MEASURES = ("least_confidence", "margin", "ratio", "entropy")  # as numbered in `scores`
_PACK = {torch.bfloat16: "bf16x2", torch.float16: "f16x2", torch.float32: "f32"}
_ALIGNED = 16  # bytes; what Triton takes a pointer for, or for nothing


def uncertainty(logits: Tensor, measures: Sequence[str], kind: str = "logits") -> list[Tensor]:
    """Uncertainty scores of each row, in the order of `measures`.

    Args:
        logits: [N, C] with C >= 2; float16, bfloat16 or float32; any strides; on a GPU.
        measures: names of the scores above.
        kind: what the matrix holds: "logits", "probs" or "log_probs".

    Returns:
        A list of [N] float32 tensors in [0, 1], larger = more uncertain, NaN for invalid rows.
    """
    if not set(measures) <= set(MEASURES):
        raise KeyError(f"measures: wanted some of {MEASURES}, got {measures}")
    asked = tuple(measure for measure in MEASURES if measure in measures)
    scores = torch.empty(len(asked), len(logits), dtype=torch.float32, device=logits.device)
    if scores.numel():
        out = {"p_scores": scores, "stride_m": scores.stride(0)}
        nothing = {"p_keys": None, "p_selection": None, "first_row": 0}
        _launch(logits, kind, asked, None, out | nothing)
    return [scores[asked.index(measure)] for measure in measures]


def select(logits: Tensor, measure: str, kind: str, first_row: int, into: Candidates) -> int:
    """Lets the rows of a matrix through to the selection behind their scores.

    Args:
        logits, measure, kind: as for `uncertainty`.
        first_row: the number of the first row; all rows are of one segment.
        into: the candidates so far.

    Returns:
        How many rows are invalid.
    """

    def launch(rows: slice, keys: Tensor, selection: Tensor) -> None:
        out = {
            "p_scores": None,
            "stride_m": 0,
            "p_keys": keys,
            "p_selection": selection,
            "first_row": first_row + rows.start,
        }
        _launch(logits[rows], kind, (), measure, out)

    return into.append(len(logits), launch)


def variant(
    matrix: Matrix,
    dtype: torch.dtype,
    kind: str,
    measures: tuple[str, ...],
    by: str | None,
    isa: Isa,
) -> tuple[Any, dict[str, Any]]:
    """The kernel for whole rows of a matrix, and its compile-time arguments."""
    config = configuration(matrix)
    constants = {
        "C": matrix.n_classes,
        "PITCH": matrix.pitch,
        "STRIDE_C": matrix.stride_c,
        "MEASURES": sum(1 << MEASURES.index(measure) for measure in measures),
        "BY": -1 if by is None else MEASURES.index(by),
        "WITH_T": "entropy" in (*measures, by),
        "IS_PROBS": kind == "probs",
        "PACK": _PACK[dtype] if isa.ptx else "",
        **_arguments(config, isa),
    }
    if isinstance(config, Narrow):
        return narrow_kernel, constants
    return wide_kernel, constants | {"PAIRS": isa.pairs, "PARTS": 1}


def _arguments(config: Narrow | Wide, isa: Isa) -> dict[str, Any]:
    arguments = asdict(config)
    return arguments | {"num_warps": arguments.pop("threads") // isa.warp_size}


def _launch(
    logits: Tensor, kind: str, measures: tuple[str, ...], by: str | None, out: dict[str, Any]
) -> None:
    n_rows, n_classes = logits.shape
    p_x, offset = _aligned(logits)
    address = logits.data_ptr() // logits.element_size()
    pitch, stride_c = logits.stride()
    matrix = Matrix(
        n_classes,
        logits.element_size(),
        pitch,
        stride_c,
        alignment=address & -address,
        has_boundary=offset > 0 or logits.data_ptr() % _ALIGNED == 0,
    )
    info = torch.finfo(logits.dtype)
    isa = isa_of(logits.device)
    kernel, constants = variant(matrix, logits.dtype, kind, measures, by, isa)
    arguments = {
        **out,
        "p_x": p_x,
        "offset": offset,
        "N": n_rows,
        "per_class": n_classes / (n_classes - 1),
        "per_log": 1 / math.log(n_classes),
        "tolerance": max(1e-3, info.eps) + n_classes * info.smallest_normal * info.eps / 2,
    }
    with torch.cuda.device_of(logits):  # Triton launches on the current device
        n_parts, columns = part_of(n_rows, n_classes)
        if kernel is narrow_kernel:
            grid = (triton.cdiv(n_rows, constants["P"] * constants["PER"]),)
            narrow_kernel[grid](**arguments, **constants)
        elif n_parts < 2:
            _launch_wide(arguments | {"p_states": None, "n_states": 1}, constants)
        else:
            _launch_parts(matrix, arguments, constants, isa, n_parts, columns)


def _launch_wide(arguments: dict[str, Any], constants: dict[str, Any]) -> None:
    grid = (triton.cdiv(arguments["N"], constants["ROWS"] * constants["GROUPS"]),)
    wide_kernel[grid](**arguments, **constants)


def _launch_parts(
    matrix: Matrix,
    arguments: dict[str, Any],
    constants: dict[str, Any],
    isa: Isa,
    n_parts: int,
    columns: int,
) -> None:
    """Few, long rows: n_parts parts of each, and what is left of it, then all states of a row."""
    n_rows, p_x = arguments["N"], arguments["p_x"]
    rest = matrix.n_classes - n_parts * columns
    states = torch.empty(n_rows, n_parts + (rest > 0), 5, dtype=torch.float32, device=p_x.device)
    of_parts = arguments | {"p_states": states, "n_states": states.shape[1]}
    config = _arguments(wide(replace(matrix, n_classes=columns)), isa)
    _launch_wide(
        of_parts | {"N": n_rows * n_parts}, constants | config | {"C": columns, "PARTS": n_parts}
    )
    if rest:
        offset = arguments["offset"] + n_parts * columns * matrix.stride_c
        config = _arguments(wide(replace(matrix, n_classes=rest)), isa)
        of_rest = of_parts | {"p_states": states[:, n_parts:], "offset": offset}
        _launch_wide(of_rest, constants | config | {"C": rest})
    merged = {name: constants[name] for name in merge_kernel.arg_names if name in constants}
    merged |= {
        "PACK": constants["PACK"] and "f32",
        "PARTS": triton.next_power_of_2(states.shape[1]),
        "num_warps": 1,
    }
    merge_kernel[(n_rows,)](p_states=states, n_states=states.shape[1], **arguments, **merged)


def _aligned(x: Tensor) -> tuple[Tensor, int]:
    """A tensor at the last boundary before x, and how many elements x begins after it."""
    offset = x.data_ptr() % _ALIGNED // x.element_size()
    if offset == 0 or x.storage_offset() < offset:
        return x, 0
    return x.as_strided((1,), (1,), x.storage_offset() - offset), offset


@functools.cache
def isa_of(device: torch.device) -> Isa:
    """What the device offers."""
    if device.type != "cuda":
        return Isa()
    if torch.version.hip is not None:
        return Isa(warp_size=torch.cuda.get_device_properties(device).warp_size)
    major, _ = torch.cuda.get_device_capability(device)
    return Isa(ptx=major >= 8, pairs=major >= 10)
