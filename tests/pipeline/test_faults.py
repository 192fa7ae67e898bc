"""Runs that are killed or interrupted give the bytes of an undisturbed run, or none."""

import re
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from tests.support.forks import JOBS, PAUSED, N

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")


def kill_at_random(job, seed, n_kills):
    """Kills and resumes a run at random moments, and starts again whenever it completes.

    Returns:
        The number of kills, and the number of those after the first save and before the last row.
    """
    want, took = job.undisturbed()
    rng = np.random.default_rng(seed)
    kills = amid = 0
    while kills < n_kills or (amid < n_kills // 3 and kills < 10 * n_kills):
        run = job.start("--resume")
        time.sleep(rng.uniform(0, took))
        run.kill()
        done = run.wait()
        # It was killed after the scores were renamed, and before the checkpoint was removed.
        done = done._replace(stderr=re.sub(".*partial is gone: starting over\n", "", done.stderr))
        if done.status == 0:
            job.check(done, want)
            continue
        assert done == (-signal.SIGKILL, "", "")
        kills += 1
        amid += 0 < job.row < N
    done = job.run("--resume")
    job.check(done._replace(stderr=""), want)
    return kills, amid


@pytest.mark.parametrize("name", JOBS)
def test_a_run_killed_at_random_moments_ends_with_the_same_bytes(job, name):
    kills, amid = kill_at_random(job(name), list(JOBS).index(name), 9)
    assert kills >= 9
    assert amid >= 3


@pytest.mark.slow
@pytest.mark.parametrize("name", JOBS)
def test_a_run_killed_at_very_many_random_moments(job, name):
    kills, amid = kill_at_random(job(name), 100 + list(JOBS).index(name), 150)
    assert kills >= 150
    assert amid >= 50


BROKEN = """
save = fastal.pipeline.checkpoint.Checkpoint.save
def broken(self, reducer, source, row):
    save(self, reducer, source, row + {})
fastal.pipeline.checkpoint.Checkpoint.save = broken
"""
NOT_COUNTED = """
take = fastal.pipeline.drive._take
def late(look, source, chunk):
    held = late.held
    late.held = look, chunk
    if held is not None:
        take(held[0], source, held[1])
late.held = None
fastal.pipeline.drive._take = late
"""


@pytest.mark.parametrize(
    ("name", "code"),
    [
        # A chunk is counted twice. This is not tried with scores, which would only be rewritten.
        ("select", BROKEN.format(-400)),
        ("noise", BROKEN.format(-400)),
        *((name, BROKEN.format(400)) for name in ("select", "quotas", "scores", "text", "ids")),
        *((name, NOT_COUNTED) for name in ("select", "quotas", "scores", "text", "ids")),
    ],
)
def test_a_wrong_checkpoint_changes_the_bytes(job, name, code):
    job = job(name)
    want, _ = job.undisturbed()
    run = job.start(code=code + PAUSED.format(20)).wait_stopped()
    run.kill()
    run.wait()
    assert job.run("--resume").status == 0
    assert job.out.read_bytes() != want


SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]


@pytest.mark.parametrize("name", ["select", "scores", "text"])
@pytest.mark.parametrize(("number", "status"), SIGNALS)
def test_a_signal_saves_the_state(job, name, number, status):
    job = job(name)
    want, _ = job.undisturbed()
    never = "fastal.pipeline.checkpoint._SECONDS = 1000\n"
    run = job.start(code=never + PAUSED.format(20)).wait_stopped()
    run.kill(number)
    run.kill(signal.SIGCONT)
    assert run.wait() == (status, "", f"interrupted by signal {number:d}; continue with --resume\n")
    assert 0 < job.row < N
    assert not job.out.exists()
    job.check(job.run("--resume"), want)


@pytest.mark.parametrize("name", ["select", "scores", "text"])
def test_signals_at_random_moments(job, name):
    job = job(name)
    want, took = job.undisturbed()
    rng = np.random.default_rng(list(JOBS).index(name))
    statuses = []
    for _ in range(12):
        run = job.start("--resume")
        time.sleep(rng.uniform(0, took))
        for _ in range(rng.integers(1, 4)):
            run.kill(rng.choice([signal.SIGINT, signal.SIGTERM]))
            time.sleep(rng.uniform(0, 0.003))
        done = run.wait()
        statuses.append(done.status)
        # Before the command begins, Python or click handle the signal.
        assert done.status in (0, 130, 143, 1, -signal.SIGTERM), done
        said = re.sub(".*partial is gone: starting over\n|\nAborted!", "", done.stderr)
        assert (done.stdout, said.count("\n") <= 1) == ("", True), done
        assert not list(job.folder.glob("*.tmp"))
        assert not list(job.folder.glob("saved/.*"))
        if job.out.exists():
            assert job.out.read_bytes() == want
            job.out.unlink()
    assert {130, 143} & {*statuses}
    assert job.run("--resume").status == 0
    assert job.out.read_bytes() == want


@pytest.mark.parametrize("name", ["select", "scores", "text"])
@pytest.mark.parametrize(("number", "status"), SIGNALS)
def test_without_a_checkpoint_a_signal_leaves_nothing_behind(server, job, name, number, status):
    job = job(name)
    for module, function, at in (
        ("fastal.pipeline.drive", "_take", 20),
        ("fastal.sources", "open_pool", 1),
        ("fastal.output.target", "writable_path", 1),
    ):
        for more in (["--out", job.out], []):
            if not more and job.command[0] == "score" and at > 1:
                continue  # output that was printed cannot be taken back
            code = f"pause({module}, '{function}', {at})"
            run = server.start(*job.command, *more, "--quiet", code=code)
            if function == "writable_path" and not more:
                assert run.wait().status == 0
                continue
            run.wait_stopped().kill(number)
            run.kill(signal.SIGCONT)
            assert run.wait() == (status, "", f"interrupted by signal {number:d}\n")
            assert not list(job.folder.iterdir())


def test_a_signal_does_not_make_a_file_bad(server, job):
    """The signal comes while files are opened, with bad files being skipped."""
    job = job("select")
    code = "import fastal.sources.array_file\npause(fastal.sources.array_file, 'as_tensor', 2)"
    run = server.start(*job.command, "--on-bad-file", "skip", code=code).wait_stopped()
    run.kill(signal.SIGINT)
    run.kill(signal.SIGCONT)
    assert run.wait() == (130, "", "interrupted by signal 2\n")


def test_a_second_signal_ends_the_run_at_once(job):
    job = job("scores")
    want, _ = job.undisturbed()
    # Both come while a chunk is scored: the first signal waits for its end, the second does not.
    run = job.start(code=PAUSED.format(20) + "; import time\nfor n in (2, 15):\n"
                    "    signal.signal(n, signal.SIG_DFL)").wait_stopped()  # fmt: skip
    before = job.checkpoint.read_bytes()
    run.kill(signal.SIGINT)
    run.kill(signal.SIGTERM)
    run.kill(signal.SIGCONT)
    done = run.wait()
    assert (done.status in (130, 143), done.stdout, done.stderr.count("\n")) == (True, "", 1)
    assert job.checkpoint.read_bytes() == before
    assert not list(job.saved.glob(".*"))
    job.check(job.run("--resume"), want)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("commands.uncertainty", "write_picks"),
        ("commands.command", "reported_run"),
        ("output.atomic", "publish"),
    ],
)
@pytest.mark.parametrize("number", [number for number, _ in SIGNALS])
def test_a_signal_during_the_last_write_does_not_interrupt_it(job, module, name, number):
    job = job("select")
    want, _ = job.undisturbed()
    when = "after" if name == "reported_run" else "before"
    at = 53 if name == "publish" else 1  # the earlier calls are those of the checkpoints
    run = job.start(
        code=f"import fastal.{module}\npause(fastal.{module}, '{name}', {at}, '{when}')"
    )
    run.wait_stopped().kill(number)
    run.kill(signal.SIGCONT)
    job.check(run.wait(), want)


def test_ignored_signals_stay_ignored(job):
    job = job("select")
    want, _ = job.undisturbed()
    code = "signal.signal(signal.SIGINT, signal.SIG_IGN)\n" + PAUSED.format(20)
    run = job.start(code=code).wait_stopped()
    run.kill(signal.SIGINT)
    run.kill(signal.SIGCONT)
    job.check(run.wait(), want)
