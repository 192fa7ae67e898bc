"""`fastal label-quality`: CSV of the issues, or one line that names the cause."""

import csv
import io

import numpy as np
import pytest
from click.testing import CliRunner

import fastal
from fastal.base.errors import Interrupted
from fastal.cli import main
from fastal.labelled.confident_learning import ConfidentLearning

RNG = np.random.default_rng(0)
LOGITS = (2 * RNG.standard_normal((300, 4))).astype(np.float32)
LABELS = (LOGITS + 3 * RNG.standard_normal(LOGITS.shape)).argmax(1)


def run(*arguments):
    return CliRunner().invoke(main, ["label-quality", *map(str, arguments)])


@pytest.fixture
def pool(tmp_path):
    np.save(tmp_path / "x.npy", LOGITS)
    np.save(tmp_path / "y.npy", LABELS)
    return tmp_path / "x.npy"


def assert_issues(text, want):
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [int(row["rank"]) for row in rows] == list(range(1, len(want.issues) + 1))
    columns = {"row": want.issues, "label": want.given, "suggested": want.suggested}
    for name, column in columns.items():
        assert [int(row[name]) for row in rows] == column.tolist()
    for name in ("self_confidence", "normalized_margin"):
        assert [np.float32(row[name]) for row in rows] == getattr(want, name)[want.issues].tolist()


def test_the_issues_are_csv_the_worst_first(pool, tmp_path):
    done = run(pool, "--labels", tmp_path / "y.npy")
    assert done.exit_code == 0, done.output
    want = fastal.label_quality(LOGITS, LABELS)
    assert len(want.issues) > 20
    assert_issues(done.stdout, want)
    options = ("--temperature", 2, "--out", tmp_path / "issues.csv", "--quiet")
    done = run(pool, "--labels", tmp_path / "y.npy", *options)
    assert (done.exit_code, done.output) == (0, "")
    cooler = fastal.label_quality(LOGITS, LABELS, temperature=2)
    assert_issues((tmp_path / "issues.csv").read_text(), cooler)


def test_pools_with_ids_have_a_column_of_ids(tmp_path):
    names = np.array([f"n{row}" for row in range(300)])
    np.savez(tmp_path / "x.npz", logits=LOGITS, id=names)
    order = np.random.default_rng(1).permutation(300)
    lines = ["id,label", *(f"n{row},{LABELS[row]}" for row in order)]
    (tmp_path / "y.csv").write_text("\n".join(lines) + "\n")
    columns = ("--column", "logits", "--id-column", "id")
    done = run(tmp_path / "x.npz", *columns, "--labels", tmp_path / "y.csv")
    assert done.exit_code == 0, done.output
    want = fastal.label_quality(LOGITS, LABELS)
    assert_issues(done.stdout, want)
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [row["id"] for row in rows] == names[want.issues].tolist()


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (LABELS + 1, "wanted an integer from 0 to 3"),
        (LABELS[1:], "wanted 300 rows, as the pool has, got 299"),
        (LABELS.astype(str), "one for each row; got <U21"),
    ],
)
def test_bad_labels_are_one_line_and_no_file(pool, tmp_path, labels, words):
    np.save(tmp_path / "y.npy", labels)
    done = run(pool, "--labels", tmp_path / "y.npy", "--out", tmp_path / "out.csv", "--quiet")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("Error: --labels: ")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"x.npy", "y.npy"}


def test_the_file_of_labels_is_never_overwritten(pool, tmp_path):
    (tmp_path / "y.csv").write_text("label\n" + "\n".join(map(str, LABELS)) + "\n")
    before = (tmp_path / "y.csv").read_text()
    done = run(pool, "--labels", tmp_path / "y.csv", "--out", tmp_path / "y.csv")
    assert done.exit_code == 2
    assert "is the file of labels" in done.stderr
    assert (tmp_path / "y.csv").read_text() == before


def test_an_interrupted_run_leaves_nothing(monkeypatch, pool, tmp_path):
    def interrupted(*_, **__):
        raise Interrupted(15)

    monkeypatch.setattr(ConfidentLearning, "_find", interrupted)  # in the second pass
    done = run(pool, "--labels", tmp_path / "y.npy", "--out", tmp_path / "out.csv")
    assert (done.exit_code, done.stdout) == (128 + 15, "")
    assert {path.name for path in tmp_path.iterdir()} == {"x.npy", "y.npy"}
