import os

import pytest
import torch

# Without a GPU the kernels run in Triton's interpreter, which must be chosen before their import.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

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


@pytest.fixture(params=BACKENDS, ids="-".join)
def backend(request):
    """A backend and the device to run it on."""
    return request.param
