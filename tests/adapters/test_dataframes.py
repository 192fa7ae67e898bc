"""The page on Polars and DuckDB, and what it says of them."""

import numpy as np
import pytest

import fastal
from tests.support.adapter_pages import page_code

pl = pytest.importorskip(
    "polars", reason="polars is missing; scripts/test-adapters dataframes has it"
)
duckdb = pytest.importorskip(
    "duckdb", reason="duckdb is missing; scripts/test-adapters dataframes has it"
)

N, CLASSES = 200, 4
LOGITS = np.random.default_rng(1).normal(size=(N, CLASSES)).astype(np.float32)


def frame_of(logits=LOGITS):
    return pl.DataFrame({"id": [f"r{i}" for i in range(len(logits))], "logits": logits})


def test_the_examples_of_the_page_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    array, by_id, lazy, batches, joined, streamed = page_code("dataframes")
    names = {}

    def check(batch, want):
        """The rows of a batch are these picks, best first."""
        assert batch["id"].to_list() == [f"r{row}" for row in want.rows]
        assert batch["score"].to_list() == want.scores.tolist()

    exec(array, names)
    logits = names["logits"]
    check(names["batch"], fastal.select(logits, 100, exclude=[1, 2, 3]))
    assert np.array_equal(names["scored"]["margin"], fastal.score(logits).margin)
    pool = fastal.open_pool(logits[::-1], ids=names["frame"]["id"].to_list()[::-1])
    names["picks_before"] = fastal.select(pool, 7)
    exec(by_id, names)
    check(names["batch"], want := fastal.select(logits, 107)[7:])
    gathered = names["batch"]["logits"].to_numpy()
    assert np.array_equal(gathered, logits[want.rows])
    names["frame"].write_parquet("frame.parquet")
    want = fastal.select(logits, 100)
    exec(lazy, names)
    check(names["batch"], want)
    exec(batches, names)
    assert names["picks"].rows.tolist() == want.rows.tolist()
    exec(joined, names)
    check(names["batch"].pl(), want)
    exec(streamed, names)
    by_name = sorted(names["frame"]["id"])  # the order of the query
    assert [by_name[row] for row in names["picks"].rows] == [f"r{row}" for row in want.rows]


def test_arrays_of_polars_are_read_in_place():
    column = frame_of()["logits"]
    assert np.shares_memory(np.asarray(column), column.to_arrow().flatten().to_numpy())
    assert fastal.select(column, 9).rows.tolist() == fastal.select(LOGITS, 9).rows.tolist()


def test_arrays_of_several_parts_and_slices():
    frame = pl.concat([frame_of()[:50], frame_of()[50:]], rechunk=False)
    assert frame["logits"].n_chunks() == 2
    for column, array in ((frame["logits"], LOGITS), (frame["logits"][40:90], LOGITS[40:90])):
        assert fastal.select(column, 9).rows.tolist() == fastal.select(array, 9).rows.tolist()


def test_lists_are_refused_until_they_are_arrays():
    column = frame_of()["logits"].cast(pl.List(pl.Float32))
    with pytest.raises(TypeError, match=r"pool: wanted float16, .* got dtype object"):
        fastal.select(column, 3)
    found = fastal.select(column.list.to_array(CLASSES), 3)
    assert found.rows.tolist() == fastal.select(LOGITS, 3).rows.tolist()


def test_objects_of_duckdb_are_refused():
    frame = frame_of()
    fetched = duckdb.sql("SELECT logits FROM frame").fetchnumpy()["logits"]
    with pytest.raises(TypeError, match=r"pool: wanted float16, .* got dtype object"):
        fastal.select(fetched, 3)
    assert len(frame) == len(fetched)


def test_missing_arrays_of_polars_are_invalid_rows():
    column = pl.Series([[1.0, 2.0], None, [0.5, 0.4]], dtype=pl.Array(pl.Float32, 2))
    with pytest.raises(fastal.InvalidRows, match="row 1 "):
        fastal.select(column, 2)
    assert fastal.select(column, 3, on_invalid="skip").rows.tolist() == [2, 0]


def test_without_a_width_missing_lists_mix_up_the_rows_of_a_batch():
    """What the page warns of: half of four rows are missing."""
    (batch,) = duckdb.sql(
        "SELECT * FROM (VALUES (1, [1.0, 2.0]), (2, NULL), (3, NULL), (4, [3.0, 4.0])) t(id, x)"
    ).to_arrow_reader()
    values = batch.column("x").flatten().to_numpy(zero_copy_only=False)
    assert values.reshape(4, -1).shape == (4, 1)
    with pytest.raises(ValueError, match="cannot reshape"):
        values.reshape(4, 2)
