"""The commands of diversity: the picks of their functions, with the manners of `select`."""

import csv
import json
from io import StringIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

import fastal
from fastal import diversity
from fastal.base.errors import Interrupted
from fastal.cli import main
from fastal.pipeline import checkpoint
from fastal.pipeline.progress import Meter

D = 6


def run(*arguments):
    return CliRunner().invoke(main, list(map(str, arguments)))


def rows_of(text):
    return list(csv.DictReader(StringIO(text)))


def check_picks(text, picks):
    lines = rows_of(text)
    assert [int(line["rank"]) for line in lines] == list(range(1, len(picks.rows) + 1))
    assert [int(line["row"]) for line in lines] == picks.rows.tolist()
    assert [np.float32(line["score"]) for line in lines] == picks.scores.tolist()


def embeddings(seed, n):
    return np.random.default_rng(seed).standard_normal((n, D)).astype(np.float32)


@pytest.fixture
def x():
    return embeddings(0, 640)


@pytest.fixture
def pool(tmp_path, x):
    np.save(tmp_path / "pool.npy", x)
    return tmp_path / "pool.npy"


@pytest.fixture
def other(tmp_path):
    """What is not of the pool: validation, training, centroids."""
    np.save(tmp_path / "other.npy", embeddings(1, 40) + 0.5)
    return tmp_path / "other.npy"


@pytest.fixture
def parquet(tmp_path, x):
    """The pool with ids and groups, in two files."""
    folder = tmp_path / "shards"
    folder.mkdir()
    for i, (start, stop) in enumerate([(0, 250), (250, 640)]):
        lists = pa.FixedSizeListArray.from_arrays(pa.array(x[start:stop].ravel()), D)
        ids = [f"é,{row}" for row in range(start, stop)]
        groups = ["ns"[row % 2] for row in range(start, stop)]
        pq.write_table(pa.table({"item": ids, "at": groups, "x": lists}), folder / f"{i}.parquet")
    return folder


def by_role(lines):
    return {
        role: [(int(line["row"]), int(line["cluster"])) for line in lines if line["role"] == role]
        for role in ("centroid", "outlier", "random")
    }


def roles_of(sample):
    return {
        role: list(zip(picks.rows.tolist(), picks.groups.tolist(), strict=True))
        for role, picks in zip(("centroid", "outlier", "random"), sample, strict=True)
    }


@pytest.mark.full
def test_cluster_is_fit_and_sample(tmp_path, pool, x):
    done = run("cluster", pool, "--clusters", 4, "--random", 2, "--seed", 3, "--batch-size", 100)
    assert done.exit_code == 0, done.output
    lines = rows_of(done.stdout)
    clusters = diversity.CosineClusters(4, seed=3, batch_size=100).fit(x)
    assert by_role(lines) == roles_of(clusters.sample(x, 2))
    assert [line["role"] for line in lines] == ["centroid", "outlier", "random", "random"] * 4
    assert [int(line["cluster"]) for line in lines] == np.repeat(range(4), 4).tolist()
    similarity = fastal.diversity.nearest_centroid(x, clusters.centroids).similarity
    assert [np.float32(line["score"]) for line in lines] == [
        similarity[int(line["row"])] for line in lines
    ]
    assert list(lines[0]) == ["rank", "row", "score", "cluster", "role"]


def test_clusters_saved_and_used_again(tmp_path, pool, x):
    saved, out = tmp_path / "clusters.npz", tmp_path / "picks.csv"
    assert run("cluster", pool, "--clusters", 3, "--save", saved, "--out", out).exit_code == 0
    record = json.loads((tmp_path / "picks.run.json").read_text())
    clusters = diversity.CosineClusters(3).fit(x)
    loaded = diversity.CosineClusters.load(saved)
    np.testing.assert_array_equal(loaded.centroids, clusters.centroids)
    np.testing.assert_array_equal(loaded.counts, clusters.counts)
    for name in ("inertia", "n_iter", "converged"):
        assert record[name] == getattr(clusters, name) == getattr(loaded, name)
    assert (record["command"], record["rows"]) == ("cluster", 640)
    assert record["passes"] == clusters.n_iter + 2
    assert record["bytes"] == record["passes"] * x.nbytes
    again = run("cluster", pool, "--centroids", saved)
    assert again.stdout == out.read_text()
    np.save(tmp_path / "centroids.npy", clusters.centroids)
    assert run("cluster", pool, "--centroids", tmp_path / "centroids.npy").stdout == again.stdout


def test_clusters_are_refined(pool, x):
    done = run("cluster", pool, "--clusters", 9, "--max-iter", 2, "--refine", 3, "--tol", 0.001)
    clusters = diversity.CosineClusters(9, max_iter=2, refine=3, tol=0.001).fit(x)
    assert by_role(rows_of(done.stdout)) == roles_of(clusters.sample(x))
    unrefined = run("cluster", pool, "--clusters", 9, "--max-iter", 2)
    assert unrefined.stdout != done.stdout


@pytest.mark.full
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet", ".json"])
def test_clusters_and_roles_in_every_format_and_back(tmp_path, parquet, suffix):
    columns = ("--column", "x", "--id-column", "item")
    first, second = tmp_path / f"first{suffix}", tmp_path / f"second{suffix}"
    assert run("cluster", parquet, *columns, "--clusters", 3, "--out", first).exit_code == 0
    lines = rows_of(run("cluster", parquet, *columns, "--clusters", 3).stdout)
    assert list(lines[0]) == ["rank", "row", "score", "id", "cluster", "role"]
    assert [line["id"] for line in lines] == [f"é,{line['row']}" for line in lines]
    assert run("convert", first, "--out", tmp_path / "picks.csv").exit_code == 0
    assert rows_of((tmp_path / "picks.csv").read_text()) == lines
    assert run("convert", tmp_path / "picks.csv", "--out", second).exit_code == 0
    if suffix == ".parquet":
        assert pq.read_table(second).equals(pq.read_table(first))
        assert pq.read_table(second).schema.field("cluster").type == pa.int64()
    else:
        assert second.read_bytes() == first.read_bytes()


def test_outliers_by_each_measure(pool, other, x):
    y = np.load(other)
    centroids = diversity.CosineClusters(5, seed=2, max_iter=3).fit(x).centroids
    fit = ("--clusters", 5, "--seed", 2, "--max-iter", 3)
    for options, want in (
        (["--validation", other], diversity.model_outliers(x, y, 20)),
        (["--centroids", other], diversity.cluster_outliers(x, y, 20)),
        (fit, diversity.cluster_outliers(x, centroids, 20)),
    ):
        done = run("outliers", pool, "--k", 20, *options)
        assert done.exit_code == 0, done.output
        check_picks(done.stdout, want)


@pytest.mark.parametrize("measure", ["--validation", "--centroids", "--clusters"])
def test_outliers_of_each_group(parquet, other, x, measure):
    columns = ("--column", "x", "--id-column", "item", "--group-column", "at")
    value = 4 if measure == "--clusters" else other
    lines = rows_of(run("outliers", parquet, *columns, "--per-group", 3, measure, value).stdout)
    groups = np.arange(640) % 2
    if measure == "--validation":
        by = diversity.ValidationRank(np.load(other))
    else:
        of = np.load(other) if value == other else diversity.CosineClusters(4).fit(x).centroids
        by = diversity.CentroidDistance(of)
    picks = fastal.select(x, None, by, per_group=3, groups=groups)
    assert [int(line["row"]) for line in lines] == picks.rows.tolist()
    assert [line["group"] for line in lines] == ["ns"[row % 2] for row in picks.rows]
    assert [line["id"] for line in lines] == [f"é,{row}" for row in picks.rows]


def test_represent(tmp_path, parquet, pool, other, x):
    y = np.load(other)
    more = tmp_path / "more.npy"
    np.save(more, y[:7])
    for flags, pick in (
        ([], diversity.representative),
        (["--adaptive"], diversity.adaptive_representative),
    ):
        done = run("represent", pool, "--k", 6, "--training", other, *flags)
        check_picks(done.stdout, pick(x, y, 6))
        twice = ("--training", more, "--training", other)
        want = pick(x, np.concatenate((y[:7], y)), 6)
        columns = ("--column", "x", "--id-column", "item")
        out = tmp_path / "picks.csv"
        done = run("represent", parquet, *columns, "--k", 6, *twice, *flags, "--out", out)
        assert (done.exit_code, done.stdout) == (0, "")
        check_picks(out.read_text(), want)
        assert [p["id"] for p in rows_of(out.read_text())] == [f"é,{row}" for row in want.rows]
        record = json.loads((tmp_path / "picks.run.json").read_text())
        assert record["passes"] == (3 if flags else 2)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_core_set(tmp_path, pool, other, x, metric):
    out = tmp_path / "picks.csv"
    for options, labelled in (([], None), (["--labelled", other], np.load(other))):
        done = run("core-set", pool, "--k", 7, "--metric", metric, *options, "--out", out)
        assert done.exit_code == 0, done.output
        check_picks(out.read_text(), diversity.k_center(x, 7, labelled=labelled, metric=metric))
        record = json.loads((tmp_path / "picks.run.json").read_text())
        assert (record["command"], record["passes"]) == ("core-set", 1)
        assert record["arguments"]["metric"] == metric


def test_training_of_the_pools_own_kind_is_read_from_its_column(parquet, other, x):
    lists = pa.FixedSizeListArray.from_arrays(pa.array(np.load(other).ravel()), D)
    pq.write_table(pa.table({"n": [0] * 40, "x": lists}), other.with_suffix(".parquet"))
    training = ("--training", other.with_suffix(".parquet"))
    done = run("represent", parquet, "--column", "x", "--k", 4, *training)
    check_picks(done.stdout, diversity.representative(x, np.load(other), 4))


def test_bfloat16_centroids(pool, tmp_path, x):
    halves = torch.from_numpy(embeddings(4, 3)).bfloat16()
    save_file({"c": halves}, tmp_path / "c.safetensors")
    done = run("outliers", pool, "--k", 5, "--centroids", tmp_path / "c.safetensors")
    check_picks(done.stdout, diversity.cluster_outliers(x, halves, 5))


def commands(pool, other):
    """Every way to pick."""
    return (
        ["cluster", pool, "--clusters", 3],
        ["cluster", pool, "--centroids", other],
        ["outliers", pool, "--k", 5, "--validation", other],
        ["outliers", pool, "--k", 5, "--centroids", other],
        ["outliers", pool, "--k", 5, "--clusters", 3],
        ["represent", pool, "--k", 5, "--training", other],
        ["represent", pool, "--k", 5, "--training", other, "--adaptive"],
        ["core-set", pool, "--k", 5, "--labelled", other],
    )


@pytest.mark.full
def test_a_row_with_nan_is_named_or_left_out(tmp_path, pool, other, x):
    x[[17, 20]] = np.nan
    np.save(pool, x)
    out = tmp_path / "picks.csv"
    for command in commands(pool, other):
        done = run(*command, "--out", out)
        assert (done.exit_code, done.stdout) == (2, ""), command
        assert f"({pool} row 17) has NaN" in done.stderr, done.stderr
        assert done.stderr.count("\n") == 1
        assert not out.exists()
        done = run(*command, "--on-invalid", "skip", "--out", out)
        assert done.exit_code == 0, done.output
        assert "2 invalid rows left out" in done.stderr
        assert json.loads((tmp_path / "picks.run.json").read_text())["invalid"] == 2
        out.unlink()


def test_what_does_not_fit_is_one_line_and_status_2(tmp_path, pool, other, x):
    np.save(tmp_path / "narrow.npy", x[:9, :4])
    np.save(tmp_path / "nan.npy", np.full((3, D), np.nan, np.float32))
    narrow, broken = tmp_path / "narrow.npy", tmp_path / "nan.npy"
    np.savez(tmp_path / "no.npz", x=x)
    for arguments, words in (
        (["cluster", pool, "--clusters", 0], "--clusters: wanted at least 1, got 0"),
        (["cluster", pool, "--clusters", 641], "--clusters: wanted at most the 640 valid rows"),
        (["cluster", pool, "--clusters", 3, "--max-iter", 0], "--max-iter: wanted at least 1"),
        (["cluster", pool, "--clusters", 3, "--refine", -1], "--refine: wanted 0 or more, got -1"),
        (["cluster", pool, "--clusters", 3, "--tol", 2], "--tol: wanted 0 to 1, got 2"),
        (
            ["cluster", pool, "--clusters", 3, "--refine", 2, "--batch-size", 9],
            "--refine: wanted 0 with --batch-size 9, got 2",
        ),
        (["cluster", pool, "--centroids", narrow], "Error: --centroids: wanted 6 columns"),
        (["cluster", pool, "--centroids", broken], "centroids: row 0 has NaN"),
        (["cluster", pool, "--centroids", tmp_path / "no.npz"], "no array 'centroids'"),
        (["cluster", pool, "--centroids", tmp_path / "none.npy"], "none.npy: no such file"),
        (
            ["outliers", pool, "--k", 5, "--centroids", narrow],
            "Error: --centroids: wanted 6 columns",
        ),
        (
            ["outliers", pool, "--k", 5, "--validation", narrow],
            "Error: --validation: wanted 6 columns",
        ),
        (["outliers", pool, "--k", 5, "--validation", broken], f"{broken} row 0 has NaN"),
        (["outliers", pool, "--k", 0, "--clusters", 3], "k: wanted at least 1, got 0"),
        (["represent", pool, "--k", 0, "--training", other], "k: wanted at least 1, got 0"),
        (["represent", pool, "--k", 5, "--training", narrow], "training: wanted rows of 6"),
        (
            ["represent", pool, "--k", 5, "--training", broken],
            f"(training: {broken} row 0) has NaN",
        ),
        (["core-set", pool, "--k", 0], "k: wanted at least 1, got 0"),
        (["core-set", pool, "--k", 5, "--labelled", narrow], "Error: --labelled: wanted 6 columns"),
        (["core-set", pool, "--k", 5, "--labelled", broken], "labelled: row 0 has NaN"),
        (
            ["core-set", pool, "--k", 5, "--metric", "euclidean", "--backend", "native"],
            "'native' cannot be used",
        ),
    ):
        done = run(*arguments, "--out", tmp_path / "picks.csv")
        assert done.exit_code == 2, (arguments, done.output)
        assert (done.stdout, done.stderr.count("\n")) == ("", 1), done.stderr
        assert words in done.stderr, done.stderr
        assert not (tmp_path / "picks.csv").exists()


def test_usage(pool, other):
    for arguments, words in (
        (["cluster", pool], "Wanted one of --clusters and --centroids, got none"),
        (["outliers", pool, "--k", 5], "--validation, --centroids and --clusters, got none"),
        (
            ["outliers", pool, "--k", 5, "--validation", other, "--clusters", 3],
            "got --validation and --clusters",
        ),
        (["outliers", pool, "--validation", other], "Missing option '--k' or '--per-group'"),
        (["outliers", pool, "--k", 5, "--validation", other, "--fast"], "--fast needs"),
        (
            ["outliers", pool, "--per-group", 2, "--clusters", 3],
            "--group-column: wanted a label for each row",
        ),
        (["cluster", pool, "--centroids", other, "--max-iter", 3], "--max-iter needs --clusters."),
        (["cluster", pool, "--centroids", other, "--refine", 3], "--refine needs --clusters."),
        (["cluster", pool, "--centroids", other, "--tol", 0.1], "--tol needs --clusters."),
        (
            ["cluster", pool, "--centroids", other, "--random", 0, "--seed", 0],
            "--seed needs --clusters.",
        ),
        (
            ["outliers", pool, "--k", 5, "--validation", other, "--batch-size", 9],
            "--batch-size needs --clusters.",
        ),
        (
            ["outliers", pool, "--k", 5, "--centroids", other, "--seed", 1],
            "--seed needs --clusters.",
        ),
        (["cluster", pool, "--centroids", other, "--save", "c.npz"], "--save needs --clusters"),
        (["cluster", pool, "--clusters", 3, "--random", -1], "--random"),
        (["represent", pool, "--k", 5], "Missing option '--training'"),
        (["represent", pool, "--training", other], "Missing option '--k'"),
    ):
        done = run(*arguments)
        assert done.exit_code == 2, arguments
        assert words in done.stderr, done.stderr


def test_nothing_that_is_read_is_written_over(tmp_path, pool, other):
    np.savez(tmp_path / "pool.npz", x=embeddings(3, 20))
    (tmp_path / "link.csv").symlink_to(other)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for command in commands(pool, other):
        if "--clusters" not in command:
            done = run(*command, "--out", tmp_path / "link.csv")
            assert done.exit_code == 2
            assert "is one of the files to read" in done.stderr
    archive = tmp_path / "pool.npz"
    for save, words in (
        (archive, f"save: {archive} is a file of the pool"),
        (tmp_path / "c.csv", "save: wanted a .npz file"),
        (tmp_path / "absent" / "c.npz", "no such folder"),
    ):
        done = run("cluster", archive, "--clusters", 2, "--save", save)
        assert (done.exit_code, words in done.stderr) == (2, True), done.stderr
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.full
def test_skipped_files_are_named_and_the_status_is_3(tmp_path, other, x):
    folder = tmp_path / "pool"
    folder.mkdir()
    np.save(folder / "a.npy", x[:100])
    np.save(folder / "b.npy", x[100:])
    (folder / "c.npy").write_bytes((folder / "b.npy").read_bytes()[:-1])
    for command in commands(folder, other):
        done = run(*command, "--on-bad-file", "skip")
        assert done.exit_code == 3, done.output
        assert "skipped " in done.stderr
        assert done.stdout == run(command[0], *folder.glob("[ab].npy"), *command[2:]).stdout


def often_saved(monkeypatch):
    """A checkpoint after each of ten chunks a pass."""
    monkeypatch.setattr(checkpoint, "_SECONDS", 0.0)
    monkeypatch.setattr(checkpoint, "_PAUSE", 0)
    monkeypatch.setattr("fastal.pipeline.drive._IN_PLACE_BYTES", 64 * 32)


@pytest.mark.full
def test_interrupted_again_and_again_it_ends_the_same(tmp_path, pool, other, monkeypatch):
    often_saved(monkeypatch)
    count, chunks = Meter.count, []

    def interrupted(*args):
        count(*args)
        chunks.append(args)
        if len(chunks) % 7 == 0:
            raise Interrupted(2)

    for command in commands(pool, other):
        fits = command[0] == "cluster" and "--clusters" in command
        files = ["--save", tmp_path / "save.npz"] if fits else []
        want = run(*command, "--out", tmp_path / "want.csv", *files)
        assert want.exit_code == 0, want.output
        saved = [path.read_bytes() for path in tmp_path.glob("save.npz")]
        state = ("--checkpoint", tmp_path / "state", "--resume", "--out", tmp_path / "out.csv")
        with monkeypatch.context() as patch:
            patch.setattr(Meter, "count", interrupted)
            codes = []
            while not codes or codes[-1] == 130:
                (tmp_path / "save.npz").unlink(missing_ok=True)
                codes.append(run(*command, *state, *files).exit_code)
        assert codes == [130] * (len(codes) - 1) + [0]
        assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "want.csv").read_bytes()
        assert [path.read_bytes() for path in tmp_path.glob("save.npz")] == saved
        (tmp_path / "save.npz").unlink(missing_ok=True)


@pytest.mark.full
def test_a_checkpoint_is_of_what_was_read_beside_the_pool(tmp_path, pool, other, monkeypatch):
    often_saved(monkeypatch)
    count = Meter.count

    def interrupted(*args):
        count(*args)
        raise Interrupted(2)

    for number, command in enumerate(commands(pool, other)):
        np.save(other, embeddings(1, 40))
        state = ("--checkpoint", tmp_path / f"state{number}", "--resume")
        with monkeypatch.context() as patch:
            patch.setattr(Meter, "count", interrupted)
            assert run(*command, *state).exit_code == 130
        np.save(other, embeddings(2, 40))
        done = run(*command, *state)
        assert done.exit_code == (0 if "--clusters" in command else 2), done.output
        assert ("is of another run" in done.stderr) == ("--clusters" not in command)


def test_progress_of_several_passes(monkeypatch, tmp_path, pool, other):
    often_saved(monkeypatch)
    monkeypatch.setattr("fastal.pipeline.progress._SECONDS_A_LINE", 0.0)
    command = ("represent", pool, "--k", 2, "--adaptive", "--training", other)
    lines = run(*command).stderr.splitlines()
    assert [line.partition(",")[0] for line in lines[9:12]] == [
        "33%: pass 1", "37%: pass 2", "40%: pass 2",
    ]  # fmt: skip
    assert lines[-1].startswith("3 passes of 640 rows, ")
    events = [json.loads(line) for line in run(*command, "--log-json").stderr.splitlines()]
    assert [event["rows"] for event in events[:-1]] == [*range(64, 641, 64)] * 3
    assert [event["pass"] for event in events] == [1] * 10 + [2] * 10 + [3] * 11
    assert all(event["seconds_left"] >= 0 for event in events[:-1])
    assert all(event["of_passes"] == 3 for event in events)

    count, rows = Meter.count, []

    def interrupted(meter, *args):
        count(meter, *args)
        rows.append(args)
        if len(rows) == 24:
            raise Interrupted(2)

    monkeypatch.setattr(Meter, "count", interrupted)
    state = ("--checkpoint", tmp_path / "state", "--resume", "--out", tmp_path / "picks.csv")
    assert run(*command, *state).exit_code == 130
    lines = run(*command, *state).stderr.splitlines()
    assert lines[0] == "resumed at row 256 of pass 3"
    assert lines[1].startswith("83%: pass 3, 320 rows")
    record = json.loads((tmp_path / "picks.run.json").read_text())
    assert (record["rows"], record["passes"], record["resumed_at"]) == (640, 3, 256)
    assert record["bytes"] == 384 * 4 * D


def test_help():
    for command in ("cluster", "outliers", "represent", "core-set"):
        assert command in run("--help").stdout
        assert run(command, "-h").exit_code == 0
