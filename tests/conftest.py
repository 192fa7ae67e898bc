import os

import pytest
import torch

# Without a GPU the kernels run in Triton's interpreter, which must be chosen before their import.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

from tests.matrices import BACKENDS


@pytest.fixture(params=BACKENDS, ids="-".join)
def backend(request):
    """A backend and the device to run it on."""
    return request.param
