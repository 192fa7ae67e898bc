"""Uncertainty scores of rows of predictions: the matrix is read once, the scores written once.

Letters: N rows, C classes. Reads N * C elements and writes 4 N bytes for each score asked for. Sums
are float32. Every score of an invalid row is NaN.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import torch
import triton
from torch import Tensor

from fastal_kernels.hardware import isa_of
from fastal_kernels.launch import Isa, Matrix, Narrow, Wide, configuration, parts_of, wide
from fastal_kernels.measures import UNCERTAINTY_SCORES, asked_for, probs_tolerance
from fastal_kernels.narrow import narrow_kernel
from fastal_kernels.temperature import at_temperature
from fastal_kernels.topk import Candidates
from fastal_kernels.wide import merge_kernel, wide_kernel

_ALIGNED = 16  # bytes: the only alignment of a pointer that Triton distinguishes


def uncertainty(
    logits: Tensor, measures: Sequence[str], kind: str = "logits", temperature: float = 1.0
) -> list[Tensor]:
    """Uncertainty scores of each row, in the order of `measures`.

    Args:
        logits: [N, C] with C >= 2; float16, bfloat16 or float32; any strides; on a GPU.
        measures: names from `UNCERTAINTY_SCORES`.
        kind: what the matrix holds: "logits", "probs" or "log_probs".
        temperature: from 1e-6 to 1e6: logits are divided by it; 1 for "probs".

    Returns:
        A list of [N] float32 tensors in [0, 1]. Larger is more uncertain. NaN for invalid rows.
    """
    asked = asked_for(measures)
    scores = torch.empty(len(asked), len(logits), dtype=torch.float32, device=logits.device)
    if scores.numel():
        out = _NO_SCORES | {"p_scores": scores, "stride_m": scores.stride(0)}
        _launch(logits, kind, temperature, asked, None, out)
    return [scores[asked.index(measure)] for measure in measures]


def select(
    logits: Tensor,
    measure: str,
    kind: str,
    first_row: int,
    into: Candidates,
    temperature: float = 1.0,
) -> int:
    """Scores the rows of a matrix and adds those that may be among the best to the candidates.

    Args:
        logits, measure, kind, temperature: as for `uncertainty`.
        first_row: the number of the first row. All rows are of one segment.
        into: the candidates so far.

    Returns:
        The number of invalid rows.
    """

    def launch(rows: slice, keys: Tensor, selection: Tensor) -> None:
        out = {"p_keys": keys, "p_selection": selection, "first_row": first_row + rows.start}
        _launch(logits[rows], kind, temperature, (), measure, _NO_SCORES | out)

    return into.append(len(logits), launch)


@functools.cache
def variants(
    matrix: Matrix,
    kind: str,
    measures: tuple[str, ...],
    by: str | None,
    isa: Isa,
) -> list[tuple[Any, dict[str, Any]]]:
    """The kernels to launch for a matrix, with their compile-time arguments, in order.

    This is one kernel if rows are scored whole. If rows are long, it is one kernel for their equal
    parts, one for the rest of the columns if there is a rest, and one that merges.
    """
    common = {
        "PITCH": matrix.pitch,
        "STRIDE_C": matrix.stride_c,
        "MEASURES": sum(1 << UNCERTAINTY_SCORES.index(measure) for measure in measures),
        "BY": -1 if by is None else UNCERTAINTY_SCORES.index(by),
        "WITH_T": "entropy" in (*measures, by),
        "IS_PROBS": kind == "probs",
        "PTX": isa.ptx,
    }
    config = configuration(matrix)
    if isinstance(config, Narrow):
        return [(narrow_kernel, common | {"C": matrix.n_classes} | _constants(config, isa))]

    def of_columns(n_classes: int, n_parts: int) -> tuple[Any, dict[str, Any]]:
        config = wide(replace(matrix, n_classes=n_classes))
        constants = {"C": n_classes, "PARTS": n_parts, "PAIRS": isa.pairs}
        return wide_kernel, common | constants | _constants(config, isa)

    n_parts, columns, rest = parts_of(matrix.n_classes)
    if columns == matrix.n_classes:
        return [of_columns(columns, 1)]
    n_states = n_parts + (rest > 0)
    merge = common | {
        "C": matrix.n_classes,
        "PARTS": triton.next_power_of_2(n_states),
        "num_warps": 1,
    }
    common |= {"MEASURES": 0, "BY": -1}  # the kernels of the parts write states, not scores
    of_parts = [of_columns(columns, n_parts)]
    of_parts += [of_columns(rest, 1)] if rest else []
    return [*of_parts, (merge_kernel, merge)]


def _constants(config: Narrow | Wide, isa: Isa) -> dict[str, Any]:
    constants = asdict(config)
    constants.pop("threads", None)
    return constants | {"num_warps": config.threads // isa.warp_size}


def _launch(
    logits: Tensor,
    kind: str,
    temperature: float,
    measures: tuple[str, ...],
    by: str | None,
    out: dict[str, Any],
) -> None:
    n_rows, n_classes = logits.shape
    p_x, offset = _aligned(logits)
    address = logits.data_ptr() // logits.element_size()
    pitch, stride_c = logits.stride()
    matrix = Matrix(
        n_classes,
        logits.element_size(),
        pitch if n_rows > 1 else n_classes,
        stride_c,
        alignment=min(_ALIGNED, address & -address),
        has_boundary=offset > 0 or logits.data_ptr() % _ALIGNED == 0,
    )
    arguments = {
        "p_x": p_x,
        "offset": offset,
        "N": n_rows,
        "per_class": n_classes / (n_classes - 1),
        "per_log": 1 / math.log(n_classes),
        "tolerance": probs_tolerance(logits.dtype, n_classes),
        "at": at_temperature(temperature, logits.dtype),
    }
    with torch.cuda.device_of(logits):  # Triton launches on the current device
        chosen = variants(matrix, kind, measures, by, isa_of(logits.device))
        if len(chosen) > 1:
            _launch_parts(chosen, arguments, out)
        else:
            (kernel, constants), *_ = chosen
            states = {} if kernel is narrow_kernel else _NO_STATES
            _start(kernel, constants, arguments | out | states)


def _launch_parts(
    chosen: list[tuple[Any, dict[str, Any]]], arguments: dict[str, Any], out: dict[str, Any]
) -> None:
    """Computes the states of all parts of the rows, then the scores."""
    *of_parts, (merge, constants) = chosen
    n_states = sum(part["PARTS"] for _, part in of_parts)
    states = arguments["p_x"].new_empty(arguments["N"], n_states, 5, dtype=torch.float32)
    done = 0
    for kernel, part in of_parts:
        offset = arguments["offset"] + done * of_parts[0][1]["C"] * part["STRIDE_C"]
        of_part = {
            "N": arguments["N"] * part["PARTS"],
            "offset": offset,
            "p_states": states,
            "first_state": done,
            "n_states": n_states,
        }
        _start(kernel, part, arguments | _NO_SCORES | of_part)
        done += part["PARTS"]
    _start(merge, constants, arguments | out | {"p_states": states, "n_states": n_states})


_NO_SCORES = {"p_scores": None, "stride_m": 0, "p_keys": None, "p_selection": None, "first_row": 0}
_NO_STATES = {"p_states": None, "first_state": 0, "n_states": 1}


def _start(kernel: Any, constants: dict[str, Any], arguments: dict[str, Any]) -> None:
    rows = math.prod(constants.get(name, 1) for name in ("P", "PER", "ROWS", "GROUPS"))
    kernel[(triton.cdiv(arguments["N"], rows),)](**arguments, **constants)


def _aligned(x: Tensor) -> tuple[Tensor, int]:
    """A tensor at the last boundary before x, and the number of elements from there to x."""
    offset = x.data_ptr() % _ALIGNED // x.element_size()
    if offset == 0 or x.storage_offset() < offset:
        return x, 0
    return x.as_strided((1,), (1,), x.storage_offset() - offset), offset
