"""Runs of the command line that begin at once: a server has imported fastal, and forks for each.

As a program it is the server. It never runs a thread or an OpenMP region, so its children may.
"""

import json
import os
import signal
import subprocess
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tests.support.checkout import ROOT, compiling

N, CLASSES, CHUNK_BYTES = 20_000, 16, 25_600  # of the pools: 50 chunks
# Stops the process, for its parent to do something to it or its files, in the n-th call of a
# function: "before" it, or "after".
PAUSE = """
import os, signal
def pause(module, name, at=1, when="before"):
    calls, original = 0, getattr(module, name)
    def paused(*args, **kwargs):
        nonlocal calls
        calls += 1
        if calls == at and when == "before":
            os.kill(os.getpid(), signal.SIGSTOP)
        found = original(*args, **kwargs)
        if calls == at and when == "after":
            os.kill(os.getpid(), signal.SIGSTOP)
        return found
    setattr(module, name, paused)
"""

PAUSED = "pause(fastal.pipeline.drive, '_take', {})"  # amid the chunks


class Done(NamedTuple):
    """How a run ended: exit status, or minus the signal; what it printed."""

    status: int
    stdout: str
    stderr: str


class Run:
    """A run under way."""

    def __init__(self, server, pid, streams):
        self._server = server
        self.pid = pid
        self._streams = streams

    def kill(self, number=signal.SIGKILL):
        os.kill(self.pid, number)

    def wait_stopped(self):
        """Until it has stopped itself (see `PAUSE`)."""
        until = time.monotonic() + 30
        while (state := Path(f"/proc/{self.pid}/stat").read_text().rpartition(") ")[2][0]) != "T":
            assert time.monotonic() < until
            assert state != "Z", self.wait()
            time.sleep(0.001)
        return self

    def wait(self):
        status = self._server.ask({"wait": self.pid})
        texts = [Path(stream).read_text() for stream in self._streams]
        return Done(os.waitstatus_to_exitcode(status), *texts)


class Server:
    """Forks runs, in a folder for what they print."""

    def __init__(self, folder):
        self._folder = folder
        self._n_runs = 0
        environment = {**compiling(), "OMP_NUM_THREADS": "1"}  # chunks are small
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.forks"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip
        assert Path(self.ask({"where": None})).parents[1] == ROOT

    def start(self, *arguments, code="", cwd=None, file_bytes=None):
        """Begins a run.

        Args:
            arguments: of the command line.
            code: run first, where `pause` and `fastal` are known.
            cwd: the working directory.
            file_bytes: how large a file may become.
        """
        self._n_runs += 1
        streams = [str(self._folder / f"{self._n_runs}.{name}") for name in ("out", "err")]
        for stream in streams:
            Path(stream).touch()
        run = {"arguments": [*map(str, arguments)], "code": code, "cwd": str(cwd or self._folder)}
        run |= {"file_bytes": file_bytes, "streams": streams}
        return Run(self, self.ask({"start": run}), streams)

    def run(self, *arguments, **options):
        return self.start(*arguments, **options).wait()

    def ask(self, request):
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self):
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def logits_of(seed=0, n=N):
    return np.random.default_rng(seed).standard_normal((n, CLASSES)).astype(np.float32)


# Name of the pool, command (paths are those of other pools), suffix of the output.
JOBS = {
    "select": ("npy", ["select", "--k", 500], "csv"),
    "quotas": ("npy", ["select", "--per-group", 40, "--groups", "predicted"], "jsonl"),
    "noise": ("npy", ["select", "--k", 500, "--noise", "power", "--seed", 3], "csv"),
    "softrank": ("npy", ["select", "--k", 500, "--noise", "softrank"], "csv"),
    "scores": ("npy", ["score"], "npy"),
    "text": ("npy", ["score", "--by", "margin", "--by", "entropy"], "csv"),
    "ids": ("parquet", ["select", "--k", 500, "--id-column", "id"], "parquet"),
    "torch": ("parquet", ["score", "--column", "x", "--backend", "torch"], "npy"),
    "cluster": ("npy", ["cluster", "--clusters", 5, "--random", 2, "--max-iter", 2], "csv"),
    "adaptive": ("parquet", ["represent", "--k", 3, "--adaptive", "--column", "x",
                             "--training", Path("npy/1.npy"), "--id-column", "id"], "csv"),
    "core set": ("npy", ["core-set", "--k", 4, "--labelled", Path("npy/1.npy")], "jsonl"),
    "duplicates": ("npy", ["deduplicate", "--clusters", 9, "--max-iter", 2, "--keep", "nearest",
                           "--memory-mb", 1], "csv"),
    "random": ("npy", ["select", "--k", 500, "--by", "random", "--seed", 3], "csv"),
}  # fmt: skip


class Job:
    """A command with its output and checkpoint in a folder of its own."""

    def __init__(self, server, pools, folder, name):
        self._server = server
        kind, (command, *options), suffix = JOBS[name]
        options = [pools / option if isinstance(option, Path) else option for option in options]
        self.command = [command, pools / kind, *options]
        self.folder, self.saved = folder, folder / "saved"
        self.out = folder / f"out.{suffix}"
        self.checkpoint = self.saved / "checkpoint"

    def arguments(self, *more):
        return *self.command, "--out", self.out, "--checkpoint", self.saved, *more

    def start(self, *more, **options):
        return self._server.start(*self.arguments("--quiet", *more), **options)

    def run(self, *more, **options):
        return self.start(*more, **options).wait()

    def undisturbed(self):
        """The bytes of a run that nothing happens to, and how long it takes."""
        whole = self.folder / f"whole{self.out.suffix}"
        options = ("--out", whole, "--checkpoint", self.folder / "other", "--quiet")
        times = []
        for _ in "12":
            began = time.monotonic()
            assert self._server.run(*self.command, *options) == (0, "", "")
            times.append(time.monotonic() - began)
        found = whole.read_bytes()
        whole.unlink()
        whole.with_suffix(".run.json").unlink()
        (self.folder / "other").rmdir()
        return found, min(times)

    def killed_after(self, n_chunks, **options):
        run = self.start(code=PAUSED.format(n_chunks), **options).wait_stopped()
        run.kill()
        assert run.wait().status == -signal.SIGKILL
        assert 0 < self.row < N
        return self.checkpoint.read_bytes()

    @property
    def record(self):
        return self.out.with_suffix(".run.json")

    @property
    def row(self):
        """The row that its checkpoint goes on from, 0 without one."""
        if not self.checkpoint.exists():
            return 0
        from fastal.pipeline import checkpoint

        payload = self.checkpoint.read_bytes().partition(b"\n")[2]
        return checkpoint._unpacked(payload)["state"]["row"]

    def check(self, done, want):
        """It is done, with these bytes, and has cleaned up; but for a file of a killed moment."""
        assert done == (0, "", ""), done
        assert self.out.read_bytes() == want
        left = {path.name for path in self.folder.iterdir() if not path.name.endswith(".tmp")}
        assert left == {self.out.name, self.record.name, "saved"}
        assert not list(self.saved.iterdir())


def _serve():
    import fastal.cli
    import fastal.commands.convert  # what a command imports when it is run
    import fastal.commands.diversity
    import fastal.commands.uncertainty

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a child that has not begun
    for line in sys.stdin:
        ((what, value),) = json.loads(line).items()
        if what == "start":
            answer = os.fork()
            if answer == 0:
                _child(**value)
        else:
            answer = os.waitpid(value, 0)[1] if what == "wait" else fastal.__file__
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _child(arguments, code, cwd, file_bytes, streams):
    import resource

    import fastal.cli
    import fastal.pipeline.checkpoint
    import fastal.pipeline.drive

    for number, name in enumerate(streams, 1):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    status, has_begun = 1, False
    try:
        os.chdir(cwd)
        fastal.pipeline.checkpoint._SECONDS = fastal.pipeline.checkpoint._PAUSE = 0
        fastal.pipeline.drive._IN_PLACE_BYTES = fastal.pipeline.drive._CHUNK_BYTES = CHUNK_BYTES
        os.fsync = lambda file: None  # takes its time, and tells nothing of processes that die
        exec(PAUSE + code, {"fastal": fastal})
        if file_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
        has_begun = True
        fastal.cli.main(arguments, standalone_mode=True)
    except SystemExit as ended:
        status = ended.code or 0
    except BaseException as error:
        # Until the command's own code runs, click and Python handle signals.
        names = {frame.f_code.co_name for frame, _ in traceback.walk_tb(error.__traceback__)}
        if has_begun and ("wrapped" in names or not isinstance(error, KeyboardInterrupt)):
            sys.excepthook(*sys.exc_info())
    finally:
        with suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    _serve()
