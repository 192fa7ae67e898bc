"""A Ray cluster on this machine, and runs of the command line that read a pool with it."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.checkout import environment

PATIENCE = 120  # seconds for what takes a few
# Code that is run before the command line. Pools of a few thousand rows have several shards:
SMALL_CHUNKS = """
import fastal.pipeline.drive
fastal.pipeline.drive._IN_PLACE_BYTES = fastal.pipeline.drive._CHUNK_BYTES = 8192
"""
# Each step of a pass takes a while, and may be saved:
SLOW_STEPS = f"""{SMALL_CHUNKS}
import time
import fastal.pipeline.checkpoint
from fastal.distributed.ray_workers import RayWorkers
fastal.pipeline.checkpoint._SECONDS = fastal.pipeline.checkpoint._PAUSE = 0
wait = RayWorkers.wait
def slow(workers, seconds):
    time.sleep(0.2)
    return wait(workers, seconds)
RayWorkers.wait = slow
"""
# A signal comes while Ray starts, which sets a handler of its own:
TERMINATED_EARLY = """
import os, signal, threading, ray
init = ray.init
def interrupted(*args, **options):
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
    return init(*args, **options)
ray.init = interrupted
"""
_RUN = "import sys; exec(sys.argv.pop(1)); from fastal.cli import main; main(prog_name='fastal')"


def wait_for(condition):
    """What a function returns when it is true."""
    until = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < until
        time.sleep(0.05)
    return found


def is_amid(folder):
    """Whether a checkpoint holds some rows of a pass."""
    from fastal.pipeline import checkpoint

    path = folder / "checkpoint"
    if not path.exists():
        return False
    return checkpoint._unpacked(path.read_bytes().partition(b"\n")[2])["state"]["row"] > 0


def descendants(pid):
    """The processes below a process: pids and when they started, which no other process has."""
    children = {}
    for one, parent, began in _processes():
        children.setdefault(parent, []).append((one, began))
    found, todo = set(), [pid]
    while todo:
        of_one = children.get(todo.pop(), [])
        found.update(of_one)
        todo += [one for one, _ in of_one]
    return found


def alive(processes):
    """Those of some processes that still run."""
    return processes & {(pid, began) for pid, _, began in _processes()}


def readers(pid):
    """The pids of the workers below a process that read shards."""
    found = []
    for one, _ in descendants(pid):
        with suppress(OSError):
            if b"ShardReader" in Path(f"/proc/{one}/cmdline").read_bytes():
                found.append(one)
    return sorted(found)


def _processes():
    """The pid, the parent's pid and the start time of each process; none that is a zombie."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with suppress(OSError):
                fields = (folder / "stat").read_text().rpartition(") ")[2].split()
                if fields[0] != "Z":
                    yield int(folder.name), int(fields[1]), int(fields[19])


class Drive:
    """A run of the command line in a process group of its own, as in a terminal.

    As a context, it is killed at the end of the block.

    Args:
        arguments: of the command line.
        code: run before.
        cwd: the working directory.
        variables: more of the environment.
    """

    def __init__(self, *arguments, code="", cwd=None, **variables):
        self.process = subprocess.Popen(
            [sys.executable, "-c", _RUN, code, *map(str, arguments)], cwd=cwd, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(**variables),
            start_new_session=True,
        )  # fmt: skip

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.kill(signal.SIGKILL, group=True)
            self.process.communicate()

    @property
    def pid(self):
        return self.process.pid

    def kill(self, number, *, group=False):
        (os.killpg if group else os.kill)(self.pid, number)

    def wait(self):
        """The status, what was written to stdout, and the lines on stderr."""
        try:
            out, err = self.process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill(signal.SIGKILL, group=True)
            out, err = self.process.communicate()
            raise AssertionError(f"the run did not end: {err}") from None
        return self.process.returncode, out, err.splitlines()


@contextmanager
def cluster(n_cpus):
    """A cluster of this process, which is connected to it; its address.

    The number of CPUs is what Ray counts with, whatever the machine has.
    """
    import ray

    ray.init(num_cpus=n_cpus, include_dashboard=False, log_to_driver=False)
    try:
        yield ray.get_runtime_context().gcs_address
    finally:
        ray.shutdown()
