"""Signals while a command imports what it runs: one line, and nothing else."""

import signal
import subprocess
import sys

import pytest

from tests.support import checkout

# A torch that takes forever to import, and swallows what is raised meanwhile.
TORCH = """
import os, signal, time
while True:
    try:
        os.kill(os.getpid(), signal.{})
        time.sleep(30)
    except BaseException:
        pass
"""


def run_process(folder, *arguments, **options):
    environment = checkout.environment(PYTHONPATH=f"{folder}:{checkout.PYTHONPATH}")
    command = [sys.executable, "-m", "fastal", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, **options)


@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143)])
@pytest.mark.parametrize(
    "arguments",
    [
        ["select", "pool.npy", "--k", "5", "--out", "picks.csv"],
        ["score", "pool.npy", "--checkpoint", "state", "--out", "scores.npy"],
        ["core-set", "pool.npy", "--k", "5"],
        ["convert", "pool.npy", "--out", "shards"],
        ["info"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_signal_during_the_imports_is_one_line(tmp_path, name, status, arguments):
    (tmp_path / "torch.py").write_text(TORCH.format(name))
    done = run_process(tmp_path, *arguments, cwd=tmp_path, timeout=30)
    line = f"interrupted by signal {getattr(signal, name):d}\n"
    assert (done.returncode, done.stdout, done.stderr) == (status, "", line)
    assert {path.name for path in tmp_path.iterdir()} <= {"torch.py", "__pycache__"}


def test_a_signal_that_is_ignored_is_ignored_during_the_imports(tmp_path):
    (tmp_path / "torch.py").write_text(
        "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nraise ImportError('no torch')\n"
    )

    def ignore():
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    done = run_process(tmp_path, "info", cwd=tmp_path, preexec_fn=ignore)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "Error: no torch\n")
