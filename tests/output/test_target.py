"""A command never overwrites a file that it reads or did not write, and says so at the start."""

import hashlib
import json
import os
import resource
import shutil

import h5py
import numpy as np
import pytest
import zarr
from click.testing import CliRunner

import fastal
from fastal.base.errors import Interrupted
from fastal.cli import main
from fastal.commands.command import CommandRun
from fastal.output import atomic as outputs
from fastal.output.score_files import ScoreWriter
from fastal.pipeline import checkpoint

N = 1000


def run(*arguments):
    return CliRunner().invoke(main, list(map(str, arguments)))


def refused(done, *words):
    """Checks for one line with the words, and status 2."""
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.output
    for word in words:
        assert word in done.stderr, done.stderr


@pytest.fixture
def x():
    return np.random.default_rng(0).standard_normal((N, 6)).astype(np.float32)


@pytest.fixture
def pool(tmp_path, x):
    np.save(tmp_path / "pool.npy", x)
    return tmp_path / "pool.npy"


@pytest.fixture
def shards(tmp_path, x):
    """A folder of shards with ids and groups."""
    ids = np.array([f"i{i}" for i in range(N)])
    np.savez(tmp_path / "pool.npz", x=x, id=ids, g=np.arange(N) % 3)
    columns = ("--column", "x", "--id-column", "id", "--group-column", "g")
    done = run("convert", tmp_path / "pool.npz", *columns, "--out", tmp_path / "shards")
    assert done.exit_code == 0, done.output
    return tmp_path / "shards"


def contents(folder):
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and not p.is_symlink()}


def commands_with_pools(pool, other):
    """All commands that write a file of picks, each with the other pool that it reads."""
    return (
        ["select", pool, "--k", 5],
        ["cluster", pool, "--centroids", other],
        ["outliers", pool, "--k", 5, "--validation", other],
        ["outliers", pool, "--k", 5, "--centroids", other],
        ["represent", pool, "--k", 5, "--training", other],
        ["core-set", pool, "--k", 5, "--labelled", other],
        ["deduplicate", pool, "--centroids", other],
    )


@pytest.mark.parametrize("link", [None, os.symlink, os.link])
@pytest.mark.parametrize("part", ["manifest.json", "ids/part-00000.npy", "groups/part-00000.npy"])
def test_no_file_of_the_pool_is_overwritten(tmp_path, shards, part, link):
    read = shards / part
    before = contents(shards)
    if link is None:
        outs = [read]
    else:
        outs = [tmp_path / "out.json", tmp_path / "out.npy"]
        for out in outs:
            link(read, out)
    for out in outs:
        command = ["score", shards] if out.suffix == ".npy" else ["select", shards, "--k", 5]
        refused(run(*command, "--out", out), "--out", "is a file of the pool")
        assert contents(shards) == before


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_the_record_replaces_no_file_that_is_read(tmp_path, pool, x, link):
    np.save(tmp_path / "other.npy", x[:9])
    for read in (pool, tmp_path / "other.npy"):
        link(read, tmp_path / "picks.run.json")
        before = read.read_bytes()
        for command in commands_with_pools(pool, tmp_path / "other.npy"):
            if read == pool or command[0] != "select":
                done = run(*command, "--out", tmp_path / "picks.csv")
                words = "picks.run.json is a file of the pool"
                refused(done, words if read == pool else "files to read")
        assert read.read_bytes() == before
        (tmp_path / "picks.run.json").unlink()


def test_nothing_is_written_into_a_folder_that_is_read(tmp_path, x):
    zarr.save_array(str(tmp_path / "pool.zarr"), x)
    before = contents(tmp_path / "pool.zarr")
    for out in ("picks.csv", "c/picks.csv"):
        command = [
            "select",
            tmp_path / "pool.zarr",
            "--k",
            5,
            "--out",
            tmp_path / "pool.zarr" / out,
        ]
        refused(run(*command), "--out")
    refused(run("convert", tmp_path / "pool.zarr", "--out", tmp_path / "pool.zarr" / "o"), "--out")
    saved = ("--checkpoint", tmp_path / "pool.zarr", "--out", tmp_path / "picks.csv")
    refused(run("select", tmp_path / "pool.zarr", "--k", 5, *saved), "--checkpoint")
    assert contents(tmp_path / "pool.zarr") == before


def test_an_output_that_becomes_a_link_to_the_pool_is_refused(tmp_path, pool, monkeypatch):
    """The output becomes a link to the pool while the pool is read."""
    before = pool.read_bytes()
    runs = CommandRun.run

    def linked(self, *args, **kwargs):
        found = runs(self, *args, **kwargs)
        for name in ("picks.csv", "scores.npy"):
            (tmp_path / name).symlink_to(pool)
        return found

    monkeypatch.setattr(CommandRun, "run", linked)
    refused(run("select", pool, "--k", 5, "--out", tmp_path / "picks.csv"), "file of the pool")
    for name in ("picks.csv", "scores.npy"):
        (tmp_path / name).unlink()
    refused(run("score", pool, "--out", tmp_path / "scores.npy"), "file of the pool")
    assert pool.read_bytes() == before


def test_picks_are_not_converted_onto_themselves(tmp_path, pool):
    picks = tmp_path / "picks.csv"
    assert run("select", pool, "--k", 5, "--out", picks).exit_code == 0
    before = picks.read_bytes()
    os.link(picks, tmp_path / "other.jsonl")
    for out in (picks, tmp_path / "other.jsonl"):
        refused(run("convert", picks, "--out", out), "is the file to read")
    assert picks.read_bytes() == before


def foreign(place, precious, how):
    if how == "folder":
        place.mkdir()
        os.link(precious, place / "precious")
    elif how == "copy":
        shutil.copy(precious, place)
    else:
        {"link": os.symlink, "hard link": os.link}[how](precious, place)


@pytest.mark.parametrize("how", ["link", "hard link", "folder", "copy"])
@pytest.mark.parametrize("command", ["score", "convert"])
def test_a_foreign_file_with_the_name_of_the_unfinished_output_is_kept(
    tmp_path, pool, command, how
):
    (precious := tmp_path / "precious").write_text("precious")
    out = tmp_path / ("out.npy" if command == "score" else "out")
    place = out.with_name(f".{out.name}.partial")
    foreign(place, precious, how)
    before = contents(tmp_path)
    saved = ("--checkpoint", tmp_path / "saved")
    for more in (saved, (*saved, "--resume")):
        refused(run(command, pool, "--out", out, *more), f"{place}: exists already")
    shutil.rmtree(tmp_path / "saved")
    assert contents(tmp_path) == before
    assert (
        run(command, pool, "--out", out).exit_code == 0
    )  # without a checkpoint, the unfinished output has a random name
    assert before.items() <= contents(tmp_path).items()


def test_an_unfinished_output_with_other_content_is_kept(tmp_path, pool, monkeypatch):
    """A file with other bytes is refused. A copy with the same bytes is used."""
    monkeypatch.setattr(checkpoint, "_SECONDS", 0.0)
    monkeypatch.setattr(checkpoint, "_PAUSE", 0)
    command = ("score", pool, "--out", tmp_path / "o.npy", "--checkpoint", tmp_path / "saved")
    look = ScoreWriter.look

    def interrupted(self, chunk, start, **more):
        if start:
            raise Interrupted(15)
        return look(self, chunk, start, **more)

    monkeypatch.setattr(ScoreWriter, "look", interrupted)
    monkeypatch.setattr("fastal.pipeline.drive.chunk_rows_of", lambda *_: 100)
    assert run(*command).exit_code == 143
    monkeypatch.setattr(ScoreWriter, "look", look)
    partial = tmp_path / ".o.npy.partial"
    before = partial.read_bytes()
    (tmp_path / "other").write_bytes(bytes(len(before)))
    (tmp_path / "other").replace(partial)
    refused(run(*command, "--resume", "--quiet"), f"{partial}: not the scores that the checkpoint")
    assert partial.read_bytes() == bytes(len(before))
    (tmp_path / "copy").write_bytes(before)  # on another machine, it would have another inode, too
    (tmp_path / "copy").replace(partial)
    assert run(*command, "--resume").exit_code == 0


def test_a_foreign_record_that_appears_during_the_run_is_kept(tmp_path, pool, monkeypatch):
    runs = CommandRun.run

    def with_a_record(self, *args, **kwargs):
        (tmp_path / "picks.run.json").write_text("{}")
        return runs(self, *args, **kwargs)

    monkeypatch.setattr(CommandRun, "run", with_a_record)
    done = run("select", pool, "--k", 5, "--out", tmp_path / "picks.csv")
    assert (done.exit_code, "no record was written: --out: " in done.stderr) == (0, True)
    assert (tmp_path / "picks.csv").read_bytes().count(b"\n") == 6
    assert (tmp_path / "picks.run.json").read_text() == "{}"


def test_files_that_killed_runs_left_are_removed(tmp_path):
    out = tmp_path / "out.csv"
    path, opened = outputs._made(out, outputs._new_file, [])
    folder, held = outputs.new_folder(out)
    (folder / "part").write_text("rows")
    token = path.name.split("-")[1]
    kept = {
        path.name.replace(token, "0" * 16), ".fastal-precious", f"{path.name}.txt",
        outputs._temporary_name(tmp_path / "other.csv", token),
    }  # fmt: skip
    for name in kept:
        (tmp_path / name).write_text("precious")
    (link := tmp_path / outputs._temporary_name(out, "1" * 16)).symlink_to(
        tmp_path / ".fastal-precious"
    )

    def left():
        with outputs.written_whole(out) as file:
            file.write(b"picks")
        return {p.name for p in tmp_path.iterdir()} - kept - {out.name, link.name}

    assert left() == {path.name, folder.name}  # they are locked
    for file in (opened, held):
        os.close(file)
    assert left() == set()
    assert all((tmp_path / name).read_text() == "precious" for name in kept)
    assert link.is_symlink()


def test_runs_into_one_folder_keep_their_records(tmp_path, pool, x):
    np.save(tmp_path / "more.npy", x[:9])
    runs = (("a.csv", "pool.npy", N), ("b.jsonl", "pool.npy", N), ("c.csv", "more.npy", 9))
    for out, file, n in runs:
        assert run("select", tmp_path / file, "--k", 5, "--out", tmp_path / out).exit_code == 0
        assert json.loads((tmp_path / f"{out[0]}.run.json").read_text())["pool_rows"] == n
    names = [json.loads((tmp_path / f"{of}.run.json").read_text())["out"] for of in "abc"]
    assert names == [str(tmp_path / out) for out in ("a.csv", "b.jsonl", "c.csv")]


def test_the_record_identifies_the_pool(tmp_path, pool, x):
    """A later run must be able to say whether it has the same pool."""

    def digest(*options):
        out = ("--k", 5, "--out", tmp_path / "a.csv")
        assert run("select", pool, *out, *options).exit_code == 0
        return json.loads((tmp_path / "a.run.json").read_text())["pool_fingerprint"]

    *_, files = fastal.open_pool(pool).fingerprint()
    first = digest()
    assert first == hashlib.sha256(json.dumps(files).encode()).hexdigest()[:16]
    assert first == digest()
    assert first == digest("--per-group", 2, "--groups", "predicted")
    np.save(pool, x[::-1])
    assert first != digest()


def test_a_record_of_another_tool_is_not_replaced(tmp_path, pool):
    (tmp_path / "picks.run.json").write_text('{"lr": 0.1}')
    out = ("--out", tmp_path / "picks.csv")
    refused(run("select", pool, "--k", 5, *out), "picks.run.json", "move it away")
    assert (tmp_path / "picks.run.json").read_text() == '{"lr": 0.1}'
    (tmp_path / "picks.run.json").unlink()
    for _ in range(2):
        assert run("select", pool, "--k", 5, *out).exit_code == 0


@pytest.mark.parametrize(
    ("command", "prepare", "words"),
    [
        (["select", "pool.npy", "--k", 5, "--out", "o.csv"], "mkdir o.run.json", "not a regular"),
        (["score", "pool.npy", "--out", "o.csv"], "mkdir o.run.json", "not a regular file"),
        (["convert", "pool.npy", "--out", "o"], "link o", "is a broken link"),
        (["convert", "pool.npy", "--out", "o/p"], "", "no such folder"),
        (["cluster", "pool.npy", "--clusters", 3, "--save", "o.npz"], "mkdir o.npz", "not a regul"),
        (["cluster", "pool.npy", "--clusters", 3, "--save", "pool.npz"], "link-pool pool.npz",
         "--save: pool.npz is a file of the pool"),
        (["cluster", "pool.npy", "--clusters", 3, "--save", "o.npz", "--out", "link.csv"],
         "link-save link.csv", "--save: o.npz is where the picks go"),
        (["select", "pool.npy", "--k", 5, "--out", "o.parquet"], "no pyarrow", "pyarrow"),
        (["select", "pool.npy", "--k", 5, "--out", "link.csv"], "link-run link.csv",
         "another file than link.run.json"),
    ],
)  # fmt: skip
def test_bad_outputs_are_refused_at_the_start(tmp_path, pool, monkeypatch, command, prepare, words):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(CommandRun, "run", lambda *_, **__: pytest.fail("the pool was read"))
    what, _, name = prepare.partition(" ")
    if what == "mkdir":
        (tmp_path / name).mkdir()
    elif what.startswith("link"):
        to = {
            "link": "nowhere",
            "link-pool": pool.name,
            "link-run": "link.run.json",
            "link-save": "o.npz",
        }[what]
        (tmp_path / name).symlink_to(to)
    elif what == "no":
        monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    before = {p.name for p in tmp_path.iterdir()}
    refused(run(*command), words)
    assert {p.name for p in tmp_path.iterdir()} == before


def test_a_resumed_conversion_verifies_its_shards(tmp_path, pool, monkeypatch):
    """Shards, ids and groups that changed between the two runs are refused."""
    n = 10_000  # a shard has 4,096 of them
    rng = np.random.default_rng(0)
    with h5py.File(tmp_path / "pool.h5", "w") as file:
        file["x"] = rng.standard_normal((n, 64)).astype(np.float32)
        file["id"], file["g"] = np.arange(n), np.arange(n) % 3
    columns = ("--column", "x", "--id-column", "id", "--group-column", "g")
    command = ("convert", tmp_path / "pool.h5", *columns, "--shard-mb", 1, "--out", tmp_path / "o",
               "--checkpoint", tmp_path / "saved", "--resume", "--quiet")  # fmt: skip
    monkeypatch.setattr(checkpoint, "_SECONDS", 0.0)
    monkeypatch.setattr(checkpoint, "_PAUSE", 0)
    monkeypatch.setattr("fastal.pipeline.drive.chunk_rows_of", lambda *_: 500)
    save, saves = checkpoint.Checkpoint.save, []

    def killed(*args):
        saves.append(args)
        if len(saves) == 18:  # the last state does not have the open shard
            raise Interrupted(15)
        if len(saves) < 16:
            save(*args)

    monkeypatch.setattr(checkpoint.Checkpoint, "save", killed)
    assert run(*command).exit_code == 143
    names = ["part-00000.npy", "part-00001.npy", "ids/part-00000.npy", "groups/part-00000.npy"]
    for name in names:
        path = tmp_path / ".o.partial" / name
        good = path.read_bytes()
        times = path.stat()
        flipped = bytearray(good)
        flipped[len(good) // 2] ^= 1
        path.write_bytes(flipped)
        refused(run(*command), f"{path}: ", "the checkpoint ")
        path.write_bytes(good)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    done = run(*command)
    assert done.exit_code == 0, done.stderr
    assert not list(tmp_path.glob(".*"))
    parts = [np.load(tmp_path / "o" / f"part-0000{i}.npy") for i in range(3)]
    with h5py.File(tmp_path / "pool.h5") as file:
        np.testing.assert_array_equal(np.concatenate(parts), file["x"][:])
    assert len(list((tmp_path / "o").rglob("*.npy"))) == 9


def test_a_finished_conversion_is_recognised_by_its_run(tmp_path, pool, monkeypatch):
    command = ("convert", pool, "--checkpoint", tmp_path / "saved", "--out", tmp_path / "o")
    remove = checkpoint.Checkpoint.remove

    def killed(self):
        remove(self)
        raise Interrupted(9)

    monkeypatch.setattr(checkpoint.Checkpoint, "remove", killed)
    assert run(*command).exit_code == 137
    monkeypatch.setattr(checkpoint.Checkpoint, "remove", remove)
    refused(run(*command), "exists")
    refused(run(*command, "--resume", "--shard-mb", 2), "exists")
    assert run(*command, "--resume").exit_code == 0
    assert json.loads((tmp_path / "o" / "run.json").read_text())["rows"] == N
    (tmp_path / "o" / "part-00000.npy").unlink()
    refused(run(*command, "--resume"), "exists")


def test_a_disk_that_fills_up_with_shards(tmp_path, pool):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, limits[1]))
    try:
        done = run("convert", pool, "--out", tmp_path / "o")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    refused(done, "File too large", str(tmp_path / "o"))
    assert {p.name for p in tmp_path.iterdir()} == {"pool.npy"}
