import json
import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from itertools import pairwise

import pytest
import torch

# Without a GPU the kernels run in Triton's interpreter, which must be chosen before their import.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

import numpy as np
from threadpoolctl import threadpool_limits

from fastal.pipeline.checkpoint import Checkpoint
from fastal_kernels import native
from tests.support.checkout import ROOT, compiling
from tests.support.forks import CLASSES, Job, N, Server, logits_of
from tests.support.matrices import BACKENDS, HAS_TRITON, ON_GPU
from tests.support.selection import fast, mark_full
from tests.support.sharing import made_once

if HAS_TRITON and not ON_GPU:
    from tests.support.interpreter import install

    install()

# Modules whose tests all need Triton.
collect_ignore = [] if HAS_TRITON else [
    "benchmarks/test_gpu_check.py", "kernels/test_cosine_kernel.py", "kernels/test_draws.py",
    "kernels/test_kernel_report.py", "kernels/test_kernels.py", "kernels/test_nvidia.py",
    "kernels/test_temperature.py", "selection/test_fused_topk.py",
]  # fmt: skip


def pytest_addoption(parser):
    parser.addoption(
        "--fast",
        action="store_true",
        help="run two cases of each test, and no test that is marked slow or full",
    )


def pytest_collection_modifyitems(config, items):
    for item in items:
        mark_full(item)
    # The longest first: the workers then end at about the same time.
    items.sort(key=lambda item: item.get_closest_marker("full") is None)
    if config.getoption("--fast"):
        chosen = set(fast(items))
        config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
        items[:] = [item for item in items if item in chosen]


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


@pytest.fixture
def threads():
    """Sets the number of threads of torch and of the libraries of NumPy, for a test."""
    before = torch.get_num_threads()
    with ExitStack() as limits:

        def limited(n_threads):
            torch.set_num_threads(n_threads)
            limits.enter_context(threadpool_limits(n_threads))

        yield limited
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def kernels(tmp_path_factory):
    """Every kernel of the report, by target and case; compiled once, in a process that can."""

    def report():
        command = [sys.executable, "-m", "benchmarks.kernel_report", "--json"]
        done = subprocess.run(command, env=compiling(), capture_output=True, text=True, cwd=ROOT)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return json.loads(made_once(tmp_path_factory, "kernel-report.json", report))


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
