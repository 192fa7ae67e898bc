"""Logits of hidden states on CPUs, a block of rows at a time.

The rows of a block are first written to panels, in which a row is a lane. Then threads claim
classes. kernels/README.md derives the sizes.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

import fastal_kernels.native._native as _native
from fastal_kernels.native import COUNTS, DTYPES, LEAST_SHARE, address_of, variant
from fastal_kernels.native.threads import in_threads

_PANEL = 32  # rows of a panel, as in job.h
# Bytes of the logits of a block, and of its panels. Both buffers are reused for all blocks.
_LOGITS_BYTES, _PANELS_BYTES = 34 << 20, 8 << 20  # 64 rows of 131,072 classes fit
_LINE = 16  # floats of a cache line


def logits_blocks(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, temperature: float
) -> Iterator[tuple[int, Tensor]]:
    """The logits of rows, block by block: (hidden @ weight.T + bias) / temperature.

    Products are summed in float32. The bits of a row's logits do not depend on its block.

    Args:
        hidden: [N, H]; float16, bfloat16 or float32; any strides; on the host.
        weight: [C, H] of the same dtypes on the host, contiguous.
        bias: [C] float32 on the host, contiguous; None: 0.
        temperature: what logits are divided by, above 0.

    Yields:
        The number of a block's first row, and its logits [n, C] float32, valid until the next step.
    """
    n_rows, n_columns = hidden.shape
    n_classes = len(weight)
    in_pairs = _in_pairs(hidden, weight)
    n_inner = n_columns // 2 if in_pairs else n_columns
    stride = _stride(n_classes)
    most = min(_LOGITS_BYTES // (4 * stride), _PANELS_BYTES // (4 * n_inner))
    n_block = min(n_rows, max(1, most // _PANEL * _PANEL or most))
    panels = torch.empty(-(-n_block // _PANEL), n_inner, _PANEL, dtype=torch.float32, device="cpu")
    logits = torch.empty(n_block, stride, dtype=torch.float32, device="cpu")[:, :n_classes]
    for start in range(0, n_rows, n_block or 1):
        rows = hidden[start : start + n_block]
        _put(rows if rows.stride(1) == 1 else rows.contiguous(), panels, in_pairs)
        block = logits[: len(rows)]
        _multiply(panels, weight, bias, temperature, block, in_pairs)
        yield start, block


def _stride(n_classes: int) -> int:
    """How many floats a row of logits takes: of long rows, an odd number of cache lines.

    A class of many rows is written at once. Rows that are a power of two apart would share a few
    sets of the cache, from which each write would push out the others.
    """
    return n_classes if n_classes < 1024 else (-(-n_classes // _LINE) | 1) * _LINE


def _in_pairs(hidden: Tensor, weight: Tensor) -> bool:
    """Whether to multiply pairs of bfloat16, which needs no conversion and is not rounded."""
    is_bfloat16 = hidden.dtype == weight.dtype == torch.bfloat16
    return is_bfloat16 and weight.shape[1] % 2 == 0 and _native.multiplies_pairs(variant())


def _put(rows: Tensor, panels: Tensor, in_pairs: bool) -> None:
    """Writes rows [n, H] to panels [n_panels, n_inner, _PANEL], with zeros after the last row."""
    n_panels = -(-len(rows) // _PANEL)
    n_threads = min(torch.get_num_threads(), n_panels, 1 + rows.numel() // LEAST_SHARE)
    _run(
        _native.panels,
        (
            variant(),
            rows.data_ptr(),
            _word(rows, in_pairs),
            rows.stride(0) * rows.element_size(),
            len(rows),
            panels.shape[1],
            panels.data_ptr(),
        ),
        (rows, panels),
        n_threads,
        n_panels,
    )


def _multiply(
    panels: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    temperature: float,
    logits: Tensor,
    in_pairs: bool,
) -> None:
    """Writes the logits of a block."""
    n_rows, n_classes = logits.shape
    arguments = (
        variant(),
        in_pairs,
        panels.data_ptr(),
        weight.data_ptr(),
        _word(weight, in_pairs),
        weight.stride(0) * weight.element_size(),
        address_of(bias),
        temperature,
        n_rows,
        n_classes,
        panels.shape[1],
        logits.data_ptr(),
        logits.stride(0),
    )
    n_units = _native.head_units(*arguments)
    n_threads = min(torch.get_num_threads(), n_units, 1 + weight.numel() * n_rows // LEAST_SHARE)
    _run(_native.head, arguments, (panels, weight, bias, logits), n_threads, n_units)


def _word(x: Tensor, in_pairs: bool) -> int:
    """The number of a dtype in job.h; a pair counts as a float."""
    return DTYPES.index(torch.float32 if in_pairs else x.dtype)


def _run(
    job: Callable[..., object],
    arguments: tuple[object, ...],
    memory: tuple[Tensor | None, ...],
    n_threads: int,
    n_units: int,
) -> None:
    """Runs a job in threads, which keep alive the memory that it uses."""
    progress = torch.zeros(COUNTS, dtype=torch.int64, device="cpu")

    def work() -> object:
        _ = memory
        return job(*arguments, progress.data_ptr())

    in_threads(work, n_threads, progress, n_units)
