"""Logits of hidden states on CPUs, a block of rows at a time."""

from collections.abc import Iterator

import torch
from torch import Tensor

from fastal_kernels.native import DTYPES, _native, variant
from fastal_kernels.native.threads import in_threads

_PANEL = 32  # rows of a panel, as in job.h
# Bytes of the logits of a block, and of its rows. Both buffers are reused for all blocks.
_LOGITS_BYTES, _ROWS_BYTES = 1 << 25, 1 << 23
_COUNTS = 5  # as in job.h


def logits_blocks(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, temperature: float
) -> Iterator[tuple[int, Tensor]]:
    """The logits of rows, block by block: (hidden @ weight.T + bias) / temperature.

    Products are summed in float32. A row's logits have the same bits in any block.

    Args:
        hidden: [N, H]; float16, bfloat16 or float32; any strides; on the host.
        weight: [C, H] of the same dtypes on the host, contiguous along H.
        bias: [C] float32 on the host, contiguous; None: 0.
        temperature: what logits are divided by, above 0.

    Yields:
        The number of a block's first row, and its logits [n, C] float32, valid until the next step.
    """
    n_rows, n_columns = hidden.shape
    n_classes = len(weight)
    # Pairs of bfloat16 are multiplied as they are, without rounding.
    in_pairs = (
        hidden.dtype == weight.dtype == torch.bfloat16
        and n_columns % 2 == 0
        and _native.multiplies_pairs(variant())
    )
    n_inner = n_columns // 2 if in_pairs else n_columns
    most = min(_LOGITS_BYTES // (4 * n_classes), _ROWS_BYTES // (4 * n_inner))
    n_block = min(n_rows, max(1, most // _PANEL * _PANEL or most))
    n_panels = -(-n_block // _PANEL)
    word = torch.int32 if in_pairs else torch.float32
    panels = torch.zeros(n_panels, n_inner, _PANEL, dtype=word, device="cpu")
    logits = torch.empty(n_block, n_classes, dtype=torch.float32, device="cpu")
    if bias is None:
        bias = torch.zeros(n_classes, dtype=torch.float32, device="cpu")
    if in_pairs:
        hidden = hidden.contiguous().view(torch.int32)
    for start in range(0, n_rows, n_block or 1):
        rows = hidden[start : start + n_block]
        _put(rows, panels)
        _multiply(panels, weight, bias, temperature, logits[: len(rows)], in_pairs)
        yield start, logits[: len(rows)]


def _put(rows: Tensor, panels: Tensor) -> None:
    """Writes rows [n, n_inner] to panels [n_panels, n_inner, _PANEL]. Places after them stay."""
    whole = len(rows) // _PANEL
    turned = panels.transpose(1, 2)
    turned[:whole].copy_(rows[: whole * _PANEL].unflatten(0, (whole, _PANEL)))
    if whole < len(panels):
        rest = rows[whole * _PANEL :]
        turned[whole, : len(rest)].copy_(rest)


def _multiply(
    panels: Tensor, weight: Tensor, bias: Tensor, temperature: float, logits: Tensor, in_pairs: bool
) -> None:
    """Writes the logits of a block."""
    n_rows, n_classes = logits.shape
    progress = torch.zeros(_COUNTS, dtype=torch.int64, device="cpu")
    arguments = (
        variant(),
        in_pairs,
        panels.data_ptr(),
        weight.data_ptr(),
        DTYPES.index(torch.float32 if in_pairs else weight.dtype),
        weight.stride(0) * weight.element_size(),
        bias.data_ptr(),
        temperature,
        n_rows,
        n_classes,
        panels.shape[1],
        logits.data_ptr(),
        progress.data_ptr(),
    )

    def work() -> object:
        _ = panels, weight, bias, logits  # keeps the memory alive, in every thread
        return _native.head(*arguments)

    n_units = _native.head_units(*arguments)
    in_threads(work, min(torch.get_num_threads(), n_units), progress, n_units)
