"""`fastal convert`: the same rows, ids and groups in another form; picks in another file."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

import fastal
from fastal.base.errors import Interrupted
from fastal.cli import main
from fastal.commands.command import CommandRun
from fastal.output import shards
from fastal.output.shards import ShardWriter
from fastal.pipeline import checkpoint


def run(*arguments):
    return CliRunner().invoke(main, list(map(str, arguments)))


@pytest.fixture
def x():
    return np.random.default_rng(0).standard_normal((5000, 7)).astype(np.float32)


@pytest.fixture
def parquet(tmp_path, x):
    """A folder of two Parquet files with ids and groups."""
    folder = tmp_path / "parquet"
    folder.mkdir()
    for i, part in enumerate((slice(0, 1800), slice(1800, 5000))):
        lists = pa.FixedSizeListArray.from_arrays(pa.array(x[part].ravel()), 7)
        ids = [f"é-{row}" for row in range(part.start, part.stop)]
        groups = [("north", "south", "east")[row % 3] for row in range(part.start, part.stop)]
        table = pa.table({"item": ids, "logits": lists, "region": groups})
        pq.write_table(table, folder / f"{i}.parquet", row_group_size=700)
    return folder


def picked(pool, **options):
    picks = fastal.select(pool, None, "margin", per_group=4, **options)
    return [picks.rows.tolist(), picks.scores.tolist(), picks.groups.tolist(), list(picks.ids)]


COLUMNS = ("--id-column", "item", "--group-column", "region")


def test_shards_are_the_pool(tmp_path, parquet, x):
    done = run("convert", parquet, *COLUMNS, "--out", tmp_path / "shards")
    assert (done.exit_code, done.stdout) == (0, ""), done.output
    shards = tmp_path / "shards"
    want = fastal.open_pool(parquet, id_column="item", group_column="region")
    assert picked(shards) == picked(want)
    assert fastal.select(shards, 9).rows.tolist() == fastal.select(x, 9).rows.tolist()
    record = json.loads((shards / "run.json").read_text())
    assert (record["command"], record["rows"], record["shards"]) == ("convert", 5000, 1)
    assert {p.name for p in tmp_path.iterdir()} == {"parquet", "shards"}


@pytest.mark.parametrize("chunk", [1, 999, 5000])
def test_shards_have_the_size_asked_for_whatever_the_chunks(tmp_path, x, chunk):
    writer = ShardWriter(tmp_path / "shards", 28 * 1024)
    writer.begin()
    for start in range(0, 5000, chunk):
        writer.update(x[start : start + chunk], start)
    assert writer.result() == (5000, 5)
    parts = [np.load(tmp_path / "shards" / f"part-0000{i}.npy") for i in range(5)]
    assert [len(part) for part in parts] == [1024] * 4 + [904]
    np.testing.assert_array_equal(np.concatenate(parts), x)


def test_shards_keep_bfloat16_and_types_that_change(tmp_path, x):
    halves = torch.from_numpy(x).bfloat16()
    save_file({"x": halves}, tmp_path / "x.safetensors")
    assert run("convert", tmp_path / "x.safetensors", "--out", tmp_path / "bf16").exit_code == 0
    want = fastal.select(halves, 20)
    found = fastal.select(tmp_path / "bf16", 20)
    assert found.rows.tolist() == want.rows.tolist()
    assert found.scores.tolist() == want.scores.tolist()
    np.save(tmp_path / "a.npy", x[:10])
    np.save(tmp_path / "b.npy", x[10:30].astype(np.float16))
    out = tmp_path / "mixed"
    assert run("convert", tmp_path / "a.npy", tmp_path / "b.npy", "--out", out).exit_code == 0
    assert [np.load(out / f"part-0000{i}.npy").dtype for i in (0, 1)] == [np.float32, np.float16]


def test_a_pool_without_rows_keeps_its_shape(tmp_path):
    np.save(tmp_path / "empty.npy", np.empty((0, 7), np.float32))
    assert run("convert", tmp_path / "empty.npy", "--out", tmp_path / "out").exit_code == 0
    assert fastal.open_pool(tmp_path / "out").files[0].row_shape == (7,)


def test_an_interrupted_conversion_goes_on(tmp_path, parquet, monkeypatch):
    monkeypatch.setattr(checkpoint, "_SECONDS", 0.0)
    monkeypatch.setattr(checkpoint, "_PAUSE", 0)
    monkeypatch.setattr(shards, "_CHUNK_BYTES", 300 * 32)
    arguments = ("convert", parquet, *COLUMNS, "--shard-mb", 1, "--checkpoint", tmp_path / "state")
    assert run(*arguments, "--out", tmp_path / "whole").exit_code == 0
    look, looks = ShardWriter.look, []

    def interrupted(*args, **kwargs):
        looks.append(args)
        if len(looks) % 5 == 0:
            raise Interrupted(15)
        return look(*args, **kwargs)

    monkeypatch.setattr(ShardWriter, "look", interrupted)
    codes = []
    while not codes or codes[-1] == 143:
        codes.append(run(*arguments, "--resume", "--out", tmp_path / "shards").exit_code)
        assert (tmp_path / "shards").exists() == (codes[-1] == 0)
    assert codes == [143] * (len(codes) - 1) + [0]
    assert len(codes) > 3
    want = {p.name: p.read_bytes() for p in (tmp_path / "whole").rglob("*.npy")}
    assert {p.name: p.read_bytes() for p in (tmp_path / "shards").rglob("*.npy")} == want
    assert not list(tmp_path.glob(".*"))


def test_a_conversion_killed_after_publishing_goes_on_to_its_record(tmp_path, parquet, monkeypatch):
    arguments = ("convert", parquet, *COLUMNS, "--checkpoint", tmp_path / "state", "--resume")
    monkeypatch.setattr(checkpoint, "_SECONDS", 0.0)
    finish = CommandRun.finish

    def killed(*_, **__):
        raise Interrupted(15)

    monkeypatch.setattr(CommandRun, "finish", killed)
    assert run(*arguments, "--out", tmp_path / "shards").exit_code == 143
    monkeypatch.setattr(CommandRun, "finish", finish)
    other = run(*arguments[:-1], "--out", tmp_path / "shards")
    assert (other.exit_code, "holds one already" in other.stderr) == (2, True)
    assert run(*arguments, "--out", tmp_path / "shards").exit_code == 0
    record = json.loads((tmp_path / "shards" / "run.json").read_text())
    assert (record["rows"], record["shards"]) == (5000, 1)
    assert not list((tmp_path / "state").iterdir())


def test_ids_that_shards_cannot_hold_are_refused(tmp_path, x):
    lists = pa.FixedSizeListArray.from_arrays(pa.array(x[:3].ravel()), 7)
    pq.write_table(pa.table({"id": ["a", None, "c"], "x": lists}), tmp_path / "x.parquet")
    done = run("convert", tmp_path / "x.parquet", "--id-column", "id", "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert "id: some are missing, and .npy has no missing values" in done.stderr
    assert not (tmp_path / "out").exists()


def test_an_output_folder_that_exists_is_refused(tmp_path, parquet):
    done = run("convert", parquet, "--out", parquet)
    assert (done.exit_code, done.stderr) == (2, f"Error: --out: {parquet} exists\n")
    assert len(list(parquet.iterdir())) == 2


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet", ".json"])
def test_picks_in_every_format_and_back(tmp_path, parquet, suffix):
    first, second = tmp_path / f"first{suffix}", tmp_path / f"second{suffix}"
    select = ("select", parquet, *COLUMNS, "--per-group", 3)
    assert run(*select, "--out", first).exit_code == 0
    want = run(*select).stdout
    assert run("convert", first, "--out", tmp_path / "picks.csv").exit_code == 0
    assert (tmp_path / "picks.csv").read_text() == want
    assert run("convert", tmp_path / "picks.csv", "--out", second).exit_code == 0
    if suffix == ".parquet":
        assert pq.read_table(second).equals(pq.read_table(first))
    else:
        assert second.read_bytes() == first.read_bytes()


def test_tasks_for_label_studio(tmp_path, parquet):
    out = tmp_path / "tasks.json"
    run("select", parquet, *COLUMNS, "--k", 2, "--by", "margin", "--per-group", 1, "--out", out)
    picks = fastal.select(
        fastal.open_pool(parquet, id_column="item", group_column="region"), 2, "margin", per_group=1
    )
    tasks = json.loads(out.read_text())
    assert [set(task) for task in tasks] == [{"data"}] * 2
    for rank, (task, row, score) in enumerate(zip(tasks, picks.rows, picks.scores, strict=True), 1):
        assert task["data"] == {
            "fastal_rank": rank, "fastal_score": float(str(score)), "row": row,
            "id": f"é-{row}", "group": ("north", "south", "east")[row % 3],
        }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "rank,row\n1,5\n"), ("a.csv", "row,score\nx,1\n"), ("a.jsonl", "{}\n"),
        ("a.csv", "row,score\n99999999999999999999,1\n"), ("a.jsonl", "[1\n"),
        ("a.json", "[{}]"), ("a.json", "3"), ("a.parquet", "PAR1"),
    ],
)  # fmt: skip
def test_files_without_picks_are_refused(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    done = run("convert", tmp_path / name, "--out", tmp_path / "out.csv")
    assert done.exit_code == 2
    assert f"{name}: wanted picks" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out.csv").exists()


def test_columns_with_similar_names_are_kept_apart(tmp_path, x):
    lists = pa.FixedSizeListArray.from_arrays(pa.array(x[:9].ravel()), 7)
    table = pa.table({"a.b": list("pqrstuvwx"), "a_b": [i % 2 for i in range(9)], "x": lists})
    pq.write_table(table, tmp_path / "x.parquet")
    columns = ("--id-column", "a.b", "--group-column", "a_b")
    out = tmp_path / "out"
    assert run("convert", tmp_path / "x.parquet", *columns, "--out", out).exit_code == 0
    picks = fastal.select(out, None, per_group=2)
    assert picks.ids.tolist() == ["pqrstuvwx"[row] for row in picks.rows]
    assert picks.groups.tolist() == [row % 2 for row in picks.rows]


class Claims(set):
    """What a run made, by device and inode."""

    def claim(self, made):
        self.add((made.st_dev, made.st_ino))

    def claimed(self, found):
        return (found.st_dev, found.st_ino) in self


def test_a_second_run_into_the_same_folder_is_refused(tmp_path, x):
    first, second = (ShardWriter(tmp_path / "shards", 1024) for _ in range(2))
    claims = Claims()
    first.begin(claims)
    first.update(x, 0)
    with pytest.raises(ValueError, match="another run is writing it"):
        second.begin(claims)
    first.result()
    np.testing.assert_array_equal(np.load(tmp_path / "shards" / "part-00000.npy"), x[:36])


def test_bfloat16_among_others_is_refused_at_once(tmp_path, x):
    save_file({"x": torch.from_numpy(x).bfloat16()}, tmp_path / "b.safetensors")
    np.save(tmp_path / "a.npy", x)
    pools = (tmp_path / "a.npy", tmp_path / "b.safetensors")
    done = run("convert", *pools, "--out", tmp_path / "out")
    assert (done.exit_code, "bfloat16 and float32 in one pool" in done.stderr) == (2, True)
    assert {p.name for p in tmp_path.iterdir()} == {"a.npy", "b.safetensors"}


def test_ids_with_line_separators_survive(tmp_path, x):
    lists = pa.FixedSizeListArray.from_arrays(pa.array(x[:3].ravel()), 7)
    ids = ["a\u2028b", "c\x85d", "e\nf"]
    pq.write_table(pa.table({"id": ids, "x": lists}), tmp_path / "x.parquet")
    out = tmp_path / "picks.jsonl"
    run("select", tmp_path / "x.parquet", "--id-column", "id", "--k", 3, "--out", out)
    assert run("convert", out, "--out", tmp_path / "picks.parquet").exit_code == 0
    assert sorted(pq.read_table(tmp_path / "picks.parquet")["id"].to_pylist()) == sorted(ids)
