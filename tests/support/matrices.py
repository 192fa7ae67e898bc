"""Backends to test, and the matrices of `fastal.testing`.

`scripts/gpu-check` imports this module on machines that have torch, Triton and NumPy alone.
"""

from importlib.util import find_spec

import torch

from fastal.testing import far_apart as far_apart
from fastal.testing import invalid_rows
from fastal.testing import layouts as layouts
from fastal.testing import regimes as regimes
from fastal.testing.cases import CLASSES as CLASSES
from fastal.testing.cases import DTYPES as DTYPES
from fastal_kernels import native

ON_GPU = torch.cuda.is_available()
DEVICE = "cuda" if ON_GPU else "cpu"  # on which the Triton kernels run
HAS_TRITON = find_spec("triton") is not None  # Triton is a dependency on Linux alone
BACKENDS = [("torch", "cpu")]
if HAS_TRITON:
    BACKENDS.append(("triton", DEVICE))
if ON_GPU:
    BACKENDS.append(("torch", "cuda"))
AUTO_ON_CPU = "torch"
if not native.reasons():  # it was compiled
    BACKENDS.append(("native", "cpu"))
    AUTO_ON_CPU = "native"

KERNEL_DTYPES = DTYPES[:3]
INVALID, INVALID_PROBS = invalid_rows("logits"), invalid_rows("probs")
