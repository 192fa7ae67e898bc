"""Selections by the native kernel, which raises its own threshold: picks, ties and states."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fastal
from fastal.pipeline import drive
from fastal.selection import fused_topk
from fastal.sources.array import ArraySource
from fastal_kernels import native
from tests.support.embeddings import rows_of

pytestmark = pytest.mark.skipif(bool(native.reasons()), reason="not compiled here")

PAIRS = torch.tensor([[0, 0], [0, 1], [2, 0], [0, 3], [40, 0], [torch.nan, 0], [0, -torch.inf]])


def check_picks(data, order=lambda rows, scores: np.lexsort((rows, -scores))):
    """Any chunks, in any order, merged and resumed, pick the same rows and count the same ties."""
    kinds = data.draw(st.lists(st.integers(0, 6), min_size=1, max_size=80))
    x, k = PAIRS[kinds], data.draw(st.integers(1, len(kinds) + 1))
    by = data.draw(st.sampled_from(["margin", "entropy"]))
    options = {"by": by, "backend": "native", "on_invalid": "skip"}
    numbers = np.arange(len(x)) * data.draw(st.sampled_from([1, 3])) + 2**33
    cuts = sorted(data.draw(st.lists(st.integers(0, len(x)), max_size=5)))
    pieces = list(zip([0, *cuts], [*cuts, len(x)], strict=True))
    selector = fastal.Selector(k, **options)
    for start, stop in data.draw(st.permutations(pieces)):
        how = data.draw(st.sampled_from(["update", "merge", "resume"]))
        part = selector.part() if how == "merge" else selector
        part.update(x[start:stop], numbers[start:stop])
        if how == "merge":
            selector.merge(part)
        if how == "resume":
            state, selector = selector.state_dict(), fastal.Selector(k, **options)
            selector.load_state_dict(state)
    (scores,) = native.uncertainty(x, [by])
    scores = scores.numpy()
    valid = np.flatnonzero(~np.isnan(scores))
    want = valid[order(valid, scores[valid])][:k]
    picks = selector.result()
    assert picks.rows.tolist() == numbers[want].tolist()
    assert np.asarray(picks.scores).tobytes() == scores[want].tobytes()
    assert picks.invalid == len(x) - len(valid)
    if len(want) == k:
        last = scores[want[-1]]
        assert selector._top.tied() == ((scores == last).sum(), (scores[want] == last).sum())


@settings(deadline=None)
@given(data=st.data())
def test_any_chunks_pick_the_same(data):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "_LEAST_PASSED", data.draw(st.sampled_from([1, 5, 256])))
        check_picks(data)


@settings(deadline=None)
@given(data=st.data())
def test_rows_that_the_kernel_cannot_number_are_selected_in_pieces(data):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fused_topk, "_MOST_NUMBERED", 0)
        patch.setattr(fused_topk, "_FIRST_ROWS", 4)
        check_picks(data)


def test_a_wrong_order_of_ties_is_caught():
    @settings(deadline=None)
    @given(data=st.data())
    def check(data):
        check_picks(data, order=lambda rows, scores: np.lexsort((-rows, -scores)))

    with pytest.raises(AssertionError):
        check()


@pytest.mark.parametrize(("ties", "exclude", "is_raised"), [
    ("first", None, True), ("random", None, False), ("first", [3], False),
])  # fmt: skip
def test_thresholds_rise_where_the_kernel_knows_the_order(ties, exclude, is_raised, monkeypatch):
    seen, above = [], native.scores_above_threshold
    monkeypatch.setattr(
        native, "scores_above_threshold", lambda *given: seen.append(given[-1]) or above(*given)
    )
    x = torch.zeros(100, 3)
    fastal.select(x, 5, ties=ties, exclude=exclude, backend="native")
    assert set(seen) == {5 if is_raised else 0}


def test_only_plain_selections_by_the_native_kernel_read_larger_chunks(monkeypatch, tmp_path):
    """Other selections take memory for each row of a chunk; chunks of files must stay the same."""
    monkeypatch.setattr(drive, "_MOST_ROWS", 64)
    sizes = []
    look = fastal.Selector.look
    monkeypatch.setattr(
        fastal.Selector,
        "look",
        lambda self, chunk, start: sizes.append(len(chunk)) or look(self, chunk, start),
    )
    x = rows_of(640, 3).numpy()
    np.save(tmp_path / "x.npy", x)
    copying = ArraySource(x, None, {})
    copying.in_place = False  # as of a pool that is read into memory
    for pool, how, largest in (
        (x, {}, 640),
        (x, {"backend": "torch"}, 64),
        (x, {"noise": "power"}, 64),
        (x, {"ties": "random"}, 64),
        (x, {"exclude": [1]}, 64),
        (x, {"by": lambda chunk: chunk[:, 0]}, 64),
        (tmp_path / "x.npy", {}, 64),
        (copying, {}, 64),
    ):
        sizes.clear()
        fastal.select(pool, 5, **how)
        assert max(sizes) == largest, how
