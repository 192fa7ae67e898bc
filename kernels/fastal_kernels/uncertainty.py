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
from fastal_kernels.wide import merge_kernel, wide_kernel

MEASURES = ("least_confidence", "margin", "ratio", "entropy")
_PACK = {torch.bfloat16: "bf16x2", torch.float16: "f16x2", torch.float32: ""}
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
    scores = torch.empty(len(measures), len(logits), dtype=torch.float32, device=logits.device)
    if scores.numel():
        _launch(logits, kind, tuple(measures), {"p_scores": scores, "stride_m": scores.stride(0)})
    return list(scores)


def _launch(logits: Tensor, kind: str, measures: tuple[str, ...], out: dict[str, Any]) -> None:
    n_rows, n_classes = logits.shape
    isa, (p_x, offset) = isa_of(logits.device), _aligned(logits)
    address = logits.data_ptr() // logits.element_size()
    has_boundary = offset > 0 or logits.data_ptr() % _ALIGNED == 0
    matrix = Matrix(
        n_classes, logits.element_size(), *logits.stride(), address & -address, has_boundary
    )
    info = torch.finfo(logits.dtype)
    arguments = {
        "p_x": p_x, "offset": offset,
        "p_keys": None, "p_selection": None, "first_row": 0, "BY": None, **out,
        "per_class": n_classes / (n_classes - 1), "per_log": 1 / math.log(n_classes),
        "tolerance": max(1e-3, info.eps) + n_classes * info.smallest_normal * info.eps / 2,
        "PITCH": matrix.pitch, "STRIDE_C": matrix.stride_c, "MEASURES": measures,
        "IS_PROBS": kind == "probs", "PTX": isa.ptx,
    }  # fmt: skip
    arguments["WITH_T"] = "entropy" in (*measures, arguments["BY"])
    pack = _PACK[logits.dtype] if isa.ptx else ""
    config = configuration(matrix)
    with torch.cuda.device_of(logits):  # Triton launches on the current device
        if isinstance(config, Narrow):
            narrow_kernel[(triton.cdiv(n_rows, config.P * config.PER),)](
                **arguments, N=n_rows, C=n_classes, PACK=pack, **asdict(config)
            )
            return
        arguments |= {"PACK": pack, "PAIRS": isa.pairs}
        n_parts, columns = part_of(n_rows, n_classes)
        if n_parts < 2:
            _launch_wide(config, arguments, n_rows, n_classes, p_states=None, n_states=1, PARTS=1)
            return
        rest = n_classes - n_parts * columns
        states = torch.empty(
            n_rows, n_parts + (rest > 0), 5, dtype=torch.float32, device=logits.device
        )
        parts = {"p_states": states, "n_states": states.shape[1], "PARTS": n_parts}
        config = wide(replace(matrix, n_classes=columns))
        _launch_wide(config, arguments, n_rows * n_parts, columns, **parts)
        if rest:
            after = offset + n_parts * columns * matrix.stride_c
            parts |= {"p_states": states[:, n_parts:], "PARTS": 1}
            config = wide(replace(matrix, n_classes=rest))
            _launch_wide(config, arguments | {"offset": after}, n_rows, rest, **parts)
        for name in ("PACK", "PAIRS"):
            del arguments[name]
        merge_kernel[(n_rows,)](
            states, states.shape[1], **arguments, N=n_rows, C=n_classes,
            PARTS=triton.next_power_of_2(states.shape[1]), num_warps=1,
        )  # fmt: skip


def _launch_wide(
    config: Wide, arguments: dict[str, Any], n_rows: int, n_classes: int, **parts: Any
) -> None:
    grid = (triton.cdiv(n_rows, config.ROWS * config.GROUPS),)
    wide_kernel[grid](**arguments, **parts, N=n_rows, C=n_classes, **asdict(config))


def _aligned(x: Tensor) -> tuple[Tensor, int]:
    """A tensor at the last boundary before x, and how many elements x begins after it."""
    offset = x.data_ptr() % _ALIGNED // x.element_size()
    if offset == 0 or x.storage_offset() < offset:
        return x, 0
    return x.as_strided((1,), (1,), x.storage_offset() - offset), offset


@functools.cache
def isa_of(device: torch.device) -> Isa:
    """What the device offers; nothing, on AMD and in the interpreter."""
    if device.type != "cuda" or torch.version.hip is not None:
        return Isa()
    major, _ = torch.cuda.get_device_capability(device)
    return Isa(ptx=major >= 8, pairs=major >= 10)
