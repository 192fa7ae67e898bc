"""The comparison with other tools: equal answers first; then how a run ends, and what is written.

The tools are those of the main environment. `python -m benchmarks.peers --quick` tries all.
"""

import importlib
import json
import subprocess
import sys

import numpy as np
import pytest

from benchmarks.peers.inputs import SIMILAR, inputs
from benchmarks.peers.measure import Limits, Runner, expected, prepared
from benchmarks.peers.results import Results, amount, read, seconds, write
from benchmarks.peers.tasks import MAIN, TASKS, TOOLS
from benchmarks.peers.truth import agreement, truth
from tests.support.checkout import ROOT, environment

# torch.compile is tried in a process of its own, as all tools are measured.
PAIRS = [
    (task, tool) for task in TASKS for tool in TASKS[task].tools
    if tool in MAIN and tool != "torch_compile"
]  # fmt: skip
LIMITS = Limits(seconds=30, memory=1 << 31, threads=1)
# float32: of 1 - p, where p is almost 1; of the minima of losses, which are flat.
ERRORS = {"scores": 2e-3, "temperature": 1e-3}


def run(task, tool, size):
    data = inputs(task, size)
    work = getattr(importlib.import_module(f"benchmarks.peers.tools.{tool}"), task)(data)
    found = {name: np.asarray(values) for name, values in work().items()}
    return data, found


@pytest.mark.parametrize(("task", "tool"), PAIRS)
def test_a_tool_has_the_right_answer(task, tool):
    data, found = run(task, tool, TASKS[task].quick[0])
    agreed = agreement(task, data, truth(task, data), found)
    if task in ERRORS:
        bound = ERRORS[task] if (task, tool) != ("scores", "fastal") else 1e-5
        assert agreed["error"] < bound
    elif task == "badge":
        assert agreed["cost"] < 0.1
    elif task == "kmeans":
        assert agreed["inertia"] < 0.25
    else:
        assert agreed["shared"] == 1


@pytest.mark.parametrize("task", [task for task in TASKS if task not in ("badge", "kmeans")])
def test_a_wrong_answer_is_found(task):
    data = inputs(task, TASKS[task].quick[0])
    right = truth(task, data)
    assert agreement(task, data, right, right) in ({"shared": 1}, {"error": 0})
    wrong = {name: values + values.dtype.type(1) for name, values in right.items()}
    agreed = agreement(task, data, right, wrong)
    assert agreed.get("shared", 0) < 1 and agreed.get("error", 1) > 0.1


def test_rows_that_are_missing_or_too_many_are_found():
    data = inputs("dedup", {"rows": 60, "width": 64})
    right = truth("dedup", data)
    for rows in (right["rows"][:-1], np.arange(60), right["rows"][:0]):
        assert agreement("dedup", data, right, {"rows": rows})["shared"] < 1


def test_random_picks_and_clusters_have_a_higher_cost_than_those_of_tools():
    size = {"badge": {"rows": 500, "classes": 4, "width": 8}, "kmeans": {"rows": 1000, "width": 8}}
    data, found = run("badge", "torch_eager", size["badge"])
    rows = {"rows": np.arange(len(found["rows"]))}
    costs = [agreement("badge", data, {}, answer)["cost"] for answer in (found, rows)]
    assert costs[0] < costs[1]
    data, found = run("kmeans", "scikit_learn", size["kmeans"])
    rows = {"centroids": data["x"][: len(found["centroids"])]}
    costs = [agreement("kmeans", data, {}, answer)["inertia"] for answer in (found, rows)]
    assert costs[0] < costs[1]


def test_the_copies_that_are_made_are_the_only_duplicates():
    data = inputs("dedup", {"rows": 300, "width": 64})
    x = data["x"].astype(np.float64)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    similar = x @ x.T
    brute = [row for row in range(300) if (similar[row, :row] >= SIMILAR).any()]
    assert truth("dedup", data)["rows"].tolist() == brute
    assert not ((similar > SIMILAR - 0.02) & (similar < SIMILAR + 0.02)).any()


def test_the_same_size_gives_the_same_inputs_and_another_gives_others():
    one, same = (inputs("top", {"rows": 50, "classes": 3}) for _ in range(2))
    other = inputs("three", {"rows": 50, "classes": 3})
    np.testing.assert_array_equal(one["logits"], same["logits"])
    assert (one["logits"] != other["logits"]).any()


def test_every_job_of_a_tool_has_a_function():
    for task in TASKS.values():
        assert set(task.tools) <= set(TOOLS)
        for sizes in (task.sizes, task.quick):
            assert [size["rows"] for size in task.sizes[:4]] and sizes
    folder = ROOT / "benchmarks" / "peers" / "tools"
    assert {path.stem for path in folder.glob("[!_]*.py")} == set(TOOLS)
    for task, of in TASKS.items():
        for tool in of.tools:
            assert f"def {task}(data)" in (folder / f"{tool}.py").read_text(encoding="utf-8")


def done(tool, rows, taken, peak=0, task="top", **agreed):
    return {
        "task": task, "tool": tool, "version": "1", "size": {"rows": rows, "classes": 10},
        "status": "done", "seconds": taken, "times": [taken], "peak": peak,
        "agreement": agreed or {"shared": 1.0},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("cases", "want"),
    [
        ([], None),
        ([done("modal", 1000, 2.0)], None),
        ([done("modal", 1000, 20.0)], None),  # it may be a fixed cost
        ([done("modal", 100, 3.0), done("modal", 1000, 4.0)], None),
        # Quadratic growth.
        ([done("modal", 100, 0.01), done("modal", 1000, 1.0)],
         {"status": "skipped", "expected": pytest.approx(100)}),
        ([done("modal", 10_000, 1.0), done("modal", 10_000, 50.0)],
         {"status": "skipped", "expected": 50.0}),
        ([done("modal", 1000, 0.1, peak=10**9)], {"status": "skipped", "expected_bytes": 10**10}),
    ],
)  # fmt: skip
def test_a_size_that_is_expected_to_take_too_long_or_too_much_is_skipped(cases, want):
    assert expected(cases, {"rows": 10_000, "classes": 10}, LIMITS) == want


@pytest.mark.full
def test_a_run_ends_by_its_limits_of_time_and_memory_and_the_next_job_goes_on():
    sizes = [{"rows": 2000, "width": 32}, {"rows": 200_000, "width": 32}]
    with Runner("per_item", LIMITS._replace(seconds=1)) as runner:
        with prepared("outliers", sizes[1:]) as job:
            assert [case["status"] for case in runner.cases(job)] == ["stopped"]
        with prepared("top", [{"rows": 1000, "classes": 3}]) as job:
            assert [case["status"] for case in runner.cases(job)] == ["done"]
    with Runner("numpy_scipy", LIMITS._replace(memory=200 << 20)) as runner:
        with prepared("dedup", [{"rows": 1000, "width": 64}, {"rows": 9000, "width": 64}]) as job:
            cases = runner.cases(job)
        assert [case["status"] for case in cases] == ["done", "memory"]
        assert 4e6 < cases[0]["peak"] < 40e6  # 1000 x 1000 similarities, masks
        assert "allocate" in cases[1]["message"]


@pytest.mark.full
def test_an_error_of_a_tool_is_a_result():
    with (
        prepared("quotas", [{"rows": 5, "classes": 3}]) as job,
        Runner("scikit_learn", LIMITS) as runner,
    ):
        assert [case["status"] for case in runner.cases(job)] == ["crashed"]  # it has no quotas


@pytest.mark.full
def test_the_quick_mode_writes_results_and_goes_on_from_them(tmp_path):
    def measure(*tools):
        command = [sys.executable, "-m", "benchmarks.peers", "--quick", "--threads", "1",
                   "--only", "top,dedup", "--tools", ",".join(tools),
                   "--json", str(tmp_path / "found.json")]  # fmt: skip
        subprocess.run(command, check=True, cwd=ROOT, env=environment(), capture_output=True)
        return read(tmp_path / "found.json").cases

    first = measure("fastal", "numpy_scipy")
    second = measure("fastal", "numpy_scipy", "torch_compile", "scikit_learn")
    assert second[: len(first)] == first
    assert {(case["task"], case["tool"]) for case in second} == {
        ("top", "fastal"), ("top", "numpy_scipy"), ("dedup", "fastal"), ("dedup", "numpy_scipy"),
        ("dedup", "scikit_learn"), ("top", "torch_compile"),
    }  # fmt: skip
    assert all(case["status"] == "done" for case in second)
    assert all(case["agreement"]["shared"] == 1 for case in second)


def small():
    """Results with each way in which a case may end."""
    about = {"date": "2026-01-02", "machine": "x86_64", "cores": 2, "threads": 2,
             "instructions": "avx512", "limit_seconds": 20.0, "limit_bytes": 10**10}  # fmt: skip
    end = {"task": "top", "version": "1", "size": {"rows": 100_000, "classes": 10}}
    cases = [
        done("fastal", 10_000, 0.001), done("fastal", 100_000, 0.01, peak=2 * 10**6),
        done("torch_eager", 10_000, 0.0005), done("torch_eager", 100_000, 0.5, peak=3 * 10**9),
        done("modal", 10_000, 0.0001, shared=0.5),
        end | {"tool": "modal", "status": "skipped", "expected": 123.4},
        end | {"tool": "numpy_scipy", "status": "stopped"},
        end | {"tool": "baal", "status": "memory", "message": "no"},
        end | {"tool": "small_text", "status": "missing", "version": None},
        done("fastal", 64_000, 0.01, task="three"), done("modal", 64_000, 1.0, task="three"),
    ]  # fmt: skip
    return Results(about, cases)


def test_the_page_has_the_figures_and_the_cases_that_fastal_loses(tmp_path):
    pytest.importorskip("matplotlib")
    from benchmarks.peers.page import page, table

    write(tmp_path / "small.json", small())
    results = read(tmp_path / "small.json")
    rows = table(results, "top").splitlines()
    assert rows[0] == "| tool | 10,000 \u00d7 10 | 100,000 \u00d7 10 | memory | right rows |"
    assert rows[2] == "| fastal | 1.00 ms | 10.0 ms | 2 MB | all |"
    assert rows[3] == "| torch, eager | 500 µs (0.5) | 500 ms (50) | 3.0 GB | all |"
    assert "| modAL | 100 µs (0.1) | not run: would take about 123 s | < 1 MB | 50.0% |" in rows
    text = page(results, "small.json")
    assert "stopped: over 20 s" in text and "stopped: over 10.0 GB" in text
    assert "not installed" in text
    lost = text.partition("## How the cost grows")[0]
    assert "torch, eager: 10,000 \u00d7 10 in 500 µs, fastal in 1.00 ms" in lost
    assert "modAL:" not in lost  # it is faster, with other rows


def test_the_pictures_are_the_same_for_the_same_results(tmp_path):
    pytest.importorskip("matplotlib")
    from benchmarks.peers.pictures import draw_bars, draw_growth

    for name in ("a", "b"):
        draw_bars(tmp_path / f"{name}-bars.svg", small())
        draw_growth(tmp_path / f"{name}-growth.svg", small())
    for picture in ("bars", "growth"):
        one, same = ((tmp_path / f"{name}-{picture}.svg").read_bytes() for name in "ab")
        assert one == same and one.startswith(b"<?xml")


def test_the_committed_page_was_written_from_the_newest_results():
    pytest.importorskip("matplotlib")
    from benchmarks.peers.page import BARS, GROWTH, PAGE, newest, page

    assert PAGE.read_text(encoding="utf-8") == page(read(newest()), newest().name)
    for picture in (BARS, GROWTH):
        assert (PAGE.parent / "images" / picture).stat().st_size < 250_000


def test_times_and_amounts_have_few_digits():
    values = (123.4, 12.34, 1.234, 0.1234, 0.0000123)
    assert [*map(seconds, values)] == ["123 s", "12.3 s", "1.23 s", "123 ms", "12.3 µs"]
    assert [amount(n) for n in (0, 2e6, 8.04e9)] == ["< 1 MB", "2 MB", "8.0 GB"]


def test_a_file_of_results_has_a_case_a_line(tmp_path):
    write(tmp_path / "found.json", small())
    lines = (tmp_path / "found.json").read_text(encoding="utf-8").splitlines()
    assert len(lines) == len(small().cases) + 3
    assert json.loads(lines[2].rstrip(","))["tool"] == "fastal"
