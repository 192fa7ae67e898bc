"""The running top-k: exact, deterministic, the same for any chunking, order and merging."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastal.base.row_numbers import RowNumbers
from fastal.selection import topk
from fastal.selection.topk import TopK

# Few values, so that ties are the rule; both zeros, infinities and NaN among them.
VALUES = [0.0, -0.0, 0.25, 0.5, 1.0, 1e-45, float("inf"), float("-inf"), float("nan")]
SCORES = st.lists(st.sampled_from(VALUES), max_size=60)


def best_by_sorting(scores, k, rows=None):
    """The definition: drop NaN, sort by score downwards and row upwards, take k."""
    rows = range(len(scores)) if rows is None else rows
    ranked = sorted(
        ((row, s) for row, s in zip(rows, scores, strict=True) if s == s),
        key=lambda pair: (-pair[1], pair[0]),
    )[:k]
    return [row for row, _ in ranked], [s for _, s in ranked]


def add(top, scores, start):
    """Adds the scores of rows start, start + 1, ..."""
    top.update(scores, RowNumbers(len(scores), start))


def assert_best(top, scores, k, rows=None):
    got_rows, got_scores = top.best()
    want_rows, want_scores = best_by_sorting(scores, k, rows)
    assert got_rows.tolist() == want_rows
    assert got_scores.tobytes() == np.array(want_scores, np.float32).tobytes()
    assert got_rows.dtype == np.int64
    assert got_scores.dtype == np.float32


@pytest.fixture(params=[1, 4, 1 << 16], ids="block {}".format, autouse=True)
def block(request, monkeypatch):
    """Blocks so small that the bar rises within a chunk, as well as the real size."""
    monkeypatch.setattr(topk, "_BLOCK", request.param)


def chunked(data, scores):
    """A list of (start, chunk) that covers the scores, in any order, empty chunks included."""
    cuts = data.draw(st.lists(st.integers(0, len(scores)), max_size=8))
    bounds = [0, *sorted(cuts), len(scores)]
    pieces = [(a, torch.tensor(scores[a:b])) for a, b in pairwise(bounds)]
    return data.draw(st.permutations(pieces))


no_deadline = settings(deadline=None)


@no_deadline
@given(data=st.data(), scores=SCORES, k=st.integers(1, 70))
def test_any_chunks_in_any_order(data, scores, k):
    top = TopK(k)
    for start, chunk in chunked(data, scores):
        add(top, chunk.float(), start)
    assert_best(top, scores, k)


@no_deadline
@given(data=st.data(), scores=SCORES, k=st.integers(1, 20))
def test_any_merging(data, scores, k):
    tops = [TopK(k) for _ in range(3)]
    for start, chunk in chunked(data, scores):
        add(tops[data.draw(st.integers(0, 2))], chunk.float(), start)
    first, second, third = data.draw(st.permutations(tops))
    second.merge(third)
    first.merge(second)
    assert_best(first, scores, k)


@no_deadline
@given(data=st.data(), scores=SCORES, k=st.integers(1, 20))
def test_merged_states_count_all_rows_that_tie_at_the_last_place(data, scores, k):
    merged = TopK(k)
    for start, chunk in chunked(data, scores):
        part, restored = TopK(k), TopK(k)
        add(part, chunk.float(), start)
        restored.load_state_dict(part.state_dict())
        merged.merge(restored)
    assert_best(merged, scores, k)
    ranked = sorted((score for score in scores if score == score), reverse=True)
    if len(ranked) < k:
        assert merged.tied() == (0, 0)
    else:
        assert merged.tied() == (ranked.count(ranked[k - 1]), ranked[:k].count(ranked[k - 1]))


@no_deadline
@given(data=st.data(), scores=SCORES, k=st.integers(1, 20))
def test_saving_and_restoring_at_any_chunk(data, scores, k):
    top = TopK(k)
    for start, chunk in chunked(data, scores):
        add(top, chunk.float(), start)
        restored = TopK(k)
        restored.load_state_dict(top.state_dict())
        top = restored
    assert_best(top, scores, k)


@pytest.mark.parametrize("k", [1, 7, 1000])
@pytest.mark.parametrize("order", ["random", "ascending", "descending", "constant"])
def test_many_blocks(monkeypatch, k, order):
    monkeypatch.setattr(topk, "_BLOCK", 64)
    scores = np.random.default_rng(k).random(20_000, np.float32).round(3)
    scores = {
        "random": scores,
        "ascending": np.sort(scores),
        "descending": np.sort(scores)[::-1].copy(),
        "constant": np.full(20_000, 0.5, np.float32),
    }[order]
    top = TopK(k)
    for start in range(0, 20_000, 777):
        add(top, torch.from_numpy(scores[start : start + 777]), start)
        assert top._held < 2 * k or top._held == k
    assert_best(top, scores, k)


@pytest.mark.full
def test_a_large_k():
    scores = np.random.default_rng(0).random(300_000, np.float32).round(4)
    top = TopK(200_000)
    for start in range(0, 300_000, 70_000):
        add(top, torch.from_numpy(scores[start : start + 70_000]), start)
    rows, best = top.best()
    want = np.lexsort((np.arange(300_000), -scores))[:200_000]
    np.testing.assert_array_equal(rows, want)
    np.testing.assert_array_equal(best, scores[want])


def test_rows_up_to_the_last_int64():
    last = 2**63 - 1
    top = TopK(2)
    add(top, torch.tensor([0.5, 0.5, 0.5]), last - 2)
    add(top, torch.tensor([0.5]), 3)
    assert top.best()[0].tolist() == [3, last - 2]


def test_results_are_copies():
    top = TopK(2)
    add(top, torch.tensor([0.1, 0.2, 0.3]), 0)
    state, (rows, scores) = top.state_dict(), top.best()
    scores[:] = 9
    rows[:] = 9
    state["scores"][:] = 9
    assert top.best()[0].tolist() == [2, 1]


def test_a_wrong_tie_rule_is_caught():
    class HighestRowWins:
        def best(self):
            return np.array([2, 1]), np.array([0.5, 0.5], np.float32)

    with pytest.raises(AssertionError):
        assert_best(HighestRowWins(), [0.5, 0.5, 0.5], 2)
