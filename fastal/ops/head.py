"""The uncertainty scores of hidden states by a linear head, computed by the chosen backend."""

from collections.abc import Sequence

import torch
from torch import Tensor

from fastal.ops import reference
from fastal.ops.backend_choice import device_for
from fastal.ops.predictions import scores_and_invalid
from fastal.ops.transfer import staged


def head_scores(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    temperature: float,
    measures: Sequence[str],
    *,
    backend: str,
) -> tuple[list[Tensor], int]:
    """The scores of the logits of rows, which are never in memory together.

    Args:
        hidden: [N, H], see `fastal.ops.reference.logits_blocks`. With "triton", it may be on the
            host.
        weight: [C, H] on any device. It is copied to the device that computes the scores.
        bias: [C] float32 on any device; None: 0.
        temperature: what logits are divided by, above 0.
        measures: names from `fastal.ops.formulas.UNCERTAINTY_SCORES`, at least one.
        backend: a name that `choose` returned.

    Returns:
        For each measure, the scores [N] float32, on the device that computed them; and the number
        of invalid rows.
    """
    logits_blocks = reference.logits_blocks
    device = device_for(hidden) if backend == "triton" else hidden.device
    if backend == "native":
        from fastal_kernels.native.head import logits_blocks
    weight, bias = weight.to(device), None if bias is None else bias.to(device)
    scores = torch.empty(len(measures), len(hidden), dtype=torch.float32, device=device)
    n_invalid = 0
    pieces = [(0, hidden)] if hidden.device == device else staged(hidden, device)
    for first, piece in pieces:
        for start, logits in logits_blocks(piece, weight, bias, temperature):
            found, invalid = scores_and_invalid(logits, measures, "logits", backend=backend)
            for column, of_block in zip(scores, found, strict=True):
                column[first + start : first + start + len(logits)] = of_block
            n_invalid += invalid
    return list(scores), n_invalid
