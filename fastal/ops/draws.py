"""The scores of draws, computed by the chosen backend."""

from collections.abc import Sequence

import torch
from torch import Tensor

from fastal.ops import reference
from fastal.ops.backend_choice import device_for
from fastal.ops.transfer import staged


def draws(
    x: Tensor, measures: Sequence[str], kind: str, temperature: float, *, backend: str
) -> list[Tensor]:
    """`fastal.ops.reference.draws`, computed by `backend`, a name that `choose` returned."""
    if backend == "torch":
        return reference.draws(x, measures, kind, temperature)
    if backend == "native":
        from fastal_kernels.native.draws import draws

        return draws(x, measures, kind, temperature)
    from fastal_kernels.draws import draws as scores_of

    device = device_for(x)
    if device == x.device:
        return scores_of(x, measures, kind, temperature)
    pieces = [scores_of(piece, measures, kind, temperature) for _, piece in staged(x, device)]
    return [torch.cat(scores) for scores in zip(*pieces, strict=True)]
