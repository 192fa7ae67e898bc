"""`fastal deduplicate`: the rows that are kept and dropped are those of `deduplicate`."""

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

N, D = 400, 6
SUFFIXES = [".csv", ".jsonl", ".parquet", ".json"]


def run(*arguments):
    return CliRunner().invoke(main, list(map(str, arguments)))


def rows_of(text):
    return list(csv.DictReader(StringIO(text)))


@pytest.fixture
def x():
    """Rows of which some are nearly equal."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((N, D))
    to, of = rng.integers(0, N, (2, 150))
    x[to] = x[of] + rng.choice([0, 0.05, 0.2], (150, 1)) * rng.standard_normal((150, D))
    return x.astype(np.float32)


@pytest.fixture
def centroids(tmp_path):
    np.save(tmp_path / "c.npy", np.random.default_rng(1).standard_normal((3, D)))
    return tmp_path / "c.npy"


@pytest.fixture
def pool(tmp_path, x):
    np.save(tmp_path / "pool.npy", x)
    return tmp_path / "pool.npy"


@pytest.fixture
def parquet(tmp_path, x):
    """The pool with ids, texts and a column of numbers, in two files."""
    folder = tmp_path / "shards"
    folder.mkdir()
    quality = np.random.default_rng(2).integers(0, 9, N)
    for i, rows in enumerate(np.split(np.arange(N), [150])):
        lists = pa.FixedSizeListArray.from_arrays(pa.array(x[rows].ravel()), D)
        ids, texts = ([f"{kind}{row}" for row in rows] for kind in ("é,", "text "))
        table = {"item": ids, "text": texts, "quality": quality[rows], "x": lists}
        pq.write_table(pa.table(table), folder / f"{i}.parquet")
    return folder


COLUMNS = ("--column", "x", "--id-column", "item")


def stands_for(found):
    """How many rows each kept row stands for, by following each duplicate."""
    of = dict(zip(found.rows.tolist(), found.of.tolist(), strict=True))
    counts = {row: 1 for row in range(N) if row not in of}
    for row in of:
        while row in of:
            row = of[row]
        counts[row] += 1
    return counts


def check_kept(lines, found, cluster):
    counts = stands_for(found)
    assert sorted(int(line["row"]) for line in lines) == sorted(counts)
    assert [int(line["row"]) for line in lines] == sorted(counts, key=lambda r: (-counts[r], r))
    for rank, line in enumerate(lines, 1):
        row = int(line["row"])
        assert (int(line["rank"]), float(line["score"])) == (rank, counts[row])
        assert int(line["cluster"]) == cluster[row]


def check_dropped(lines, found, cluster):
    kept = dict(zip(found.rows.tolist(), found.kept().tolist(), strict=True))
    of = dict(zip(found.rows.tolist(), found.of.tolist(), strict=True))
    similarity = dict(zip(found.rows.tolist(), found.similarity, strict=True))
    best_first = sorted(kept, key=lambda row: (-similarity[row], row))
    assert [int(line["row"]) for line in lines] == best_first
    for rank, line in enumerate(lines, 1):
        row = int(line["row"])
        assert (int(line["rank"]), np.float32(line["score"])) == (rank, similarity[row])
        assert (int(line["of"]), int(line["kept"])) == (of[row], kept[row])
        assert int(line["cluster"]) == cluster[row] == cluster[of[row]]


@pytest.mark.parametrize("keep", ["first", "nearest", "farthest", "random"])
def test_the_rows_are_those_of_the_function(tmp_path, pool, centroids, x, keep):
    found = diversity.deduplicate(x, np.load(centroids), 0.97, keep=keep, seed=4)
    cluster = diversity.nearest_centroid(x, np.load(centroids)).cluster
    dropped = tmp_path / "dropped.csv"
    options = ["--keep", keep, *(("--seed", 4) if keep == "random" else ())]
    options += ["--threshold", 0.97, "--centroids", centroids]
    done = run("deduplicate", pool, *options, "--dropped", dropped)
    assert done.exit_code == 0, done.output
    kept = rows_of(done.stdout)
    assert list(kept[0]) == ["rank", "row", "score", "cluster"]
    check_kept(kept, found, cluster)
    lines = rows_of(dropped.read_text())
    assert list(lines[0]) == ["rank", "row", "score", "cluster", "of", "kept"]
    check_dropped(lines, found, cluster)
    assert f"threshold 0.97: {len(kept)} rows kept, {len(lines)} dropped\n" in done.stderr
    wrong = found._replace(of=np.roll(found.of, 1))
    with pytest.raises(AssertionError):
        check_dropped(lines, wrong, cluster)
    with pytest.raises(AssertionError):
        check_kept(kept, diversity.Duplicates(*(column[1:] for column in found)), cluster)


def test_clusters_are_found_first(tmp_path, pool, x):
    clusters = diversity.CosineClusters(4, seed=3, max_iter=5).fit(x)
    fit = ("--clusters", 4, "--seed", 3, "--max-iter", 5)
    out = tmp_path / "kept.csv"
    done = run("deduplicate", pool, *fit, "--memory-mb", 1, "--out", out)
    assert (done.exit_code, done.stdout) == (0, ""), done.output
    found = diversity.deduplicate(x, clusters.centroids)
    check_kept(rows_of(out.read_text()), found, clusters.assign(x).cluster)
    record = json.loads((tmp_path / "kept.run.json").read_text())
    assert (record["command"], record["arguments"]["keep"]) == ("deduplicate", "first")
    assert record["arguments"]["memory_bytes"] == 1 << 20
    assert record["arguments"]["threshold"] == [0.95]
    assert record["thresholds"] == [
        {"threshold": 0.95, "kept": N - len(found.rows), "dropped": len(found.rows)}
    ]
    assert record["bytes"] == record["passes"] * x.nbytes


@pytest.mark.full
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_several_thresholds_write_what_runs_with_each_alone_write(tmp_path, parquet, suffix):
    options = (*COLUMNS, "--clusters", 3, "--keep", "quality", "--carry", "text")
    thresholds = [0.9, 0.99, 1]
    several = [f"--threshold={one}" for one in thresholds]
    outs = ["--out", tmp_path / f"kept-{{threshold}}{suffix}"]
    outs += ["--dropped", tmp_path / f"dropped {{threshold}}{suffix}"]
    done = run("deduplicate", parquet, *options, *several, *outs)
    assert done.exit_code == 0, done.output
    for one in thresholds:
        alone = ["--out", tmp_path / f"k{suffix}", "--dropped", tmp_path / f"d{suffix}"]
        done = run("deduplicate", parquet, *options, "--threshold", one, *alone)
        assert done.exit_code == 0, done.output
        for of_all, of_one in (("kept-", "k"), ("dropped ", "d")):
            found = (tmp_path / f"{of_all}{one}{suffix}").read_bytes()
            assert found == (tmp_path / f"{of_one}{suffix}").read_bytes()
            assert len(fastal.Picks.load(tmp_path / f"{of_one}{suffix}")) > 3


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_ids_and_columns_in_every_format_and_back(tmp_path, parquet, centroids, x, suffix):
    kept, dropped = tmp_path / f"kept{suffix}", tmp_path / f"dropped{suffix}"
    options = (*COLUMNS, "--centroids", centroids, "--keep", "quality", "--carry", "text")
    outs = ("--out", kept, "--dropped", dropped)
    done = run("deduplicate", parquet, *options, "--threshold", 0.9, *outs)
    assert done.exit_code == 0, done.output
    quality = np.random.default_rng(2).integers(0, 9, N)
    found = diversity.deduplicate(x, np.load(centroids), 0.9, keep=quality)
    for path, own in ((kept, []), (dropped, ["of", "of_id", "kept", "kept_id"])):
        picks = fastal.Picks.load(path)
        assert [*picks.columns] == ["cluster", *own, "text", "quality"]
        assert picks.ids.tolist() == [f"é,{row}" for row in picks.rows]
        assert picks["text"].tolist() == [f"text {row}" for row in picks.rows]
        assert list(map(int, picks["quality"])) == quality[picks.rows].tolist()
        for name in own[::2]:
            assert picks[f"{name}_id"].tolist() == [f"é,{int(row)}" for row in picks[name]]
    assert sorted(fastal.Picks.load(dropped).rows) == found.rows.tolist()
    # Excluded by id, the duplicates leave the kept rows.
    left = tmp_path / "left.csv"
    done = run("outliers", parquet, *COLUMNS, "--centroids", centroids, "--k", N,
               "--exclude", dropped, "--out", left)  # fmt: skip
    assert done.exit_code == 0, done.output
    assert {*fastal.Picks.load(left).rows} == {*fastal.Picks.load(kept).rows}


def test_excluded_invalid_and_unread_rows_are_neither_kept_nor_dropped(tmp_path, pool, x):
    x[[5, 8]] = np.nan
    np.save(pool, x)
    (tmp_path / "labelled.csv").write_text("row\n1\n2\n399\n")
    out, dropped = tmp_path / "kept.csv", tmp_path / "dropped.csv"
    options = ("--clusters", 1, "--out", out, "--dropped", dropped)
    done = run("deduplicate", pool, *options, "--exclude", tmp_path / "labelled.csv")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert f"({pool} row 5) has NaN" in done.stderr
    assert not out.exists()
    assert not dropped.exists()
    done = run("deduplicate", pool, *options, "--exclude", tmp_path / "labelled.csv",
               "--on-invalid", "skip")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "2 invalid rows left out" in done.stderr
    assert json.loads((tmp_path / "kept.run.json").read_text())["invalid"] == 2
    rows = [*fastal.Picks.load(out).rows, *fastal.Picks.load(dropped).rows]
    assert sorted(rows) == np.delete(np.arange(N), [1, 2, 5, 8, 399]).tolist()


def test_a_pool_without_valid_rows_is_said(tmp_path, centroids):
    np.save(tmp_path / "nan.npy", np.full((3, D), np.nan, np.float32))
    done = run("deduplicate", tmp_path / "nan.npy", "--centroids", centroids,
               "--on-invalid", "skip", "--dropped", tmp_path / "d.csv")  # fmt: skip
    assert (done.exit_code, done.stdout) == (0, "rank,row,score,cluster\n")
    assert "nothing was kept" in done.stderr
    assert (tmp_path / "d.csv").read_text() == "rank,row,score,cluster,of,kept\n"


def test_skipped_files_are_named_and_the_status_is_3(tmp_path, x, centroids):
    folder = tmp_path / "pool"
    folder.mkdir()
    np.save(folder / "a.npy", x[:150])
    np.save(folder / "b.npy", x[150:])
    (folder / "c.npy").write_bytes((folder / "b.npy").read_bytes()[:-1])
    options = ("--centroids", centroids, "--threshold", 0.9)
    done = run("deduplicate", folder, *options, "--on-bad-file", "skip")
    assert done.exit_code == 3, done.output
    assert "skipped " in done.stderr
    assert done.stdout == run("deduplicate", *folder.glob("[ab].npy"), *options).stdout


def test_bfloat16_embeddings(tmp_path, x):
    halves = torch.from_numpy(x).bfloat16()
    save_file({"x": halves}, tmp_path / "x.safetensors")
    np.save(tmp_path / "one.npy", np.ones((1, D)))
    done = run("deduplicate", tmp_path / "x.safetensors", "--centroids", tmp_path / "one.npy")
    found = diversity.deduplicate(halves, np.ones((1, D)))
    found = diversity.Duplicates(*map(np.asarray, found))
    check_kept(rows_of(done.stdout), found, np.zeros(N, int))


def test_the_kept_rows_for_an_annotation_tool(tmp_path, parquet, centroids):
    out, dropped = tmp_path / "kept.jsonl", tmp_path / "dropped.csv"
    done = run("deduplicate", parquet, *COLUMNS, "--centroids", centroids, "--carry", "text",
               "--format", "prodigy", "--out", out, "--dropped", dropped)  # fmt: skip
    assert done.exit_code == 0, done.output
    first = json.loads(out.read_text().split("\n")[0])
    assert first["text"] == f"text {first['meta']['row']}"
    assert len(rows_of(dropped.read_text())) + len(out.read_text().splitlines()) == N


def test_progress_as_json_has_the_counts(pool, centroids):
    done = run("deduplicate", pool, "--centroids", centroids, "--log-json")
    events = {event["event"]: event for event in map(json.loads, done.stderr.splitlines())}
    count = events["deduplicated"]
    assert count["kept"] + count["dropped"] == N
    assert count["kept"] == len(rows_of(done.stdout))
    assert events["done"]["thresholds"][0]["kept"] == count["kept"]
    assert run("deduplicate", pool, "--centroids", centroids, "--quiet").stderr == ""


def test_the_scores_that_a_command_wrote_decide(tmp_path, parquet, pool, centroids, x):
    logits = np.random.default_rng(5).standard_normal((N, 3)).astype(np.float32)
    np.save(tmp_path / "logits.npy", logits)
    found = diversity.deduplicate(x, np.load(centroids), 0.9, keep=fastal.score(logits).margin)
    for suffix in (".csv", ".npy"):
        scores = tmp_path / f"scores{suffix}"
        assert (
            run("score", tmp_path / "logits.npy", "--by", "margin", "--out", scores).exit_code == 0
        )
        for of in ([pool], [parquet, "--column", "x"]):
            done = run("deduplicate", *of, "--centroids", centroids, "--keep", scores,
                       "--threshold", 0.9)  # fmt: skip
            assert done.exit_code == 0, done.output
            kept = {int(line["row"]) for line in rows_of(done.stdout)}
            assert kept == set(range(N)) - {*found.rows.tolist()}
    done = run("deduplicate", pool, "--centroids", centroids, "--keep", scores.with_suffix(".csv"),
               "--out", scores.with_suffix(".csv"))  # fmt: skip
    assert (done.exit_code, "is the file of keep" in done.stderr) == (2, True)
    run("score", tmp_path / "logits.npy", "--out", scores)
    done = run("deduplicate", pool, "--centroids", centroids, "--keep", scores)
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert f"Error: --keep: {scores}: no file of values: wanted one column" in done.stderr


@pytest.mark.full
@pytest.mark.parametrize("keep", ["nearest", "quality"])
@pytest.mark.parametrize("clusters", ["--clusters", "--centroids"])
def test_interrupted_again_and_again_it_ends_the_same(
    tmp_path, parquet, centroids, monkeypatch, keep, clusters
):
    monkeypatch.setattr(checkpoint, "_SECONDS", 0.0)  # a checkpoint after each chunk
    monkeypatch.setattr(checkpoint, "_PAUSE", 0)
    monkeypatch.setattr("fastal.pipeline.drive._CHUNK_BYTES", 50 * 4 * D)
    count, chunks = Meter.count, []

    def interrupted(*args):
        count(*args)
        chunks.append(args)
        if len(chunks) % 7 == 0:
            raise Interrupted(2)

    command = ["deduplicate", parquet, *COLUMNS, "--keep", keep, "--threshold", 0.9]
    command += ["--threshold", 0.99, clusters, 2 if clusters == "--clusters" else centroids]

    def outs(name):
        return [
            "--out", tmp_path / f"{name}-{{threshold}}.csv",
            "--dropped", tmp_path / f"{name}-dropped-{{threshold}}.jsonl",
        ]  # fmt: skip

    want = run(*command, *outs("want"))
    assert want.exit_code == 0, want.output
    state = ("--checkpoint", tmp_path / "state", "--resume")
    with monkeypatch.context() as patch:
        patch.setattr(Meter, "count", interrupted)
        codes = []
        while not codes or codes[-1] == 130:
            codes.append(run(*command, *state, *outs("out")).exit_code)
            assert len(codes) < 50
    assert codes == [130] * (len(codes) - 1) + [0]
    assert len(codes) > 2
    for name in ("-0.9.csv", "-0.99.csv", "-dropped-0.9.jsonl", "-dropped-0.99.jsonl"):
        assert (tmp_path / f"out{name}").read_bytes() == (tmp_path / f"want{name}").read_bytes()


def test_a_checkpoint_of_another_choice_is_refused(tmp_path, pool, centroids, monkeypatch):
    def interrupted(*_):
        raise Interrupted(2)

    command = ["deduplicate", pool, "--centroids", centroids, "--checkpoint", tmp_path / "state"]
    with monkeypatch.context() as patch:
        patch.setattr(Meter, "count", interrupted)
        assert run(*command).exit_code == 130
    done = run(*command, "--resume", "--keep", "nearest")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "--keep is 'first' there, 'nearest' in this run" in done.stderr, done.stderr
    assert run(*command, "--resume").exit_code == 0


@pytest.mark.parametrize("clusters", ["--clusters", "--centroids"])
def test_the_record_has_all_thresholds_among_the_arguments(tmp_path, pool, centroids, clusters):
    of = (clusters, 2 if clusters == "--clusters" else centroids)
    thresholds = ("--threshold", 0.99, "--threshold", 0.9)
    done = run("deduplicate", pool, *of, *thresholds, "--out", tmp_path / "kept-{threshold}.csv")
    assert done.exit_code == 0, done.output
    record = json.loads((tmp_path / "kept-0.99.run.json").read_text())
    assert record["arguments"]["threshold"] == [0.99, 0.9]
    assert record["arguments"]["on_invalid"] == "raise"
    assert [count["threshold"] for count in record["thresholds"]] == [0.99, 0.9]


def test_nothing_is_written_twice_or_over_what_is_read(tmp_path, pool, centroids):
    picks = tmp_path / "picks.csv"
    picks.write_text("row\n3\n")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    a = tmp_path / "a.csv"
    several = ("--threshold", 0.9, "--threshold", 0.8)
    for options, words in (
        (["--out", a, "--dropped", a], "--dropped: "),
        (["--out", a, "--dropped", tmp_path / "a.run.json"], "--dropped: "),
        (["--out", a, "--dropped", picks, "--exclude", picks], "is a file of exclude"),
        (["--out", picks, "--among", picks], "--out: "),
        (["--out", a, "--dropped", tmp_path / "a.npy"], "--dropped: wanted a .csv or"),
        (["--dropped", tmp_path / "no" / "a.csv"], "no such folder"),
        (several, "--out: wanted a file for each threshold, such as out-{threshold}.csv, got none"),
        ([*several, "--out", a], "--out: wanted a file for each threshold"),
        (
            [*several, "--out", tmp_path / "{threshold}.csv", "--dropped", a],
            "--dropped: wanted a file for each threshold",
        ),
        ([*several, "--threshold", 0.9], "--threshold: 0.9 is there twice"),
        (["--threshold", 2], "--threshold: wanted a similarity from -1 to 1, got 2.0"),
    ):
        done = run("deduplicate", pool, "--centroids", centroids, *options)
        assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.output
        assert words in done.stderr, done.stderr
        assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("keep", ["nearest", "first", "quality", "a.csv"])
def test_an_output_may_be_in_a_folder_that_has_the_name_of_a_choice(
    tmp_path, pool, monkeypatch, keep
):
    monkeypatch.chdir(tmp_path)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(np.load(pool).ravel()), D)
    table = {"x": lists, "quality": np.arange(N), "a.csv": np.arange(N)}
    pq.write_table(pa.table(table), "pool.parquet")
    columns = ("--column", "x", "--carry", "quality,a.csv")
    np.save("c.npy", np.ones((1, D)))
    (tmp_path / keep).mkdir()
    done = run("deduplicate", "pool.parquet", *columns, "--centroids", "c.npy", "--keep", keep,
               "--out", f"{keep}/kept.csv", "--dropped", f"{keep}/dropped.csv")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert (tmp_path / keep / "kept.csv").exists()


def test_the_help_speaks_of_rows_that_are_compared():
    words = " ".join(run("deduplicate", "--help").stdout.split())
    for wanted in ("in one run. Then --out is required", "including itself", "only rows that are"):
        assert wanted in words
    assert "picked" not in words


def test_usage(tmp_path, pool, parquet, centroids):
    of = ("--centroids", centroids)
    for arguments, words in (
        ([pool], "Wanted one of --clusters and --centroids, got none"),
        ([pool, *of, "--clusters", 2], "got --clusters and --centroids"),
        ([pool, *of, "--seed", 1], "--seed needs --clusters or --keep random"),
        ([pool, *of, "--max-iter", 1], "--max-iter needs --clusters"),
        (
            [pool, *of, "--keep", "hard"],
            "--keep: wanted one of first, nearest, farthest, random, a column, or a file of",
        ),
        ([parquet, *COLUMNS, *of, "--keep", "hard"], "a column, or a file of values, got 'hard'"),
        ([parquet, *COLUMNS, *of, "--keep", "text"], "--keep: row 0 has 'text 0' in the column"),
        ([pool, *of, "--keep", "nope.csv"], "Error: --keep: nope.csv: no such file\n"),
        ([pool, *of, "--keep", ""], "a column, or a file of values, got ''\n"),
        ([parquet, *COLUMNS, *of, "--keep", "a,b"], "a column, or a file of values, got 'a,b'\n"),
        ([parquet, *COLUMNS, *of, "--keep", "id"], "Error: --keep: the picks have a column 'id'"),
        (
            [parquet, *COLUMNS, *of, "--keep", "id", "--carry", "id"],
            "Error: --carry: the picks have a column 'id'",
        ),
        ([pool, "--clusters", 401], "--clusters: wanted at most the 400 valid rows"),
        ([pool, *of, "--memory-mb", 0], "--memory-mb"),
    ):
        done = run("deduplicate", *arguments)
        assert (done.exit_code, done.stdout) == (2, ""), arguments
        assert words in done.stderr, done.stderr
    pq.write_table(
        pa.table({"kept": list("ab"), "x": pa.array([[1.0] * D, [2.0] * D])}),
        tmp_path / "k.parquet",
    )
    done = run("deduplicate", parquet, *COLUMNS, *of, "--keep", "quality",
               "--carry", "text, quality")  # fmt: skip
    assert done.exit_code == 0, done.output
    for option in ("--carry", "--keep"):
        done = run("deduplicate", tmp_path / "k.parquet", "--column", "x", "--clusters", 1,
                   option, "kept", "--dropped", tmp_path / "d.csv")  # fmt: skip
        wanted = f"Error: {option}: the dropped rows have a column 'kept' of their own"
        assert wanted in done.stderr, done.stderr
