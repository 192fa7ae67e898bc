"""`typiclust` against its definition in float64, on the same clusters."""

import logging
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fastal
from fastal.diversity import CosineClusters, typiclust
from fastal.diversity.typical_rows import neighbour_distances
from tests.support.embeddings import blobs, unit


def clusters_of(x, n_clusters, seed=0):
    return CosineClusters(n_clusters, seed=seed).fit(x)


def mean_distance(units, row, members, neighbours):
    apart = sorted(
        float(np.sqrt(((units[row] - units[other]) ** 2).sum()))
        for other in members
        if other != row
    )[:neighbours]
    return math.fsum(apart) / len(apart) if apart else math.inf


def by_definition(x, k, labelled=(), neighbours=20, max_clusters=500, distance=mean_distance):
    """Rows, scores and clusters of the picks, by a loop over the picks."""
    clusters = clusters_of(x, min(len(labelled) + k, max_clusters, len(x)))
    cluster, units = clusters.assign(x).cluster, unit(x)
    counts = [0] * len(clusters.centroids)
    for row in labelled:
        counts[int((clusters.centroids @ (row / np.linalg.norm(row))).argmax())] += 1
    rows, scores, of = [], [], []
    for _ in range(min(k, len(x))):
        best = None
        for one in range(len(counts)):
            members = np.flatnonzero(cluster == one)
            left = [row for row in members if row not in rows]
            if left and (best is None or (counts[one], -len(members)) < best[:2]):
                best = counts[one], -len(members), one, members, left
        _, _, one, members, left = best
        distances = [distance(units, row, members, neighbours) for row in left]
        rows.append(int(left[int(np.argmin(distances))]))
        scores.append(1 / min(distances) if min(distances) else math.inf)
        of.append(one)
        counts[one] += 1
    return rows, scores, of


def assert_picks(picks, x, k, **options):
    rows, scores, of = by_definition(x, k, **options)
    assert np.asarray(picks.rows).tolist() == rows
    assert picks.groups.tolist() == of
    # Distances in float64 have errors of 1e-15, and are above 1e-3 here. Scores are float32.
    np.testing.assert_allclose(np.asarray(picks.scores, np.float64), scores, rtol=2.0**-23)


def assert_same(a, b):
    for name in ("rows", "scores", "groups"):
        ours, theirs = (np.asarray(getattr(of, name)) for of in (a, b))
        assert ours.tobytes() == theirs.tobytes()
    assert a.invalid == b.invalid


@pytest.mark.parametrize("n_labelled", [0, 4])
@pytest.mark.parametrize(("k", "options"), [(1, {}), (7, {}), (9, {"neighbours": 3}), (60, {})])
def test_picks_follow_the_definition(k, options, n_labelled):
    x, labelled = blobs(0, 80, 6), blobs(1, n_labelled, 6)
    picks = typiclust(x, k, labelled=labelled, **options)
    assert_picks(picks, x, k, labelled=labelled, **options)
    assert picks.strategy == "typiclust"


def test_clusters_give_several_rows_if_there_are_too_few():
    x = blobs(0, 80, 6)
    picks = typiclust(x, 30, max_clusters=4)
    assert_picks(picks, x, 30, max_clusters=4)
    assert np.bincount(picks.groups).max() <= 8
    assert_same(picks[:20], typiclust(x, 20, max_clusters=4))


def test_wrong_definitions_are_found():
    x, options = blobs(0, 80, 6), {"neighbours": 5}
    picks = typiclust(x, 7, **options)

    def with_itself(units, row, members, neighbours):
        return mean_distance(units, row, [row, *members], neighbours - 1)

    def to_all(units, row, members, _):
        return mean_distance(units, row, members, len(members))

    def negative(*of):
        return -mean_distance(*of)

    for wrong in (with_itself, to_all, negative):
        with pytest.raises(AssertionError):
            assert_picks(picks, x, 7, distance=wrong, **options)
    with pytest.raises(AssertionError):  # clusters of rows with labels come last
        assert_picks(picks, x, 7, labelled=x[picks.rows[:1]], **options)


def test_the_most_typical_row_is_in_the_middle_of_the_largest_cluster():
    angles = np.concatenate([np.linspace(-1, 1, 21), np.pi + np.linspace(-0.5, 0.5, 11)])
    x = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    picks = typiclust(x, 2)
    assert picks.rows.tolist() == [10, 26]
    assert typiclust(x, 1, labelled=x[:1], max_clusters=2).rows.tolist() == [26]


@settings(deadline=None, max_examples=10)
@given(data=st.data(), seed=st.integers(0, 3))
def test_picks_are_the_same_for_any_chunks(data, seed):
    x = blobs(seed, 60, 5)
    cuts = sorted(data.draw(st.lists(st.integers(0, 60), max_size=5)))
    k, options = data.draw(st.integers(1, 12)), {"seed": seed, "max_clusters": 5}
    picks = typiclust(x, k, **options)
    assert_same(typiclust([part.copy() for part in np.split(x, cuts)], k, **options), picks)
    assert_same(typiclust(x, k, memory_bytes=8 * 5 * 60, chunk_bytes=999, **options), picks)
    assert len(set(picks.rows.tolist())) == k


def test_clusters_are_compared_in_sets_that_fit_into_memory():
    x = blobs(0, 200, 6)
    picks = typiclust(x, 12)
    largest = int(np.bincount(clusters_of(x, 12).assign(x).cluster).max())
    assert_same(typiclust(x, 12, memory_bytes=8 * 6 * largest), picks)
    with pytest.raises(ValueError, match=f"has {largest} rows, and memory_bytes is for"):
        typiclust(x, 12, memory_bytes=8 * 6 * largest - 1)


def test_blocks_of_rows_do_not_change_distances(monkeypatch):
    units = torch.from_numpy(unit(blobs(0, 150, 6)).astype(np.float64))
    units[[3, 70]], units[20] = units[9].clone(), 0
    whole = neighbour_distances(units, 20)
    monkeypatch.setattr("fastal.diversity.typical_rows._BLOCK_BYTES", 8 * 150 * 7)
    torch.testing.assert_close(neighbour_distances(units, 20), whole, rtol=1e-13, atol=0)
    exact = [mean_distance(units.numpy(), row, range(150), 20) for row in range(150)]
    np.testing.assert_allclose(whole, exact, rtol=1e-13)


def test_equal_rows_are_infinitely_typical_and_single_rows_not_at_all():
    x = np.array([[1, 0], [2, 0], [3, 0], [0, 1], [0, 5], [-1, 0]], np.float32)
    picks = typiclust(x, 3)
    assert picks.rows.tolist() == [0, 3, 5]
    assert picks.scores.tolist() == [math.inf, math.inf, 0]


def test_all_rows_are_picked_if_k_is_larger(caplog):
    x = blobs(0, 12, 3)
    with caplog.at_level(logging.WARNING):
        assert sorted(typiclust(x, 99).rows) == list(range(12))
    assert "there are 12 valid ones" in caplog.text
    assert typiclust(x[:1], 3).rows.tolist() == [0]
    with caplog.at_level(logging.WARNING):
        assert len(typiclust(x[:0], 3)) == 0
    assert "nothing was picked" in caplog.text


def test_invalid_rows():
    x = blobs(0, 30, 3)
    x[[4, 9], 1] = math.nan, math.inf
    with pytest.raises(fastal.InvalidRows, match="4, 9"):
        typiclust(x, 5)
    for pool in (x, list(np.split(x, 3))):
        picks = typiclust(pool, 99, on_invalid="skip")
        assert sorted(picks.rows) == sorted({*range(30)} - {4, 9})
        assert picks.invalid == 2


def test_exclude_and_among_leave_rows_out():
    x = blobs(0, 60, 4)
    before = x.copy()
    among = np.arange(5, 45, 2)
    picks = typiclust(x, 4, among=among, exclude=[7, 9])
    left = np.setdiff1d(among, [7, 9])
    assert set(picks.rows) <= set(left)
    rows, _, _ = by_definition(x[left], 4)
    # The draws of the clusters depend on row numbers, so the picks may differ from those of a copy.
    assert len(rows) == len(picks)
    assert_same(picks, typiclust(list(np.split(x, 4)), 4, among=left))
    assert len(typiclust(x, 40, among=among)) == len(among)
    assert (x == before).all()


def test_ids_columns_files_and_tensors(tmp_path):
    x = blobs(0, 30, 4)
    picks = typiclust(x, 5)
    pool = fastal.open_pool(x, ids=list(range(100, 130)), carry={"text": list(map(str, range(30)))})
    named = typiclust(pool, 5)
    assert named.ids.tolist() == [100 + row for row in picks.rows]
    assert named["text"].tolist() == [str(row) for row in picks.rows]
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "labelled.npy", x[:3])
    assert_same(typiclust(tmp_path / "x.npy", 5), picks)
    assert_same(
        typiclust(tmp_path / "x.npy", 5, labelled=tmp_path / "labelled.npy"),
        typiclust(x, 5, labelled=x[:3]),
    )
    of_tensor = typiclust(torch.from_numpy(x), 5)
    assert (of_tensor.rows.dtype, of_tensor.scores.dtype) == (torch.int64, torch.float32)
    assert_same(of_tensor, picks)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 0}, "k: wanted at least 1, got 0"),
        ({"neighbours": 0}, "neighbours: wanted at least 1, got 0"),
        ({"max_clusters": 0}, "max_clusters: wanted at least 1"),
        ({"memory_bytes": 0}, "memory_bytes: wanted at least 1"),
        ({"seed": -1}, "seed: wanted 0 to"),
        ({"on_invalid": "drop"}, "on_invalid: wanted"),
        ({"embeddings": blobs(0, 9, 4)[:, 0]}, "embeddings: wanted"),
        ({"labelled": blobs(0, 9, 3)}, "labelled: wanted 4 columns"),
        ({"labelled": np.full((2, 4), np.nan)}, "labelled: row 0 has NaN"),
    ],
)
def test_bad_arguments_are_named(change, message):
    arguments = {"embeddings": blobs(0, 20, 4), "k": 3} | change
    with pytest.raises(ValueError, match=message):
        typiclust(**arguments)
