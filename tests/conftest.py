import os

import pytest
import torch

# Without a GPU the kernels run in Triton's interpreter, which must be chosen before their import.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

from fastal_kernels import native
from tests.matrices import BACKENDS

if not torch.cuda.is_available():
    import numpy as np
    from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

    def fma(builder, x, y, z):
        """The sum x · y + z rounded once, as on a GPU; Triton's own rounds the product first."""
        with np.errstate(all="ignore"):
            exact = x.data.astype(np.float64) * y.data + z.data
            return TensorHandle(exact.astype(np.float32), z.dtype.scalar)

    InterpreterBuilder.create_fma = fma


# Of the native backend, every variant that this machine runs.
VARIANTS = [
    (name, device, variant)
    for name, device in BACKENDS
    for variant in (native.variants() if name == "native" else [""])
]


@pytest.fixture(params=VARIANTS, ids="-".join)
def backend(request, monkeypatch):
    """A backend and the device to run it on."""
    name, device, variant = request.param
    if variant:
        monkeypatch.setenv(native.VARIABLE, variant)
    return name, device
