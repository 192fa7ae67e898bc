"""Memory whose pages may be lost while it is read."""

from contextlib import AbstractContextManager
from typing import Any

from torch import Tensor


def guarded(x: Tensor) -> AbstractContextManager[Any]:
    """`fastal_kernels.native.guarded`: a context that survives lost pages of `x`, and reports them.

    If the kernels were not compiled, nothing is watched, and the guard is never `broken`.
    """
    from fastal_kernels import native

    return native.guarded(x)
