"""`fastal combine`, `fastal badge` and `fastal typiclust`: the picks of their functions."""

import inspect
import json
import os
import signal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import fastal
from fastal import combine, diversity
from fastal.cli import main
from fastal.pipeline import drive
from fastal.pipeline.progress import Meter
from tests.support.combined import pools
from tests.support.commands import rows_of

N, K = 240, 12
LOGITS, X = pools(N)
VALIDATION = pools(60, 1)[1]
CORRECT = VALIDATION[:, 0] < 1
SCORES = np.random.default_rng(5).random(N).astype(np.float32)


def run(*arguments):
    return CliRunner().invoke(main, list(map(str, arguments)))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pools")
    for name, array in {
        "logits": LOGITS, "x": X, "v": VALIDATION, "correct": CORRECT, "own": SCORES
    }.items():  # fmt: skip
        np.save(folder / f"{name}.npy", array)
    ids = pa.array([f"é,{row}" for row in range(N)])
    lists = [pa.array(list(array)) for array in (LOGITS, X)]
    text, places = (
        pa.array([f"t{row}" for row in range(N)]),
        pa.array(["ns"[i % 2] for i in range(N)]),
    )
    table = pa.table(
        {"item": ids, "logits": lists[0], "x": lists[1], "text": text, "at": places, "own": SCORES}
    )
    pq.write_table(table, folder / "both.parquet")
    order = np.random.default_rng(0).permutation(N)  # the same rows in another order
    pq.write_table(table.take(order).select(["item", "x", "own"]), folder / "other.parquet")
    pq.write_table(table.take(order).select(["item", "own"]), folder / "own.parquet")
    return folder


def parts(logits, **how):
    return combine.weighted([(logits, "margin", 0.7), (SCORES, "score", 0.3)], **how)


# The command, its arguments with {} for the folder, and the call in Python.
CASES = {
    "combine clustered-uncertainty": (
        "{}/logits.npy --embeddings {}/x.npy --by entropy --clusters 2 --share 0.5 --seed 3",
        lambda **how: combine.clustered_uncertainty(
            LOGITS, X, by="entropy", n_clusters=2, share=0.5, seed=3, **how
        ),
    ),
    "combine uncertain-model-outliers": (
        "{}/logits.npy --activations {}/x.npy --validation {}/v.npy --share 0.3",
        lambda **how: combine.uncertain_model_outliers(LOGITS, X, VALIDATION, share=0.3, **how),
    ),
    "combine clustered-model-outliers": (
        (
            "{}/logits.npy --activations {}/x.npy --validation {}/v.npy --embeddings {}/x.npy "
            "--share 0.3 --oversample 3 --seed 2"
        ),
        lambda **how: combine.clustered_model_outliers(
            LOGITS, X, VALIDATION, X, share=0.3, oversample=3, seed=2, **how
        ),
    ),
    "combine representative-clusters": (
        "{}/x.npy --labelled {}/v.npy --clusters 4 --seed 1",
        lambda **how: combine.representative_clusters(X, VALIDATION, n_clusters=4, seed=1, **how),
    ),
    "combine most-uncertain-cluster": (
        "{}/logits.npy --embeddings {}/x.npy --clusters 4 --members most_uncertain",
        lambda **how: combine.most_uncertain_cluster(
            LOGITS, X, n_clusters=4, members="most_uncertain", **how
        ),
    ),
    "combine weighted": (
        "{}/logits.npy --part margin 0.7 --part {}/own.npy 0.3 --scale range --combination product",
        lambda **how: parts(LOGITS, scale="range", combination="product", **how),
    ),
    "combine diverse": (
        "{}/logits.npy --embeddings {}/x.npy --labelled {}/v.npy --oversample 4",
        lambda **how: combine.diverse(LOGITS, X, labelled=VALIDATION, oversample=4, **how),
    ),
    "combine ranked-batch": (
        "{}/logits.npy --embeddings {}/x.npy --labelled {}/v.npy --alpha 0.4 --temperature 2",
        lambda **how: combine.ranked_batch(
            LOGITS, X, labelled=VALIDATION, alpha=0.4, temperature=2, **how
        ),
    ),
    "combine transfer-uncertainty": (
        "{}/x.npy --validation {}/v.npy --correct {}/correct.npy --l2 2 --seed 4",
        lambda **how: combine.transfer_uncertainty(X, VALIDATION, CORRECT, l2=2, seed=4, **how),
    ),
    "combine transfer-representative": (
        "{}/x.npy --labelled {}/v.npy --pool-rows 50 --model logistic",
        lambda **how: combine.transfer_representative(X, VALIDATION, pool_rows=50, **how),
    ),
    "combine atlas": (
        "{}/x.npy --validation {}/v.npy --correct {}/correct.npy --per-iteration 5",
        lambda **how: combine.atlas(X, VALIDATION, CORRECT, per_iteration=5, **how),
    ),
    "badge": (
        "{}/logits.npy --embeddings {}/x.npy --seed 2 --memory-mb 0",
        lambda **how: diversity.badge(LOGITS, X, seed=2, **how),
    ),
    "typiclust": (
        "{}/x.npy --labelled {}/v.npy --neighbours 5 --max-clusters 30 --memory-mb 1",
        lambda **how: diversity.typiclust(
            X, labelled=VALIDATION, neighbours=5, max_clusters=30, **how
        ),
    ),
}
OF_TWO = [name for name, (given, _) in CASES.items() if "--embeddings" in given]


def invoke(name, folder, *more):
    given = CASES[name][0].replace("{}", str(folder))
    return run(*name.split(), *given.split(), "--k", K, *more)


def check_same(found, wanted):
    assert found.rows.tolist() == wanted.rows.tolist()
    np.testing.assert_array_equal(np.float32(found.scores), np.float32(wanted.scores))
    assert list(found.columns) == list(wanted.columns)
    for name in wanted.columns:
        assert found[name].tolist() == wanted[name].tolist()
    assert (found.groups is None) == (wanted.groups is None)
    if wanted.groups is not None:
        assert found.groups.tolist() == wanted.groups.tolist()


def test_each_function_has_a_command_with_its_arguments():
    functions = {name: getattr(combine, name) for name in combine.__all__ if name.islower()}
    commands = main.commands["combine"].commands
    assert [*commands] == [name.removeprefix("combine ") for name in CASES if " " in name]
    assert {name.replace("-", "_") for name in commands} == {*functions}
    # The pool, groups as an array, and progress, which --quiet takes away.
    others = {"logits", "pool", "pool_hidden", "groups", "chunk_bytes", "progress", "options"}
    for name, function in {**functions, "badge": diversity.badge}.items():
        command = {**commands, **main.commands}[name.replace("_", "-")]
        wanted = {*inspect.signature(function).parameters} - others
        assert wanted <= {parameter.name for parameter in command.params}


@pytest.mark.full
@pytest.mark.parametrize("name", CASES)
def test_the_file_has_the_picks_of_the_function(tmp_path, files, name):
    out = tmp_path / "picks.parquet"
    done = invoke(name, files, "--out", out)
    assert (done.exit_code, done.stdout) == (0, ""), done.output
    wanted = CASES[name][1](k=K)
    check_same(fastal.Picks.load(out), wanted)
    record = json.loads((tmp_path / "picks.run.json").read_text())
    assert record["command"] == name
    assert record["arguments"]["k"] == K
    assert record["bytes"] > 0 and record["passes"] >= 1 and record["pool_rows"] == N
    assert f"\n{K} picks in " in f"\n{done.stderr}"
    if name.startswith("combine"):
        assert wanted.strategy == name.removeprefix("combine ").replace("-", "_")


@pytest.mark.full
@pytest.mark.parametrize("name", CASES)
def test_a_second_round_leaves_out_the_picks_of_the_first(tmp_path, files, name):
    first = tmp_path / "first.csv"
    assert invoke(name, files, "--out", first).exit_code == 0
    done = invoke(name, files, "--exclude", first, "--quiet")
    assert done.exit_code == 0, done.output
    rows = [int(line["row"]) for line in rows_of(done.stdout)]
    before = [int(line["row"]) for line in rows_of(first.read_text())]
    assert not {*rows} & {*before}
    assert rows == CASES[name][1](k=K, exclude=before).rows.tolist()


@pytest.mark.parametrize("name", OF_TWO)
def test_ids_and_carried_columns_arrive(tmp_path, files, name):
    beside = files / ("both.parquet" if name == "badge" else "other.parquet")  # it wants one order
    given = CASES[name][0].replace("{}/logits.npy", f"{files}/both.parquet")
    given = given.replace("--embeddings {}/x.npy", f"--embeddings {beside} --embeddings-column x")
    done = run(
        *name.split(), *given.replace("{}", str(files)).split(), "--k", K, "--column", "logits",
        "--id-column", "item", "--carry", "text,at",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    lines, wanted = rows_of(done.stdout), CASES[name][1](k=K)
    assert {int(line["row"]) for line in lines} <= {*range(N)}
    assert [line["id"] for line in lines] == [f"é,{line['row']}" for line in lines]
    assert [line["text"] for line in lines] == [f"t{line['row']}" for line in lines]
    assert [line["at"] for line in lines] == ["ns"[int(line["row"]) % 2] for line in lines]
    if "cluster" not in name:  # the first centroids depend on the order of the embeddings
        assert [int(line["row"]) for line in lines] == wanted.rows.tolist()


def test_scores_in_files_are_matched_by_id(files):
    done = run(
        "combine", "weighted", files / "both.parquet", "--column", "logits", "--id-column", "item",
        "--part", "margin", 0.7, "--part", files / "own.parquet", 0.3, "--part-column", "own",
        "--k", K,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    wanted = parts(LOGITS, k=K).rows.tolist()
    assert [int(line["row"]) for line in rows_of(done.stdout)] == wanted
    order = np.random.default_rng(0).permutation(N)
    by_place = combine.weighted([(LOGITS, "margin", 0.7), (SCORES[order], "score", 0.3)], K)
    assert by_place.rows.tolist() != wanted


def test_a_path_with_colons_is_a_path(files, tmp_path):
    np.save(tmp_path / "own:0.5.npy", SCORES)
    done = run(
        "combine", "weighted", files / "logits.npy", "--part", "margin", 0.7,
        "--part", tmp_path / "own:0.5.npy", 0.3, "--k", K,
    )  # fmt: skip
    rows = [int(line["row"]) for line in rows_of(done.stdout)]
    assert rows == parts(LOGITS, k=K).rows.tolist()


def test_quotas_and_groups_of_the_pool(files):
    done = run(
        "combine", "transfer-uncertainty", files / "both.parquet", "--column", "x",
        "--group-column", "at", "--per-group", 3, "--validation", files / "v.npy",
        "--correct", files / "correct.npy",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    groups = np.array(["ns"[row % 2] for row in range(N)])
    wanted = combine.transfer_uncertainty(X, VALIDATION, CORRECT, groups=groups, per_group=3)
    lines = rows_of(done.stdout)
    assert [int(line["row"]) for line in lines] == wanted.rows.tolist()
    assert [line["group"] for line in lines] == wanted.groups.tolist()


@pytest.mark.parametrize("suffix", ["csv", "parquet", "npy"])
def test_the_auc_is_printed_and_recorded(tmp_path, files, suffix):
    correct = tmp_path / f"correct.{suffix}"
    if suffix == "csv":
        said = [["false", "true"][int(value)] for value in CORRECT]
        correct.write_text("is_correct\n" + "\n".join(said) + "\n")
    elif suffix == "parquet":
        pq.write_table(pa.table({"is_correct": CORRECT}), correct)
    else:
        np.save(correct, CORRECT.astype(np.int8))
    out = tmp_path / "picks.csv"
    done = run(
        "combine", "transfer-uncertainty", files / "x.npy", "--validation", files / "v.npy",
        "--correct", correct, "--k", K, "--out", out,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    wanted = combine.transfer_uncertainty(X, VALIDATION, CORRECT, k=K)
    assert f"held-out AUC of the small model: {wanted.auc:.3f}" in done.stderr.splitlines()
    record = json.loads((tmp_path / "picks.run.json").read_text())
    assert record["auc"] == wanted.auc
    assert record["arguments"]["is_correct"] == str(correct)


def test_a_small_model_that_knows_nothing_is_reported_even_if_quiet(files, tmp_path):
    np.save(tmp_path / "drawn.npy", np.random.default_rng(3).random(len(VALIDATION)) < 0.5)
    done = run(
        "combine", "atlas", files / "x.npy", "--validation", files / "v.npy",
        "--correct", tmp_path / "drawn.npy", "--k", 3, "--quiet",
    )  # fmt: skip
    assert done.exit_code == 0
    (line,) = done.stderr.splitlines()
    assert line.startswith("the small model hardly tells wrong rows from right ones")


WRONG = {
    "combine diverse {}/logits.npy --embeddings {}/v.npy --k 3": (
        "--embeddings: wanted 240 rows, as logits has, got 60"
    ),
    "combine diverse {}/logits.npy --embeddings {}/both.parquet --k 3": "--embeddings-column: ",
    "combine diverse {}/logits.npy --embeddings {}/x.npy --k 3 --oversample 0": (
        "--oversample: wanted at least 1, got 0"
    ),
    "combine diverse {}/logits.npy --k 3": "Missing option '--embeddings'",
    "combine diverse {}/logits.npy --embeddings {}/x.npy": "Missing option '--k'",
    "combine diverse {}/both.parquet --column logits --embeddings {}/both.parquet "
    "--embeddings-column x --embeddings-columns x --k 3": (
        "Wanted one of --embeddings-column and --embeddings-columns, got both."
    ),
    "combine clustered-uncertainty {}/logits.npy --embeddings {}/x.npy --k 3 --share 2": (
        "--share: wanted a number above 0, at most 1, got 2"
    ),
    "combine ranked-batch {}/logits.npy --embeddings {}/x.npy --k 3 --alpha 2": "--alpha: wanted",
    "combine ranked-batch {}/bad.npy --embeddings {}/x.npy --k 3": "--on-invalid skip leaves",
    "combine ranked-batch {}/logits.npy --embeddings {}/x.npy --labelled {}/logits.npy --k 3": (
        "--labelled: "
    ),
    "combine weighted {}/logits.npy --part margin 1 --part {}/v.npy 1 --k 3": (
        "--part 2: wanted 240 rows, as --part 1 has, got 60"
    ),
    "combine weighted {}/logits.npy --part margin 1 --part {}/x.npy 1 --k 3": "--part 2: ",
    "combine weighted {}/logits.npy --part margin -1 --k 3": "--part 1: weight: wanted",
    "combine weighted {}/logits.npy --part {}/own.npy 1 --k 3": "--part: wanted a score of POOL",
    "combine weighted {}/logits.npy --part margin --k 3": "'--part'",
    "combine weighted {}/logits.npy --part margin 1 --part {}/own.parquet 1 --k 3": (
        "--part-column: wanted the name of the column of predictions; it has item, own"
    ),
    "combine weighted {}/logits.npy --part margin 1 --part-column own --k 3": (
        "--part-column needs a file that has columns."
    ),
    "combine transfer-uncertainty {}/x.npy --validation {}/v.npy --correct {}/v.npy --k 3": (
        "--correct: {}/v.npy: "
    ),
    "combine transfer-uncertainty {}/x.npy --validation {}/x.npy --correct {}/correct.npy --k 3": (
        "--correct: wanted a bool for each of the 240 validation rows"
    ),
    "combine transfer-uncertainty {}/x.npy --validation {}/v.npy --correct {}/correct.npy": (
        "Missing option '--k' or '--per-group'"
    ),
    "combine transfer-uncertainty {}/x.npy --validation {}/v.npy --correct {}/wrong.csv --k 3": (
        "--correct: {}/wrong.csv: row 1 has 'maybe'; wanted true or false, or 1 or 0"
    ),
    "combine transfer-representative {}/x.npy --labelled {}/logits.npy --k 3": "--labelled: ",
    "combine atlas {}/x.npy --validation {}/v.npy --correct {}/correct.npy --k 3 --l2 0": "--l2: ",
    "combine atlas {}/x.npy --validation {}/v.npy --correct {}/correct.npy --k 3 --out "
    "{}/correct.csv --exclude {}/correct.csv": "--out: {}/correct.csv is a file of exclude",
    "combine diverse {}/logits.npy --embeddings {}/x.npy --k 3 --resume": "--resume: wanted",
    "badge {}/both.parquet --column logits --id-column item --embeddings {}/other.parquet "
    "--embeddings-column x --k 3": "--embeddings: wanted the rows in the order of the other pool",
    "typiclust {}/x.npy --k 0": "--k: wanted at least 1, got 0",
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_is_named_by_its_option(files, wrong):
    bad = LOGITS.copy()
    bad[5, 1] = np.nan
    np.save(files / "bad.npy", bad)
    (files / "wrong.csv").write_text("is_correct\ntrue\nmaybe\n")
    (files / "correct.csv").write_text("rank,row,score\n1,3,0.5\n")
    done = run(*wrong.replace("{}", str(files)).split())
    assert (done.exit_code, done.stdout) == (2, ""), done.output
    *_, last = done.stderr.splitlines()
    assert last.startswith("Error: ")
    assert WRONG[wrong].replace("{}", str(files)) in last


@pytest.mark.parametrize("read", ["v", "x", "logits"])
def test_no_file_that_is_read_is_written(files, read):
    out = files / f"{read}.parquet"
    os.link(files / f"{read}.npy", out)  # the same file under another name
    try:
        done = invoke("combine diverse", files, "--out", out)
    finally:
        out.unlink()
    assert done.exit_code == 2
    assert "--out: " in done.stderr


def test_skipped_files_are_named_once_and_the_status_is_3(tmp_path, files):
    folder = tmp_path / "shards"
    folder.mkdir()
    np.save(folder / "a.npy", X)
    (folder / "b.npy").write_bytes((folder / "a.npy").read_bytes()[:-1])
    given = (folder, "--labelled", files / "v.npy", "--k", K, "--on-bad-file", "skip")
    out = tmp_path / "picks.csv"
    done = run("combine", "representative-clusters", *given, "--clusters", 4, "--out", out)
    assert done.exit_code == 3
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("skipped ")]
    assert "/b.npy: " in line
    wanted = combine.representative_clusters(X, VALIDATION, K, n_clusters=4)
    assert [int(line["row"]) for line in rows_of(out.read_text())] == wanted.rows.tolist()
    record = json.loads((tmp_path / "picks.run.json").read_text())
    assert len(record["skipped"]) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_signals_stop_again_and_again_ends_the_same(
    tmp_path, files, monkeypatch, number
):
    monkeypatch.setattr(drive, "_MOST_ROWS", 60)
    count, chunks = Meter.count, []

    def interrupted(*args):
        count(*args)
        chunks.append(args)
        if len(chunks) % 7 == 0:
            os.kill(os.getpid(), number)

    want = invoke("combine clustered-uncertainty", files)
    state = ("--checkpoint", tmp_path / "state", "--resume")
    codes, said = [], ""
    with monkeypatch.context() as patch:
        patch.setattr(Meter, "count", interrupted)
        while not codes or codes[-1] == 128 + number:
            done = invoke("combine clustered-uncertainty", files, *state)
            codes.append(done.exit_code)
            said += done.stderr
    assert codes == [128 + number] * (len(codes) - 1) + [0]
    assert "; continue with --resume" in said
    assert "resumed at row " in said
    assert done.stdout == want.stdout


def test_progress_and_messages_as_json(files):
    done = invoke("combine atlas", files, "--log-json")
    events = [json.loads(line) for line in done.stderr.splitlines()]
    assert [event["event"] for event in events] == ["stage"] * 5 + ["auc", "done"]
    assert events[-1]["picks"] == K
    assert events[-1]["rows"] == sum(event["rows"] for event in events[:-2])
