"""Memory that may vanish while it is read."""

from contextlib import AbstractContextManager
from typing import Any

from torch import Tensor


def guarded(x: Tensor) -> AbstractContextManager[Any]:
    """`fastal_kernels.native.guarded`: whether pages of `x` were lost, which otherwise is fatal.

    Its guard is never `broken` where the kernels were not compiled: nothing is watched there.
    """
    from fastal_kernels import native

    return native.guarded(x)
