"""`badge` against k-means++ over gradients that are multiplied out, in float64."""

import logging
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fastal
from fastal.base.row_numbers import RowNumbers
from fastal.diversity import badge
from fastal.diversity.gradients import Gradients, gradient_distance
from fastal.selection.noise import gumbel


def pools(n_rows=60, n_classes=5, width=4, seed=0):
    rng = np.random.default_rng(seed)
    logits = 2 * rng.standard_normal((n_rows, n_classes))
    return logits.astype(np.float32), rng.standard_normal((n_rows, width)).astype(np.float32)


def probabilities(logits):
    """Softmax of each row, in float64."""
    found = []
    for row in np.asarray(logits, np.float64):
        terms = [math.exp(x - max(row)) for x in row]
        found.append([term / math.fsum(terms) for term in terms])
    return np.array(found)


def gradients_of(probs, x):
    """The gradient embeddings, multiplied out: [N, C D] float64."""
    found = []
    for p, row in zip(probs, np.asarray(x, np.float64), strict=True):
        a = p.copy()
        a[p.argmax()] = -math.fsum(np.delete(p, p.argmax()))
        found.append(np.outer(a, row).ravel())
    return np.array(found)


def by_definition(g, k, seed=0, power=2):
    """Rows and scores of k-means++ that begins with the largest norm, by a loop over the picks."""
    norms = np.sqrt((g * g).sum(1))
    rows, scores = [int(norms.argmax())], [norms.max()]
    nearest = np.full(len(g), math.inf)
    while len(rows) < min(k, len(g)):
        nearest = np.minimum(nearest, np.sqrt(((g - g[rows[-1]]) ** 2).sum(1)))
        nearest[rows] = 0
        noise = gumbel(seed + 2**64 * len(rows), RowNumbers(len(g), 0))
        with np.errstate(divide="ignore"):
            keys = power * np.log(nearest) + noise
        rows.append(int(keys.argmax()))
        scores.append(nearest[rows[-1]])
    return rows, scores


def assert_picks(picks, g, k, seed=0, power=2):
    rows, scores = by_definition(g, k, seed, power)
    assert np.asarray(picks.rows).tolist() == rows
    # The factors are rounded to float32, each by at most 2^-24 of its length. So a gradient moves
    # by at most 2^-23 of its norm, and a distance by twice that. Its own error is below 2^-22.
    bound = 2.0**-22 * (np.sqrt((g * g).sum(1)).max() + np.asarray(scores))
    assert (np.abs(np.asarray(picks.scores, np.float64) - scores) <= bound).all()


def assert_same(a, b):
    assert np.asarray(a.rows).tobytes() == np.asarray(b.rows).tobytes()
    assert np.asarray(a.scores).tobytes() == np.asarray(b.scores).tobytes()
    assert a.invalid == b.invalid


@pytest.mark.parametrize("seed", [0, 1, 2**64 - 1])
@pytest.mark.parametrize(("n_classes", "width"), [(2, 1), (5, 4), (33, 70)])
@pytest.mark.parametrize("k", [1, 2, 25])
def test_picks_follow_the_definition(k, n_classes, width, seed):
    logits, x = pools(n_classes=n_classes, width=width)
    picks = badge(logits, x, k, seed=seed)
    assert_picks(picks, gradients_of(probabilities(logits), x), k, seed)
    assert picks.strategy == "badge"


@pytest.mark.parametrize("kind", ["probs", "log_probs"])
def test_every_kind_of_predictions(kind):
    logits, x = pools()
    probs = probabilities(logits)
    given_as = {"probs": probs, "log_probs": np.log(probs)}[kind]
    assert_picks(badge(given_as, x, 20, kind=kind), gradients_of(probs, x), 20)


def test_wrong_definitions_are_found():
    logits, x = pools()
    probs = probabilities(logits)
    g, picks = gradients_of(probs, x), badge(logits, x, 20)
    with pytest.raises(AssertionError):  # draws in proportion to the distance
        assert_picks(picks, g, 20, power=1)
    with pytest.raises(AssertionError):  # no onehot
        assert_picks(picks, np.einsum("nc,nd->ncd", probs, x).reshape(len(x), -1), 20)
    with pytest.raises(AssertionError):
        assert_picks(picks, g * (1 + 1e-6), 20)
    with pytest.raises(AssertionError):  # another seed
        assert_picks(picks, g, 20, seed=1)


def pair_probabilities(g, power=2):
    """The probability of each second and third pick, by k-means++ from the largest norm."""
    apart = np.sqrt(((g[:, None] - g[None]) ** 2).sum(2)) ** power
    first = int((g * g).sum(1).argmax())
    second = apart[first] / apart[first].sum()
    found = {}
    for j in np.flatnonzero(second):
        weight = np.minimum(apart[first], apart[j])
        for row in np.flatnonzero(weight):
            found[int(j), int(row)] = second[j] * weight[row] / weight.sum()
    return found


def chi_square(counts, wanted, n):
    return sum((counts.get(pair, 0) - n * p) ** 2 / (n * p) for pair, p in wanted.items())


@pytest.mark.full
def test_second_and_third_picks_have_the_probabilities_of_k_means_plus_plus():
    logits, x = pools(5, 3, 2, seed=4)
    g = gradients_of(probabilities(logits), x)
    n, counts = 1500, {}
    for seed in range(n):
        _, *pair = badge(logits, x, 3, seed=seed).rows.tolist()
        counts[tuple(pair)] = counts.get(tuple(pair), 0) + 1
    wanted = pair_probabilities(g)
    assert len(wanted) == 12
    assert counts.keys() <= wanted.keys()
    # Chi-square with 11 degrees of freedom is above 50 with probability 6e-7.
    assert chi_square(counts, wanted, n) < 50
    assert chi_square(counts, pair_probabilities(g, power=1), n) > 50  # of distances, not squares


@settings(deadline=None, max_examples=20)
@given(data=st.data(), n_classes=st.sampled_from([2, 3, 17]), keeps=st.booleans())
def test_picks_are_the_same_for_any_chunks(data, n_classes, keeps):
    logits, x = pools(50, n_classes, data.draw(st.sampled_from([1, 2, 9])))
    again = data.draw(st.integers(0, 49))
    logits[7], x[7] = logits[again], x[again]
    cuts = [sorted(data.draw(st.lists(st.integers(0, 50), max_size=5))) for _ in range(2)]
    chunks = [
        [chunk.copy() for chunk in np.split(of, at)]
        for of, at in zip((logits, x), cuts, strict=True)
    ]
    picks = badge(*chunks, 4, memory_bytes=keeps << 20, seed=3)
    assert_same(picks, badge(logits, x, 4, seed=3))
    assert_same(picks, badge(logits, x, 4, seed=3, chunk_bytes=data.draw(st.integers(200, 9999))))
    assert len(set(picks.rows.tolist())) == 4


def test_duplicates_come_last_and_no_row_twice():
    logits, x = pools(10)
    logits, x = np.tile(logits, (3, 1)), np.tile(x, (3, 1))
    picks = badge(logits, x, 17)
    assert sorted(picks.rows[:10] % 10) == list(range(10))
    assert len(set(picks.rows)) == 17
    assert (picks.scores[:10] > 0).all()
    assert (picks.scores[10:] == 0).all()
    assert picks.rows[10:].tolist() == sorted(picks.rows[10:])
    assert_same(picks[:12], badge(logits, x, 12))


def test_gradients_that_are_equal_through_opposite_factors():
    logits, x = pools(40, 2)
    # The factors of both change their signs, and the lengths of both factors their sizes.
    picks = badge(np.concatenate([logits, -logits]), np.concatenate([x, -x]), 41)
    assert sorted(picks.rows[:40] % 40) == list(range(40))
    assert (picks.scores[40:] <= 1e-13).all()


def test_all_rows_are_picked_if_k_is_larger():
    logits, x = pools(12)
    picks = badge(logits, x, 99)
    assert sorted(picks.rows) == list(range(12))
    assert badge(logits[:1], x[:1], 3).rows.tolist() == [0]
    assert badge(logits[:0], x[:0], 3).rows.shape == (0,)


def test_rows_that_are_certain_have_gradient_0():
    logits, x = pools(8)
    logits[2:] = -math.inf
    logits[2:, 1] = 0
    picks = badge(logits, x, 8)
    assert sorted(picks.rows[:3])[:2] == [0, 1]
    assert picks.scores[:3].all()
    assert not picks.scores[3:].any()
    # Without any gradient, all rows are equal.
    assert badge(logits[2:], x[2:], 4).rows.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_dtype_and_kind_of_array(dtype):
    logits, x = (torch.from_numpy(of).to(dtype) for of in pools())
    picks = badge(logits, x.t().contiguous().t(), 10)
    assert_picks(picks, gradients_of(probabilities(logits.double()), x.double()), 10)
    assert (picks.rows.dtype, picks.scores.dtype) == (torch.int64, torch.float32)


def test_small_distances_keep_their_digits():
    logits, x = pools(200, 5, 16)
    logits[:], x[:] = logits[0], x[0] * (1 + 1e-6 * x)
    rows, _ = Gradients("logits").factors(torch.from_numpy(logits), torch.from_numpy(x))
    found = gradient_distance(rows, rows[:1], 5).numpy()
    g = gradients_of(probabilities(logits), x)
    exact = np.sqrt(((g - g[0]) ** 2).sum(1))
    assert found[0] == 0
    # Differences of the same float32 numbers; a is rounded, by 2^-24, the same in all rows.
    assert (np.abs(found - exact) <= 2.0**-22 * exact + 2.0**-46 * np.linalg.norm(g[0])).all()

    a, x = (part.double() for part in (rows[:, :5], rows[:, 5:-4]))
    of_a, of_x = a @ a[0], x @ x[0]
    identity = a.square().sum(1) * x.square().sum(1) + of_a[0] * of_x[0] - 2 * of_a * of_x
    cancelled = identity.clamp(min=0).sqrt().numpy()
    assert not (np.abs(cancelled - exact) <= 2.0**-22 * exact).all()


@pytest.mark.parametrize("margin", [20, 40, 80])
def test_rows_that_are_nearly_certain_keep_their_digits(margin):
    logits, x = pools()
    logits[:, 2] = logits.max(1) + margin
    g = gradients_of(probabilities(logits), x)
    assert np.linalg.norm(g, axis=1).max() < 4 * 5 * 5 * math.exp(-margin)
    assert_picks(badge(logits, x, 10), g, 10)


@pytest.mark.parametrize("n_rows", [1, 5, 63, 64, 65, 200])
@pytest.mark.parametrize("width", [1, 3, 385])
def test_a_distance_does_not_depend_on_the_place_of_its_row(n_rows, width):
    logits, x = map(torch.from_numpy, pools(200, 7, width))
    rows, _ = Gradients("logits").factors(logits, x)
    near = rows * (1 + 1e-5)
    for of in (rows, near):
        whole = gradient_distance(of, rows[:1], 7)
        assert (gradient_distance(of[-n_rows:], rows[:1], 7) == whole[-n_rows:]).all()
        parts = [Gradients("logits").factors(logits[i : i + 1], x[i : i + 1])[0] for i in range(9)]
        assert torch.equal(torch.cat(parts), rows[:9])


def test_invalid_rows():
    logits, x = pools()
    logits[3, 0], logits[9], x[5, 1] = math.nan, -math.inf, math.inf
    with pytest.raises(fastal.InvalidRows, match="3, 5, 9") as error:
        badge(logits, x, 5)
    assert error.value.rows == [3, 5, 9]
    for memory_bytes in (0, 1 << 20):
        picks = badge(logits, x, 99, on_invalid="skip", memory_bytes=memory_bytes)
        assert sorted(picks.rows) == sorted({*range(60)} - {3, 5, 9})
        assert picks.invalid == 3


def test_exclude_and_among_leave_rows_out():
    logits, x = pools()
    before = logits.copy(), x.copy()
    among, exclude = [4, 8, 15, 16, 23, 42, 50], [8, 42]
    picks = badge(logits, x, 3, among=among, exclude=exclude)
    assert set(picks.rows) <= {4, 15, 16, 23, 50}
    assert_same(picks, badge(logits, x, 3, among=among, exclude=exclude, memory_bytes=0))
    assert_same(picks, badge(list(np.split(logits, 6)), x, 3, among=among, exclude=exclude))
    most = np.setdiff1d(np.arange(60), exclude)
    assert_same(badge(logits, x, 9, exclude=exclude), badge(logits, x, 9, among=most))
    assert (before[0] == logits).all()
    assert (before[1] == x).all()


def test_too_few_rows_are_warned_of(caplog):
    with caplog.at_level(logging.WARNING):
        assert len(badge(*pools(), 9, among=[1, 2])) == 2
    assert "leave 2 valid ones" in caplog.text


def test_files_are_read_once_if_their_rows_fit_into_memory(tmp_path, monkeypatch):
    logits, x = pools()
    np.save(tmp_path / "logits.npy", logits)
    np.save(tmp_path / "x.npy", x)
    files = tmp_path / "logits.npy", tmp_path / "x.npy"
    calls = []
    factors = Gradients.factors
    monkeypatch.setattr(
        Gradients, "factors", lambda self, *of: calls.append(len(of[0])) or factors(self, *of)
    )
    picks = badge(*files, 6, memory_bytes=4 * 60 * (5 + 4 + 4))
    assert sum(calls) == 60
    calls.clear()
    assert_same(picks, badge(*files, 6, memory_bytes=4 * 60 * (5 + 4 + 4) - 1))
    assert sum(calls) == 6 * 60
    assert_same(picks, badge(logits, x, 6))


def test_ids_and_columns_travel_and_must_agree():
    logits, x = pools(5)
    pool = fastal.open_pool(logits, ids=[7, 8, 9, 5, 6], carry={"text": list("abcde")})
    picks = badge(pool, fastal.open_pool(x, ids=[7, 8, 9, 5, 6]), 2)
    assert picks.ids.tolist() == [[7, 8, 9, 5, 6][row] for row in picks.rows]
    assert picks["text"].tolist() == ["abcde"[row] for row in picks.rows]
    with pytest.raises(ValueError, match="embeddings: wanted the rows in the order"):
        badge(pool, fastal.open_pool(x, ids=[7, 8, 9, 6, 5]), 2)
    with pytest.raises(ValueError, match="embeddings: has no row with the id 6"):
        badge(pool, fastal.open_pool(x, ids=[7, 8, 9, 5, 4]), 2)


@pytest.mark.parametrize("memory_bytes", [0, 1 << 20])
def test_an_interrupted_run_goes_on_to_the_same_picks(tmp_path, monkeypatch, memory_bytes):
    logits, x = pools()
    np.save(tmp_path / "logits.npy", logits)
    np.save(tmp_path / "x.npy", x)
    how = {"chunk_bytes": 36 * 32, "checkpoint": tmp_path / "state", "memory_bytes": memory_bytes}
    monkeypatch.setattr("fastal.pipeline.checkpoint._SECONDS", 0)
    monkeypatch.setattr("fastal.pipeline.checkpoint._PAUSE", 0)
    distance, calls = Gradients.score, []

    def failing(self, rows):
        calls.append(rows)
        if len(calls) == 8:
            raise KeyboardInterrupt
        return distance(self, rows)

    monkeypatch.setattr(Gradients, "score", failing)
    files = tmp_path / "logits.npy", tmp_path / "x.npy"
    with pytest.raises(KeyboardInterrupt):
        badge(*files, 6, **how)
    with pytest.raises(ValueError, match="seed"):
        badge(*files, 6, seed=5, resume=True, **how)
    picks = badge(*files, 6, resume=True, **how)
    assert len(calls) > 8
    assert_same(picks, badge(logits, x, 6))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 0}, "k: wanted at least 1, got 0"),
        ({"kind": "multilabel_logits"}, "kind: wanted one of"),
        ({"seed": -1}, "seed: wanted 0 to"),
        ({"memory_bytes": -1}, "memory_bytes: wanted 0 or more, got -1"),
        ({"on_invalid": "drop"}, "on_invalid: wanted"),
        ({"backend": "triton"}, "backend"),
        ({"logits": pools()[0][:, :1]}, "logits: wanted"),
        ({"embeddings": pools()[1][:, 0]}, "embeddings: wanted"),
        ({"embeddings": pools()[1][:9]}, "embeddings: wanted 60 rows, as the pool has, got 9"),
        ({"embeddings": [pools()[1][:9]]}, "embeddings: wanted as many .* has, got fewer"),
        ({"logits": [pools()[0][:9]]}, "embeddings: wanted as many .* has, got more"),
        ({"embeddings": [pools()[1][:9], pools()[1][9:, 1:]]}, "embeddings: rows from 9 on have 3"),
    ],
)
def test_bad_arguments_are_named(change, message):
    logits, x = pools()
    arguments = {"logits": logits, "embeddings": x, "k": 3} | change
    with pytest.raises(ValueError, match=message):
        badge(**arguments)


def test_predictions_of_another_kind_are_warned_of(caplog):
    logits, x = pools()
    with caplog.at_level(logging.WARNING):
        badge(probabilities(logits), x, 2)
    assert caplog.text.count("probs") >= 1
