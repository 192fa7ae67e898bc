"""The check of a GPU finds nothing wrong where nothing is, and what is wrong where something is."""

import json
import sys
from pathlib import Path

import pytest

import fastal
from benchmarks.gpu.correctness import check_correctness
from benchmarks.gpu.picks import check_picks
from benchmarks.gpu.runner import run
from fastal.scores import FORMULAS

ROOT = Path(__file__).parents[1]
both_backends = pytest.mark.parametrize("name", ["torch", "triton"])


@pytest.mark.parametrize("n_classes", [2, 10, 33])
@both_backends
def test_right_scores_pass(name, n_classes):
    found = check_correctness("cpu", n_classes, name)
    assert found["failures"] == []
    assert found["checks"] > 35
    assert set(found["worst"]) == {"float16", "bfloat16", "float32"}


@both_backends
def test_right_picks_pass(name):
    found = check_picks("cpu", name)
    assert found["failures"] == []
    assert found["checks"] > 35


@pytest.mark.parametrize(
    ("measure", "wrong"),
    [
        ("least_confidence", lambda s: 1 - 1 / (1 + s.tail)),  # lacks n / (n − 1)
        ("margin", lambda s: 1 - (1 - s.runner_up) / (1 + s.tail)),  # 1 − p1 = 1e-12 cancels
        ("ratio", lambda s: s.runner_up / (1 + s.tail)),  # p2
    ],
)
def test_a_wrong_formula_is_reported(monkeypatch, measure, wrong):
    monkeypatch.setitem(FORMULAS, measure, wrong)
    failures = check_correctness("cpu", 10, "torch")["failures"]
    assert any(f"{measure} of row" in failure for failure in failures)
    others = set(FORMULAS) - {measure}
    assert not any(f"{other} of row" in failure for failure in failures for other in others)


def test_picks_in_the_wrong_order_are_reported(monkeypatch):
    right = fastal.select

    def backwards(*args, **options):
        picks = right(*args, **options)
        return picks._replace(rows=picks.rows.flip(0), scores=picks.scores.flip(0))

    monkeypatch.setattr(fastal, "select", backwards)
    failures = check_picks("cpu", "torch")["failures"]
    assert any("k = 4, whole: AssertionError: 4 of 4 rows differ" in f for f in failures)
    assert not any("k = 1," in failure or "shuffled" in failure for failure in failures)


def test_what_a_process_found_outlives_it():
    def outcome(code, seconds=60):
        return run([sys.executable, "-c", f"print('{{}}', flush=True); {code}"], seconds)[:2]

    assert outcome("import time; time.sleep(60)", 1) == ([{}], "stopped after 1 s, unfinished")
    assert outcome("raise OSError('lost')") == ([{}], "OSError: lost (exit code 1)")
    assert outcome("raise SystemExit(3)") == ([{}], None)
    assert run([], 0).problem == "not started, no time was left"


def test_the_command(tmp_path):
    command = [str(ROOT / "scripts" / "gpu-check"), "--device", "cpu", "--classes", "2"]
    variables = {"PYTHON": sys.executable, "TRITON_INTERPRET": "1"}
    _, problem, output = run([*command, "--out", str(tmp_path / "out.json")], 200, **variables)
    assert problem is None, output
    assert "All passed" in output
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["passed"]
    assert [r["classes"] for r in found["correctness"] if r["backend"] == "triton"] == [2]
    assert found["picks"][0]["checks"] > 35
