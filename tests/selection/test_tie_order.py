"""Rows with equal scores: which of them are picked, and the message that counts them."""

import logging
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fastal
from fastal.selection.ties import TieOrder
from tests.support.matrices import BACKENDS

no_deadline = settings(deadline=None, max_examples=40)
ORDER = TieOrder("random", 5)


def rank_of(row, seed):
    """The rank of a row, with Python's integers."""
    bits = (1 << 63) - 1
    words = np.random.SeedSequence(seed).generate_state(3, np.uint64).tolist()
    x = row
    for word, factor in zip(words, (0xBF58476D1CE4E5B9, 0x94D049BB133111EB), strict=False):
        x = (x ^ word) & bits
        x ^= x >> 32
        x = x * factor & bits
    x ^= x >> 32
    return (x ^ words[2]) & bits


@given(rows=st.lists(st.integers(0, 2**63 - 1)), seed=st.integers(0, 2**64 - 1))
def test_ranks_are_a_permutation_that_can_be_undone(rows, seed):
    order, rows = TieOrder("random", seed), np.array(rows, np.int64)
    ranks = order.ranks(rows)
    assert ranks.tolist() == [rank_of(row, seed) for row in rows.tolist()]
    assert order.rows(ranks).tolist() == rows.tolist()
    assert (ranks >= 0).all()


def test_ranks_are_spread_evenly():
    """Each of 64 parts of all ranks has its share of rows, within 5 standard deviations."""
    n = 100_000
    for seed in range(4):
        ranks = TieOrder("random", seed).ranks(np.arange(n, dtype=np.int64))
        counts = np.bincount((ranks >> 57), minlength=64)
        assert np.abs(counts - n / 64).max() < 5 * np.sqrt(n / 64)


def picks_by_sorting(scores, k, seed, kept=None):
    rows = [row for row, s in enumerate(scores) if s == s and (kept is None or row in kept)]
    return sorted(rows, key=lambda row: (-scores[row], rank_of(row, seed)))[:k]


def value(x):
    return x[:, 0]


@no_deadline
@given(
    data=st.data(),
    scores=st.lists(st.sampled_from([0.0, 0.5, 1.0, float("nan")]), min_size=1, max_size=50),
    k=st.integers(1, 20),
    seed=st.integers(0, 2**64 - 1),
)
def test_random_ties_do_not_depend_on_chunks_and_merging(data, scores, k, seed):
    x = np.array(scores, np.float32)[:, None]
    excluded = data.draw(st.sets(st.integers(0, len(scores) - 1)))
    options = {"on_invalid": "skip", "ties": "random", "seed": seed, "exclude": list(excluded)}
    parts = [fastal.Selector(k, value, **options) for _ in range(3)]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(scores)), max_size=5)))
    bounds = list(zip([0, *cuts], [*cuts, len(scores)], strict=True))
    for start, stop in data.draw(st.permutations(bounds)):
        part = data.draw(st.integers(0, 2))
        parts[part].update(x[start:stop], start)
        restored = fastal.Selector(k, value, **options)
        restored.load_state_dict(parts[part].state_dict())
        parts[part] = restored
    parts[0].merge(parts[1])
    parts[0].merge(parts[2])
    want = picks_by_sorting(scores, k, seed, {*range(len(scores))} - excluded)
    assert parts[0].result().rows.tolist() == want
    by_group = fastal.StratifiedSelector(k, value, **options)
    by_group.update(x, groups=[0] * len(x))
    assert by_group.result().rows.tolist() == want


def test_a_wrong_order_is_caught(monkeypatch):
    x = np.zeros((50, 1), np.float32)
    monkeypatch.setattr(TieOrder, "ranks", lambda self, rows: rows[::-1].copy())
    found = fastal.select(x, 5, value, ties="random", seed=5).rows.tolist()
    assert found != picks_by_sorting([0.0] * 50, 5, 5)


@pytest.mark.parametrize(("backend", "device"), BACKENDS)
@pytest.mark.parametrize("ties", ["first", "random"])
@pytest.mark.parametrize("excluded", [[], [3, 41]])
def test_the_message_counts_all_rows_that_tie_at_the_last_place(
    caplog, backend, device, ties, excluded
):
    rng = np.random.default_rng(0)
    for k in (1, 7, 30):
        # Of each row, one of five pairs of logits; their margins are distinct.
        pairs = np.array([[0, 0], [0, 1], [2, 0], [0, 3], [4, 0]], np.float32)
        of_rows = rng.integers(0, 5, 90)
        x = torch.from_numpy(pairs[of_rows]).to(device)
        kept = np.setdiff1d(np.arange(90), excluded)
        ranked = np.sort(of_rows[kept])
        n_tied, n_taken = (int((part == ranked[k - 1]).sum()) for part in (ranked, ranked[:k]))
        caplog.clear()
        options = {"exclude": excluded} if excluded else {}
        picks = fastal.select(
            x, k, "margin", backend=backend, ties=ties, chunk_bytes=32 * 7, **options
        )
        assert set(of_rows[picks.rows.tolist()]) == set(ranked[:k])
        said = [m for m in caplog.messages if "have the score of the last pick" in m]
        want = f"{n_tied} rows have the score of the last pick; {n_taken} of them were picked"
        assert [m.startswith(want) for m in said] == [True] * (n_tied > n_taken)
        if said:
            assert ("ties='random'" in said[0]) == (ties == "first")


@contextmanager
def messages_of_fastal():
    """The messages that are logged in the block."""
    handler, found = logging.Handler(), []
    handler.emit = lambda record: found.append(record.getMessage())
    logging.getLogger("fastal").addHandler(handler)
    try:
        yield found
    finally:
        logging.getLogger("fastal").removeHandler(handler)


@no_deadline
@given(data=st.data(), per_group=st.integers(1, 4), k=st.none() | st.integers(1, 12))
def test_the_message_of_quotas(data, per_group, k):
    scores = data.draw(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=1, max_size=40))
    labels = [data.draw(st.integers(0, 2)) for _ in scores]
    selector = fastal.StratifiedSelector(per_group, value, k=k)
    parts = [selector.part() for _ in range(data.draw(st.integers(0, 3)))]
    x = np.array(scores, np.float32)[:, None]
    size = data.draw(st.integers(1, 40))
    for start in range(0, len(scores), size):
        of_chunk = data.draw(st.sampled_from(parts or [selector]))
        of_chunk.update(x[start : start + size], start, labels[start : start + size])
    for part in parts:
        restored = part.part()
        restored.load_state_dict(part.state_dict())
        selector.merge(restored)
    with messages_of_fastal() as messages:
        picked = set(selector.result().rows.tolist())
    said = [m for m in messages if "have the score of the last pick" in m]
    if k is not None:
        last = min(scores[row] for row in picked)
        n_of = {group: sum(labels[row] == group for row in picked) for group in set(labels)}
        lost = [
            row for row in range(len(scores))
            if row not in picked and scores[row] == last and n_of[labels[row]] < per_group
        ]  # fmt: skip
        n_taken = sum(scores[row] == last for row in picked)
        words = f"{n_taken + len(lost)} rows have the score of the last pick; {n_taken} of them"
        has_lost = bool(lost) and len(picked) == k
        assert [m.startswith(words) for m in said] == [True] * has_lost
        return
    n_groups = n_tied = n_taken = 0
    for group in set(labels):
        rows = [row for row, of in enumerate(labels) if of == group]
        last = min(scores[row] for row in rows if row in picked)
        tied = [row for row in rows if scores[row] == last]
        taken = [row for row in tied if row in picked]
        if len(taken) < len(tied):
            n_groups, n_tied, n_taken = n_groups + 1, n_tied + len(tied), n_taken + len(taken)
    words = f"{n_tied} rows have the score of the last pick of their group, in {n_groups} groups; "
    assert [m.startswith(f"{words}{n_taken} of them") for m in said] == [True] * bool(n_groups)


def test_bad_arguments():
    with pytest.raises(ValueError, match="ties: wanted one of first, random, got 'last'"):
        fastal.select(np.zeros((3, 2)), 1, ties="last")
