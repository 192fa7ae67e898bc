import os
import signal
from itertools import pairwise

import pytest
import torch

# Without a GPU the kernels run in Triton's interpreter, which must be chosen before their import.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

import numpy as np

from fastal.pipeline.checkpoint import Checkpoint
from fastal_kernels import native
from tests.support.forks import CLASSES, Job, N, Server, logits_of
from tests.support.matrices import BACKENDS

if not torch.cuda.is_available():
    import triton.language as tl
    from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

    def fma(builder, x, y, z):
        """The sum x · y + z rounded once, as on a GPU; Triton's own rounds the product first."""
        with np.errstate(all="ignore"):
            exact = x.data.astype(np.float64) * y.data + z.data
            return TensorHandle(exact.astype(np.float32), z.dtype.scalar)

    def fp_ext(builder, x, dtype):
        """The values in a wider type; Triton's own takes subnormal bfloat16 for other numbers."""
        if x.dtype.scalar != tl.bfloat16:
            return builder.cast_impl(x, dtype)
        return TensorHandle((x.data.astype(np.uint32) << 16).view(np.float32), dtype.scalar)

    InterpreterBuilder.create_fma = fma
    InterpreterBuilder.create_fp_ext = fp_ext


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


@pytest.fixture(autouse=True)
def signals():
    """Handled after a test as before: a command that a signal has ended ignores all others."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("runs"))
    yield server
    server.close()


@pytest.fixture(scope="module")
def pools(tmp_path_factory):
    """The same rows as .npy files, and as Parquet files with ids, in row groups of odd sizes."""
    pa = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet")
    folder, logits = tmp_path_factory.mktemp("pools"), logits_of()
    for kind in ("npy", "parquet"):
        (folder / kind).mkdir()
    for i, (start, stop) in enumerate(pairwise([0, 1, 7001, 7001, 15_000, N])):
        part = logits[start:stop]
        np.save(folder / "npy" / f"{i}.npy", part)
        rows = pa.FixedSizeListArray.from_arrays(pa.array(part.ravel()), CLASSES)
        ids = [f"id {row}" for row in range(start, stop)]
        table = pa.table({"x": rows, "id": ids})
        pa.parquet.write_table(table, folder / "parquet" / f"{i}.parquet", row_group_size=1234)
    return folder


@pytest.fixture
def job(server, pools, tmp_path):
    return lambda name: Job(server, pools, tmp_path, name)


@pytest.fixture
def interrupting(monkeypatch):
    """Of a reducer's class: a function that has its n-th chunk from then on interrupt the run.

    After each of the others the state is saved.
    """

    def of(kind):
        look, left = kind.look, 0

        def interrupted(self, *args, **kwargs):
            nonlocal left
            left -= 1
            if not left:
                raise KeyboardInterrupt
            return look(self, *args, **kwargs)

        def at(n_chunks):
            nonlocal left
            left = n_chunks

        monkeypatch.setattr(Checkpoint, "is_due", True)
        monkeypatch.setattr(kind, "look", interrupted)
        return at

    return of
