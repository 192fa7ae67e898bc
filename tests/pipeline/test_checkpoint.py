"""Which checkpoints are resumed, which are refused, and folders that changed in between."""

import functools
import os
import re
import shutil
import signal
import subprocess

import numpy as np
import pytest

import fastal
from tests.support.commands import run_process
from tests.support.forks import PAUSED, N, logits_of


def refused(job, before, *more, words, command=None, cwd=None):
    """Checks for one line with the words, status 2, and an unchanged checkpoint."""
    if command is not None:
        job.command = command
    done = job.run(*more, cwd=cwd)
    assert (done.status, done.stdout) == (2, ""), done
    assert done.stderr.count("\n") == 1, done.stderr
    assert re.search(words, done.stderr), done.stderr
    assert job.checkpoint.read_bytes() == before
    assert not job.out.exists()
    return done


def test_damaged_checkpoints_are_refused(job):
    job = job("select")
    good = job.killed_after(20)
    rng = np.random.default_rng(0)
    places = {0, 25, len(good) - 1, good.index(b"\n"), *rng.integers(0, len(good), 12).tolist()}
    flipped = [bytearray(good) for _ in places]
    for damaged, place in zip(flipped, places, strict=True):
        damaged[place] ^= 1 << int(rng.integers(8))
    for damaged in (b"", good[:-1], good[: len(good) // 2], good[:60], b"other\n", good + b"\0",
                    *map(bytes, flipped)):  # fmt: skip
        job.checkpoint.write_bytes(damaged)
        refused(job, damaged, "--resume", words="checkpoint is damaged; remove it to start over")
    other = b"fastal checkpoint 1 " + good[20:]
    job.checkpoint.write_bytes(other)
    refused(job, other, "--resume", words="checkpoint was saved by another version of fastal")
    job.checkpoint.unlink()
    job.checkpoint.mkdir()
    done = job.run("--resume")
    assert done.status == 2
    assert str(job.checkpoint) in done.stderr
    assert done.stderr.count("\n") == 1
    job.checkpoint.rmdir()
    job.checkpoint.write_bytes(good)
    assert job.run("--resume").status == 0


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--k", 501], "--k is 500 there, 501 in this run"),
        (["--by", "ratio"], "--by is 'margin' there, 'ratio' in this run"),
        (["--kind", "log_probs"], "--kind is 'logits' there, 'log_probs' in this run"),
        (["--on-invalid", "skip"], "--on-invalid is 'raise' there, 'skip' in this run"),
        (["--noise", "power"], "--noise is None there, 'power' in this run"),
        (["--per-group", 9, "--groups", "predicted"], "--per-group is None there, 9 in this run"),
        (["--backend", "torch"], "--backend is 'auto' there, 'torch' in this run"),
        (["--column", "x"], r"columns are \[\[\], .* there, \[\['x'\]"),
        (["--id-column", "x"], r"columns .*None, .* there, .*'x'"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_checkpoint_with_other_arguments_is_refused(job, tmp_path, more, words):
    job = job("select")
    archive = tmp_path / "pool.npz"
    np.savez(archive, x=logits_of(), y=np.arange(N))
    job.command = ["select", archive, "--k", 500]
    if "--id-column" in more:
        (pool := tmp_path / "one.npz").write_bytes(b"")
        np.savez(pool, x=np.arange(N), y=logits_of())
        job.command = ["select", pool, "--k", 500]
    refused(job, job.killed_after(20), "--resume", *more, words=words)


def test_a_checkpoint_of_another_command_seed_or_out_is_refused(job, tmp_path):
    noisy = job("noise")
    before = noisy.killed_after(20)
    refused(noisy, before, "--resume", "--seed", 4, words="--seed is 3 there, 4 in this run")
    refused(noisy, before, "--resume", "--beta", 2, words="--beta is 1.0 there, 2.0 in this run")
    command = ["score", noisy.command[1]]
    refused(
        noisy,
        before,
        "--resume",
        words="command is 'select' there, 'score' in this run",
        command=command,
    )
    code = "fastal.pipeline.checkpoint.__version__ = '0'"
    assert "fastal is '0.1.0' there, '0' in this run" in noisy.run("--resume", code=code).stderr
    noisy.checkpoint.unlink()
    scores = job("scores")
    before = scores.killed_after(20)
    scores.out = tmp_path / "elsewhere.npy"
    refused(
        scores,
        before,
        "--resume",
        words="--out is '.*out.npy' there, '.*elsewhere.npy' in this run",
    )


def renamed(folder):
    (folder / "1.npy").rename(folder / "9.npy")


def other_time(folder):
    stat = (folder / "1.npy").stat()
    os.utime(folder / "1.npy", ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: np.save(folder / "1.npy", logits_of(1, 7000)), "1.npy has .* there, has"),
        (lambda folder: np.save(folder / "1.npy", logits_of(1, 6999)), "1.npy has .* there, has"),
        (lambda folder: np.save(folder / "7.npy", logits_of(1, 5)), "7.npy is missing there, has"),
        (lambda folder: (folder / "3.npy").unlink(), "3.npy has .* there, is missing in this run"),
        (other_time, r"1.npy has 448,128 bytes and the time (\S+) there, .* the time (?!\1)"),
        (renamed, "1.npy has .* there, is missing in this run"),
    ],
    ids=["content", "size", "more", "less", "time", "order"],
)
def test_a_checkpoint_of_other_files_is_refused(job, pools, tmp_path, change, words):
    job = job("select")
    shutil.copytree(pools / "npy", tmp_path / "pool")
    job.command[1] = tmp_path / "pool"
    before = job.killed_after(20)
    change(tmp_path / "pool")
    refused(job, before, "--resume", words=words)


def test_a_checkpoint_is_resumed_only_on_request(job):
    job = job("select")
    want, _ = job.undisturbed()
    refused(job, job.killed_after(20), words="holds one already: resume it, or remove")
    job.check(job.run("--resume"), want)
    job.out.unlink()
    job.check(job.run("--resume"), want)  # there is no checkpoint, so it starts from the first row
    assert fastal.select(str(job.command[1]), 500).rows.tolist() == [
        int(line.split(",")[1]) for line in want.decode().splitlines()[1:]
    ]


def test_two_runs_cannot_use_one_folder(job, tmp_path):
    job = job("scores")
    want, _ = job.undisturbed()
    first = job.start(code=PAUSED.format(20)).wait_stopped()
    before = job.checkpoint.read_bytes()
    for more in (["--resume"], []):
        refused(job, before, *more, words=f"another run uses {job.saved}")
    done = job.run("--checkpoint", tmp_path / "other")
    assert (done.status, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert f".{job.out.name}.partial: another run is writing it" in done.stderr
    (tmp_path / "other").rmdir()
    first.kill(signal.SIGCONT)
    job.check(first.wait(), want)


def test_resuming_from_another_working_folder(job, pools):
    job = job("select")
    want, _ = job.undisturbed()
    job.command[1] = "npy"
    before = job.killed_after(20, cwd=pools)
    done = job.run("--resume", cwd=job.folder)
    assert (done.status, "npy" in done.stderr) == (2, True)
    (job.folder / "npy").mkdir()
    np.save(job.folder / "npy" / "0.npy", logits_of())
    refused(
        job,
        before,
        "--resume",
        cwd=job.folder,
        words="0.npy is missing there, has|is missing in this run",
    )
    shutil.rmtree(job.folder / "npy")
    job.command[1] = "../npy/"
    job.check(job.run("--resume", cwd=pools / "parquet"), want)


def test_a_pool_behind_a_link(job, pools, tmp_path):
    job = job("select")
    link = tmp_path / "link"
    link.symlink_to(pools / "npy")
    want, _ = job.undisturbed()
    job.command[1] = link
    before = job.killed_after(20)
    link.unlink()
    link.symlink_to(shutil.copytree(pools / "npy", tmp_path / "copy", copy_function=shutil.copy))
    refused(job, before, "--resume", words="npy has .* there")
    link.unlink()
    link.symlink_to(pools / "npy")
    assert job.run("--resume").status == 0
    assert job.out.read_bytes() == want


def test_pools_with_fewer_rows_than_picks(job, tmp_path):
    job = job("select")
    np.save(tmp_path / "small.npy", logits_of(0, 0))
    job.command = ["select", tmp_path / "small.npy", "--k", 5000]
    assert job.run() == (0, "", "nothing was picked: there are no rows\n")
    assert (job.out.read_bytes(), list(job.saved.iterdir())) == (b"rank,row,score\n", [])
    for n in (1, 1000):
        np.save(tmp_path / "small.npy", logits_of(0, n))
        job.command = ["select", tmp_path / "small.npy", "--k", 5000]
        want, _ = job.undisturbed()
        assert want.count(b"\n") == n + 1
        if n == 1000:
            run = job.start(code=PAUSED.format(2)).wait_stopped()
            run.kill()
            run.wait()
        assert job.run("--resume") == (0, "", "")
        assert job.out.read_bytes() == want
        assert not list(job.saved.iterdir())


@pytest.mark.parametrize(
    ("name", "owner", "function"),
    [
        ("select", "selection.selector.Selector", "result"),
        ("quotas", "selection.stratified.StratifiedSelector", "result"),
        ("scores", "output.score_files.NpySink", "finish"),
        ("text", "output.score_files.CsvSink", "finish"),
    ],
)
def test_a_run_killed_after_the_last_row_is_resumed(job, name, owner, function):
    job = job(name)
    want, _ = job.undisturbed()
    module = owner.rpartition(".")[0]
    code = f"import fastal.{module}\npause(fastal.{owner}, '{function}')"
    run = job.start(code=code).wait_stopped()
    run.kill()
    run.wait()
    assert job.row == N
    job.check(job.run("--resume"), want)


def test_checkpoint_folders_that_cannot_be_used(job, tmp_path):
    job = job("select")
    job.saved.write_text("a file")
    done = job.run()
    assert (done.status, done.stdout) == (2, "")
    assert f"'{job.saved}' is a file" in done.stderr
    with pytest.raises(FileExistsError, match="saved"):
        fastal.select(str(job.command[1]), 5, checkpoint=job.saved)
    job.saved.unlink()
    job.saved = tmp_path / "disk"
    job.saved.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "none", str(job.saved)]).returncode:
        pytest.skip("mounting is not permitted")
    try:
        done = job.run()  # the error comes at the start, not with the first save
        assert done == (2, "", f"Error: --checkpoint: {job.saved} cannot be written to\n")
        job.out = job.saved / "out.csv"
        job.saved = tmp_path / "saved"
        assert job.run() == (2, "", f"Error: {job.out.parent}: cannot be written to\n")
    finally:
        subprocess.run(["umount", "-l", str(tmp_path / "disk")], check=True)


@pytest.mark.parametrize("name", ["select", "scores"])
def test_resuming_without_the_folder_of_the_output(job, tmp_path, name):
    job = job(name)
    want, _ = job.undisturbed()
    (tmp_path / "results").mkdir()
    job.out = tmp_path / "results" / job.out.name
    before = job.killed_after(20)
    shutil.rmtree(tmp_path / "results")
    refused(job, before, "--resume", words="results: no such folder")
    (tmp_path / "results").mkdir()
    assert job.run("--resume").status == 0
    assert job.out.read_bytes() == want


@pytest.mark.parametrize("name", ["scores", "text"])
def test_resuming_without_the_scores_so_far_starts_over(job, name):
    job = job(name)
    want, _ = job.undisturbed()
    job.killed_after(20)
    partial = job.folder / f".{job.out.name}.partial"
    partial.unlink()
    gone = f"{partial} is gone: starting over\n"
    run = job.start("--resume", code=PAUSED.format(1)).wait_stopped()
    run.kill()  # before the first new save
    assert run.wait() == (-signal.SIGKILL, "", gone)
    job.check(job.run("--resume"), want)


@pytest.mark.parametrize("name", ["scores", "text"])
def test_resuming_with_other_scores_is_refused(job, name):
    job = job(name)
    want, _ = job.undisturbed()
    before = job.killed_after(20)
    partial = job.folder / f".{job.out.name}.partial"
    scores = partial.read_bytes()
    flipped = bytearray(scores)
    flipped[len(scores) // 2] ^= 1
    for other in (b"", scores[: len(scores) // 2], bytes(len(scores)), bytes(flipped)):
        partial.write_bytes(other)
        refused(job, before, "--resume", words="not the scores that the checkpoint was saved with")
    partial.write_bytes(scores + b"more")
    job.check(job.run("--resume"), want)


def test_a_run_that_fails_before_its_first_save_leaves_no_scores(job, tmp_path):
    job = job("scores")
    logits = logits_of()
    logits[5] = np.nan
    np.save(tmp_path / "bad.npy", logits)
    job.command[1] = tmp_path / "bad.npy"
    done = job.run()
    assert (done.status, "row 5" in done.stderr) == (2, True)
    assert {path.name for path in tmp_path.iterdir()} == {"bad.npy", "saved"}


def test_a_wall_clock_that_jumps_changes_nothing(job):
    job = job("select")
    want, _ = job.undisturbed()
    code = "import time, random\ntime.time = lambda: random.uniform(-1e9, 1e9)\n"
    job.killed_after(20)
    job.check(job.run("--resume", code=code), want)


def test_checkpoints_from_python(pools, tmp_path):
    """A callable is identified by its name, also in another process; groups belong to the pool."""
    pool, saved = str(pools / "npy"), tmp_path / "saved"
    want = fastal.select(pool, 50, half)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fastal.pipeline.checkpoint._SECONDS", 0)
        patch.setattr("fastal.pipeline.checkpoint._PAUSE", 0)
        with pytest.raises(ZeroDivisionError):
            fastal.select(pool, 50, stopping(), checkpoint=saved, chunk_bytes=25_600)
        assert (saved / "checkpoint").exists()
        picks = fastal.select(pool, 50, stopping(), checkpoint=saved, resume=True)
        assert picks.rows.tolist() == want.rows.tolist()
        assert not list(saved.iterdir())
        groups = np.arange(N) % 7
        options = {"per_group": 5, "checkpoint": saved}
        with pytest.raises(ZeroDivisionError):
            fastal.select(pool, None, stopping(), groups=groups, chunk_bytes=25_600, **options)
        with pytest.raises(ValueError, match=r"of another run: columns .*groups"):
            fastal.select(pool, None, stopping(), groups=groups[::-1], resume=True, **options)
        picks = fastal.select(pool, None, stopping(), groups=groups, resume=True, **options)
        assert (
            picks.rows.tolist()
            == fastal.select(pool, by=half, groups=groups, per_group=5).rows.tolist()
        )
    with pytest.raises(ValueError, match="wanted checkpoint"):
        fastal.select(pool, 50, resume=True)
    for by in (lambda x: x, functools.partial(half), print_to(1)):
        with pytest.raises(ValueError, match="by is a lambda, a closure or an object"):
            fastal.select(pool, 50, by, checkpoint=saved)
    with pytest.raises(ValueError, match="only a pool of files"):
        fastal.select(logits_of(), 50, checkpoint=saved)


def print_to(n):
    def inner(x):
        return x[:, n]

    return inner


def half(x):
    return x[:, 0] / 2


def stops(x):
    """A function with the name of `half`, which fails after `left` calls."""
    stops.left -= 1
    return half(x) if stops.left else 1 / 0


def stopping():
    stops.left = 20
    return stops


@pytest.mark.parametrize("damage", [lambda path: os.truncate(path, 1000), os.utime])
def test_ids_that_cannot_be_read_keep_the_checkpoint(job, pools, tmp_path, damage):
    shutil.copytree(pools / "parquet", tmp_path / "pool")
    job = job("ids")
    job.command[1] = tmp_path / "pool"
    run = job.start(
        code="pause(fastal.commands.command, 'reported_run', 1, 'after')"
    ).wait_stopped()
    damage(tmp_path / "pool" / "3.parquet")
    run.kill(signal.SIGCONT)
    done = run.wait()
    assert (done.status, done.stdout, done.stderr.count("\n")) == (2, "", 1), done
    assert "3.parquet" in done.stderr
    assert job.row == N
    assert not job.out.exists()


def test_resuming_in_a_new_process(job):
    """A new process, unlike a forked one, also imports fastal."""
    job = job("select")
    want, _ = job.undisturbed()
    job.killed_after(20)
    done = run_process(*job.arguments("--resume", "--quiet"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert job.out.read_bytes() == want
