"""`fastal report`: one page, or one line that names the cause."""

import json
import re

import numpy as np
import pytest
from click.testing import CliRunner

import fastal
from fastal.cli import main

LOGITS = np.random.default_rng(0).standard_normal((300, 4)).astype(np.float32)


def run(*arguments):
    return CliRunner().invoke(main, [*map(str, arguments)])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder in which commands have written."""
    monkeypatch.chdir(tmp_path)
    np.save("logits.npy", LOGITS)
    np.savez("x.npz", a=LOGITS, b=LOGITS[:, :2])
    (tmp_path / "run").mkdir()
    for command in (
        ("select", "logits.npy", "--k", 20, "--by", "entropy", "--out", "run/entropy.csv"),
        ("score", "logits.npy", "--out", "run/scores.npy"),
    ):
        done = run(*command, "--quiet")
        assert done.exit_code == 0, done.output
    return tmp_path


def test_a_folder_becomes_a_page_that_knows_its_record(folder):
    (folder / "run" / "notes.txt").write_text("mine")
    done = run("report", "run", "--out", "report.html")
    assert done.exit_code == 0, done.output
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "used run/entropy.csv: 20 picks",
        "used run/scores.npy: scores: least_confidence, margin, ratio, entropy",
        "left out run/notes.txt: its suffix is none of .npy, .csv, .jsonl, .parquet, .json",
    ]
    page = (folder / "report.html").read_text()
    assert "<td>by entropy, kind logits</td>" in page
    assert "<td>300</td>" in page and "<td>logits.npy</td>" in page
    lowest = fastal.select(LOGITS, 20, by="entropy").scores[-1]
    assert re.search(rf"lowest pick {lowest:.4g}<", page)
    assert "--embeddings" in page


def test_pools_and_embeddings_are_read_as_the_options_say(folder):
    options = ("--pool", "x.npz", "--column", "a", "--embeddings", "x.npz", "--kind", "logits")
    column = ("--embeddings-column", "b", "--title", "Monday's <run>", "--quiet")
    done = run("report", "run/entropy.csv", *options, *column, "--out", "report.html")
    assert (done.exit_code, done.output) == (0, "")
    page = (folder / "report.html").read_text()
    assert "<h1>Monday&#x27;s &lt;run&gt;</h1>" in page
    for heading in ("Scores", "Probabilities", "Embeddings"):
        assert f"<h2>{heading}</h2>" in page
    assert "<h3>Warnings</h3>" not in page


def test_a_damaged_record_is_one_line_of_warning(folder):
    record = json.loads((folder / "run" / "entropy.run.json").read_text())
    (folder / "run" / "entropy.run.json").write_text(json.dumps({**record, "invalid": "many"}))
    done = run("report", "run/entropy.csv", "--out", "report.html", "--quiet")
    assert done.exit_code == 0
    assert done.output == (
        "run/entropy.run.json: damaged, invalid is 'many'; the record is not used\n"
    )


def test_picks_of_another_kind_are_a_warning_on_stderr_and_on_the_page(folder):
    options = ("--pool", "logits.npy", "--temperature", 9, "--quiet")
    done = run("report", "run/entropy.csv", *options, "--out", "report.html")
    assert done.exit_code == 0
    assert done.stderr.startswith("entropy: its scores are not entropy of this pool")
    assert "<h3>Warnings</h3>" in (folder / "report.html").read_text()


def test_picks_of_combine_are_named_by_their_command(folder):
    np.save("x.npy", LOGITS)
    picked = run(
        "combine", "clustered-uncertainty", "logits.npy", "--embeddings", "x.npy", "--k", 10,
        "--out", "combined.csv", "--quiet",
    )  # fmt: skip
    assert picked.exit_code == 0, picked.output
    done = run("report", "combined.csv", "--pool", "logits.npy", "--out", "report.html", "--quiet")
    assert (done.exit_code, done.output) == (0, "")
    page = (folder / "report.html").read_text()
    assert '<th scope="row">strategy</th><td>combine clustered-uncertainty</td>' in page
    assert "<h3>Warnings</h3>" not in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone"], "gone: no such file or folder"),
        (["empty"], "empty: wanted a folder with picks, scores or learning curves"),
        (["logits.npy"], "logits.npy: not scores, as `fastal score` writes them"),
        (["run", "--out", "page.htm"], "--out: wanted a .html file, got page.htm"),
        (["run", "--out", "no/page.html"], "no such folder"),
        (["run", "--by", "ratio"], "--by needs --pool"),
        (["run", "--temperature", 2], "--temperature needs --pool"),
        (["run", "--by", "ratio", "--pool", "logits.npy"], "wanted a pool of 3, got 4"),
        (["run", "--column", "a"], "--column needs --pool"),
        (["run", "--embeddings-column", "a"], "--embeddings-column needs --embeddings"),
        ([""], "Error: run: wanted a folder or a file, got an empty path"),
        (
            ["run", "--title", "x", "--out", "link.html"],
            "--out: link.html is run/entropy.csv, which",
        ),
        (["empty.npy"], "empty.npy: "),
        (["run", "--pool", "gone.npy"], "gone.npy"),
        (["run", "--embeddings", "gone.npy"], "gone.npy"),
        (["run", "--pool", "few.npy"], "is picked, and the pool has 3 rows"),
        (["run", "--pool", "logits.npy", "--kind", "sigmoid"], "'sigmoid' is not one of"),
    ],
)
def test_a_wrong_input_is_one_line_and_status_2(folder, arguments, message):
    (folder / "empty").mkdir()
    np.save("few.npy", LOGITS[:3])
    (folder / "empty.npy").touch()
    (folder / "link.html").symlink_to("run/entropy.csv")
    out = [] if "--out" in arguments else ["--out", "report.html"]
    done = run("report", *arguments, *out)
    assert done.exit_code == 2, done.output
    assert message in done.stderr
    assert "Traceback" not in done.output
    assert [path.name for path in folder.glob("*.htm*")] == ["link.html"]
