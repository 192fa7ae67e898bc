"""`fastal combine`, `fastal badge` and `fastal typiclust`: the picks of their functions."""

import json
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import fastal
from fastal import combine, diversity
from fastal.base.errors import Interrupted
from fastal.cli import main
from fastal.pipeline import watched_runs
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
