"""Scores of the caller's own: ranked from any kind of pool."""

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import zarr
from safetensors.numpy import save_file

import fastal
from fastal.sources import open_pool

SCORES = np.random.default_rng(0).normal(size=200).astype(np.float32)
BEST = np.argsort(-SCORES, kind="stable")[:9].tolist()


def in_every_format(folder):
    np.save(folder / "a.npy", SCORES)
    np.savez(folder / "a.npz", SCORES)
    torch.save(torch.tensor(SCORES), folder / "a.pt")
    save_file({"x": SCORES}, folder / "a.safetensors")
    table = pa.table({"x": SCORES, "id": [f"id {i}" for i in range(200)]})
    pq.write_table(table, folder / "a.parquet", row_group_size=33)
    with pa.ipc.new_file(str(folder / "a.arrow"), table.schema) as writer:
        writer.write_table(table, max_chunksize=33)
    with h5py.File(folder / "a.h5", "w") as file:
        file["x"] = SCORES
    zarr.create_array(str(folder / "a.zarr"), shape=200, chunks=33, dtype="f4")[:] = SCORES
    return sorted(path for path in folder.iterdir() if path.name.startswith("a."))


def test_every_format_and_form(tmp_path):
    pools = [SCORES, SCORES[:, None], torch.tensor(SCORES), SCORES.astype(np.float64)]
    pools += [[SCORES[:50], SCORES[50:]], (x for x in np.split(SCORES, 4)), pa.array(SCORES)]
    formats = in_every_format(tmp_path)
    assert len(formats) == 8
    for path in formats:
        is_table = path.suffix in (".parquet", ".arrow")
        pools.append(open_pool(path, **({"column": "x", "id_column": "id"} if is_table else {})))
    for pool in pools:
        picks = fastal.select(pool, 9, "score", chunk_bytes=100)
        assert np.asarray(picks.rows).tolist() == BEST
        assert np.array_equal(picks.scores, SCORES[BEST])
        assert picks.strategy == "score"


def test_scores_are_ranked_in_float32_and_infinite_ones_too():
    x = np.array([1.0, np.inf, -np.inf, 1.0 + 1e-12, 2.0, np.nan])
    picks = fastal.select(x, 6, "score", on_invalid="skip")
    assert picks.rows.tolist() == [1, 4, 0, 3, 2]
    assert picks.invalid == 1
    assert picks.scores.dtype == np.float32
    with pytest.raises(fastal.InvalidRows, match="row 5 has score NaN"):
        fastal.select(x, 6, "score")
    assert fastal.select(np.array([3, 9, 1]), 1, "score").rows.tolist() == [1]


def test_own_scores_go_through_all_that_selects():
    groups = np.arange(200) % 3
    picks = fastal.select(SCORES, per_group=1, groups=groups, by="score")
    assert sorted(picks.rows) == sorted(
        int(np.flatnonzero(groups == g)[SCORES[groups == g].argmax()]) for g in range(3)
    )
    assert fastal.select(SCORES, 3, "score", exclude=BEST[:2]).rows.tolist() == BEST[2:5]
    assert fastal.select(SCORES, 2, "score", among=BEST[4:]).rows.tolist() == BEST[4:6]
    named = open_pool(SCORES, ids=[f"id {i}" for i in range(200)])
    assert fastal.select(named, 1, "score").ids[0] == f"id {BEST[0]}"
    drawn = fastal.select(SCORES, 9, "score", noise="softmax", seed=1)
    assert len(set(drawn.rows.tolist())) == 9
    one, other = fastal.Selector(9, "score"), fastal.Selector(9, "score")
    one.update(SCORES[100:], 100)
    other.update(SCORES[:100], 0)
    one.merge(other)
    assert one.result().rows.tolist() == BEST


def test_what_is_no_score_is_refused():
    for pool, says in (
        (SCORES.reshape(100, 2), r"scores: wanted one number per row, \[rows\], got shape"),
        (SCORES.reshape(50, 2, 2), r"scores: wanted one number per row"),
        (SCORES.astype(complex), "scores: wanted real numbers"),
        (fastal.items(SCORES, lengths=[100, 100]), "scores: got items of several rows"),
    ):
        with pytest.raises((ValueError, TypeError), match=says):
            fastal.select(pool, 3, "score")
