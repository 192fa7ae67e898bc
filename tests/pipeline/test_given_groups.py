"""Quotas of clusters and of files of labels, against NumPy group by group."""

import csv

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fastal
from fastal import InvalidRows
from fastal.diversity import CosineClusters
from tests.support.embeddings import rows_of, unit

N = 400
LOGITS = rows_of(N, 4, seed=1).numpy()
X = rows_of(N, 6, seed=2).numpy()
CLUSTERS = CosineClusters(centroids=rows_of(5, 6, seed=3).numpy())
CLUSTER = (unit(X) @ unit(CLUSTERS.centroids).T).argmax(1)
ORDER = np.random.default_rng(4).permutation(N)


def margins(logits=LOGITS):
    p = np.exp(logits.astype(np.float64))
    p = np.sort(p / p.sum(1, keepdims=True), axis=1)
    return 1 - (p[:, -1] - p[:, -2])


def best_of_groups(groups, per_group, scores=None):
    """The rows of each group with the largest margins, by sorting each group."""
    scores = margins() if scores is None else scores
    groups = np.asarray(groups)
    rows = [
        sorted(np.flatnonzero(groups == group), key=lambda row: (-scores[row], row))[:per_group]
        for group in {*groups.tolist()}
    ]
    return sorted(int(row) for of_group in rows for row in of_group)


def picked(pool, groups, per_group=3):
    picks = fastal.select(pool, by="margin", groups=groups, per_group=per_group)
    return sorted(np.asarray(picks.rows).tolist())


def parquet(path, name, x, **columns):
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), x.shape[1])
    pa.parquet.write_table(pa.table({name: vectors, **columns}), path)
    return path


def text(ids):
    return pa.array([f"image {i}" for i in ids])


def test_the_brute_force_finds_the_groups_of_clusters():
    assert len({*CLUSTER.tolist()}) == 5
    assert best_of_groups(CLUSTER, 3) != best_of_groups(CLUSTER[::-1], 3)


# --- clusters


@pytest.mark.parametrize("kind", ["arrays", "tensors", "files", "chunks", "generators"])
def test_the_most_uncertain_rows_of_every_cluster(tmp_path, kind):
    def pool_of(x, name):
        np.save(tmp_path / f"{name}.npy", x)
        return {
            "arrays": x,
            "tensors": torch.from_numpy(x),
            "files": tmp_path / f"{name}.npy",
            "chunks": [x[:100], x[100:]],
            "generators": (x[i : i + 50] for i in range(0, N, 50)),
        }[kind]

    pool = fastal.open_pool(pool_of(LOGITS, "logits"), beside=pool_of(X, "x"))
    picks = fastal.select(pool, by="margin", groups=CLUSTERS, per_group=3)
    rows = np.asarray(picks.rows).tolist()
    assert sorted(rows) == best_of_groups(CLUSTER, 3)
    assert picks.groups.tolist() == CLUSTER[rows].tolist()


@settings(deadline=None)
@given(
    st.lists(st.integers(1, 90), max_size=8), st.lists(st.integers(1, 90), max_size=8),
    st.integers(1, 9), st.none() | st.integers(1, 60),
)  # fmt: skip
def test_no_chunks_change_the_picks(cuts, cuts_beside, per_group, k):
    chunks = np.split(LOGITS, np.cumsum(cuts)[np.cumsum(cuts) < N])
    beside = np.split(X, np.cumsum(cuts_beside)[np.cumsum(cuts_beside) < N])
    pool = fastal.open_pool(chunks, beside=beside)
    picks = fastal.select(pool, k, "margin", groups=CLUSTERS, per_group=per_group)
    want = fastal.select(LOGITS, k, "margin", groups=CLUSTER.tolist(), per_group=per_group)
    assert picks.rows.tolist() == want.rows.tolist()
    if k is None:
        assert sorted(picks.rows.tolist()) == best_of_groups(CLUSTER, per_group)


@pytest.mark.parametrize("as_text", [False, True])
def test_rows_are_matched_by_id(tmp_path, as_text):
    ids = np.arange(1000, 1000 + N)
    named = text if as_text else pa.array
    parquet(tmp_path / "logits.parquet", "logits", LOGITS, id=named(ids))
    parquet(tmp_path / "x.parquet", "x", X[ORDER], key=named(ids[ORDER]))
    beside = fastal.open_pool(tmp_path / "x.parquet", id_column="key")
    pool = fastal.open_pool(tmp_path / "logits.parquet", id_column="id", beside=beside)
    assert picked(pool, CLUSTERS) == best_of_groups(CLUSTER, 3)
    by_row = fastal.open_pool(tmp_path / "logits.parquet", beside=beside)
    assert picked(by_row, CLUSTERS) == best_of_groups(CLUSTER[ORDER], 3)


def test_ids_that_do_not_match_are_named(tmp_path):
    ids = np.arange(N)
    for other, words in (
        (np.where(ids == 7, 1000, ids), "has no row with the id 7"),
        (np.where(ids == 7, 6, ids), "has several rows with the id 6"),
    ):
        parquet(tmp_path / "logits.parquet", "logits", LOGITS, id=pa.array(ids))
        parquet(tmp_path / "x.parquet", "x", X, id=pa.array(other))
        pool = fastal.open_pool(
            tmp_path / "logits.parquet",
            id_column="id",
            beside=fastal.open_pool(tmp_path / "x.parquet", id_column="id"),
        )
        with pytest.raises(ValueError, match=rf"^beside: {words}$"):
            picked(pool, CLUSTERS)


def test_pools_of_other_lengths_are_refused_when_they_are_opened():
    with pytest.raises(ValueError, match=r"^beside: wanted 400 rows, as the pool has, got 399$"):
        fastal.open_pool(LOGITS, beside=X[1:])
    for pool, beside, words in (
        ([LOGITS], X[1:], "^beside: 399 labels for 400 or more rows"),
        (LOGITS, [X[1:]], "^beside: wanted 400 labels, one for each row, got 399"),
        ([LOGITS[1:]], [X], "^beside: 400 labels for 399 rows"),
    ):
        with pytest.raises(ValueError, match=words):
            picked(fastal.open_pool(pool, beside=beside), CLUSTERS)


def test_clusters_without_embeddings_say_what_to_write():
    with pytest.raises(ValueError, match=r"^groups: .*fastal.open_pool\(pool, beside="):
        picked(LOGITS, CLUSTERS)
    with pytest.raises(ValueError, match=r"^beside: the pool is open; give beside where"):
        fastal.open_pool(fastal.open_pool(LOGITS), beside=X)
    with pytest.raises(TypeError, match=r"^beside: wanted an array, a path"):
        fastal.open_pool(LOGITS, beside=3)
    with pytest.raises(ValueError, match=r"^centroids: wanted 4 columns, as the .* have, got 6"):
        picked(fastal.open_pool(LOGITS, beside=LOGITS), CLUSTERS)
    with pytest.raises(ValueError, match=r"^beside: centroids: there are none yet"):
        picked(fastal.open_pool(LOGITS, beside=X), CosineClusters(3))


def test_files_out_of_order_are_not_matched_by_row(tmp_path):
    for name, x in (("a", LOGITS), ("b", LOGITS), ("c", X), ("d", X)):
        np.save(tmp_path / f"{name}.npy", x)
    for pool, beside in (("ba", "cd"), ("ab", "dc")):
        opened = fastal.open_pool(
            [tmp_path / f"{name}.npy" for name in pool],
            beside=[tmp_path / f"{name}.npy" for name in beside],
        )
        with pytest.raises(ValueError, match=r"^beside: .*name the files in that order"):
            picked(opened, CLUSTERS)


def test_rows_without_a_cluster_are_a_group_of_their_own():
    broken = X.copy()
    broken[::7] = np.nan
    pool = fastal.open_pool(LOGITS, beside=broken)
    with pytest.raises(InvalidRows, match=r"^row 0 \(beside\) has NaN"):
        picked(pool, CLUSTERS)
    skipping = CosineClusters(centroids=CLUSTERS.centroids, on_invalid="skip")
    cluster = np.where(np.arange(N) % 7 == 0, -1, CLUSTER)
    assert picked(pool, skipping) == best_of_groups(cluster, 3)


def test_a_checkpoint_is_bound_to_the_clusters(tmp_path, monkeypatch):
    np.save(tmp_path / "logits.npy", LOGITS)

    monkeypatch.setattr("fastal.pipeline.checkpoint._SECONDS", 0.0)
    monkeypatch.setattr("fastal.pipeline.checkpoint._PAUSE", 0)
    options = {"per_group": 3, "checkpoint": tmp_path / "state", "chunk_bytes": 1600}
    pool = fastal.open_pool(tmp_path / "logits.npy", beside=X)

    def read(source, clusters, **more):
        return fastal.select(source, by="margin", groups=clusters, **options, **more)

    original = type(pool).chunks

    def cut(self, rows, start=0):
        for number, chunk in enumerate(original(self, rows, start)):
            if number == 2:
                raise KeyboardInterrupt
            yield chunk

    with monkeypatch.context() as patch:
        patch.setattr(type(pool), "chunks", cut)
        with pytest.raises(KeyboardInterrupt):
            read(pool, CLUSTERS)
    others = CosineClusters(centroids=CLUSTERS.centroids[::-1].copy())
    with pytest.raises(ValueError, match=r"^checkpoint: .* is of another run: columns are"):
        read(pool, others, resume=True)
    picks = read(pool, CLUSTERS, resume=True)
    assert sorted(picks.rows.tolist()) == best_of_groups(CLUSTER, 3)


# --- files of labels


def write_parquet(path, columns):
    pa.parquet.write_table(pa.table(columns), path)


def write_csv(path, columns):
    with path.open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(columns)
        lines.writerows(zip(*columns.values(), strict=True))


def write_npy(path, columns):
    table = np.empty(N, [(name, np.asarray(values).dtype) for name, values in columns.items()])
    for name, values in columns.items():
        table[name] = values
    np.save(path, table)


WRITERS = {".parquet": write_parquet, ".csv": write_csv, ".npy": write_npy}


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("name", ["cluster", "group"])
def test_files_of_labels_without_ids_are_matched_by_row(tmp_path, suffix, name):
    path = tmp_path / f"clusters{suffix}"
    WRITERS[suffix](path, {name: CLUSTER - 1, "similarity": X[:, 0]})
    picks = fastal.select(LOGITS, by="margin", groups=path, per_group=3)
    assert sorted(picks.rows.tolist()) == best_of_groups(CLUSTER, 3)
    assert picks.groups.tolist() == (CLUSTER[picks.rows] - 1).tolist()
    WRITERS[suffix](path, {"row": ORDER, name: CLUSTER[ORDER]})
    assert picked(LOGITS, path) == picked([LOGITS], str(path)) == best_of_groups(CLUSTER, 3)


def test_rows_that_a_parquet_file_gives_no_label_are_the_group_none(tmp_path):
    labels = [None if i % 5 == 0 else int(group) for i, group in enumerate(CLUSTER)]
    write_parquet(tmp_path / "y.parquet", {"group": pa.array(labels, pa.int64())})
    picks = fastal.select(LOGITS, by="margin", groups=tmp_path / "y.parquet", per_group=3)
    assert sorted(picks.rows.tolist()) == best_of_groups(np.array(labels, object), 3)
    assert {*picks.groups.tolist()} == {None, *CLUSTER.tolist()}


@pytest.mark.parametrize("suffix", WRITERS)
def test_files_of_labels_with_ids_are_matched_by_id(tmp_path, suffix):
    path = tmp_path / f"clusters{suffix}"
    for ids in (np.arange(N) + 1000, np.array([f"image {i}" for i in range(N)])):
        parquet(tmp_path / "logits.parquet", "logits", LOGITS, id=pa.array(ids.tolist()))
        pool = fastal.open_pool(tmp_path / "logits.parquet", id_column="id")
        labels = np.array([f"cluster, {i}" for i in CLUSTER])
        WRITERS[suffix](path, {"id": ids[ORDER], "cluster": labels[ORDER]})
        assert picked(pool, path) == best_of_groups(labels, 3)
        with pytest.raises(ValueError, match=r"^groups: .*clusters.* has no row with the id"):
            picked(pool, _without_first(path, suffix, ids, labels))


def _without_first(path, suffix, ids, labels):
    ids = np.concatenate([["other"], ids[1:].astype(str)])
    WRITERS[suffix](path, {"id": ids, "cluster": labels})
    return path


def test_files_that_are_no_labels_are_named(tmp_path):
    def table(name, **columns):
        write_parquet(tmp_path / name, columns)
        return tmp_path / name

    np.save(tmp_path / "floats.npy", X)
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "ragged.csv").write_text("row,cluster\n0,1\n1\n")
    (tmp_path / "text.parquet").write_text("cluster")
    rows = np.arange(N)
    for path, error, words in (
        (table("short.parquet", cluster=CLUSTER[1:]), ValueError, "short.*400 rows.*got 399"),
        (table("other.parquet", x=CLUSTER), ValueError, "other.* 'cluster' or 'group'"),
        (table("f.parquet", cluster=X[:, 0]), TypeError, "f.parquet: .*got float"),
        (table("r.parquet", cluster=CLUSTER, row=rows + 1), ValueError, "row number 0"),
        (table("d.parquet", cluster=CLUSTER, row=rows // 2), ValueError, "several .* number 0"),
        (tmp_path / "floats.npy", TypeError, "floats.npy: .*got float32"),
        (tmp_path / "empty.csv", ValueError, "empty.csv: .*columns are none"),
        (tmp_path / "ragged.csv", ValueError, "ragged.csv: no file of labels"),
        (tmp_path / "text.parquet", ValueError, "text.parquet: no file of labels"),
        ("predict", ValueError, "wanted 'predicted' or a .* file of labels, got 'predict'"),
    ):
        with pytest.raises(error, match=f"^groups: .*{words}"):
            picked(LOGITS, path)
    with pytest.raises(FileNotFoundError, match=r"none.csv: no such file"):
        picked(LOGITS, tmp_path / "none.csv")
