"""Runs tools on all sizes of a job, each in a process of its own, and compares the answers."""

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from benchmarks.peers.inputs import Inputs, inputs
from benchmarks.peers.tasks import TOOLS, Size
from benchmarks.peers.truth import Answer, agreement, truth

ROOT = Path(__file__).parents[2]
START = 120  # seconds to start, compile and warm up: a tool that takes longer is stopped
MARGIN = 1.3  # a size that is expected to take so many times its limit is not tried

Case: TypeAlias = dict[str, Any]  # a row of the results


class Limits(NamedTuple):
    """What a run may take.

    Attributes:
        seconds: of one run.
        memory: bytes above the inputs.
        threads: of torch, OpenMP and BLAS.
    """

    seconds: float
    memory: int
    threads: int


class Job(NamedTuple):
    """The sizes of a job, with their inputs and right answers, and the folder that has them."""

    task: str
    sizes: Sequence[Size]
    data: list[Inputs]
    right: list[Answer]
    folder: Path


@contextlib.contextmanager
def prepared(task: str, sizes: Sequence[Size]) -> Iterator[Job]:
    """Makes a job's inputs in memory, for all its tools."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as folder:
        data = [inputs(task, size) for size in sizes]
        for number, arrays in enumerate(data):
            place = Path(folder) / str(number)
            place.mkdir()
            for name, values in arrays.items():
                np.save(place / f"{name}.npy", values)
        yield Job(task, sizes, data, [truth(task, arrays) for arrays in data], Path(folder))


def python_of(tool: str) -> Path | None:
    """The Python of the tool's environment; None: there is none."""
    environment = TOOLS[tool].environment
    if not environment:
        return Path(sys.executable)
    python = ROOT / ".venv-adapters" / environment / "bin" / "python"
    return python if python.exists() else None


class Runner:
    """The process of a tool, which forks for each job. A context.

    Args:
        tool: its key.
        limits: those of a run.
    """

    def __init__(self, tool: str, limits: Limits) -> None:
        self._tool, self._limits = tool, limits
        self._process: subprocess.Popen[str] | None = None
        if (python := python_of(tool)) is not None:
            self._process = subprocess.Popen(
                [python, "-m", "benchmarks.peers.worker", tool], cwd=ROOT, env=_variables(limits),
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                start_new_session=True,
            )  # fmt: skip
        self._version = self._reply().get("version")

    def __enter__(self) -> "Runner":
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._kill()
            self._process.communicate()

    def cases(self, job: Job) -> list[Case]:
        """The cases of a job, ascending in size, up to the first that is not done.

        A case has `status`: "done", with `seconds`, `times`, `peak` and `agreement`; "stopped" at
        the limit of time; "memory", with the `message` that says what did not fit; "skipped", as
        the smaller sizes grow to `expected` seconds or `expected_bytes`; "failed", with the
        `message`; "crashed"; or "missing": the tool is not installed.
        """
        start = {"task": job.task, "tool": self._tool, "version": self._version}
        if self._version is None:
            return [{**start, "size": job.sizes[0], "status": "missing"}]
        self._send(task=job.task, folder=str(job.folder))
        self._reply()  # says that the job's process began
        cases: list[Case] = []
        for number, size in enumerate(job.sizes):
            found = expected(cases, size, self._limits) or self._run(job, number)
            cases.append({**start, "size": size, **found})
            if found["status"] != "done":
                break
        if found["status"] in ("done", "skipped"):
            self._send()
        if found["status"] not in ("stopped", "crashed"):
            self._reply()  # says that the job's process ended
        return cases

    def _run(self, job: Job, number: int) -> Case:
        limit, memory, _ = self._limits
        self._send(number=number, size=job.sizes[number], limit=limit, memory=memory)
        found = self._reply()
        if "status" not in found:
            is_late = found.get("ended") == -signal.SIGALRM
            return {"status": "stopped" if is_late else "crashed"}
        if found["status"] == "done":
            with np.load(job.folder / str(number) / f"{self._tool}.npz") as answer:
                agreed = agreement(job.task, job.data[number], job.right[number], dict(answer))
            found |= {"seconds": min(found["times"]), "agreement": agreed}
        return found

    def _send(self, **request: Any) -> None:
        assert self._process is not None and self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()

    def _reply(self) -> dict[str, Any]:
        """The next message, among what else the tool prints; empty if there is no process."""
        if self._process is None or self._process.stdout is None:
            return {}
        killer = threading.Timer(START + 3 * self._limits.seconds, self._kill)
        killer.start()
        try:
            for line in self._process.stdout:
                with contextlib.suppress(json.JSONDecodeError):
                    message = json.loads(line)
                    if isinstance(message, dict):
                        return message
            return {}
        finally:
            killer.cancel()

    def _kill(self) -> None:
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)


def _variables(limits: Limits) -> dict[str, str]:
    return os.environ | {
        "PYTHONPATH": f"{ROOT}:{ROOT / 'kernels'}",
        "OMP_NUM_THREADS": str(limits.threads),
        "OPENBLAS_NUM_THREADS": str(limits.threads),
        "TORCHINDUCTOR_COMPILE_THREADS": "1",  # else a pool of processes compiles beside the runs
        "PYTHONWARNINGS": "ignore",
    }


def expected(cases: Sequence[Case], size: Size, limits: Limits) -> Case | None:
    """A skipped case, if the next size is expected to take more than the limits.

    The time grows by the exponent of the last two sizes, memory in proportion to the elements.
    """
    if not cases:
        return None
    growth = elements(size) / elements(cases[-1]["size"])
    if (memory := cases[-1]["peak"] * growth) > MARGIN * limits.memory:
        return {"status": "skipped", "expected_bytes": memory}
    if len(cases) == 1:
        return None
    grown = elements(cases[-1]["size"]) / elements(cases[-2]["size"])
    exponent = 1.0
    if grown > 1:
        exponent = math.log(cases[-1]["seconds"] / cases[-2]["seconds"]) / math.log(grown)
    seconds = cases[-1]["seconds"] * growth**exponent
    return {"status": "skipped", "expected": seconds} if seconds > MARGIN * limits.seconds else None


def elements(size: Size) -> int:
    return math.prod(size.values())
