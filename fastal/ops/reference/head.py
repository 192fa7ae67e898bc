"""Logits of hidden states by a linear head, a block of rows at a time, on any device."""

from collections.abc import Iterator

import torch
from torch import Tensor

# Bytes of the logits of a block, on a CPU and on a GPU, and the most rows of a block. A matrix
# product may sum in another order if it has another number of rows. So all products of a head have
# the same number.
_BLOCK_BYTES, _GPU_BLOCK_BYTES = 1 << 24, 1 << 28
_MOST_ROWS, _GPU_MOST_ROWS = 128, 2048
_WEIGHT_BYTES = 1 << 23  # of a part of a 16-bit weight in float32


def logits_blocks(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, temperature: float
) -> Iterator[tuple[int, Tensor]]:
    """The logits of rows, block by block: (hidden @ weight.T + bias) / temperature.

    Products are summed in float32. The last block is padded, so that each product has the same
    number of rows: no row's logits depend on the number of rows given.

    Args:
        hidden: [N, H]; float16, bfloat16 or float32; any strides.
        weight: [C, H] of the same dtypes, on the device of the rows.
        bias: [C] float32 on the same device; None: 0.
        temperature: what logits are divided by, above 0.

    Yields:
        The number of a block's first row, and its logits [n, C] float32, valid until the next step.
    """
    device = hidden.device
    of_gpu = device.type != "cpu"
    block_bytes = _GPU_BLOCK_BYTES if of_gpu else _BLOCK_BYTES
    most = _GPU_MOST_ROWS if of_gpu else _MOST_ROWS
    n_block = max(1, min(most, block_bytes // (4 * len(weight))))
    rows_nH = torch.zeros(n_block, hidden.shape[1], dtype=torch.float32, device=device)
    logits_nC = torch.empty(n_block, len(weight), dtype=torch.float32, device=device)
    for start in range(0, len(hidden), n_block):
        given = hidden[start : start + n_block]
        rows_nH[: len(given)] = given
        _multiply(rows_nH, weight, logits_nC)
        if bias is not None:
            logits_nC += bias
        if temperature != 1:
            logits_nC /= temperature
        yield start, logits_nC[: len(given)]


def _multiply(rows_nH: Tensor, weight: Tensor, out_nC: Tensor) -> None:
    """Writes the product of float32 rows with a weight, which is converted part by part."""
    if weight.dtype == torch.float32:
        torch.mm(rows_nH, weight.t(), out=out_nC)
        return
    n_classes = max(1, _WEIGHT_BYTES // (4 * weight.shape[1]))
    for first in range(0, len(weight), n_classes):
        part = weight[first : first + n_classes].float()
        torch.mm(rows_nH, part.t(), out=out_nC[:, first : first + len(part)])
