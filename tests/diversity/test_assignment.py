"""The nearest centroid of every row of any pool, against NumPy in float64."""

import numpy as np
import pytest
import torch

from fastal import InvalidRows, open_pool
from fastal.diversity import CosineClusters, nearest_centroid
from tests.support.embeddings import rows_of, unit

X = rows_of(700, 5).numpy()
CENTROIDS = rows_of(4, 5, seed=1).numpy()


def similarities():
    """The cosine similarities in long doubles."""
    return (unit(X) @ unit(CENTROIDS).T).astype(np.float64)


def files(folder):
    np.save(folder / "a.npy", X[:300])
    np.save(folder / "b.npy", X[300:])
    return folder


POOLS = {
    "folder": files,
    "opened": lambda folder: open_pool([str(path) for path in sorted(files(folder).iterdir())]),
    "opened array": lambda folder: open_pool(X),
    "chunks": lambda folder: [X[:1], X[1:500], X[500:]],
    "generator": lambda folder: (X[i : i + 128] for i in range(0, 700, 128)),
}


@pytest.mark.parametrize("name", POOLS)
def test_any_pool_is_assigned(tmp_path, name):
    found = nearest_centroid(POOLS[name](tmp_path), CENTROIDS)
    want = similarities()
    assert found.cluster.tolist() == want.argmax(1).tolist()
    assert np.abs(found.similarity - want.max(1)).max() <= (5 + 8) * 2.0**-24
    assert (type(found.cluster), found.cluster.dtype) == (np.ndarray, np.int64)
    assert found.similarity.dtype == np.float32


def test_the_arrays_are_of_the_kind_of_the_chunks():
    found = nearest_centroid([torch.from_numpy(X[:9]), torch.from_numpy(X[9:])], CENTROIDS)
    assert torch.equal(found.cluster, torch.from_numpy(similarities().argmax(1)))


def test_chunk_bytes_change_nothing(tmp_path):
    whole = nearest_centroid(files(tmp_path), CENTROIDS)
    small = nearest_centroid(tmp_path, CENTROIDS, chunk_bytes=640)
    assert all(np.array_equal(a, b) for a, b in zip(whole, small, strict=True))


def test_clusters_assign_as_the_function_does(tmp_path):
    ours = CosineClusters(centroids=CENTROIDS).assign(files(tmp_path))
    theirs = nearest_centroid(X, CENTROIDS)
    assert ours.cluster.tolist() == theirs.cluster.tolist()


def test_invalid_rows_of_files_are_named_or_left_out(tmp_path, caplog):
    broken = X.copy()
    broken[[3, 310]] = np.nan
    np.save(tmp_path / "a.npy", broken)
    with pytest.raises(InvalidRows, match=r"^row 3 \(.*a.npy row 3\) has NaN"):
        nearest_centroid(tmp_path, CENTROIDS)
    found = nearest_centroid(tmp_path, CENTROIDS, on_invalid="skip")
    assert np.flatnonzero(found.cluster == -1).tolist() == [3, 310]
    assert np.flatnonzero(np.isnan(found.similarity)).tolist() == [3, 310]
    assert "2 of 700 rows are invalid" in caplog.text


def test_centroids_of_another_width_are_named_and_not_the_pool(tmp_path):
    with pytest.raises(ValueError, match=r"^centroids: wanted 5 columns, as the .* have, got 3$"):
        nearest_centroid(files(tmp_path), CENTROIDS[:, :3])
