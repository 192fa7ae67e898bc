"""The check of a GPU finds nothing wrong where nothing is, and what is wrong where something is."""

import json
import math
import os
import subprocess
import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import fastal
from benchmarks.gpu import counts, diversity, embeddings, needs, plan, steps
from benchmarks.gpu.cases import CARD_BYTES, CASE_BYTES, FULL, INTERPRETED, QUICK
from benchmarks.gpu.correctness import check_correctness, views_of
from benchmarks.gpu.draws import check_draws
from benchmarks.gpu.picks import check_picks
from benchmarks.gpu.report import report
from benchmarks.gpu.runner import run
from fastal import ops
from fastal.base.argument_values import DRAWS_SCORES
from fastal.ops.formulas import FORMULAS
from tests.support.checkout import ROOT
from tests.support.matrices import ON_GPU, layouts, regimes

both_backends = pytest.mark.parametrize("name", ["torch", "triton"])


@pytest.mark.parametrize("n_classes", [2, 10, 33])
@both_backends
@pytest.mark.full
def test_right_scores_pass(name, n_classes):
    found = check_correctness("cpu", n_classes, name)
    assert found["failures"] == []
    assert found["checks"] > 35
    assert set(found["worst"]) == {"float16", "bfloat16", "float32"}


@both_backends
@pytest.mark.full
def test_right_picks_pass(name):
    found = list(check_picks("cpu", INTERPRETED.pools, name))
    assert failures_of(found) == []
    assert sum(record["checks"] for record in found) > 35


def failures_of(records):
    return [failure for record in records for failure in record["failures"]]


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
        return replace(picks, rows=picks.rows.flip(0), scores=picks.scores.flip(0))

    monkeypatch.setattr(fastal, "select", backwards)
    failures = failures_of(check_picks("cpu", INTERPRETED.pools, "torch"))
    assert any("k = 4, whole: AssertionError: 4 of 4 rows differ" in f for f in failures)
    assert not any("k = 1," in failure or "shuffled" in failure for failure in failures)


def test_wrong_similarities_and_ranks_are_reported(monkeypatch):
    right = {name: getattr(ops, name) for name in ("nearest", "similarities", "mean_ranks")}

    def nearest(*args, **options):
        cluster, similarity = right["nearest"](*args, **options)
        return cluster.clamp(max=0), similarity

    def farther(op):
        return lambda *args, **options: op(*args, **options) + 1e-4

    monkeypatch.setattr(ops, "nearest", nearest)
    monkeypatch.setattr(ops, "similarities", farther(right["similarities"]))
    monkeypatch.setattr(ops, "mean_ranks", farther(right["mean_ranks"]))
    rows = [INTERPRETED.cosine[0]]
    found = failures_of(embeddings.check_cosine("cpu", rows))
    assert any("nearest: AssertionError: off by" in failure for failure in found)
    assert any("similarities: AssertionError: off by" in failure for failure in found)
    found = failures_of(embeddings.check_ranks("cpu", INTERPRETED.ranks))
    assert any("mean ranks: AssertionError: off by 1.0e-04" in failure for failure in found)


def test_wrong_core_sets_and_duplicates_are_reported(monkeypatch):
    k_center, deduplicate = diversity.diversity.k_center, diversity.diversity.deduplicate
    lowest = lambda x, *args, **options: k_center(-x[:50], *args, **options)  # noqa: E731
    monkeypatch.setattr(diversity.diversity, "k_center", lowest)
    found = failures_of(diversity.check_core_set("cpu", *INTERPRETED.core_set))
    assert len(found) == 2 and all("AssertionError: row " in failure for failure in found)
    missed = lambda x, *args, **options: deduplicate(x[:-1], *args, **options)  # noqa: E731
    monkeypatch.setattr(diversity.diversity, "deduplicate", missed)
    (failure,) = diversity.check_duplicates("cpu", *INTERPRETED.duplicates)["failures"]
    assert failure.startswith("duplicates: AssertionError: rows [")


def test_launches_and_waits_that_are_too_many_are_reported(monkeypatch):
    monkeypatch.setattr(counts, "ALLOWED_EXTRA", -3)
    random, ascending = counts.check_counts("cpu", *INTERPRETED.counted)
    assert random["launches"] >= 4 and random["waits"] >= 4
    assert random["failures"] == ["random rows: AssertionError: 5 launches"]
    assert ascending["failures"]


# --- what is planned


@pytest.mark.parametrize("cases", [FULL, QUICK, INTERPRETED], ids=["full", "quick", "interpreted"])
def test_no_case_plans_more_than_its_share_of_the_memory(cases):
    """Of the matrices of all class counts, made where nothing is allocated."""
    assert plan.MOST_SIDE_BY_SIDE * CASE_BYTES <= 0.6 * CARD_BYTES
    n_rows = len(regimes(2, torch.float32))
    for n_classes in cases.classes:
        x = torch.empty(n_rows, n_classes, device="meta")
        storages = [view.untyped_storage() for view in views_of(x).values()]
        held = {storage._cdata: storage.nbytes() for storage in storages}
        copies = cases.few if n_classes > 5000 else cases.many
        assert sum(held.values()) + copies * x.nbytes <= CASE_BYTES
    for n_rows, n_classes, dtype in cases.pools:
        assert 2 * n_rows * (n_classes * dtype.itemsize + 8) <= CASE_BYTES
    for case in cases.cosine:
        rows, centroids = case.n_rows * case.n_columns, case.n_centroids * case.n_columns
        assert 4 * (rows + 4 * centroids + case.n_rows * case.n_centroids) <= CASE_BYTES
    for case in cases.ranks:
        assert 4 * case.n_columns * (case.n_rows + 2 * case.n_values) <= CASE_BYTES
    for n_rows, n_columns in (cases.core_set, cases.duplicates):
        assert 5 * 8 * n_rows * n_columns <= CASE_BYTES
    assert 5 * 4 * counts.CLASSES * cases.counted[0] <= CASE_BYTES


@pytest.mark.parametrize("n_classes", [1, 2, 3, 6, 30, 33])
def test_layouts_hold_the_matrix_in_little_memory(n_classes):
    x = torch.arange(float(9 * n_classes)).view(9, n_classes)
    for name, view in layouts(x).items():
        if not name.startswith("equal"):
            assert torch.equal(view, x), name
        assert view.untyped_storage().nbytes() <= 16 * x.nbytes


def test_right_scores_of_draws_pass():
    found = list(check_draws("cpu", INTERPRETED.draws))
    assert failures_of(found) == []
    assert sum(record["checks"] for record in found) == 6


def test_wrong_scores_of_draws_are_reported(monkeypatch):
    def a_little_more(*arguments, **options):
        return [score * (1 + 1e-4) for score in right(*arguments, **options)]

    def without_the_last_draw(x, *arguments, **options):
        return right(x[:, :-1], *arguments, **options)

    right = ops.draws
    monkeypatch.setattr(ops, "draws", a_little_more)
    failures = failures_of(check_draws("cpu", INTERPRETED.draws))
    for score in DRAWS_SCORES:
        assert any(f"{score} is off by 1.0e-04" in failure for failure in failures), score
    monkeypatch.setattr(ops, "draws", without_the_last_draw)
    (first, *_) = failures_of(check_draws("cpu", INTERPRETED.draws))
    assert "NaN in other items" in first


def test_every_step_and_class_count_is_planned():
    jobs = plan.jobs_of(FULL, on_gpu=True)
    classes = [job[2] for job in jobs if job[0] == "correctness" and len(job) == 3]
    assert sorted(map(int, classes)) == sorted(FULL.classes)
    planned = {step for job in jobs for step in job[0].split(",")}
    others = {"environment", "sanitize", "timings", "host"}  # run before, beside and after
    assert planned | others == set(steps.STEPS)


# --- what is wrong with the machine, or with a step


def missing(monkeypatch, **variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return needs.missing("cuda")


def test_what_a_machine_lacks_is_named_in_one_sentence(monkeypatch, tmp_path):
    assert needs.missing("cpu") is None
    monkeypatch.setattr(needs, "PACKAGES", ("torch", "no_such_package"))
    assert "has no no_such_package: install it" in needs.missing("cuda")
    monkeypatch.undo()
    assert "C compiler: install gcc" in missing(monkeypatch, CC="/no/such/cc")
    monkeypatch.delenv("CC")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "C compiler: install gcc" in needs.missing("cuda")
    monkeypatch.undo()
    assert "needs a working C compiler: false fails with exit status 1" in missing(
        monkeypatch, CC="false"
    )
    monkeypatch.delenv("CC")
    with monkeypatch.context() as patched:
        patched.setattr(needs, "_include", lambda: tmp_path)
        assert f"Python's headers: {tmp_path}/Python.h does not exist" in needs.missing("cuda")
    if not Path("/dev/kfd").exists():
        no_driver = missing(monkeypatch, TRITON_LIBCUDA_PATH=str(tmp_path))
        assert no_driver.startswith("Triton needs the GPU's driver: ")
        monkeypatch.setattr(needs, "_driver", lambda: None)
        assert needs.missing("cuda") is None
        assert "assembler: false fails" in missing(monkeypatch, TRITON_PTXAS_PATH="false")


@pytest.mark.skipif(ON_GPU, reason="there is a GPU")
def test_without_a_gpu_the_command_says_so_in_a_line():
    command = [str(ROOT / "scripts" / "gpu-check")]
    variables = os.environ | {"PYTHON": sys.executable}
    done = subprocess.run(command, capture_output=True, text=True, env=variables)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("gpu-check: ") and done.stderr.count("\n") == 1


def options(**changed):
    given = {"device": "cpu", "backend": "triton", "classes": None, "quick": False, "seconds": 60}
    return Namespace(**given | changed)


def test_a_step_that_fails_is_reported_and_the_next_one_runs(monkeypatch, capsys):
    def breaks(options, cases):
        yield {"failures": []}
        raise MemoryError("of the GPU")

    monkeypatch.setitem(steps.STEPS, "picks", breaks)
    assert steps.run_steps(options(step="picks,duplicates")) == 3
    first, broken, next_one = map(json.loads, capsys.readouterr().out.splitlines())
    assert (first["step"], next_one["step"]) == ("picks", "duplicates")
    assert broken["failures"] == ["ended early: MemoryError: of the GPU"]


def test_whatever_is_found_is_reported():
    """Also where steps ended early, or never began."""
    nothing = {"passed": False, "seconds": 1.0, "failures": ["environment: not started"]}
    assert report(nothing).endswith("1 failures\n  environment: not started\n1.0 s")
    early = {"failures": ["ended early: OSError: lost"]}
    found = nothing | {step: [early] for step in (*steps.STEPS, "sanitizer")}
    found["sanitizer"] = [{"tool": "memcheck", "result": "unfinished"} | early]
    assert "memcheck: unfinished" in report(found)


@pytest.mark.parametrize("broken", ["rows_of", "views_of", "definitions"])
def test_an_error_outside_of_the_kernels_is_reported(monkeypatch, broken):
    from benchmarks.gpu import correctness

    def breaks(*args):
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(correctness, broken, breaks)
    found = check_correctness("cpu", 4, "torch")
    assert any("out of memory" in failure for failure in found["failures"])


def test_a_case_that_takes_too_much_gpu_memory_is_reported(monkeypatch):
    monkeypatch.setattr(steps, "most_held", lambda device: 5 << 30)
    monkeypatch.setitem(steps.STEPS, "large", lambda o, cases: [{}])
    monkeypatch.setitem(steps.STEPS, "picks", lambda o, cases: [{"failures": ["one"]}])
    assert list(steps.found_by("large", options())) == [{"gpu_bytes": 5 << 30}]
    (record,) = steps.found_by("picks", options())
    one, too_much = record["failures"]
    assert one == "one" and too_much.startswith("held 5,368,709,120 bytes of the GPU, allowed are")


def test_findings_of_a_process_that_fails_are_kept():
    def outcome(code, seconds=60):
        return run([sys.executable, "-c", f"print('{{}}', flush=True); {code}"], seconds)[:2]

    assert outcome("import time; time.sleep(60)", 1) == ([{}], "stopped after 1 s, unfinished")
    assert outcome("raise OSError('lost')") == ([{}], "OSError: lost (exit code 1)")
    assert outcome("raise SystemExit(3)") == ([{}], None)
    (_, broken), problem = outcome("print('{cut')")
    assert (broken, problem) == ({"failures": ["an unreadable record: {cut"]}, None)
    assert run([], 0).problem == "not started, no time was left"
    assert "not started, [Errno 2]" in run(["/no/such/program"], 5).problem


FOREIGN = """
import sys
ABSENT = "click rich pyarrow h5py zarr safetensors scipy sklearn pytest hypothesis".split()
class Refused:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ABSENT or name == "fastal_kernels.native._native":
            raise ModuleNotFoundError(f"{name} is not on a GPU machine")
sys.meta_path.insert(0, Refused())
"""


@pytest.mark.full
def test_the_whole_check_runs_without_a_gpu(tmp_path):
    """All steps, interpreted, with what is sure to be beside a GPU: torch, Triton and NumPy."""
    (tmp_path / "sitecustomize.py").write_text(FOREIGN)
    command = [str(ROOT / "scripts" / "gpu-check"), "--device", "cpu", "--classes", "2"]
    variables = {"PYTHON": sys.executable, "TRITON_INTERPRET": "1", "PYTHONPATH": str(tmp_path)}
    out = tmp_path / "out.json"
    _, problem, output = run([*command, "--out", str(out), "--limit", "500"], 500, **variables)
    assert problem is None, output
    assert "All passed" in output
    found = json.loads(out.read_text())
    assert found["passed"]
    assert set(found) == {"passed", "seconds", "failures", *steps.STEPS}
    checked = sorted((r["backend"], r["classes"]) for r in found["correctness"])
    assert checked == [("torch", 2), ("torch", 33), ("triton", 2)]
    for step in set(steps.STEPS) - {"environment", "timings"}:
        assert sum(record.get("checks", 0) for record in found[step]) > 0, step
    assert all(math.isfinite(record["ms"]) for record in found["timings"] if "ms" in record)
