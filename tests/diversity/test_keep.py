"""`keep` of `deduplicate`: which of several duplicates stays, and thresholds of one run."""

import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fastal
from fastal.base.row_numbers import RowNumbers
from fastal.base.row_random import uniform
from fastal.diversity import Deduplicator, deduplicate, keep_values, nearest_centroid

N, D = 120, 5
NAMES = ("first", "nearest", "farthest", "random")


def embeddings(seed=0, n=N, width=D, n_copies=60):
    """Random rows, some of which are equal to others, some nearly, some longer."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, width))
    to, of = rng.integers(0, n, (2, n_copies))
    scale = rng.choice([1, 2], (n_copies, 1))
    noise = rng.choice([0, 0.03, 0.2], (n_copies, 1)) * rng.standard_normal((n_copies, width))
    x[to] = scale * x[of] + noise
    return x.astype(np.float32)


def centroids(n=4, width=D):
    return np.random.default_rng(9).standard_normal((n, width))


def keys(x, of, keep, seed=0):
    """For each row a number: the row with the smallest comes first in its cluster."""
    n = len(x)
    if not isinstance(keep, str):
        return [-value for value in keep]
    similarity = nearest_centroid(x, of).similarity.tolist()
    return {
        "first": list(range(n)),
        "nearest": [-one for one in similarity],
        "farthest": similarity,
        "random": uniform(seed, RowNumbers(n, 0)).tolist(),
    }[keep]


def by_definition(x, of, threshold, key):
    """Duplicates and their similarities: the matrix of all pairs, in float64."""
    cluster = nearest_centroid(x, of).cluster
    units = x / np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True)
    similarity = (units @ units.T).clip(-1, 1).astype(np.float32)
    place = np.empty(len(x), int)
    place[sorted(range(len(x)), key=lambda row: (key[row], row))] = np.arange(len(x))
    is_before = (cluster[:, None] == cluster) & (place < place[:, None])
    best = np.where(is_before, similarity, -2).max(1)
    return {row: best[row] for row in np.flatnonzero(best >= np.float32(threshold)).tolist()}


def assert_duplicates(found, x, of, threshold, key):
    want = by_definition(x, of, threshold, key)
    assert found.rows.tolist() == [*want]
    np.testing.assert_allclose(found.similarity, [*want.values()], rtol=0, atol=2.0**-22)
    cluster = nearest_centroid(x, of).cluster
    assert (cluster[found.of] == cluster[found.rows]).all()
    for row, earlier in zip(found.rows.tolist(), found.of.tolist(), strict=True):
        assert (key[earlier], earlier) < (key[row], row)


def assert_same(a, b):
    for ours, theirs in zip(a, b, strict=True):
        assert np.asarray(ours).tobytes() == np.asarray(theirs).tobytes()


def values_of(kind):
    drawn = np.random.default_rng(3).integers(-3, 4, N)
    return drawn + 0.5 if kind == "floats" else drawn.astype(kind)


@pytest.mark.parametrize("threshold", [-1, 0.9, 0.999, 1])
@pytest.mark.parametrize("keep", NAMES)
def test_each_order_follows_the_definition(keep, threshold):
    x, of = embeddings(), centroids()
    found = deduplicate(x, of, threshold, keep=keep, seed=7)
    assert len(found.rows)
    assert_duplicates(found, x, of, threshold, keys(x, of, keep, 7))


@pytest.mark.parametrize("kind", ["floats", "float16", "int8", "uint64", "bool", "int64"])
def test_the_largest_value_is_kept_and_ties_go_to_the_lower_row(kind):
    x, of, values = embeddings(), centroids(), values_of(kind)
    found = deduplicate(x, of, 0.9, keep=values)
    assert_duplicates(found, x, of, 0.9, keys(x, of, values.tolist()))
    for others in (values.tolist(), torch.from_numpy(values), (*values.tolist(),)):
        assert_same(deduplicate(x, of, 0.9, keep=others), found)
    assert_same(deduplicate(x, of, 0.9, keep=range(N)), deduplicate(x, of, 0.9, keep=np.arange(N)))
    # The values of the pool move nothing but the order.
    assert_same(deduplicate(x, of, 0.9, keep=np.zeros(N)), deduplicate(x, of, 0.9))


def test_bfloat16_values():
    values = torch.from_numpy(values_of("floats")).bfloat16()
    found = deduplicate(embeddings(), centroids(), 0.9, keep=values)
    assert_same(found, deduplicate(embeddings(), centroids(), 0.9, keep=values.float()))


def test_a_wrong_order_is_found():
    x, of = embeddings(), centroids()
    for keep in NAMES:
        found = deduplicate(x, of, 0.9, keep=keep, seed=7)
        for other in NAMES:
            if other != keep:
                with pytest.raises(AssertionError):
                    assert_duplicates(found, x, of, 0.9, keys(x, of, other, 7))
    found = deduplicate(x, of, 0.9, keep="random", seed=7)
    with pytest.raises(AssertionError):
        assert_duplicates(found, x, of, 0.9, keys(x, of, "random", 8))
    values = np.arange(N) % 3
    found = deduplicate(x, of, 0.9, keep=values)
    for wrong in (-values, values + np.arange(N) / N, np.where(np.arange(N) < 9, 0, values)):
        with pytest.raises(AssertionError):
            assert_duplicates(found, x, of, 0.9, keys(x, of, wrong.tolist()))


def test_nearest_and_farthest_on_a_line_of_rows():
    """Similarities to the centroid [1, 0] that anyone can compute: 0.8, 0.96, 1, 0.6."""
    x = np.array([[4, 3], [24, 7], [2, 0], [3, 4]], np.float32)
    of = np.array([[1.0, 0]])
    nearest = deduplicate(x, of, 0.9, keep="nearest")  # 2, 1, 0, 3
    assert (nearest.rows.tolist(), nearest.of.tolist()) == ([0, 1, 3], [1, 2, 0])
    assert nearest.kept().tolist() == [2, 2, 2]
    farthest = deduplicate(x, of, 0.9, keep="farthest")  # 3, 0, 1, 2
    assert (farthest.rows.tolist(), farthest.of.tolist()) == ([0, 1, 2], [3, 0, 1])
    assert farthest.kept().tolist() == [3, 3, 3]
    first = deduplicate(x, of, 0.9)
    assert (first.rows.tolist(), first.of.tolist()) == ([1, 2, 3], [0, 1, 0])


@pytest.mark.parametrize("keep", [*NAMES, "values"])
def test_of_equal_rows_the_lowest_is_kept_unless_a_value_or_a_draw_decides(keep):
    x = np.tile(np.array([[1, 2, 3, 4, 5], [5, 4, 3, 2, 1]], np.float32), (40, 1))
    given = np.array([0, 0, 7, 7, 7, 7, *[1] * 74]) if keep == "values" else keep
    found = deduplicate(x, centroids(1), 1, keep=given)
    assert len(found.rows) == 78
    left = set(range(80)) - {*found.rows.tolist()}
    key = keys(x, centroids(1), given if isinstance(given, str) else given.tolist())
    assert left == {
        min((row for row in range(80) if row % 2 == kind), key=lambda row: (key[row], row))
        for kind in (0, 1)
    }
    assert {*found.of.tolist()} == left
    assert keep in ("random", "values") or left == {0, 1}


@settings(deadline=None, max_examples=60)
@given(data=st.data(), keep=st.sampled_from([*NAMES, "values"]))
def test_no_chunks_and_no_memory_change_what_is_kept(data, keep):
    x, of = embeddings(), centroids()
    how = {"keep": values_of("int64") if keep == "values" else keep, "seed": 5}
    want = deduplicate(x, of, 0.9, **how)
    cuts = sorted(data.draw(st.lists(st.integers(0, N), max_size=6)))
    chunks = [chunk.copy() for chunk in np.split(x, cuts)]
    largest = np.bincount(nearest_centroid(x, of).cluster).max()
    memory_bytes = int(4 * D * data.draw(st.integers(largest, N)))
    assert_same(deduplicate(chunks, of, 0.9, memory_bytes=memory_bytes, **how), want)


@settings(deadline=None, max_examples=60)
@given(
    data=st.data(),
    keep=st.sampled_from(NAMES),
    width=st.sampled_from([1, 2, 5, 33]),
    seed=st.integers(0, 9),
)
def test_several_thresholds_are_as_many_runs(data, keep, width, seed):
    """Among them similarities that occur, and their neighbours one unit apart."""
    x, of = embeddings(seed, 60, width, 40), centroids(3, width)
    occur = deduplicate(x, of, -1, keep=keep).similarity.tolist()
    one = st.sampled_from(occur) | st.floats(-1, 1, width=32)
    near = one.flatmap(
        lambda t: st.sampled_from(
            [t, *(float(np.nextafter(np.float32(t), np.float32(to))) for to in (-1, 1))]
        )
    )
    thresholds = data.draw(st.lists(near, min_size=1, max_size=5))
    found = deduplicate(x, of, thresholds, keep=keep)
    assert len(found) == len(thresholds)
    for threshold, several in zip(thresholds, found, strict=True):
        alone = deduplicate(x, of, threshold, keep=keep)
        assert_same(several, alone)
        assert (alone.similarity >= np.float32(threshold)).all()


def test_a_similarity_equal_to_the_threshold_is_one_of_duplicates():
    x = np.array([[1, 0], [3, 4], [4, 3]], np.float32)  # 0.6 and 0.8 to the first, 0.96
    for t, (above, below) in ((0.6, (1, 2)), (0.96, (0, 1))):
        more = float(np.nextafter(np.float32(t), np.float32(1)))
        at, beyond = deduplicate(x, np.ones((1, 2)), [t, more])
        assert (len(at.rows), len(beyond.rows)) == (below, above)
        with pytest.raises(AssertionError):
            assert_same(at, beyond)


def test_thresholds_in_any_order_and_of_tensors():
    x = torch.from_numpy(embeddings())
    found = deduplicate(x, centroids(), (t for t in (0.99, 0.5, 0.9)))
    assert [isinstance(one.rows, torch.Tensor) for one in found] == [True] * 3
    counts = [len(one.rows) for one in found]
    assert counts[1] > counts[2] > counts[0]
    (one,) = deduplicate(x, centroids(), [0.9])
    assert_same(one, found[2])


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 99), st.sampled_from([0.5, 0.9, 0.99]), st.sampled_from(NAMES))
def test_the_kept_row_is_the_end_of_the_chain(seed, threshold, keep):
    x = embeddings(seed)
    found = deduplicate(x, centroids(1), threshold, keep=keep)
    of = dict(zip(found.rows.tolist(), found.of.tolist(), strict=True))
    for row, kept in zip(found.rows.tolist(), found.kept().tolist(), strict=True):
        while row in of:
            row = of[row]
        assert kept == row
    of_torch = deduplicate(torch.from_numpy(x), centroids(1), threshold, keep=keep).kept()
    assert isinstance(of_torch, torch.Tensor)
    assert of_torch.tolist() == found.kept().tolist()


def test_a_long_chain_has_one_kept_row():
    angle = np.arange(500) * 0.01
    x = np.stack([np.cos(angle), np.sin(angle)], 1)
    found = deduplicate(x, np.ones((1, 2)), math.cos(0.012))
    assert found.of.tolist() == list(range(499))
    assert found.kept().tolist() == [0] * 499


def test_a_carried_column_is_kept_by(tmp_path, monkeypatch):
    monkeypatch.setattr(keep_values, "_BLOCK", 50)
    x, of = embeddings(), centroids()
    lists = pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), D)
    values = {"whole": values_of("int64"), "real": values_of("floats"), "yes": values_of("bool")}
    table = {"x": lists, "text": list(map(str, range(N))), **values}
    pq.write_table(pa.table(table), tmp_path / "p.parquet", row_group_size=30)
    for name, column in values.items():
        want = deduplicate(x, of, 0.9, keep=column)
        pool = fastal.open_pool(tmp_path / "p.parquet", column="x", carry=["text", name])
        assert_same(deduplicate(pool, of, 0.9, keep=name), want)
        pool = fastal.open_pool(x, carry={name: column.tolist()})
        assert_same(deduplicate(pool, of, 0.9, keep=name), want)
    pool = fastal.open_pool(x, carry={"text": [None, *map(str, range(1, N))]})
    with pytest.raises(TypeError, match="keep: row 0 has None in the column 'text'; wanted a num"):
        deduplicate(pool, of, keep="text")


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".npy"])
@pytest.mark.parametrize("kind", ["floats", "int64", "bool"])
def test_a_file_of_values_is_matched_by_id_or_by_row(tmp_path, suffix, kind):
    x, of, values = embeddings(), centroids(), values_of(kind)
    values = values.astype(int) if kind == "bool" and suffix == ".csv" else values
    want = deduplicate(x, of, 0.9, keep=values)
    mixed = np.random.default_rng(0).permutation(N)
    path = tmp_path / f"values{suffix}"
    for key, name in (("id", "score"), ("row", "margin"), (None, "margin")):
        order = mixed if key else np.arange(N)
        table = {key: order + 1000 * (key == "id")} if key else {}
        table[name] = values[order]
        if suffix == ".parquet":
            pq.write_table(pa.table(table), path)
        elif suffix == ".csv":
            lines = zip(*(column.tolist() for column in table.values()), strict=True)
            path.write_text("\n".join([",".join(table), *(",".join(map(str, o)) for o in lines)]))
        else:
            fields = [(name, column.dtype) for name, column in table.items()]
            columns = zip(*table.values(), strict=True)
            np.save(path, np.array([*columns], fields) if key else table[name])
        pool = fastal.open_pool(x, ids=np.arange(N) + 1000) if key == "id" else x
        for keep in (path, str(path)):
            assert_same(deduplicate(pool, of, 0.9, keep=keep), want)


def test_a_column_of_picks_is_score_and_what_is_no_file_of_values_is_named(tmp_path):
    x, of = embeddings(), centroids()
    picks = fastal.select(np.stack([-values_of("floats"), np.zeros(N)], 1), N, "margin")
    picks.save(tmp_path / "picks.csv")
    want = deduplicate(x, of, 0.9, keep=picks.scores[np.argsort(picks.rows)])
    assert_same(deduplicate(x, of, 0.9, keep=tmp_path / "picks.csv"), want)
    np.save(tmp_path / "two.npy", np.zeros((N, 2)))
    np.save(tmp_path / "few.npy", np.zeros(7))
    (tmp_path / "none.csv").write_text("row\n" + "\n".join(map(str, range(N))))
    (tmp_path / "text.csv").write_text("row,a\n" + "\n".join(f"{row},b" for row in range(N)))
    (tmp_path / "more.csv").write_text("row,a,b\n" + "\n".join(f"{r},1,2" for r in range(N)))
    for name, words in (
        ("two.npy", r"no file of values: wanted one value of each row, got shape \(120, 2\)"),
        ("few.npy", "wanted 120 rows, as the pool has, got 7"),
        ("none.csv", "no file of values: wanted a column 'score'; its columns are row"),
        ("text.csv", "no file of values: could not convert string to float"),
        ("more.csv", "no file of values: wanted one column of values, or 'score'; it has a, b"),
        ("absent.csv", "absent.csv: no such file"),
    ):
        with pytest.raises((ValueError, OSError), match=words) as error:
            deduplicate(x, of, keep=tmp_path / name)
        assert str(error.value).startswith("keep: ")
    with pytest.raises(ValueError, match=r"groups: wanted .* file of labels, got 'x.txt'"):
        fastal.select(x, groups="x.txt", per_group=1)


def test_the_orders_of_nemo_curator():
    """The ids, the most similar ids and the similarities that its tests of two orders want."""
    x = np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9], [10, 11, 12], [1, 2, 3], [1, 2, 3]], np.float32)
    distance = np.array([0, 1, 2, 3, 0.1, 0.2])
    hard = deduplicate(x, np.ones((1, 3)), -1, keep=distance)
    assert (hard.rows.tolist(), hard.of.tolist()) == ([0, 1, 2, 4, 5], [5, 2, 3, 5, 1])
    wanted = [1, 0.99819, 0.99961, 1, 0.974631]
    np.testing.assert_allclose(hard.similarity, wanted, rtol=0, atol=1e-5)
    for keep in (-distance, "nearest"):
        easy = deduplicate(x, [[1.0, 2, 3]] @ np.eye(3), -1, keep=keep)
        assert (easy.rows.tolist(), easy.of.tolist()) == ([1, 2, 3, 4, 5], [0, 1, 2, 0, 0])
        wanted = [0.97464, 0.99819, 0.999618, 1, 1]
        np.testing.assert_allclose(easy.similarity, wanted, rtol=0, atol=1e-5)


def test_rows_that_are_passed_over_need_no_value():
    x, of = embeddings(), centroids()
    values = values_of("floats")
    x[7], values[[7, 9]] = math.nan, math.nan
    with pytest.raises(ValueError, match="keep: row 9 of the pool has the value NaN; wanted"):
        deduplicate(x, of, 0.9, keep=values, on_invalid="skip")
    found = deduplicate(x, of, 0.9, keep=values, on_invalid="skip", exclude=[9, 11])
    left = np.delete(np.arange(N), [7, 9, 11])
    want = deduplicate(x[left], of, 0.9, keep=values[left])
    assert found.rows.tolist() == left[want.rows].tolist()
    assert found.of.tolist() == left[want.of].tolist()


@pytest.mark.parametrize("keep", [*NAMES, "values"])
@pytest.mark.parametrize("reads", ["exclude", "among", "mask"])
def test_rows_that_are_passed_over_change_no_order(keep, reads):
    x, of = embeddings(), centroids()
    left = np.sort(np.random.default_rng(2).permutation(N)[:70])
    given = values_of("floats") if keep == "values" else keep
    rows = {
        "exclude": {"exclude": np.setdiff1d(np.arange(N), left)},
        "among": {"among": left},
        "mask": {"among": np.isin(np.arange(N), left)},
    }[reads]
    found = deduplicate(x, of, 0.9, keep=given, seed=7, **rows)
    # The rows alone, in the order that they have among all.
    first = -np.array(keys(x, of, given, 7))
    want = deduplicate(x[left], of, 0.9, keep=first[left])
    assert found.rows.tolist() == left[want.rows].tolist()
    assert found.of.tolist() == left[want.of].tolist()
    assert found.similarity.tolist() == want.similarity.tolist()


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (
            {"keep": "hard"}, ValueError,
            "keep: .* first, nearest, farthest, random, a column that the pool carries, or a",
        ),
        (
            {"keep": Path("first")}, ValueError,
            "^keep: wanted a .parquet, .csv or .npy file of values, got 'first'",
        ),
        ({"keep": 3}, TypeError, "keep: wanted one of .*, or a value for each row, got int"),
        ({"keep": np.zeros((N, 2))}, TypeError, r"keep: wanted a number .* of shape \(120, 2\)"),
        ({"keep": ["a"] * N}, TypeError, "keep: wanted a number for each row, .* got <U1"),
        ({"keep": [0, 1]}, ValueError, "keep: wanted .* each of the 120 rows of the pool, got 2"),
        (
            {"keep": [1, [1, 2], *[1] * (N - 2)]}, ValueError,
            r"^keep: wanted a number for each row, \[rows\]: setting an array element",
        ),
        (
            {"keep": np.ma.masked_array(np.zeros(N), np.arange(N) == 3)}, TypeError,
            "^keep: wanted a number for each row, got a masked array; fill it first",
        ),
        ({"keep": range(N - 1)}, ValueError, "keep: wanted .* each of the 120 rows .* got 119"),
        ({"keep": "random", "seed": -1}, ValueError, "seed: wanted 0 to"),
        ({"threshold": []}, ValueError, "threshold: wanted at least one"),
        ({"threshold": [0.9, 2]}, ValueError, "threshold: wanted a similarity from -1 to 1, got 2"),
        ({"threshold": np.array(0.9)}, TypeError, r"^threshold: wanted a number, got array\(0.9\)"),
        ({"threshold": torch.tensor(0.9)}, TypeError, "^threshold: wanted a number, got tensor"),
        ({"threshold": b"0"}, TypeError, "^threshold: wanted a number, got b'0'"),
        ({"threshold": {0.9: 1}}, TypeError, "^threshold: wanted a number, got {0.9: 1}"),
        ({"threshold": {0.9}}, TypeError, "^threshold: wanted a number, got {0.9}"),
        ({"threshold": [0.9, "x"]}, TypeError, "threshold: wanted a number, got 'x'"),
    ],
)  # fmt: skip
def test_bad_arguments_are_named(arguments, error, words):
    with pytest.raises(error, match=words):
        deduplicate(**{"pool": embeddings(), "centroids": centroids(), **arguments})


@pytest.mark.parametrize("keep", ["values", "v.npy", "v.csv", "quality"])
def test_a_row_without_a_value_is_named_with_the_file_or_column_of_values(
    tmp_path, monkeypatch, keep
):
    monkeypatch.chdir(tmp_path)
    x, values = embeddings(), values_of("floats")
    values[70] = math.nan
    np.save("v.npy", values)
    (tmp_path / "v.csv").write_text("score\n" + "\n".join(map(str, values)))
    lists = pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), D)
    pq.write_table(pa.table({"x": lists, "quality": values}), "pool.parquet")
    pool = fastal.open_pool("pool.parquet", column="x", carry=["quality"])
    where = {"values": "", "quality": " in the column 'quality'"}.get(keep, f" in {keep}")
    with pytest.raises(ValueError, match="NaN") as error:
        deduplicate(pool, centroids(), keep=values if keep == "values" else keep)
    assert str(error.value) == f"keep: row 70 of the pool has the value NaN{where}; wanted a number"


def test_too_few_values_for_chunks_are_an_error():
    chunks = [embeddings()[:70], embeddings()[70:]]
    with pytest.raises(ValueError, match=r"keep: .* got 100 values for at least 120 rows"):
        deduplicate((chunk for chunk in chunks), centroids(), keep=np.zeros(100))


@pytest.mark.parametrize("keep", [*NAMES, "values"])
def test_files_and_resuming_after_interruptions(tmp_path, interrupting, keep):
    x, of = embeddings(), centroids()
    for number, part in enumerate(np.split(x, 3)):
        np.save(tmp_path / f"{number}.npy", part)
    pool = [tmp_path / f"{number}.npy" for number in range(3)]
    largest = np.bincount(nearest_centroid(x, of).cluster).max()
    options = {"memory_bytes": int(4 * D * largest), "chunk_bytes": 25 * 4 * D, "seed": 3}
    options["keep"] = values_of("int64") if keep == "values" else keep
    want = deduplicate(x, of, [0.9, 0.99], **options)

    interrupt_at = interrupting(Deduplicator)
    options |= {"checkpoint": tmp_path / "saved", "resume": True}
    for n_chunks in (3, 5, 4, 1, 4):
        interrupt_at(n_chunks)
        with pytest.raises(KeyboardInterrupt):
            deduplicate(pool, of, [0.99, 0.9], **options)
    other = "farthest" if keep == "nearest" else "nearest"
    with pytest.raises(ValueError, match="keep is "):
        deduplicate(pool, of, 0.9, **{**options, "keep": other})
    if keep == "random":
        with pytest.raises(ValueError, match=r"seed is 3 there, 4 in this run"):
            deduplicate(pool, of, 0.9, **{**options, "seed": 4})
    for found, wanted in zip(deduplicate(pool, of, [0.9, 0.99], **options), want, strict=True):
        assert_same(found, wanted)
