"""The scores of draws, computed by the chosen backend."""

from collections.abc import Sequence

from torch import Tensor

from fastal.ops import reference


def draws(
    x: Tensor, measures: Sequence[str], kind: str, temperature: float, *, backend: str
) -> list[Tensor]:
    """`fastal.ops.reference.draws`, computed by `backend`, a name that `choose` returned."""
    if backend == "native":
        from fastal_kernels.native.draws import draws

        return draws(x, measures, kind, temperature)
    return reference.draws(x, measures, kind, temperature)
