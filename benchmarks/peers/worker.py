"""One tool, in a process that imports it once and forks for each job.

`python -m benchmarks.peers.worker TOOL` reads requests as lines of JSON from stdin, and writes
replies as lines of JSON to stdout. {"task": ..., "folder": ...} begins a job, in a process of its
own. {"number": ..., "size": ..., "limit": ..., "memory": ...} runs it on the arrays in
FOLDER/<number>, and writes the answer there. {} ends it. A run that is longer than its limit ends
the process of the job by SIGALRM.
"""

import ctypes
import importlib
import importlib.metadata
import json
import logging
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.inputs import Inputs, inputs, warm_size
from benchmarks.peers.tasks import TOOLS

ENOUGH = 0.5  # seconds: how long short runs are repeated
LEAST, MOST = 3, 50  # runs of each size
ONCE = 4.0  # seconds: a run that takes longer is not repeated


def main() -> None:
    logging.getLogger("fastal").setLevel(logging.ERROR)  # ties are known
    tool = sys.argv[1]
    module = importlib.import_module(f"benchmarks.peers.tools.{tool}")
    say(version=importlib.metadata.version(TOOLS[tool].distribution))
    while line := sys.stdin.readline():
        job = json.loads(line)
        child = os.fork()
        if not child:
            do(getattr(module, job["task"]), job["task"], Path(job["folder"]), tool)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        say(ended=os.waitstatus_to_exitcode(status))


def say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


def do(prepare: Callable[[Inputs], Callable[[], Any]], task: str, folder: Path, tool: str) -> None:
    """All sizes of a job."""
    say(began=task)  # before the next request: the parent's buffer must not have read it
    while request := json.loads(sys.stdin.readline()):
        place = folder / str(request["number"])
        try:
            prepare(inputs(task, warm_size(request["size"])))()
            data = {path.stem: np.load(path) for path in place.glob("*.npy")}
            found = measured(prepare(data), request["limit"], request["memory"])
        except Exception as error:  # what a tool raises is a result
            say(**refused(error))
            return
        np.savez(place / f"{tool}.npz", **found.pop("answer"))
        say(**found)


def refused(error: Exception) -> dict[str, str]:
    """How a run ended that did not: no memory, or an error."""
    first = (str(error).splitlines() or [""])[0]
    if isinstance(error, MemoryError) or "can't allocate" in first:
        return {"status": "memory", "message": first}
    return {"status": "failed", "message": f"{type(error).__name__}: {first}"}


def measured(work: Callable[[], Any], limit: float, memory: int) -> dict[str, Any]:
    """The times of the runs, the peak of memory of the first above what was there, the answer."""
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak restarts from here
    before = bytes_of("VmRSS")
    resource.setrlimit(
        resource.RLIMIT_DATA, (bytes_of("VmData") + memory, resource.RLIM_INFINITY)
    )  # fmt: skip
    times: list[float] = []
    peak = 0
    while not (len(times) >= LEAST and sum(times) >= ENOUGH) and len(times) < MOST:
        signal.setitimer(signal.ITIMER_REAL, limit)
        began = time.perf_counter()
        answer = work()
        times.append(time.perf_counter() - began)
        peak = peak or bytes_of("VmHWM") - before
        if times[-1] > ONCE:
            break
    signal.setitimer(signal.ITIMER_REAL, 0)
    resource.setrlimit(resource.RLIMIT_DATA, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return {
        "status": "done",
        "times": times,
        "peak": max(peak, 0),
        "answer": {name: np.asarray(values) for name, values in answer.items()},
    }


def bytes_of(name: str) -> int:
    """A figure of this process."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise LookupError(name)


if __name__ == "__main__":
    main()
