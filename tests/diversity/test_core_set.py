"""`k_center` against its definition in float64, with chunks, rounding and interruptions."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fastal
from fastal.diversity import CoreSet, k_center, nearest_centroid, similarities
from tests.support.matrices import DTYPES

METRICS = ["cosine", "euclidean"]
# Memory for one candidate, for a few of 9 columns, and for all.
MEMORIES = [1, 1000, 1 << 26]


def embeddings(n_rows=200, width=9, seed=0):
    return np.random.default_rng(seed).standard_normal((n_rows, width)).astype(np.float32)


def distances(x, centre, metric):
    if metric == "euclidean":
        return np.sqrt(((x - centre) ** 2).sum(1))
    lengths = np.linalg.norm(x, axis=1) * np.linalg.norm(centre)
    return 1 - x @ centre / np.where(lengths == 0, 1, lengths)


def by_definition(x, k, metric, labelled=(), distances=distances):
    """Rows and scores of k picks, by a loop over the picks, in float64."""
    x = torch.as_tensor(x).double().numpy()
    nearest = np.full(len(x), math.inf)
    nearest[~np.isfinite(x).all(1)] = -math.inf
    for centre in labelled:
        nearest = np.minimum(nearest, distances(x, centre.astype(np.float64), metric))
    rows, scores = [], []
    while len(rows) < k and nearest.max() > -math.inf:
        rows.append(int(nearest.argmax()))
        scores.append(nearest.max())
        nearest = np.minimum(nearest, distances(x, x[rows[-1]], metric))
        nearest[rows] = -math.inf
    if len(scores) and not len(labelled):
        scores[0] = scores[1] if len(scores) > 1 else 0
    return rows, scores


def assert_picks(picks, x, k, metric, labelled=(), distances=distances):
    rows, scores = by_definition(x, k, metric, labelled, distances)
    assert np.asarray(picks.rows).tolist() == rows
    bound = (x.shape[1] + 8) * 2.0**-24
    bound = bound * np.asarray(scores) if metric == "euclidean" else bound
    assert (np.abs(np.asarray(picks.scores, np.float64) - scores) <= bound).all()
    assert (np.diff(np.asarray(picks.scores)) <= 0).all()


def assert_same(a, b):
    assert np.asarray(a.rows).tobytes() == np.asarray(b.rows).tobytes()
    assert np.asarray(a.scores).tobytes() == np.asarray(b.scores).tobytes()
    assert a.invalid == b.invalid


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("n_labelled", [0, 1, 7])
@pytest.mark.parametrize("k", [1, 2, 30])
@pytest.mark.parametrize("memory_bytes", MEMORIES)
def test_picks_follow_the_definition(metric, n_labelled, k, memory_bytes):
    x, labelled = embeddings(), embeddings(n_labelled, seed=1) * 2
    options = {"labelled": labelled, "metric": metric, "memory_bytes": memory_bytes}
    assert_picks(k_center(x, k, **options), x, k, metric, labelled)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_and_kind_of_array(metric, dtype):
    x = torch.from_numpy(embeddings(width=16)).to(dtype)
    picks = k_center(x, 10, metric=metric)
    assert_picks(picks, x, 10, metric)
    assert (picks.rows.dtype, picks.scores.dtype) == (torch.int64, torch.float32)
    assert picks.ids is None
    assert_same(picks, k_center(x.t().contiguous().t(), 10, metric=metric))


@pytest.mark.parametrize("metric", METRICS)
def test_a_wrong_distance_is_found(metric):
    x = embeddings()
    picks = k_center(x, 10, metric=metric)
    for wrong in (
        lambda x, centre, _: np.abs(x - centre).sum(1),  # another metric
        lambda x, centre, _: 1 - x @ centre,  # not normalised
        lambda x, centre, metric: distances(x, centre, metric) * (1 + 1e-5),
    ):
        with pytest.raises(AssertionError):
            assert_picks(picks, x, 10, metric, distances=wrong)


@settings(deadline=None, max_examples=40)
@given(data=st.data(), metric=st.sampled_from(METRICS), n_labelled=st.sampled_from([0, 1, 3]))
def test_picks_are_the_same_for_any_chunks(data, metric, n_labelled):
    width = data.draw(st.sampled_from([1, 2, 3, 5, 8, 33]))
    x = embeddings(120, width)
    x[data.draw(st.integers(0, 119))] = x[data.draw(st.integers(0, 119))]
    options = {"metric": metric, "labelled": embeddings(n_labelled, width, 1)}
    options["memory_bytes"] = data.draw(st.sampled_from([1, 16 * width * 4, 1 << 20]))
    cuts = sorted(data.draw(st.lists(st.integers(0, 120), max_size=6)))
    chunks = [chunk.copy() for chunk in np.split(x, cuts)]
    assert_same(k_center(chunks, 5, **options), k_center(x, 5, **options))


@pytest.mark.parametrize("width", [2, 3, 385, 769])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_similarity_does_not_depend_on_the_place_of_its_row(width, dtype):
    x = torch.randn(1, width, dtype=dtype).repeat(70, 1)
    shifted = torch.empty(x.numel() + 1, dtype=dtype)[1:].view_as(x).copy_(x)
    centroids = torch.randn(3, width)
    for rows in (x, shifted, x[5:], shifted[5:], x[:1], x[:65]):
        for n_centroids in (1, 3):
            of = centroids[:n_centroids]
            assert (similarities(rows, of) == similarities(x[:1], of)).all()
            assert (
                nearest_centroid(rows, of).similarity == nearest_centroid(x[:1], of).similarity
            ).all()


@settings(deadline=None, max_examples=40)
@given(data=st.data(), labelled=st.booleans())
def test_order_merging_and_saving_within_a_pass_change_nothing(data, labelled):
    x = embeddings(100)
    x[[3, 50]] = math.nan
    options = {"labelled": x[:2] if labelled else None, "on_invalid": "skip"}
    options["memory_bytes"] = data.draw(st.sampled_from(MEMORIES))
    whole = CoreSet(4, **options)
    while True:
        whole.update(x, 0)
        if not whole.next_pass():
            break
    more, state = True, CoreSet(4, **options).state_dict()
    while more:
        cuts = sorted(data.draw(st.lists(st.integers(0, 100), max_size=4)))
        pieces = data.draw(st.permutations(list(zip([0, *cuts], [*cuts, 100], strict=True))))
        parts = [CoreSet(4, **options), CoreSet(4, **options)]
        for part in parts:
            part.load_state_dict(state)
        for start, stop in pieces:
            parts[data.draw(st.integers(0, 1))].update(x[start:stop], start)
        parts[0].merge(parts[1])
        more, state = parts[0].next_pass(), parts[0].state_dict()
    assert_same(parts[0].result(), whole.result())
    assert whole.result().invalid == 2


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("memory_bytes", [1, 100, 1 << 20])
def test_ties_go_to_the_lower_row(metric, memory_bytes):
    corners = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]], np.float32)
    x = np.concatenate([corners, corners, corners])
    picks = k_center(x, 12, metric=metric, memory_bytes=memory_bytes)
    assert picks.rows.tolist() == [0, 2, 1, 3, *range(4, 12)]
    assert (picks.scores[4:] == 0).all()


def test_a_row_of_zeros():
    x = np.array([[1, 0], [1, 0.1], [0, 0], [2, 0]], np.float32)
    picks = k_center(x, 4)
    assert picks.rows.tolist() == [0, 2, 1, 3]
    np.testing.assert_allclose(picks.scores, [1, 1, 1 - 1 / math.hypot(1, 0.1), 0], atol=1e-6)
    assert_picks(k_center(x, 4, metric="euclidean"), x, 4, "euclidean")


@pytest.mark.parametrize("metric", METRICS)
def test_more_picks_than_rows(metric):
    x = embeddings(10)
    picks = k_center(x, 99, metric=metric)
    assert sorted(picks.rows) == list(range(10))
    assert_picks(picks, x, 99, metric)
    assert k_center(x[:1], 3, metric=metric).scores.tolist() == [0]
    assert k_center(x[:0], 3, metric=metric).rows.shape == (0,)


def test_distances_far_from_the_origin_do_not_cancel():
    small = embeddings(100, 8)
    x = (np.float32(1e4) + small).astype(np.float32)
    for memory_bytes in MEMORIES:
        options = {"metric": "euclidean", "memory_bytes": memory_bytes}
        assert_picks(k_center(x, 20, **options), x, 20, "euclidean")
        assert_picks(k_center(x, 20, labelled=x[:5], **options), x, 20, "euclidean", x[:5])

    def cancelling(x, centre, _):
        x, centre = x.astype(np.float32), centre.astype(np.float32)
        squared = (x * x).sum(1) + (centre * centre).sum() - 2 * (x @ centre)
        return np.sqrt(np.maximum(squared, 0))

    with pytest.raises(AssertionError):
        assert_picks(k_center(x, 20, metric="euclidean"), x, 20, "euclidean", distances=cancelling)


@pytest.mark.parametrize("scale", [1e-30, 1e-22, 1e25, 1e37])
@pytest.mark.parametrize("n_labelled", [0, 3])
@pytest.mark.parametrize("memory_bytes", MEMORIES)
def test_distances_whose_squares_are_beyond_float32(scale, n_labelled, memory_bytes):
    x = (embeddings(40) * scale).astype(np.float32)
    options = {"metric": "euclidean", "memory_bytes": memory_bytes}
    picks = k_center(x, 6, labelled=x[:n_labelled], **options)
    assert_picks(picks, x, 6, "euclidean", x[:n_labelled])


def test_distances_whose_squares_are_beyond_float64():
    x = np.array([[0, 0], [1e200, 0], [-3e200, 0], [1e-200, 0], [2e300, 1e300]])
    picks = k_center(x, 5, metric="euclidean")
    assert picks.rows.tolist() == [0, 1, 2, 4, 3]
    assert picks.scores.tolist() == [math.inf] * 4 + [0]
    small = x[[0, 3]] * 1e-60
    assert k_center(small, 2, metric="euclidean").scores.tolist() == [0, 0]


def test_passes_that_are_expected_are_known_after_a_restart():
    x = embeddings(400)
    reducer = CoreSet(40, memory_bytes=1000)
    for _ in range(5):
        reducer.update(x, 0)
        reducer.next_pass()
    restored = CoreSet(40, memory_bytes=1000)
    assert restored.max_passes == 2
    restored.load_state_dict(reducer.state_dict())
    assert restored.max_passes == reducer.max_passes > 5


def test_the_score_of_the_last_pick_is_unknown_before_there_is_a_distance():
    reducer = CoreSet(2, memory_bytes=1)
    assert reducer.kth_score is None
    reducer.update(embeddings(), 0)
    reducer.next_pass()
    assert (len(reducer.result()), reducer.kth_score) == (1, None)


def test_distances_beyond_float32_are_infinite():
    x = np.array([[3e38, 0], [-3e38, 0], [0, 1]], np.float32)
    picks = k_center(x, 3, metric="euclidean")
    assert (picks.rows.tolist(), picks.invalid) == ([0, 1, 2], 0)
    assert picks.scores.tolist() == [math.inf, math.inf, np.float32(3e38)]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_invalid_rows_are_named_or_counted_once(metric, broken):
    x = embeddings(50)
    x[[0, 7], 3] = broken
    with pytest.raises(fastal.InvalidRows, match="row 0 has NaN or an infinite value; 2 such"):
        k_center(x, 5, metric=metric)
    options = {"metric": metric, "on_invalid": "skip", "chunk_bytes": 400}
    picks = k_center(x, 60, **options)
    assert_same(k_center(x, 60, memory_bytes=1000, **options), picks)
    assert (len(picks.rows), picks.invalid) == (48, 2)
    valid = np.delete(x, [0, 7], 0)
    names = np.delete(np.arange(50), [0, 7])
    assert picks.rows.tolist() == names[by_definition(valid, 60, metric)[0]].tolist()


def test_an_iterator_is_refused_if_there_are_more_passes():
    chunks = np.split(embeddings(), 4)
    with pytest.raises(ValueError, match="pool: the first pass read 200 rows, this one 0"):
        k_center(iter(chunks), 3, memory_bytes=1)
    assert k_center((chunk for chunk in chunks), 1).rows.tolist() == [0]


@pytest.mark.full
@pytest.mark.parametrize("metric", METRICS)
def test_files_and_resuming_after_interruptions(metric, tmp_path, interrupting):
    x = embeddings(300)
    for number, part in enumerate(np.split(x, 3)):
        np.save(tmp_path / f"{number}.npy", part)
    np.save(tmp_path / "labelled.npy", x[:4] + 1)
    pool = [tmp_path / f"{number}.npy" for number in range(3)]
    options = {"metric": metric, "labelled": tmp_path / "labelled.npy", "chunk_bytes": 9 * 4 * 60}
    options["memory_bytes"] = 1
    want = k_center(x, 5, metric=metric, labelled=x[:4] + 1)
    assert_same(k_center(pool, 5, **options), want)

    interrupt_at = interrupting(CoreSet)
    options |= {"checkpoint": tmp_path / "saved", "resume": True}
    for n_chunks in (3, 4, 9, 1, 5):
        interrupt_at(n_chunks)
        with pytest.raises(KeyboardInterrupt):
            k_center(pool, 5, **options)
    with pytest.raises(ValueError, match="k is 5 there, 6 in this run"):
        k_center(pool, 6, **options)
    with pytest.raises(ValueError, match=r"labelled is '.*' there, None in this run"):
        k_center(pool, 5, **{**options, "labelled": None})
    assert_same(k_center(pool, 5, **options), want)
    assert not (tmp_path / "saved" / "checkpoint").exists()


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"k": 0}, ValueError, "k: wanted at least 1"),
        ({"k": 2.0}, TypeError, "k: wanted an integer"),
        ({"metric": "manhattan"}, ValueError, "metric: wanted one of cosine, euclidean"),
        ({"on_invalid": "drop"}, ValueError, "on_invalid: wanted one of raise, skip"),
        ({"labelled": embeddings(3, 4)}, ValueError, "^labelled: wanted 9 columns, .* got 4"),
        ({"labelled": embeddings(3)[0]}, ValueError, r"labelled: wanted \[rows, columns\]"),
        ({"labelled": [[1.0]]}, TypeError, "labelled: pool: chunk 0 is a list"),
        ({"labelled": [np.eye(2), np.eye(3)]}, ValueError, "labelled: .*Sizes of tensors must"),
        ({"labelled": embeddings(3) * math.inf}, ValueError, "labelled: row 0 has NaN or an"),
        ({"resume": True}, ValueError, "resume: wanted checkpoint"),
        ({"metric": "euclidean", "backend": "native"}, ValueError, "op has the backends torch"),
        ({"pool": embeddings().astype(int)}, TypeError, "embeddings: wanted float16"),
        ({"pool": embeddings()[0]}, ValueError, r"embeddings: wanted \[rows, columns\]"),
    ],
)
def test_bad_arguments_are_named(arguments, error, words):
    with pytest.raises(error, match=words):
        k_center(**{"pool": embeddings(), "k": 3, **arguments})


def test_reducers_and_states_that_do_not_fit_are_refused():
    reducer = CoreSet(3)
    with pytest.raises(TypeError, match="merge: wanted another CoreSet"):
        reducer.merge(reducer)
    with pytest.raises(ValueError, match="merge: the other has k=4, this one k=3"):
        reducer.merge(CoreSet(4))
    with pytest.raises(ValueError, match="the state has metric='euclidean', this one"):
        reducer.load_state_dict(CoreSet(3, metric="euclidean").state_dict())
    lacking = reducer.state_dict()
    del lacking["scorer"]
    with pytest.raises(ValueError, match="load_state_dict: the state lacks 'scorer'"):
        reducer.load_state_dict(lacking)
    ahead = CoreSet(3, memory_bytes=1)
    ahead.update(embeddings())
    ahead.next_pass()
    with pytest.raises(ValueError, match=r"merge: the other has picks=\[0\], this one picks=\[\]"):
        reducer.merge(ahead)
