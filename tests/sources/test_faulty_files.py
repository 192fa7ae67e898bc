"""Disks that fill up, and files of a pool that change while they are read, or cannot be read."""

import json
import os
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

import fastal
from fastal.ops.formulas import UNCERTAINTY_SCORES
from fastal_kernels import native
from tests.support.commands import rows_of, run_shell
from tests.support.forks import CHUNK_BYTES, CLASSES, PAUSED, N, logits_of

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
guarded = pytest.mark.skipif(bool(native.reasons()), reason="not compiled here")


@pytest.fixture
def disk(tmp_path):
    """A small disk, and a function that fills it up."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=600k", "none", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting is not permitted")

    def fill():
        with (folder / "ballast").open("wb", buffering=0) as file:
            for size in (4096, 1):
                with suppress(OSError):
                    while file.write(bytes(size)):
                        pass

    yield folder, fill
    subprocess.run(["umount", "-l", str(folder)], check=True)


def rows_in(path):
    return [int(line["row"]) for line in rows_of(path.read_text())]


def check_full(done, path, words="No space left on device"):
    assert (done.status, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1, done.stderr
    assert f"{words}: '{path}'" in done.stderr


@pytest.mark.parametrize("name", ["select", "ids", "scores", "text"])
def test_a_disk_that_fills_up_with_results(job, disk, name):
    job = job(name)
    folder, fill = disk
    want, _ = job.undisturbed()
    job.out = folder / job.out.name
    pause = (
        PAUSED.format(20)
        if name in ("scores", "text")
        else "pause(fastal.commands.uncertainty, 'write_picks')"
    )
    run = job.start(code=pause).wait_stopped()
    before = job.checkpoint.read_bytes()
    fill()
    run.kill(signal.SIGCONT)
    check_full(run.wait(), job.out)
    assert not job.out.exists()
    assert not list(folder.glob("*.tmp"))
    if name == "select":
        assert job.row == N
        assert job.checkpoint.read_bytes() == before
    (folder / "ballast").unlink()
    assert job.run("--resume") == (0, "", "")
    assert job.out.read_bytes() == want
    assert {path.name for path in folder.iterdir()} == {job.out.name, job.record.name}
    assert not list(job.saved.iterdir())


def test_a_disk_that_fills_up_with_the_record(job, disk):
    job = job("select")
    folder, fill = disk
    want, _ = job.undisturbed()
    job.out = folder / job.out.name
    run = job.start(code="pause(fastal.commands.command, 'versions')").wait_stopped()
    fill()
    run.kill(signal.SIGCONT)
    check_full(run.wait(), job.record)
    assert {path.name for path in folder.iterdir()} == {job.out.name, "ballast"}
    (folder / "ballast").unlink()
    assert job.run("--resume") == (0, "", "")
    assert job.out.read_bytes() == want


@pytest.mark.parametrize("name", ["select", "scores"])
def test_a_disk_that_fills_up_with_checkpoints(job, disk, name):
    job = job(name)
    folder, fill = disk
    want, _ = job.undisturbed()
    job.saved, job.checkpoint = folder, folder / "checkpoint"
    run = job.start(code=PAUSED.format(20)).wait_stopped()
    before = job.checkpoint.read_bytes()
    fill()
    run.kill(signal.SIGCONT)
    check_full(run.wait(), job.checkpoint)
    assert job.checkpoint.read_bytes() == before
    assert {path.name for path in folder.iterdir()} - {"checkpoint.output"} == {
        "checkpoint",
        "ballast",
    }
    (folder / "ballast").unlink()
    assert job.run("--resume") == (0, "", "")
    assert job.out.read_bytes() == want


@pytest.mark.parametrize("name", ["select", "scores", "text"])
def test_outputs_beyond_the_limit_of_file_sizes(job, name):
    job = job(name)
    want, _ = job.undisturbed()
    before = job.killed_after(10)
    is_scored = name in ("scores", "text")
    done = job.run("--resume", file_bytes=100_000 if is_scored else 1000)
    check_full(done, job.out if is_scored else job.checkpoint, "File too large")
    assert is_scored or job.checkpoint.read_bytes() == before
    assert not job.out.exists()
    job.check(job.run("--resume"), want)


def test_a_standard_output_that_is_full(job):
    job = job("select")
    for command in ("select", "score"):
        k = "--k 3" if command == "select" else ""
        done = run_shell(f"{command} {job.command[1]} {k} --quiet > /dev/full")
        assert done.returncode == 2, done
        assert done.stderr.count("\n") == 1, done.stderr
        assert "No space left on device" in done.stderr
        assert "standard output" in done.stderr


# Three files of 4,000 rows each. The second is damaged while its rows 1600 to 1999 are read.
ROWS, AT, FIRST = 4000, 15, 1600


def safetensors(path, rows):
    head = {"x": {"dtype": "F32", "shape": rows.shape, "data_offsets": [0, rows.nbytes]}}
    head = json.dumps(head).encode().ljust(200)
    path.write_bytes(len(head).to_bytes(8, "little") + head + rows.tobytes())


def arrow(path, rows):
    lists = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1])
    write_arrow(path, pa.table({"x": lists}))


def list_arrow(path, rows):
    """Writes lists, whose values the reader uses before they become a chunk."""
    write_arrow(path, pa.table({"x": pa.array(list(rows), pa.list_(pa.float32()))}))


def write_arrow(path, table):
    with pa.ipc.new_file(str(path), table.schema) as file:
        file.write_table(table)


FORMATS = {
    "npy": lambda path, rows: np.save(path, rows),
    "bigendian.npy": lambda path, rows: np.save(path, rows.astype(">f4")),
    "fortran.npy": lambda path, rows: np.save(path, np.asfortranarray(rows)),
    "npz": lambda path, rows: np.savez(path, x=rows),
    "safetensors": safetensors,
    "pt": lambda path, rows: torch.save(torch.from_numpy(rows), path),
    "arrow": arrow,
    "list.arrow": list_arrow,
}


class Broken:
    """A pool, and the correct picks if the second file ends at a row."""

    def __init__(self, server, folder, form):
        self._server = server
        self.folder = folder / "pool"
        self.folder.mkdir()
        # All rows are certain of their class. A row of zeros would be picked first.
        self.logits = 9 * logits_of(5, 3 * ROWS)
        for i in range(3):
            FORMATS[form](self.folder / f"{i}.{form}", self.logits[i * ROWS : (i + 1) * ROWS])
        self.file = self.folder / f"1.{form}"
        self.out = folder / "picks.csv"

    def read(self, *more, damage, at=AT, code=""):
        """A run in which the second file is damaged before chunk number `at` is scored."""
        run = self._server.start(
            *(more or ("select", "--k", 600, "--out", self.out)), self.folder, "--quiet",
            code=code + PAUSED.format(at),
        ).wait_stopped()  # fmt: skip
        damage(self.file)
        run.kill(signal.SIGCONT)
        return run.wait()

    def picks(self, end):
        logits = self.logits.copy()
        logits[ROWS + end : 2 * ROWS] = np.nan
        return fastal.select(logits, 600, on_invalid="skip").rows.tolist()


@pytest.fixture
def broken(server, tmp_path):
    return lambda form="npy": Broken(server, tmp_path, form)


def cut(size):
    return lambda path: os.truncate(path, size)


def rewritten(path):
    with path.open("r+b") as file:
        file.seek(-200_000, os.SEEK_END)
        file.write(np.zeros(50_000, np.float32).tobytes())


WHOLE = 128 + ROWS * 4 * CLASSES
MIDDLE = 128 + (FIRST + 200) * 4 * CLASSES + 10  # amid a row, and amid a page
CUTS = {"all": 0, "bytes": WHOLE - 5, "chunk": MIDDLE, "page": 4096 * 26, "ahead": WHOLE - 60_000}


@guarded
@pytest.mark.parametrize("size", CUTS.values(), ids=CUTS)
def test_a_file_that_is_cut_short_while_it_is_read(broken, size):
    broken = broken()
    done = broken.read(damage=cut(size))
    assert (done.status, done.stdout, done.stderr.count("\n")) == (2, "", 1), done
    assert f"{broken.file}: cut short, or unreadable, while it was being read" in done.stderr
    assert {path.name for path in broken.out.parent.iterdir()} == {"pool"}


@guarded
@pytest.mark.parametrize("on_invalid", ["raise", "skip"])
@pytest.mark.parametrize("size", CUTS.values(), ids=CUTS)
def test_the_rest_of_a_file_that_is_cut_short_is_skipped(broken, size, on_invalid):
    broken = broken()
    options = ("--k", 600, "--on-bad-file", "skip", "--on-invalid", on_invalid)
    done = broken.read("select", *options, "--out", broken.out, damage=cut(size))
    assert (done.status, done.stdout, done.stderr.count("\n")) == (3, "", 1), done
    assert done.stderr.startswith(f"skipped {broken.file} from row {FIRST} on: ")
    record = json.loads(broken.out.with_suffix(".run.json").read_text())
    (skipped,) = record["skipped"]
    assert (skipped["file"], skipped["from_row"]) == (str(broken.file), FIRST)
    assert record["invalid"] == 0
    picked = rows_in(broken.out)
    assert picked == broken.picks(FIRST)


@guarded
@pytest.mark.parametrize("form", FORMATS)
def test_files_of_every_format_that_are_cut_short(broken, form):
    broken = broken(form)
    done = broken.read(damage=cut(MIDDLE))
    assert (done.status, done.stdout, done.stderr.count("\n")) == (2, "", 1), done
    assert str(broken.file) in done.stderr


@guarded
@pytest.mark.parametrize("form", FORMATS)
def test_the_rest_of_files_of_every_format_is_skipped(broken, form):
    broken = broken(form)
    options = ("--k", 600, "--on-bad-file", "skip", "--out", broken.out)
    done = broken.read("select", *options, damage=cut(MIDDLE))
    assert done.status == 3, done
    (skipped,) = json.loads(broken.out.with_suffix(".run.json").read_text())["skipped"]
    assert skipped["from_row"] == FIRST
    picked = rows_in(broken.out)
    assert picked == broken.picks(FIRST)


@pytest.mark.parametrize("policy", ["raise", "skip"])
def test_a_file_that_is_rewritten_while_it_is_read(broken, policy):
    broken = broken()
    options = ("select", "--k", 600, "--on-bad-file", policy, "--out", broken.out)
    done = broken.read(*options, damage=rewritten)
    assert (done.status, done.stdout, done.stderr.count("\n")) == (2, "", 1), done
    assert f"{broken.file}: changed while it was being read" in done.stderr
    assert not broken.out.exists()


def test_a_parquet_file_that_is_rewritten_while_it_is_read(job, pools, tmp_path):
    shutil.copytree(pools / "parquet", tmp_path / "pool")
    job = job("ids")
    job.command[1] = tmp_path / "pool"
    run = job.start(code=PAUSED.format(25)).wait_stopped()
    file = tmp_path / "pool" / "3.parquet"
    shutil.copy(pools / "parquet" / "1.parquet", file)
    os.truncate(file, (pools / "parquet" / "3.parquet").stat().st_size)
    run.kill(signal.SIGCONT)
    done = run.wait()
    assert (done.status, done.stdout, done.stderr.count("\n")) == (2, "", 1), done
    assert f"{file}: " in done.stderr
    assert not job.out.exists()


def test_a_file_that_is_removed_while_it_is_read(broken):
    broken = broken()
    for policy, status in (("raise", 2), ("skip", 3)):
        options = ("--k", 600, "--on-bad-file", policy, "--out", broken.out)
        done = broken.read("select", *options, damage=Path.unlink)
        assert (done.status, done.stdout, done.stderr.count("\n")) == (status, "", 1), done
        assert str(broken.file) in done.stderr
        assert broken.out.exists() == (policy == "skip")
        np.save(broken.file, broken.logits[ROWS : 2 * ROWS])
    assert rows_in(broken.out) == broken.picks(FIRST)


@pytest.mark.parametrize("policy", ["raise", "skip"])
def test_a_file_that_is_cut_short_or_removed_before_it_is_read(broken, policy):
    broken = broken()
    for damage in (cut(MIDDLE), Path.unlink):
        options = ("select", "--k", 600, "--on-bad-file", policy, "--out", broken.out)
        done = broken.read(*options, damage=damage, at=2)
        if policy == "raise":
            assert (done.status, done.stdout, done.stderr.count("\n")) == (2, "", 1), done
            assert str(broken.file) in done.stderr
            np.save(broken.file, broken.logits[ROWS : 2 * ROWS])
            continue
        assert done.status == 3
        picked = rows_in(broken.out)
        assert picked == broken.picks(0)
        np.save(broken.file, broken.logits[ROWS : 2 * ROWS])


@guarded
@pytest.mark.parametrize("suffix", ["npy", "csv"])
def test_scores_of_a_file_that_is_cut_short_are_nan(broken, tmp_path, suffix):
    broken = broken()
    out = tmp_path / f"scores.{suffix}"
    done = broken.read("score", "--on-bad-file", "skip", "--out", out, damage=cut(MIDDLE))
    assert done.status == 3, done
    table = np.load(out) if suffix == "npy" else np.genfromtxt(out, delimiter=",", names=True)
    assert len(table) == 3 * ROWS
    want = fastal.score(broken.logits)
    lost = slice(ROWS + FIRST, 2 * ROWS)
    for name in UNCERTAINTY_SCORES:
        assert np.isnan(table[name][lost]).all()
        rest = np.delete(getattr(want, name), np.r_[lost])
        np.testing.assert_array_equal(np.delete(table[name], np.r_[lost]).astype("f4"), rest)


@guarded
def test_a_skipped_file_stays_skipped_in_a_resumed_run(broken, server, tmp_path):
    """The file vanished and came back. No row after the loss may be picked."""
    broken = broken()
    whole = broken.file.read_bytes()
    stat = broken.file.stat()
    options = ("select", broken.folder, "--k", 600, "--on-bad-file", "skip", "--out", broken.out,
               "--checkpoint", tmp_path / "saved", "--quiet")  # fmt: skip
    # As on a file system whose status has no other times.
    code = (
        "from fastal.sources.location import Location\nstamp = Location.stamp\n"
        "Location.stamp = lambda file: [*stamp(file)[:2], '']\n"
    )
    pauses = PAUSED.format(AT) + "\npause(fastal.pipeline.drive, '_take', 16)\n"
    run = server.start(*options, code=code + pauses).wait_stopped()
    os.truncate(broken.file, MIDDLE)
    run.kill(signal.SIGCONT)
    run.wait_stopped().kill()
    run.wait()
    broken.file.write_bytes(whole)
    os.utime(broken.file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    done = server.run(*options, "--resume", code=code)
    assert done.status == 3, done
    picked = rows_in(broken.out)
    assert picked == broken.picks(FIRST)


@guarded
@pytest.mark.parametrize("form", ["npz", "npz of bytes", "manifest"])
def test_columns_of_groups_that_are_cut_short(server, tmp_path, form):
    logits, groups = logits_of(5, ROWS), np.arange(ROWS) % 3
    if form == "npz of bytes":
        form, groups = "npz", groups.astype("S9")
    if form == "npz":
        pool = file = tmp_path / "pool.npz"
        np.savez(file, x=logits, g=groups)
        start = file.read_bytes().index(b"g.npy") + 200
    else:
        np.save(tmp_path / "x.npy", logits)
        np.save(file := tmp_path / "g.npy", groups)
        entry = {"path": "x.npy", "columns": {"g": "g.npy"}}
        pool = tmp_path / "manifest.json"
        pool.write_text(json.dumps({"files": [entry], "group_column": "g"}))
        start = 200
    options = (pool, "--per-group", 20, "--quiet", "--column", *(["x"] if form == "npz" else []))
    options = options if form == "npz" else options[:-1]
    group = ["--group-column", "g"] if form == "npz" else []
    run = server.start("select", *options, *group, code=PAUSED.format(4)).wait_stopped()
    os.truncate(file, start)
    run.kill(signal.SIGCONT)
    done = run.wait()
    assert (done.status, done.stdout, done.stderr.count("\n")) == (2, "", 1), done
    assert str(tmp_path) in done.stderr


def test_files_that_are_bad_before_the_run(server, tmp_path):
    logits = logits_of(5, 3000)
    pool, out = tmp_path / "pool", tmp_path / "picks.csv"
    pool.mkdir()
    np.save(pool / "a.npy", logits[:1000])
    np.save(pool / "c.npy", logits[1000:])
    bad = {"b": "short", "d": "other", "e": "text"}
    np.save(pool / "b.npy", logits)
    os.truncate(pool / "b.npy", 5000)
    np.save(pool / "d.npy", logits[:, :5])
    (pool / "e.npy").write_text("no array")
    done = server.run("select", pool, "--k", 50, "--out", out, "--quiet")
    assert done.status == 2
    options = ("--on-bad-file", "skip", "--out", out, "--quiet")
    done = server.run("select", pool, "--k", 50, *options)
    assert (done.status, done.stdout, done.stderr.count("\n")) == (3, "", 3), done
    record = json.loads(out.with_suffix(".run.json").read_text())
    assert {s["file"] for s in record["skipped"]} == {str(pool / f"{name}.npy") for name in bad}
    assert all(str(pool / f"{name}.npy") in done.stderr for name in bad)
    assert [(f["file"], f["first_row"]) for f in record["pool"]] == [
        (str(pool / "a.npy"), 0), (str(pool / "c.npy"), 1000),
    ]  # fmt: skip
    picked = rows_in(out)
    assert picked == fastal.select(logits, 50).rows.tolist()
    for name in "ac":
        (pool / f"{name}.npy").write_text("no array")
    out.unlink()
    (pool / "d.npy").unlink()
    done = server.run("select", pool, "--k", 50, *options)
    assert (done.status, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "none of its files can be read" in done.stderr
    assert not out.exists()


assert CHUNK_BYTES == 400 * 4 * CLASSES  # the row numbers above assume it
