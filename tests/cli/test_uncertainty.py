"""The command line: results alone on stdout, one line on stderr for what is wrong, whole files."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner

import fastal
from fastal.cli import main
from fastal.ops.formulas import UNCERTAINTY_SCORES
from tests.support.commands import TERMINAL, rows_of, run_process, run_shell
from tests.support.matrices import AUTO_ON_CPU


@pytest.fixture
def logits():
    return np.random.default_rng(0).standard_normal((500, 7)).astype(np.float32)


@pytest.fixture
def pool(tmp_path, logits):
    path = tmp_path / "pool.npy"
    np.save(path, logits)
    return path


def run(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments])


def test_select_prints_picks_and_nothing_else(pool, logits):
    done = run("select", pool, "--k", 10, "--by", "margin")
    assert done.exit_code == 0
    assert done.stdout.splitlines()[0] == "rank,row,score"
    picks = fastal.select(logits, 10, "margin")
    lines = rows_of(done.stdout)
    assert [int(line["rank"]) for line in lines] == list(range(1, 11))
    assert [int(line["row"]) for line in lines] == picks.rows.tolist()
    # The printed score reads back to the same float32.
    assert [np.float32(line["score"]) for line in lines] == picks.scores.tolist()
    assert "rows/s" in done.stderr
    assert "GB/s" in done.stderr


def test_select_to_a_file_with_its_record(tmp_path, pool, logits):
    done = run("select", pool, "--k", 10, "--out", tmp_path / "picks.csv")
    assert (done.exit_code, done.stdout) == (0, "")
    lines = rows_of((tmp_path / "picks.csv").read_text())
    assert [int(line["row"]) for line in lines] == fastal.select(logits, 10).rows.tolist()
    record = json.loads((tmp_path / "picks.run.json").read_text())
    assert record["command"] == "select"
    assert record["arguments"] == {
        "k": 10, "by": "margin", "kind": "logits", "on_invalid": "raise", "backend": "auto"
    }  # fmt: skip
    assert record["pool"] == [{"file": str(pool), "first_row": 0, "rows": 500}]
    assert (record["rows"], record["bytes"]) == (500, logits.nbytes)
    assert (record["backend"], record["invalid"]) == (AUTO_ON_CPU, 0)
    assert record["seconds"] > 0
    assert record["versions"]["fastal"] == fastal.__version__
    assert {p.name for p in tmp_path.iterdir()} == {"pool.npy", "picks.csv", "picks.run.json"}


def test_several_files_are_one_pool(tmp_path, logits):
    np.save(tmp_path / "a.npy", logits[:200])
    np.save(tmp_path / "b.npy", logits[200:])
    want = run("select", tmp_path / "b.npy", tmp_path / "a.npy", "--k", 5).stdout
    assert [int(p["row"]) for p in rows_of(want)] == fastal.select(logits, 5).rows.tolist()
    assert run("select", tmp_path, "--k", 5, "--out", tmp_path / "picks.csv").exit_code == 0
    assert (tmp_path / "picks.csv").read_text() == want
    record = json.loads((tmp_path / "picks.run.json").read_text())
    assert [f["first_row"] for f in record["pool"]] == [0, 200]


def test_score_to_npy_and_csv(tmp_path, pool, logits):
    want = fastal.score(logits)
    assert run("score", pool, "--out", tmp_path / "scores.npy").exit_code == 0
    table = np.load(tmp_path / "scores.npy")
    printed = run("score", pool).stdout
    assert run("score", pool, "--out", tmp_path / "scores.csv").exit_code == 0
    assert (tmp_path / "scores.csv").read_text() == printed
    lines = rows_of(printed)
    assert [int(line["row"]) for line in lines] == list(range(500))
    assert table.dtype.names == UNCERTAINTY_SCORES
    for name in UNCERTAINTY_SCORES:
        np.testing.assert_array_equal(table[name], getattr(want, name))
        assert [np.float32(line[name]) for line in lines] == table[name].tolist()


def test_score_writes_what_is_asked_for(tmp_path, pool):
    out = tmp_path / "scores.npy"
    assert run("score", pool, "--by", "ratio", "--by", "margin", "--out", out).exit_code == 0
    assert np.load(out).dtype.names == ("ratio", "margin")


def test_score_of_chunks_is_that_of_the_whole(monkeypatch, tmp_path, pool, logits):
    monkeypatch.setattr("fastal.pipeline.drive._IN_PLACE_BYTES", 1000)
    whole = run("score", pool).stdout
    assert len(rows_of(whole)) == 500
    np.save(tmp_path / "more.npy", logits)
    run("score", tmp_path / "more.npy", pool, "--out", tmp_path / "scores.npy")
    table = np.load(tmp_path / "scores.npy")
    assert len(table) == 1000
    np.testing.assert_array_equal(table[:500], table[500:])


def test_invalid_rows_are_skipped_and_counted(tmp_path, pool, logits):
    logits[[4, 30]] = np.nan
    np.save(pool, logits)
    done = run("select", pool, "--k", 600, "--on-invalid", "skip", "--out", tmp_path / "picks.csv")
    assert done.exit_code == 0
    assert "2 invalid rows left out" in done.stderr
    assert json.loads((tmp_path / "picks.run.json").read_text())["invalid"] == 2
    assert len(rows_of((tmp_path / "picks.csv").read_text())) == 498
    scores = rows_of(run("score", pool, "--on-invalid", "skip").stdout)
    assert [i for i, line in enumerate(scores) if line["margin"] == "nan"] == [4, 30]


@pytest.mark.parametrize("command", [["select", "--k", "5"], ["score"]])
def test_bad_input_is_one_line_and_status_2(tmp_path, pool, logits, command):
    logits[17, 3] = np.inf
    np.save(tmp_path / "inf.npy", logits)
    np.save(tmp_path / "one.npy", logits[:, :1])
    np.save(tmp_path / "narrow.npy", logits[:, :5])
    np.save(tmp_path / "ints.npy", np.zeros((5, 2), int))
    np.save(tmp_path / "flat.npy", logits[0])
    np.save(tmp_path / "text.npy", np.array([["a", "b"]]))
    np.save(tmp_path / "bomb.npy", np.array([[None, {}]]), allow_pickle=True)
    (tmp_path / "cut.npy").write_bytes(pool.read_bytes()[:-1])
    (tmp_path / "void").mkdir()
    (tmp_path / "pool.csv").write_text("1,2\n")
    out = tmp_path / "out.csv"
    for pools, words in (
        (["inf.npy"], "inf.npy row 17) has NaN, +inf or no finite logit; 1 such"),
        (["one.npy"], "at least 2 classes"),
        (["pool.npy", "narrow.npy"], "rows of shape"),
        (["ints.npy"], "got torch.int64"),
        (["flat.npy"], "flat.npy row 0: logits: wanted [rows, classes], got shape (7,)"),
        (["text.npy"], "got dtype <U1"),
        (["bomb.npy"], "got dtype object"),
        (["cut.npy"], "no complete .npy file"),
        (["none.npy"], "none.npy: no such file"),
        (["void"], "in this folder"),
        (["*.npz"], "no file matches"),
        (["pool.csv"], "pool.csv: wanted a file of .npy, "),
        (["pool.npy", "pool.npy"], "named twice"),
    ):
        paths = [tmp_path / name for name in pools]
        done = run(command[0], *paths, *command[1:], "--out", out)
        assert done.exit_code == 2, (pools, done.output)
        assert done.stdout == ""
        assert done.stderr.count("\n") == 1, done.stderr
        assert words in done.stderr
        assert "Traceback" not in done.stderr
        assert not out.exists()
        assert not list(tmp_path.glob(".*"))


def test_bad_usage_is_status_2(monkeypatch, pool):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    for arguments, words in (
        (["select", pool], "--k"),
        (["select", pool, "--k", 0], "k: wanted at least 1, got 0"),
        (["select", pool, "--k", "many"], "not a valid integer"),
        (["select", pool, "--k", 5, "--by", "doubt"], "'doubt' is not one of"),
        (["select", "--k", 5], "POOL"),
        (["select", pool, "--k", 5, "--backend", "triton"], "'triton' cannot be used"),
        (["score", pool, "--kind", "odds"], "'odds' is not one of"),
        (["select", pool, "--k", 5, "--kind", "probs"], "row 0 ("),
    ):
        done = run(*arguments)
        assert done.exit_code == 2, arguments
        assert words in done.stderr


def test_outputs_that_cannot_be(tmp_path, pool):
    before = pool.read_bytes()
    (tmp_path / "folder.csv").mkdir()
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "own.csv").symlink_to("own.run.json")
    for out, words in (
        ("picks.txt", "wanted a .csv or .jsonl or .parquet or .json file"),
        ("absent/picks.csv", "no such folder"),
        ("folder.csv", "not a regular file"),
        ("pipe.csv", "not a regular file"),
        ("pool.npy", "wanted a .csv"),
        ("own.csv", "own.run.json: the record of the run goes there"),
    ):
        done = run("select", pool, "--k", 5, "--out", tmp_path / out)
        assert done.exit_code == 2
        assert words in done.stderr
    done = run("score", pool, "--out", pool)
    assert done.exit_code == 2
    assert "is a file of the pool" in done.stderr
    assert pool.read_bytes() == before


def test_a_failure_leaves_the_old_file(tmp_path, pool, logits):
    out = tmp_path / "scores.npy"
    out.write_text("precious")
    logits[499] = np.nan
    np.save(pool, logits)
    assert run("score", pool, "--out", out).exit_code == 2
    assert out.read_text() == "precious"
    assert {p.name for p in tmp_path.iterdir()} == {"pool.npy", "scores.npy"}


@pytest.mark.full
def test_a_full_disk_leaves_no_half_file(tmp_path, pool):
    def no_room():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    out = tmp_path / "scores.npy"
    done = run_process("score", pool, "--out", out, preexec_fn=no_room)
    assert done.returncode == 2, done.stderr
    last = done.stderr.splitlines()[-1]
    assert "File too large" in last
    assert "scores.npy" in last
    assert {p.name for p in tmp_path.iterdir()} == {"pool.npy"}


@pytest.mark.full
def test_closed_streams(tmp_path, pool):
    out = tmp_path / "picks.csv"
    assert run_shell(f"select {pool} --k 3 --out {out} 2>&-").returncode == 0
    assert len(rows_of(out.read_text())) == 3
    closed = run_shell(f"select {pool} --k 3 >&-")
    assert closed.returncode == 2
    assert "standard output is closed" in closed.stderr


def test_out_through_a_link(tmp_path, pool):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "old.csv").write_text("old")
    (tmp_path / "link.csv").symlink_to(tmp_path / "real" / "old.csv")
    (tmp_path / "loop.csv").symlink_to(tmp_path / "loop.csv")
    for name in ("link.csv", "loop.csv"):
        assert run("select", pool, "--k", 3, "--out", tmp_path / name).exit_code == 0
    assert len(rows_of((tmp_path / "real" / "old.csv").read_text())) == 3
    assert (tmp_path / "link.csv").is_symlink()
    assert len(rows_of((tmp_path / "loop.csv").read_text())) == 3
    (tmp_path / "link.npy").symlink_to(pool)
    done = run("score", pool, "--out", tmp_path / "link.npy")
    assert (done.exit_code, "is a file of the pool" in done.stderr) == (2, True)


@pytest.mark.full
def test_a_reader_that_leaves_early(pool):
    np.save(pool, np.zeros((200_000, 3), np.float32))  # more text than a pipe holds
    head = run_shell(f"score {pool} | head -n 1")
    assert head.stdout == "row,least_confidence,margin,ratio,entropy\n"
    assert "Traceback" not in head.stderr


def test_progress_lines_where_there_is_no_terminal(monkeypatch, pool):
    monkeypatch.setattr("fastal.pipeline.drive._IN_PLACE_BYTES", 160 * 32)
    monkeypatch.setattr("fastal.pipeline.progress._SECONDS_A_LINE", 0.0)
    lines = run("select", pool, "--k", 1).stderr.splitlines()
    assert [line.partition(":")[0] for line in lines[:4]] == ["32%", "64%", "96%", "100%"]
    assert len(lines) == 5


def on_a_terminal(*arguments, stdout=None):
    """What a terminal shows of a command: of both streams, or of stderr where stdout is given."""
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "fastal", *map(str, arguments)]
    done = subprocess.run(command, stdout=stdout or theirs, stderr=theirs, env=TERMINAL)
    os.close(theirs)
    shown = os.read(ours, 1 << 16).decode()
    os.close(ours)
    return done, shown


@pytest.mark.full
def test_progress_bar_on_a_terminal(pool):
    done, shown = on_a_terminal("select", pool, "--k", 2, stdout=subprocess.PIPE)
    assert done.stdout.startswith(b"rank,row,score\n")
    assert done.stdout.count(b"\n") == 3
    assert "100%" in shown
    assert "500 rows" in shown


@pytest.mark.full
def test_results_stand_apart_from_the_bar(pool, logits):
    np.save(pool, logits[:3])
    _, shown = on_a_terminal("select", pool, "--k", 2)
    # After the bar is gone: control sequences end with the one that shows the cursor again.
    lines = shown.replace("\r", "").split("\x1b[?25h")[-1].split("\x1b[2K")[-1].splitlines()
    assert [line.count(",") for line in lines[:3]] == [2, 2, 2]
    assert lines[0].endswith("rank,row,score")
    _, shown = on_a_terminal("score", pool)
    assert shown.splitlines()[0] == "row,least_confidence,margin,ratio,entropy"
    assert "━" not in shown


def test_info():
    lines = run("info").stdout
    for word in ("fastal", "torch", "triton", "native", "numpy", "threads", "usable"):
        assert word in lines


@pytest.mark.full
def test_demo(tmp_path):
    done = run("demo", "--out", tmp_path / "demo", "--seeds", 2)
    assert done.exit_code == 0, done.output
    assert "misclassified" in done.stdout
    assert "±" in done.stdout
    picks = rows_of((tmp_path / "demo" / "picks.csv").read_text())
    assert len(picks) == 20
    again = run("select", tmp_path / "demo" / "logits.npy", "--k", 20, "--by", "margin")
    assert again.stdout == (tmp_path / "demo" / "picks.csv").read_text()
    assert (tmp_path / "demo" / "simplex.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.full
@pytest.mark.parametrize(
    ("strategy", "files"),
    [
        ("clusters", ["clusters"]),
        ("outliers", ["model-outliers", "cluster-outliers"]),
        ("representative", ["representative", "adaptive"]),
    ],
)
def test_demo_of_diversity(tmp_path, strategy, files):
    out = tmp_path / "demo"
    done = run("demo", "--strategy", strategy, "--out", out, "--seeds", 1)
    assert done.exit_code == 0, done.output
    assert "at random" in done.stdout
    commands = [line.split()[1:] for line in done.stdout.splitlines() if "  fastal " in line]
    for command, name in zip(commands, files, strict=True):
        path = out / f"{name}.csv"
        assert command[-1] == str(path)
        assert run(*command[:-2]).stdout == path.read_text()
        assert len(rows_of(path.read_text())) == (30 if strategy == "clusters" else 20)
    assert (out / f"{strategy}.png").read_bytes().startswith(b"\x89PNG")


def test_version_and_help():
    assert fastal.__version__ in run("--version").stdout
    for command in ("select", "score", "convert", "info", "demo"):
        assert command in run("--help").stdout
        assert run(command, "-h").exit_code == 0


@pytest.fixture
def parquet(tmp_path, logits):
    """A folder of two Parquet files: predictions, ids and groups."""
    folder = tmp_path / "shards"
    folder.mkdir()
    for i, part in enumerate((slice(0, 180), slice(180, 500))):
        lists = pa.FixedSizeListArray.from_arrays(pa.array(logits[part].ravel()), logits.shape[1])
        rows = range(part.start, part.stop)
        columns = {"item": [f"a,{row}" for row in rows], "region": ["ns"[row % 2] for row in rows]}
        pq.write_table(pa.table({**columns, "logits": lists}), folder / f"{i}.parquet")
    return folder


def test_ids_and_groups_stand_beside_the_picks(parquet, logits):
    columns = ("--column", "logits", "--id-column", "item", "--group-column", "region")
    found = rows_of(run("select", parquet, *columns, "--per-group", 3, "--by", "margin").stdout)
    picks = fastal.select(logits, None, "margin", per_group=3, groups=np.arange(500) % 2)
    assert [int(line["row"]) for line in found] == picks.rows.tolist()
    assert [line["id"] for line in found] == [f"a,{row}" for row in picks.rows]
    assert [line["group"] for line in found] == ["ns"[row % 2] for row in picks.rows]
    by_class = rows_of(run("select", parquet, "--groups", "predicted", "--per-group", 1).stdout)
    classes = logits.argmax(1)
    assert [int(line["group"]) for line in by_class] == [
        classes[int(line["row"])] for line in by_class
    ]
    assert len(by_class) == logits.shape[1]


def test_noise_is_seeded(pool, logits):
    def picked(*options):
        lines = rows_of(run("select", pool, "--k", 9, "--noise", *options).stdout)
        return [int(line["row"]) for line in lines]

    assert (
        picked("power", "--seed", 4)
        == fastal.select(logits, 9, noise="power", seed=4).rows.tolist()
    )
    assert picked("power", "--seed", 4) != picked("power", "--seed", 5)
    steep = picked("softmax", "--beta", 1e6)
    assert steep == fastal.select(logits, 9).rows.tolist()


def test_what_goes_on_as_json(monkeypatch, pool):
    monkeypatch.setattr("fastal.pipeline.drive._IN_PLACE_BYTES", 160 * 32)
    monkeypatch.setattr("fastal.pipeline.progress._SECONDS_A_LINE", 0.0)
    done = run("select", pool, "--k", 3, "--log-json")
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["event"] for line in lines] == ["progress"] * 4 + ["done"]
    assert [line["rows"] for line in lines] == [160, 320, 480, 500, 500]
    assert all(line["of"] == 500 for line in lines)
    assert "seconds_left" in lines[0]
    kth = [line["kth_score"] for line in lines]
    assert kth == sorted(kth)
    assert kth[-1] == pytest.approx(float(rows_of(done.stdout)[-1]["score"]), abs=1e-6)


def test_quiet_says_nothing(tmp_path, pool, logits):
    done = run("select", pool, "--k", 3, "--quiet")
    assert done.stderr == ""
    assert len(rows_of(done.stdout)) == 3


def test_skipped_files_are_named_and_the_status_is_3(tmp_path, logits):
    folder = tmp_path / "shards"
    folder.mkdir()
    np.save(folder / "a.npy", logits[:100, :3])  # not like most
    np.save(folder / "b.npy", logits[100:200])
    np.save(folder / "c.npy", logits[200:])
    (folder / "d.npy").write_bytes((folder / "c.npy").read_bytes()[:-1])
    for how in ([], ["--quiet"]):
        out = tmp_path / "picks.csv"
        done = run("select", folder, "--k", 5, "--on-bad-file", "skip", "--out", out, *how)
        assert done.exit_code == 3
        skipped = [line for line in done.stderr.splitlines() if line.startswith("skipped ")]
        assert ["/d.npy: " in skipped[0], "/a.npy: " in skipped[1]] == [True, True]
        record = json.loads((tmp_path / "picks.run.json").read_text())
        assert [Path(s["file"]).name for s in record["skipped"]] == ["d.npy", "a.npy"]
        assert [(f["first_row"], f["rows"]) for f in record["pool"]] == [(0, 100), (100, 300)]
        rows = [int(line["row"]) for line in rows_of(out.read_text())]
        assert rows == fastal.select(logits[100:], 5).rows.tolist()
    assert run("select", folder, "--k", 5).exit_code == 2


def test_more_bad_usage(pool, tmp_path):
    for arguments, words in (
        (["select", pool], "Missing option '--k' or '--per-group'"),
        (["select", pool, "--k", 5, "--groups", "predicted"], "Groups need --per-group"),
        (
            ["select", pool, "--per-group", 5],
            "--group-column: wanted a label for each row",
        ),
        (
            ["select", pool, "--per-group", 5, "--groups", "predicted", "--group-column", "x"],
            "Error: Wanted one of --groups and --group-column, got both.",
        ),
        (["select", pool, "--per-group", 5, "--groups", "mine"], "wanted 'predicted' or a "),
        (["select", pool, "--k", 5, "--seed", 0], "Error: --seed needs --noise, --by random or"),
        (["select", pool, "--k", 5, "--beta", 1], "Error: --beta needs --noise."),
        (
            ["select", pool, "--k", 5, "--beta", 1, "--by", "random", "--seed", 1],
            "Error: --beta needs --noise.",
        ),
        (["select", pool, "--k", 5, "--resume"], "--resume: wanted --checkpoint"),
        (
            ["select", pool, "--k", 5, "--column", "a", "--columns", "b"],
            "Wanted one of --column and --columns, got both",
        ),
        (["select", pool, "--k", 5, "--id-column", "id"], "no array 'id'"),
        (["score", pool, "--checkpoint", tmp_path / "state"], "--checkpoint: wanted --out"),
        (["convert", pool, pool, "--out", "a.csv"], "picks: wanted one file"),
        (["select", pool, "--k", 5, "--noise", "power", "--beta", "nan"], "beta: wanted"),
    ):
        done = run(*arguments)
        assert done.exit_code == 2, arguments
        assert words in done.stderr, done.stderr


def test_random_rows_are_those_of_python(pool, logits):
    done = run("select", pool, "--k", 7, "--by", "random", "--seed", 3, "--quiet")
    picks = fastal.select(logits, 7, "random", seed=3)
    assert [int(line["row"]) for line in rows_of(done.stdout)] == picks.rows.tolist()
    done = run("select", pool, "--k", 7, "--by", "random", "--noise", "power")
    assert done.exit_code == 2
    assert done.stderr == "Error: --noise: wanted None with --by random, got 'power'\n"
    assert run("score", pool, "--by", "random").exit_code == 2


def test_the_default_score_is_margin_everywhere(pool, logits):
    picks = fastal.select(logits, 5)
    assert picks.rows.tolist() == fastal.select(logits, 5, "margin").rows.tolist()
    assert picks.rows.tolist() != fastal.select(logits, 5, "entropy").rows.tolist()
    for chosen in (fastal.Selector(5), fastal.StratifiedSelector(500, k=5, predicted=True)):
        chosen.update(logits)
        assert chosen.result().rows.tolist() == picks.rows.tolist()
    printed = rows_of(run("select", pool, "--k", 5).stdout)
    assert [int(line["row"]) for line in printed] == picks.rows.tolist()


@pytest.mark.parametrize("name", ["head.npz", "head.safetensors", "head.pt", "head.npy"])
def test_hidden_states_are_selected_through_the_head_in_a_file(tmp_path, name):
    rng = np.random.default_rng(0)
    hidden, weight, bias = (
        rng.standard_normal(shape).astype(np.float32) for shape in ((60, 8), (5, 8), (5,))
    )
    np.save(tmp_path / "hidden.npy", hidden)
    path, arrays = tmp_path / name, {"lm_head.weight": weight, "lm_head.bias": bias}
    if name == "head.npz":
        np.savez(path, **arrays)
    elif name == "head.npy":  # without a bias
        np.save(path, weight)
        bias = None
    elif name == "head.pt":
        torch.save({key: torch.from_numpy(x) for key, x in arrays.items()}, path)
    else:
        safetensors_numpy = pytest.importorskip("safetensors.numpy")
        safetensors_numpy.save_file(arrays, path)
    done = run("select", tmp_path / "hidden.npy", "--head", path, "--k", 7, "--by", "entropy")
    assert done.exit_code == 0, done.stderr
    picks = fastal.select(hidden, 7, fastal.Head(weight, bias, by="entropy"))
    assert [int(line["row"]) for line in rows_of(done.stdout)] == picks.rows.tolist()


def test_a_head_takes_the_temperature_and_items(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    hidden, weight = (rng.standard_normal((n, 8)).astype(np.float32) for n in (60, 5))
    lengths = np.array([10, 30, 5, 15])
    np.save("hidden.npy", hidden)
    np.save("lengths.npy", lengths)
    np.save("head.npy", weight)
    head = fastal.Head(weight, temperature=3)
    options = ["--head", "head.npy", "--temperature", 3, "--k", 2]
    done = run("select", "hidden.npy", *options)
    assert done.exit_code == 0, done.stderr
    picks = fastal.select(hidden, 2, head)
    assert [int(line["row"]) for line in rows_of(done.stdout)] == picks.rows.tolist()
    done = run("select", "hidden.npy", *options, "--lengths", "lengths.npy", "--aggregate", "max")
    assert done.exit_code == 0, done.stderr
    picks = fastal.select(fastal.items(hidden, lengths=lengths), 2, head, aggregate="max")
    assert [int(line["row"]) for line in rows_of(done.stdout)] == picks.rows.tolist()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--by", "random"], "--by: wanted one of least_confidence, margin, ratio, entropy"),
        (["--kind", "probs"], "--kind: got 'probs', and Head makes logits of hidden states"),
        (["--by", "bald"], "--by: wanted one of least_confidence, margin, ratio, entropy"),
        (
            ["--groups", "predicted", "--per-group", 1],
            "wanted rows of predictions, got rows of hid",
        ),
    ],
)
def test_what_cannot_go_with_a_head_is_named(tmp_path, pool, options, message, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("head.npz", weight=np.ones((3, 7), np.float32))
    done = run("select", pool, "--head", "head.npz", "--k", 2, *options)
    assert done.exit_code == 2
    assert message in " ".join(done.stderr.split())


def test_picks_do_not_overwrite_the_head(tmp_path, pool, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = pa.array([[1.0] * 7] * 3, pa.list_(pa.float32(), 7))
    pq.write_table(pa.table({"weight": rows}), "head.parquet")
    before = Path("head.parquet").read_bytes()
    done = run("select", pool, "--head", "head.parquet", "--k", 2, "--out", "head.parquet")
    assert done.exit_code == 2
    assert "--out: head.parquet is the file of head" in " ".join(done.stderr.split())
    assert Path("head.parquet").read_bytes() == before
