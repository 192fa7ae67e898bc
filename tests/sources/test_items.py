"""Items of several rows as a pool: arrays, lists, files, ragged columns, padding."""

import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fastal
from fastal.base.items import Items
from fastal.sources import open_pool
from tests.support.items import assert_items, items_oracle

RNG = np.random.default_rng(0)
LENGTHS = np.array([3, 0, 9, 1, 17, 2, 40, 0, 0, 5, 8, 0])
OFFSETS = np.concatenate([[0], LENGTHS.cumsum()])
X = (RNG.normal(size=(OFFSETS[-1], 4)) * 3 * RNG.random((OFFSETS[-1], 1))).astype(np.float32)
MASK = RNG.random(len(X)) < 0.7
LISTS = np.split(X, OFFSETS[1:-1])
EMPTY = np.flatnonzero(LENGTHS == 0).tolist()
MEAN = {"aggregate": "mean", "on_invalid": "skip"}


def best(aggregate, k=5, mask=None):
    """The best items by margin, the oracle's way, with their scores."""
    margins = items_oracle(X, OFFSETS, aggregate, mask=mask)[1]
    order = np.argsort(-np.nan_to_num(margins.astype(float), nan=-1), kind="stable")
    order = order[: min(k, int((~np.isnan(margins)).sum()))]
    return order.tolist(), margins[order].astype(np.float64)


def column_of_lists(lists, kind=None):
    return pa.array(lists, kind or pa.list_(pa.list_(pa.float32())))


def save_lists(path, kind=None, step=5):
    """A file whose rows are items, with ids, groups and texts."""
    table = pa.table({
        "id": [f"item {i}" for i in range(len(LISTS))],
        "text": [f"text {i}" for i in range(len(LISTS))],
        "lang": ["de" if i % 2 else "fr" for i in range(len(LISTS))],
        "x": column_of_lists([x.tolist() for x in LISTS], kind),
    })  # fmt: skip
    if path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=step)
    else:
        new = pa.ipc.new_file if path.suffix == ".arrow" else pa.ipc.new_stream
        with new(str(path), table.schema) as writer:
            writer.write_table(table, max_chunksize=step)
    return path


def padded(fill):
    """The items as [N, T, C], and which rows are there."""
    dense = np.full((len(LISTS), LENGTHS.max(), 4), fill, np.float32)
    for item, x in enumerate(LISTS):
        dense[item, : len(x)] = x
    return dense, np.arange(LENGTHS.max()) < LENGTHS[:, None]


def forms(folder):
    """Every way to give the same items."""
    np.save(folder / "lengths.npy", LENGTHS)
    np.save(folder / "offsets.npy", OFFSETS)
    shards = folder / "shards"
    shards.mkdir()
    for number, part in enumerate(np.split(X, [10, 11, 29, 60])):
        np.save(shards / f"{number}.npy", part)
    np.save(folder / "x.npy", X)
    table = {"p": pa.FixedSizeListArray.from_arrays(pa.array(X.ravel()), 4)}
    pq.write_table(pa.table(table), folder / "x.parquet", row_group_size=13)
    np.savez(folder / "x.npz", X)
    dense, is_there = padded(7.0)
    image = np.ascontiguousarray(dense.transpose(0, 2, 1)).reshape(len(LISTS), 4, 8, 5)
    fixed = pa.list_(pa.list_(pa.float32(), 4))
    large = pa.large_list(pa.large_list(pa.float32()))
    return {
        "lengths": fastal.items(X, lengths=LENGTHS),
        "offsets": fastal.items(X, offsets=OFFSETS.tolist()),
        "tensors": fastal.items(torch.tensor(X), lengths=torch.tensor(LENGTHS)),
        "list": fastal.items(LISTS),
        "list of tensors": fastal.items([torch.tensor(x) for x in LISTS]),
        "file": fastal.items(folder / "x.npy", lengths=folder / "lengths.npy"),
        "shards": fastal.items(shards, offsets=folder / "offsets.npy"),
        "parquet": fastal.items(folder / "x.parquet", lengths=LENGTHS),
        "npz": fastal.items(open_pool(folder / "x.npz"), lengths=LENGTHS),
        "mapped": fastal.items(np.load(folder / "x.npy", mmap_mode="r"), lengths=LENGTHS),
        "padded with -100": padded(-100.0)[0],
        "masked": fastal.items(dense, mask=is_there),
        "masked images": (
            fastal.items(image, mask=is_there.reshape(len(LISTS), 8, 5)), {"class_axis": 1},
        ),
        "chunks": (fastal.items(LISTS[i : i + 4]) for i in (0, 4, 8)),
        "ragged parquet": open_pool(save_lists(folder / "r.parquet"), column="x", ragged=True),
        "ragged arrow": open_pool(save_lists(folder / "r.arrow"), column="x", ragged=True),
        "ragged stream": open_pool(
            save_lists(folder / "r.feather", fixed), column="x", ragged=True
        ),
        "ragged large": open_pool(
            save_lists(folder / "large.arrow", large), column="x", ragged=True
        ),
    }  # fmt: skip


@pytest.mark.full
@pytest.mark.parametrize("aggregate", ["mean", "sum", "max", "least", "top3"])
def test_all_forms_of_items_give_the_same_picks(aggregate, tmp_path):
    rows, scores = best(3 if aggregate == "top3" else aggregate)
    bits = None
    for form, pool in forms(tmp_path).items():
        given, more = pool if isinstance(pool, tuple) else (pool, {})
        options = {"aggregate": aggregate, "on_invalid": "skip", "chunk_bytes": 200, **more}
        picks = fastal.select(given, 5, **options)
        assert np.asarray(picks.rows).tolist() == rows, form
        assert picks.invalid == len(EMPTY), form
        np.testing.assert_allclose(np.asarray(picks.scores), scores, rtol=1e-5, err_msg=form)
        bits = np.asarray(picks.scores) if bits is None else bits
        assert np.array_equal(picks.scores, bits), form


def test_nested_lists_of_numbers_may_be_empty():
    want = fastal.select(fastal.items([x.astype(float) for x in LISTS]), 5, **MEAN)
    for lists in (LISTS, LISTS[1:] + LISTS[:1]):  # the first is empty
        picks = fastal.select(fastal.items([x.tolist() for x in lists]), 5, **MEAN)
        assert sorted(picks.scores) == sorted(want.scores)
    assert fastal.select(fastal.items([[], [[]][:0]]).values.reshape(0, 2), 1).rows.size == 0


def test_arrays_keep_their_kind():
    picks = fastal.select(fastal.items(torch.tensor(X), lengths=LENGTHS), 3, **MEAN)
    assert isinstance(picks.rows, torch.Tensor)
    scores = fastal.score(fastal.items(torch.tensor(X), lengths=LENGTHS), **MEAN)
    assert isinstance(scores.margin, torch.Tensor)


def test_bfloat16_files_of_items_give_arrays(tmp_path):
    torch.save(torch.tensor(X).bfloat16(), tmp_path / "x.pt")
    picks = fastal.select(fastal.items(tmp_path / "x.pt", lengths=LENGTHS), 3, **MEAN)
    assert isinstance(picks.rows, np.ndarray)
    assert isinstance(picks.scores, np.ndarray)


# --- chunks


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_items_that_straddle_chunks_are_whole(data, tmp_path_factory):
    """From any item on, in chunks of any size, from any shards."""
    lengths = data.draw(st.lists(st.integers(0, 12), min_size=1, max_size=7))
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    cuts = sorted(data.draw(st.lists(st.integers(0, int(offsets[-1])), max_size=4)))
    folder = tmp_path_factory.mktemp("shards")
    x, mask = X[: offsets[-1]], MASK[: offsets[-1]]
    for number, part in enumerate(np.split(x, cuts)):
        np.save(folder / f"{number}.npy", part)
    pool = fastal.items(folder, lengths=lengths, mask=mask)
    item = start = data.draw(st.integers(0, len(lengths) - 1))
    for chunk in pool.chunks(data.draw(st.integers(1, 15)), start):
        assert chunk.start == item
        for own in range(len(chunk.x)):
            one = chunk.x[own : own + 1]
            rows = slice(int(offsets[item]), int(offsets[item + 1]))
            assert np.array_equal(one.values, x[rows])
            assert np.array_equal(one.mask, mask[rows])
            item += 1
    assert item == len(lengths)
    assert not list(pool.chunks(3, len(lengths)))


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_no_chunk_changes_a_bit(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("items")
    cuts = sorted(data.draw(st.lists(st.integers(0, len(X)), max_size=4)))
    order = data.draw(st.sampled_from("CF"))
    for number, part in enumerate(np.split(X, cuts)):
        np.save(folder / f"{number}.npy", np.asarray(part, order=order))
    aggregate = data.draw(st.sampled_from(["mean", "sum", "least", "top2"]))
    pool = fastal.items(folder, lengths=LENGTHS, mask=MASK)
    picks = fastal.select(
        pool, 20, aggregate=aggregate, on_invalid="skip",
        chunk_bytes=data.draw(st.integers(1, 2000)),
    )  # fmt: skip
    whole = fastal.items(X, lengths=LENGTHS, mask=MASK)
    want = fastal.select(whole, 20, aggregate=aggregate, on_invalid="skip")
    assert np.array_equal(picks.rows, want.rows)
    assert np.array_equal(picks.scores, want.scores)


@settings(max_examples=30, deadline=None)
@given(
    lists=st.lists(
        st.none()
        | st.lists(st.none() | st.lists(st.floats(-9, 9, width=32), min_size=3, max_size=3)),
        min_size=1,
        max_size=12,
    ),
    step=st.integers(1, 5),
    rows=st.integers(1, 5),
    suffix=st.sampled_from([".parquet", ".arrow"]),
    start=st.integers(0, 5),
)
def test_ragged_columns_hold_what_was_written(lists, step, rows, suffix, start, tmp_path_factory):
    """Missing items have no rows, missing rows are NaN; also in slices of a longer column."""
    path = tmp_path_factory.mktemp("ragged") / f"x{suffix}"
    lists = [*lists, [[4.0, 5.0, 6.0]]]  # one row has a shape
    table = pa.table({"x": column_of_lists([[[1.0, 2.0, 3.0]], *lists]).slice(1)})
    if suffix == ".parquet":
        pq.write_table(table, path, row_group_size=step)
    else:
        with pa.ipc.new_file(str(path), table.schema) as writer:
            writer.write_table(table, max_chunksize=step)
    pool, start = open_pool(path, ragged=True), min(start, len(lists) - 1)
    item = start
    for chunk in pool.chunks(rows, start):
        assert chunk.start == item
        for own in range(len(chunk.x)):
            want = [[np.nan] * 3 if row is None else row for row in lists[item] or []]
            got = np.asarray(chunk.x[own : own + 1].values)
            if want:
                np.testing.assert_array_equal(got, np.array(want, np.float32))
            assert len(got) == len(want)
            item += 1
    assert item == len(lists)


def test_a_column_of_missing_items_alone_has_no_shape(tmp_path):
    for kind in (pa.list_(pa.list_(pa.float32())), pa.null()):
        pq.write_table(pa.table({"x": pa.array([None, None], kind)}), tmp_path / "x.parquet")
        with pytest.raises(ValueError, match="x.parquet: no row of 'x' has values"):
            open_pool(tmp_path / "x.parquet", column="x", ragged=True)


def test_items_are_sliced_and_taken_like_arrays():
    for items in (
        fastal.items(X, lengths=LENGTHS, mask=MASK),
        fastal.items(padded(0.0)[0], mask=padded(0.0)[1]),
    ):
        scores = fastal.score(items, **MEAN).margin
        for part, places in (
            (items[2:7], np.arange(2, 7)),
            (items[5:3], np.arange(0)),
            (items[-3:, ...], np.arange(9, 12)),
            (items.taken(np.array([6, 1, 4])), np.array([6, 1, 4])),
            (items.taken(np.arange(0)), np.arange(0)),
        ):
            assert len(part) == len(places)
            found = fastal.score(part, **MEAN).margin
            assert np.array_equal(found, scores[places], equal_nan=True)
        for key in (3, slice(0, 9, 2), np.array([1])):
            with pytest.raises((TypeError, ValueError), match="items: wanted a slice"):
                items[key]
        assert repr(items).startswith("<12 items: ")


# --- which items


def pools_of_items(folder):
    np.save(folder / "x.npy", X)
    yield fastal.items(X, lengths=LENGTHS)
    yield fastal.items(folder / "x.npy", lengths=LENGTHS)
    yield open_pool(save_lists(folder / "x.parquet"), column="x", ragged=True)
    yield padded(-100.0)[0]


def test_exclude_and_among_name_items(tmp_path):
    rows, _ = best("mean", 20)
    for pool in pools_of_items(tmp_path):
        for options, want in (
            ({"exclude": rows[:2]}, rows[2:]),
            ({"among": rows[3:5]}, rows[3:5]),
            ({"among": [row in rows[1:4] for row in range(12)], "exclude": [rows[2]]}, rows[1:4:2]),
            ({"exclude": fastal.select(pool, 3, **MEAN)}, rows[3:]),
        ):
            for share in (1 / 4, 1.0):  # by passing over, and by gathering
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr("fastal.pipeline.row_choice._LARGEST_SHARE", share)
                    picks = fastal.select(pool, len(want), **MEAN, **options, chunk_bytes=150)
                assert picks.rows.tolist() == want
        # Items that are left out may be invalid; those that are not are named.
        assert fastal.select(pool, 3, aggregate="mean", exclude=EMPTY).rows.tolist() == rows[:3]
        for empty in EMPTY:
            with pytest.raises(fastal.InvalidRows, match=rf"row {empty} .*no row counts"):
                fastal.select(pool, 3, aggregate="mean", among=[empty])


def test_groups_are_those_of_items(tmp_path):
    rows, _ = best("mean", 20)
    groups = ["de" if i % 2 else "fr" for i in range(12)]
    want = [next(row for row in rows if groups[row] == group) for group in ("de", "fr")]
    for pool in pools_of_items(tmp_path):
        picks = fastal.select(pool, per_group=1, groups=groups, chunk_bytes=150, **MEAN)
        assert sorted(picks.rows.tolist()) == sorted(want)
        with pytest.raises(ValueError, match="groups: wanted 12 labels.* got 11"):
            fastal.select(pool, per_group=1, groups=groups[:-1], **MEAN)
    pool = open_pool(tmp_path / "x.parquet", column="x", ragged=True, group_column="lang")
    picks = fastal.select(pool, per_group=1, **MEAN)
    assert sorted(picks.rows.tolist()) == sorted(want)
    with pytest.raises(ValueError, match="groups: "):
        fastal.select(pool, per_group=1, groups="predicted", **MEAN)


def test_ids_and_columns_are_those_of_items(tmp_path):
    rows, _ = best("mean")
    ids = [f"item {i}" for i in range(12)]
    texts = {"text": [f"text {i}" for i in range(12)]}
    np.save(tmp_path / "x.npy", X)
    for pool in (
        open_pool(fastal.items(X, lengths=LENGTHS), ids=ids, carry=texts),
        open_pool(fastal.items(tmp_path / "x.npy", lengths=LENGTHS), ids=ids, carry=texts),
        open_pool(
            save_lists(tmp_path / "x.parquet"), column="x", ragged=True, id_column="id",
            carry=["text"],
        ),
        open_pool(
            save_lists(tmp_path / "x.arrow"), column="x", ragged=True, id_column="id",
            carry=["text"],
        ),
    ):  # fmt: skip
        picks = fastal.select(pool, 5, **MEAN, chunk_bytes=100)
        assert picks.rows.tolist() == rows
        assert list(picks.ids) == [ids[row] for row in rows]
        assert picks[0]["text"] == f"text {rows[0]}"
        picks.save(tmp_path / "picks.csv")
        again = fastal.select(pool, 1, **MEAN, exclude=tmp_path / "picks.csv")
        assert again.rows[0] == best("mean", 6)[0][-1]
    for wrong, says in ((ids[:-1], "ids: .*11.*12|ids: .*12.*11"), (["a"] * 12, "'a' is there")):
        with pytest.raises(ValueError, match=says):
            open_pool(fastal.items(tmp_path / "x.npy", lengths=LENGTHS), ids=wrong)
    with pytest.raises(TypeError, match="carry: wanted a dictionary"):
        open_pool(fastal.items(tmp_path / "x.npy", lengths=LENGTHS), carry=["text"])


def test_columns_of_rows_are_never_lost_silently(tmp_path):
    rows = pa.FixedSizeListArray.from_arrays(pa.array(X.ravel()), 4)
    table = pa.table({"id": np.arange(len(X)), "lang": ["de"] * len(X), "x": rows})
    pq.write_table(table, tmp_path / "x.parquet")
    for options, what in (
        ({"id_column": "id"}, "ids"),
        ({"group_column": "lang"}, "groups"),
        ({"carry": ["lang"]}, "carried columns"),
        ({"beside": X}, "a pool beside"),
    ):
        pool = open_pool(tmp_path / "x.parquet", column="x", **options)
        with pytest.raises(ValueError, match=f"values: the pool has {what} of the rows"):
            fastal.items(pool, lengths=LENGTHS)
    pool = open_pool(X, ids=np.arange(len(X)))
    with pytest.raises(ValueError, match="values: the pool has ids of the rows"):
        fastal.items(pool, lengths=LENGTHS)


def test_random_items_and_the_scores_of_items_by_name():
    items = fastal.items(X, lengths=LENGTHS)
    assert np.array_equal(
        fastal.select(items, 5, "random").rows, fastal.select(X[:12], 5, "random").rows
    )
    for by in ("score", lambda x: x[:, 0]):
        with pytest.raises(TypeError, match="got items of several rows; wanted aggregate"):
            fastal.select(items, 3, by)


# --- runs that stop


@pytest.mark.full
@pytest.mark.parametrize("change", ["lengths", "mask"])
def test_a_saved_run_continues_and_knows_its_items(tmp_path, interrupting, change):
    np.save(tmp_path / "x.npy", X)
    stop = interrupting(fastal.Selector)
    options = {**MEAN, "checkpoint": tmp_path / "saved", "chunk_bytes": 100}

    def pool(lengths=LENGTHS, mask=MASK):
        return fastal.items(tmp_path / "x.npy", lengths=lengths, mask=mask)

    want = fastal.select(pool(), 5, **MEAN)
    for n_chunks in range(2, 6):
        stop(n_chunks)
        with pytest.raises(KeyboardInterrupt):
            fastal.select(pool(), 5, **options)
        other = {"lengths": LENGTHS[::-1]} if change == "lengths" else {"mask": ~MASK}
        with pytest.raises(ValueError, match="of another run|another pool"):
            fastal.select(pool(**other), 5, **options, resume=True)
        picks = fastal.select(pool(), 5, **options, resume=True)
        assert np.array_equal(picks.rows, want.rows)
        assert np.array_equal(picks.scores, want.scores)
        assert picks.invalid == want.invalid


def test_rows_that_vanish_are_never_left_out_silently(tmp_path):
    for number, part in enumerate(np.split(X, [40])):
        np.save(tmp_path / f"{number}.npy", part)
    for number in (0, 1):
        for on_bad_file in ("raise", "skip"):
            whole = (tmp_path / f"{number}.npy").read_bytes()
            pool = fastal.items(open_pool(tmp_path, on_bad_file=on_bad_file), lengths=LENGTHS)
            os.truncate(tmp_path / f"{number}.npy", 200)
            with pytest.raises((OSError, ValueError), match=r"missing|cut short|no complete"):
                fastal.select(pool, 5, **MEAN)
            (tmp_path / f"{number}.npy").write_bytes(whole)
            fastal.select(fastal.items(tmp_path, lengths=LENGTHS), 5, **MEAN)


# --- what is refused


def refusals(folder):
    np.save(folder / "x.npy", X)
    np.save(folder / "floats.npy", LENGTHS / 1.0)
    (folder / "text.npy").write_bytes(b"text")
    np.savez(folder / "a.npz", LENGTHS)
    dense = padded(0.0)[0]
    yield r"lengths: the items have 77 rows, the values 85", X, {"lengths": LENGTHS[:-2]}
    yield r"lengths: the items have 85 rows, the values 84", X[:-1], {"lengths": LENGTHS}
    yield r"offsets: the items have 72 rows, the values 85", X, {"offsets": OFFSETS[:10]}
    yield r"lengths: the items have 77 rows", folder / "x.npy", {"lengths": LENGTHS[:-2]}
    yield r"offsets: the items have 72 rows", folder / "x.npy", {"offsets": OFFSETS[:10]}
    yield r"offsets: they fall from 50 to 40 at item 1", X, {"offsets": [0, 50, 40, 85]}
    yield r"offsets: wanted 0 first, got \[1\]", X, {"offsets": [1, 85]}
    yield r"offsets: wanted 0 first, got \[\]", X, {"offsets": []}
    yield r"offsets: wanted lengths or offsets, got both", X, {"offsets": [0, 85], "lengths": [85]}
    yield r"lengths: wanted 0 or more, got -1 for item 2", X, {"lengths": [80, 6, -1]}
    yield r"lengths: wanted \[n\] integers, got float64", X, {"lengths": LENGTHS / 1.0}
    yield r"lengths: wanted \[n\] integers, got float64", X, {"lengths": folder / "floats.npy"}
    yield (
        r"lengths: wanted \[n\] integers, got int64 of shape \(12, 1\)",
        X,
        {"lengths": LENGTHS[:, None]},
    )
    yield r"lengths: .*no.npy: No such file", X, {"lengths": folder / "no.npy"}
    yield r"offsets: .*text.npy: wanted a .npy file", X, {"offsets": folder / "text.npy"}
    yield r"lengths: .*a.npz: wanted a .npy file of one array", X, {"lengths": folder / "a.npz"}
    yield r"mask: .*text.npy: wanted a .npy file", X, {
        "lengths": LENGTHS, "mask": folder / "text.npy",
    }  # fmt: skip
    yield r"mask: wanted a bool for each row, \(85,\), got shape \(84,\)", X, {
        "lengths": LENGTHS, "mask": MASK[1:],
    }  # fmt: skip
    yield r"mask: wanted a bool for each row, \(85,\)", folder / "x.npy", {
        "lengths": LENGTHS, "mask": MASK[1:],
    }  # fmt: skip
    yield r"mask: wanted bools", X, {"lengths": LENGTHS, "mask": MASK.astype(int)}
    yield (
        r"mask: wanted a bool for each row of 12 items, got shape \(13, 40\)",
        dense,
        {"mask": np.ones((13, 40), bool)},
    )
    yield r"lengths: wanted lengths, offsets or a mask", dense, {}
    yield r"lengths: wanted lengths or offsets, since the values are in files", folder / "x.npy", {}
    yield r"lengths: a list with one array for each item has its own", LISTS, {"lengths": LENGTHS}
    yield r"values: an empty list", [], {}
    yield r"values: item 1 has shape \(2, 3\), item 0 \(2, 4\)", [X[:2], X[:2, :3]], {}
    yield r"values: item 0: wanted an array", [[[0.0, 1.0], [2.0]]], {}
    yield r"values: item 1: wanted an array", [[[0.0, 1.0]], "text"], {}
    yield r"values: wanted a pool whose number of rows is known", iter([X]), {"lengths": LENGTHS}
    yield r"values: they are items already", fastal.items(LISTS), {"lengths": [12]}
    yield (
        r"values: they are items already",
        fastal.items(folder / "x.npy", lengths=LENGTHS),
        {"lengths": [12]},
    )
    ragged = open_pool(save_lists(folder / "r.parquet"), column="x", ragged=True)
    yield (
        r"values: with ragged, each row of the files is an item already",
        ragged,
        {"lengths": [12]},
    )


def test_bad_items_are_refused(tmp_path):
    for says, values, options in refusals(tmp_path):
        with pytest.raises((ValueError, TypeError, OSError), match=f"^{says}"):
            fastal.items(values, **options)


def test_bad_files_of_ragged_items_are_refused(tmp_path):
    path = save_lists(tmp_path / "r.parquet")
    np.save(tmp_path / "x.npy", X)
    pq.write_table(pa.table({"x": pa.array([[1.0, 2.0]] * 3)}), tmp_path / "flat.parquet")
    uneven = pa.table({"x": column_of_lists([[[1.0, 2.0]], [[1.0, 2.0], [1.0, 2.0, 3.0]]])})
    pq.write_table(uneven, tmp_path / "uneven.parquet")
    integers = column_of_lists([[[1, 2]]], pa.list_(pa.list_(pa.int32())))
    pq.write_table(pa.table({"x": integers}), tmp_path / "integers.parquet")
    for file, ragged, says in (
        (path, False, r"lists of 3 and of 0 values in 'x'; if each row .* give ragged=True"),
        (tmp_path / "x.npy", True, r"ragged: wanted Parquet or Arrow; .* give fastal.items"),
        (tmp_path / "flat.parquet", True, r"ragged: wanted lists of lists"),
        (tmp_path / "uneven.parquet", True, r"lists of 2 and of 3 values in 'x'$"),
        (tmp_path / "integers.parquet", True, r"wanted floating-point numbers"),
    ):
        options = {} if file.suffix == ".npy" else {"column": "x"}
        with pytest.raises((ValueError, TypeError), match=says) as e:
            fastal.select(open_pool(file, ragged=ragged, **options), 1, **MEAN)
        assert str(file) in str(e.value)
    with pytest.raises(ValueError, match="ragged and on_bad_file are for pools of files"):
        open_pool(X, ragged=True)
    with pytest.raises(TypeError, match=rf"{path} row 0: .*wanted aggregate"):
        fastal.select(open_pool(path, column="x", ragged=True), 1)


def test_a_list_of_arrays_is_never_taken_for_items():
    """Where chunks cannot be meant, the error says how to give items."""
    says = r"A list of arrays is a pool in chunks; .* give fastal.items\(list\)"
    for kind, lists in (("logits", LISTS), ("multilabel_logits", [x[:, 0] for x in LISTS])):
        with pytest.raises(ValueError, match=says):
            fastal.select(lists, 3, kind=kind, **MEAN)
        fastal.select(fastal.items(lists), 3, kind=kind, **MEAN)
    # Without aggregate, a list of matrices is one pool of rows.
    picks = fastal.select(LISTS, 3)
    assert picks.rows.tolist() == fastal.select(X, 3).rows.tolist()
    # Dense items may come in chunks of different sizes.
    dense, _ = padded(-100.0)
    picks = fastal.select([dense[:3], dense[3:5, :20], dense[5:]], 5, **MEAN)
    assert picks.rows.tolist() == best("mean")[0]


def test_invalid_items_are_named_with_their_file(tmp_path):
    for number, part in enumerate(np.split(X, [40])):
        np.save(tmp_path / f"{number}.npy", part)
    mask = MASK.copy()
    mask[OFFSETS[9] : OFFSETS[10]] = False
    pool = fastal.items(tmp_path, lengths=LENGTHS, mask=mask)
    says = rf"row 9 \({tmp_path}/1.npy row {OFFSETS[9] - 40}\) is an item of which no row counts"
    with pytest.raises(fastal.InvalidRows, match=says):
        fastal.select(pool, 3, aggregate="mean", exclude=EMPTY, chunk_bytes=100)
    picks = fastal.select(pool, 30, **MEAN)
    assert picks.invalid == len(EMPTY) + 1
    assert 9 not in picks.rows


def test_scores_of_items_and_of_their_rows():
    items = fastal.items(X, lengths=LENGTHS, mask=MASK)
    assert_items(fastal.score(items, **MEAN), items_oracle(X, OFFSETS, "mean", mask=MASK))
    of_rows = fastal.score(items, on_invalid="skip")
    assert of_rows.margin.shape == (len(X),)
    assert np.array_equal(np.isnan(of_rows.margin), ~MASK)
    assert np.array_equal(of_rows.entropy[MASK], fastal.score(X[MASK]).entropy)
    with pytest.raises(fastal.InvalidRows, match="no row counts") as e:
        fastal.score(items)
    assert e.value.rows[: len(EMPTY)] == EMPTY[: len(e.value.rows)]


def test_items_is_the_pool_that_it_says():
    assert isinstance(fastal.items(X, lengths=LENGTHS), Items)
    assert len(fastal.items(X, lengths=LENGTHS)) == 12
    assert fastal.items(X, lengths=LENGTHS).nbytes == X.nbytes
