"""`fastal assign`: the nearest centroid of every row, in every format, whole or not at all."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import fastal
from fastal.base.errors import Interrupted
from fastal.cli import main
from fastal.commands.diversity import ClusterWriter
from fastal.diversity import CosineClusters, nearest_centroid
from fastal.output import parquet_scores
from fastal.pipeline import checkpoint
from fastal.sources import row_ids
from tests.support.commands import rows_of
from tests.support.embeddings import rows_of as embeddings

N, D = 500, 6
X = embeddings(N, D).numpy()
CENTROIDS = embeddings(4, D, seed=1).numpy()
WANT = nearest_centroid(X, CENTROIDS)
NAMES = ["a, b", '"', "", "=1", "\u00e9"] + [f"image {i}" for i in range(N - 5)]
PLAIN = {"compression": "none", "use_dictionary": False, "write_page_checksum": True}
SUFFIXES = [".parquet", ".csv", ".npy"]


def run(*arguments):
    return CliRunner().invoke(main, list(map(str, arguments)))


@pytest.fixture
def centroids(tmp_path):
    np.save(tmp_path / "c.npy", CENTROIDS)
    return tmp_path / "c.npy"


@pytest.fixture
def pool(tmp_path):
    np.save(tmp_path / "x.npy", X)
    return tmp_path / "x.npy"


def parquet(path, x, ids):
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), x.shape[1])
    pq.write_table(pa.table({"x": vectors, "id": ids}), path, row_group_size=90, **PLAIN)
    return path


def columns_of(path):
    """The columns of a file of any format, as lists."""
    if path.suffix == ".npy":
        table = np.load(path)
        return {name: table[name].tolist() for name in table.dtype.names}
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pydict()
    lines = rows_of(path.read_text())
    kinds = {"row": int, "cluster": int, "similarity": float}
    return {name: [kinds.get(name, str)(line[name]) for line in lines] for name in lines[0]}


def check(path, ids=None):
    found = columns_of(path)
    assert found["cluster"] == WANT.cluster.tolist()
    np.testing.assert_array_equal(np.float32(found["similarity"]), WANT.similarity)
    if path.suffix != ".npy":
        assert found["row"] == list(range(N))
        assert list(found) == ["row", *([] if ids is None else ["id"]), "cluster", "similarity"]
        assert found.get("id") == ids


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("chunk_bytes", [1000, 1 << 20])
def test_every_row_is_written_in_row_order(
    monkeypatch, tmp_path, pool, centroids, suffix, chunk_bytes
):
    monkeypatch.setattr("fastal.pipeline.drive._IN_PLACE_BYTES", chunk_bytes)
    monkeypatch.setattr(parquet_scores, "_GROUP_ROWS", 120)
    out = tmp_path / f"clusters{suffix}"
    done = run("assign", pool, "--centroids", centroids, "--out", out)
    assert (done.exit_code, done.stdout) == (0, "")
    check(out)
    record = json.loads((out.with_name(f"{out.stem}.run.json")).read_text())
    assert (record["command"], record["rows"], record["invalid"]) == ("assign", N, 0)


def test_standard_output_is_the_csv_file(tmp_path, pool, centroids):
    run("assign", pool, "--centroids", centroids, "--out", tmp_path / "clusters.csv")
    printed = run("assign", pool, "--centroids", centroids).stdout
    assert printed == (tmp_path / "clusters.csv").read_text()


def test_centroids_come_from_saved_clusters(tmp_path, pool):
    CosineClusters(centroids=CENTROIDS).save(tmp_path / "c.npz")
    out = tmp_path / "clusters.npy"
    assert run("assign", pool, "--centroids", tmp_path / "c.npz", "--out", out).exit_code == 0
    assert np.load(out)["cluster"].tolist() == WANT.cluster.tolist()


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
@pytest.mark.parametrize("ids", [list(range(1000, 1000 + N)), NAMES], ids=["integers", "text"])
def test_ids_stand_beside_the_rows(monkeypatch, tmp_path, centroids, suffix, ids):
    monkeypatch.setattr(row_ids, "_BLOCK", 70)
    folder = tmp_path / "pool"
    folder.mkdir()
    parquet(folder / "a.parquet", X[:200], pa.array(ids[:200]))
    parquet(folder / "b.parquet", X[200:], pa.array(ids[200:]))
    out = tmp_path / f"clusters{suffix}"
    done = run("assign", folder, "--centroids", centroids, "--id-column", "id", "--out", out)
    assert done.exit_code == 0, done.output
    check(out, ids if suffix == ".parquet" else [*map(str, ids)])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_invalid_rows_and_rows_of_skipped_files_have_no_cluster(tmp_path, centroids, suffix):
    broken = X.copy()
    broken[7] = np.nan
    folder = tmp_path / "pool"
    folder.mkdir()
    parquet(folder / "a.parquet", broken[:200], pa.array(range(200)))
    whole = parquet(folder / "b.parquet", X[200:], pa.array(range(300))).read_bytes()
    (folder / "b.parquet").write_bytes(whole.replace(X[400].tobytes(), bytes(4 * D)))
    out = tmp_path / f"clusters{suffix}"
    options = ["--id-column", "id", "--on-invalid", "skip", "--on-bad-file", "skip"]
    done = run("assign", folder, "--centroids", centroids, *options, "--out", out)
    assert done.exit_code == 3, done.output
    found = columns_of(out)
    assert len(found["cluster"]) == N
    lost = np.flatnonzero(np.array(found["cluster"]) == -1)
    assert (lost[0], lost[1] >= 200) == (7, True)
    assert lost[1:].tolist() == list(range(lost[1], N))
    kept = np.setdiff1d(np.arange(N), lost)
    assert np.array(found["cluster"])[kept].tolist() == WANT.cluster[kept].tolist()
    assert np.isnan(np.float32(found["similarity"]))[lost].all()


@pytest.mark.parametrize("suffix", [".csv", ".npy"])
def test_an_interrupted_run_is_resumed_to_the_same_bytes(monkeypatch, tmp_path, centroids, suffix):
    monkeypatch.setattr(checkpoint, "_SECONDS", 0.0)
    monkeypatch.setattr(checkpoint, "_PAUSE", 0)
    monkeypatch.setattr("fastal.pipeline.drive.chunk_rows_of", lambda *_: 60)
    pool = parquet(tmp_path / "x.parquet", X, pa.array(NAMES))
    out, whole = tmp_path / f"clusters{suffix}", tmp_path / f"whole{suffix}"
    command = ["assign", pool, "--centroids", centroids, "--id-column", "id"]
    assert run(*command, "--out", whole).exit_code == 0
    look, calls = ClusterWriter.look, []

    def interrupted(self, *arguments, **options):
        calls.append(1)
        if len(calls) == 4:
            raise Interrupted(15)
        return look(self, *arguments, **options)

    state = ["--checkpoint", tmp_path / "state"]
    with monkeypatch.context() as patch:
        patch.setattr(ClusterWriter, "look", interrupted)
        done = run(*command, "--out", out, *state)
    assert done.exit_code == 128 + 15, done.output
    assert not out.exists()
    np.save(tmp_path / "other.npy", CENTROIDS[::-1])
    other = ["assign", pool, "--centroids", tmp_path / "other.npy", "--id-column", "id"]
    assert "is of another run" in run(*other, "--out", out, *state, "--resume").stderr
    done = run(*command, "--out", out, *state, "--resume")
    assert done.exit_code == 0, done.output
    assert "resumed at row" in done.stderr
    assert out.read_bytes() == whole.read_bytes()


def test_bad_input_is_one_line_and_status_2(tmp_path, pool, centroids):
    np.save(tmp_path / "narrow.npy", CENTROIDS[:, :4])
    np.save(tmp_path / "nan.npy", np.full((2, D), np.nan, np.float32))
    broken = X.copy()
    broken[9] = np.inf
    np.save(tmp_path / "inf.npy", broken)
    out = tmp_path / "clusters.parquet"
    for arguments, words in (
        ([pool, "--centroids", tmp_path / "narrow.npy"], "Error: --centroids: wanted 6 columns"),
        ([pool, "--centroids", tmp_path / "nan.npy"], "--centroids: row 0 has NaN"),
        ([pool, "--centroids", tmp_path / "none.npy"], "none.npy: no such file"),
        ([tmp_path / "inf.npy", "--centroids", centroids], "inf.npy row 9) has NaN or an inf"),
        (
            [pool, "--centroids", centroids, "--checkpoint", tmp_path / "state"],
            "--checkpoint: a Parquet file cannot be continued; wanted .csv or .npy",
        ),
        ([pool, "--centroids", centroids, "--out", tmp_path / "x.json"], "--out: wanted a .parq"),
        ([pool, "--centroids", centroids, "--out", centroids], "--out: "),
    ):
        done = run("assign", "--out", out, *arguments)
        assert done.exit_code == 2, done.output
        assert (done.stdout, done.stderr.count("\n")) == ("", 1), done.stderr
        assert words in done.stderr, done.stderr
        assert not out.exists()
    np.testing.assert_array_equal(np.load(centroids), CENTROIDS)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_file_has_the_groups_of_the_clusters(tmp_path, pool, centroids, suffix):
    out = tmp_path / f"clusters{suffix}"
    run("assign", pool, "--centroids", centroids, "--out", out)
    logits, clusters = np.roll(X, 1, axis=1), CosineClusters(centroids=CENTROIDS)
    found = fastal.select(logits, by="margin", groups=out, per_group=3)
    beside = fastal.open_pool(logits, beside=X)
    want = fastal.select(beside, by="margin", groups=clusters, per_group=3)
    assert found.rows.tolist() == want.rows.tolist()
    assert found.groups.tolist() == want.groups.tolist()


# --- as groups of `fastal select`


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_uncertain_rows_of_every_cluster(tmp_path, pool, centroids, suffix):
    logits = np.roll(X, 1, axis=1)
    np.save(tmp_path / "logits.npy", logits)
    out = tmp_path / f"clusters{suffix}"
    run("assign", pool, "--centroids", centroids, "--out", out)
    select = ["select", tmp_path / "logits.npy", "--by", "margin", "--per-group", 3]
    done = run(*select, "--groups", out)
    assert done.exit_code == 0, done.output
    beside, clusters = fastal.open_pool(logits, beside=X), CosineClusters(centroids=CENTROIDS)
    want = fastal.select(beside, by="margin", groups=clusters, per_group=3)
    lines = rows_of(done.stdout)
    assert [int(line["row"]) for line in lines] == want.rows.tolist()
    assert [int(line["group"]) for line in lines] == want.groups.tolist()


def test_groups_that_do_not_fit_are_one_line_and_status_2(tmp_path, pool, centroids):
    clusters, picks = tmp_path / "clusters.csv", tmp_path / "picks.csv"
    run("assign", pool, "--centroids", centroids, "--out", clusters)
    before = clusters.read_bytes()
    np.save(tmp_path / "more.npy", np.concatenate([X, X[:1]]))
    for arguments, words in (
        ([tmp_path / "more.npy"], f"Error: --groups: {clusters}: wanted 501 rows, as the pool has"),
        ([pool, "--group-column", "x"], "Wanted one of --groups and --group-column, got both"),
        ([pool, "--groups", "predict"], "Error: --groups: wanted 'predicted' or a .parquet, .csv"),
        ([pool, "--groups", tmp_path / "none.csv"], "none.csv: no such file"),
        ([pool, "--out", clusters], f"--out: {clusters} is the file of groups"),
    ):
        done = run("select", "--groups", clusters, "--per-group", 3, "--out", picks, *arguments)
        assert (done.exit_code, done.stdout) == (2, ""), done.output
        assert words in done.stderr, done.stderr
        assert not picks.exists()
    assert clusters.read_bytes() == before


def test_a_checkpoint_is_bound_to_the_groups(tmp_path, monkeypatch, pool, centroids):
    monkeypatch.setattr("fastal.pipeline.drive.chunk_rows_of", lambda *_: 60)
    clusters = tmp_path / "clusters.npy"
    run("assign", pool, "--centroids", centroids, "--out", clusters)
    out, state = tmp_path / "picks.csv", tmp_path / "state"
    command = ["select", pool, "--groups", clusters, "--per-group", 3, "--checkpoint", state]
    command += ["--out", out]
    look, calls = fastal.StratifiedSelector.look, []

    def interrupted(self, *arguments, **options):
        calls.append(1)
        if len(calls) == 4:
            raise Interrupted(15)
        return look(self, *arguments, **options)

    monkeypatch.setattr(checkpoint, "_SECONDS", 0.0)
    monkeypatch.setattr(checkpoint, "_PAUSE", 0)
    with monkeypatch.context() as patch:
        patch.setattr(fastal.StratifiedSelector, "look", interrupted)
        assert run(*command).exit_code == 128 + 15
    held = np.load(clusters)
    other = held.copy()
    other["cluster"][0] += 1
    np.save(clusters, other)
    refused = run(*command, "--resume").stderr
    assert "is of another run" in refused
    assert "'groups " in refused
    np.save(clusters, held)
    done = run(*command, "--resume")
    assert done.exit_code == 0, done.output
    assert "resumed at row" in done.stderr
    want = fastal.select(X, groups=clusters, per_group=3)
    assert [int(line["row"]) for line in rows_of(out.read_text())] == want.rows.tolist()
