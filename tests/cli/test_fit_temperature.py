"""`fastal fit-temperature`: a line of JSON on standard output, or one line that names the cause."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from click.testing import CliRunner

import fastal
from fastal.base.errors import Interrupted
from fastal.cli import main
from fastal.labelled.temperature_search import TemperatureSearch
from fastal.pipeline import checkpoint

RNG = np.random.default_rng(0)
LOGITS = (3 * RNG.standard_normal((300, 4))).astype(np.float32)
LABELS = (LOGITS + 4 * RNG.standard_normal(LOGITS.shape)).argmax(1)


def run(*arguments):
    return CliRunner().invoke(main, ["fit-temperature", *map(str, arguments)])


@pytest.fixture
def pool(tmp_path):
    np.save(tmp_path / "x.npy", LOGITS)
    np.save(tmp_path / "y.npy", LABELS)
    return tmp_path / "x.npy"


def test_the_fit_is_a_line_of_json(pool, tmp_path):
    done = run(pool, "--labels", tmp_path / "y.npy")
    assert done.exit_code == 0, done.output
    assert done.stdout.count("\n") == 1
    assert json.loads(done.stdout) == asdict(fastal.fit_temperature(LOGITS, LABELS))
    assert "3 passes of 300 rows" in done.stderr


def test_labels_may_be_a_table_and_rows_log_probabilities(pool, tmp_path):
    order = np.random.default_rng(1).permutation(300)
    lines = ["row,group", *(f"{row},{LABELS[row]}" for row in order)]
    (tmp_path / "y.csv").write_text("\n".join(lines) + "\n")
    done = run(pool, "--labels", tmp_path / "y.csv", "--kind", "log_probs", "--quiet")
    want = fastal.fit_temperature(LOGITS, LABELS, kind="log_probs")
    assert json.loads(done.stdout) == asdict(want)
    assert not done.stderr


def test_invalid_rows_are_skipped_if_asked_for(pool, tmp_path):
    broken = LOGITS.copy()
    broken[7] = np.nan
    np.save(pool, broken)
    done = run(pool, "--labels", tmp_path / "y.npy")
    assert done.exit_code == 2
    assert "--on-invalid skip leaves them out" in done.stderr
    done = run(pool, "--labels", tmp_path / "y.npy", "--on-invalid", "skip")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["invalid"] == 1
    assert "1 invalid rows left out" in done.stderr


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (LABELS + 1, "--labels: row {first} has label 4; wanted an integer from 0 to 3"),
        (LABELS[1:], "wanted 300 rows, as the pool has, got 299"),
        (LABELS * 1.0, "got float64"),
        (LOGITS.argmax(1), "--labels: no temperature is best: the loss falls as T falls to 0"),
        (LOGITS.argmin(1), "--labels: no temperature is best: the loss falls as T grows"),
    ],
    ids=["range", "number", "floats", "right", "wrong"],
)
def test_labels_that_cannot_be_fitted_are_one_line(pool, tmp_path, labels, words):
    np.save(tmp_path / "y.npy", labels)
    done = run(pool, "--labels", tmp_path / "y.npy", "--quiet")
    assert (done.exit_code, done.stdout) == (2, "")
    first = int(np.flatnonzero(LABELS == 3)[0])
    assert done.stderr.startswith("Error: --labels: ")
    assert words.format(first=first) in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_interrupted_run_is_resumed_to_the_same_line(monkeypatch, pool, tmp_path):
    monkeypatch.setattr(checkpoint, "_SECONDS", 0.0)
    monkeypatch.setattr(checkpoint, "_PAUSE", 0)
    monkeypatch.setattr("fastal.pipeline.drive.chunk_rows_of", lambda *_: 60)
    command = [pool, "--labels", tmp_path / "y.npy", "--checkpoint", tmp_path / "state"]
    whole = run(*command).stdout
    look, calls = TemperatureSearch.look, []

    def interrupted(self, *arguments, **columns):
        calls.append(1)
        if len(calls) == 8:  # in the second pass
            raise Interrupted(15)
        return look(self, *arguments, **columns)

    with monkeypatch.context() as patch:
        patch.setattr(TemperatureSearch, "look", interrupted)
        done = run(*command)
    assert (done.exit_code, done.stdout) == (128 + 15, "")
    np.save(tmp_path / "other.npy", LABELS[::-1])
    other = [pool, "--labels", tmp_path / "other.npy", "--checkpoint", tmp_path / "state"]
    assert "is of another run" in run(*other, "--resume").stderr
    done = run(*command, "--resume")
    assert done.exit_code == 0, done.output
    assert "resumed at row 120" in done.stderr
    assert done.stdout == whole
