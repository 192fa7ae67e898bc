"""Selection among items of several rows: chunks, order, merging, states."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fastal

RNG = np.random.default_rng(0)
LENGTHS = RNG.integers(0, 30, 60)
OFFSETS = np.concatenate([[0], LENGTHS.cumsum()])
X = (2 * RNG.normal(size=(OFFSETS[-1], 6))).round(1).astype(np.float32)
MASK = RNG.random(len(X)) < 0.8
ITEMS = fastal.items(X, lengths=LENGTHS, mask=MASK)


@settings(deadline=None, max_examples=50)
@given(
    data=st.data(),
    aggregate=st.sampled_from(["mean", "sum", "max", "least", "top4"]),
    backend=st.sampled_from(["auto", "torch"]),
    noise=st.sampled_from([None, "softmax"]),
)
def test_any_chunks_order_and_merging(data, aggregate, backend, noise):
    options = {"aggregate": aggregate, "backend": backend, "on_invalid": "skip", "noise": noise}
    want = fastal.select(ITEMS, 9, **options)
    cuts = sorted(data.draw(st.lists(st.integers(0, 60), max_size=6)))
    pieces = data.draw(st.permutations(list(zip([0, *cuts], [*cuts, 60], strict=True))))
    selectors = [fastal.Selector(9, **options), fastal.Selector(9, **options)]
    for start, stop in pieces:
        index = data.draw(st.integers(0, 1))
        selectors[index].update(ITEMS[start:stop], start)
        state = selectors[index].state_dict()
        selectors[index] = fastal.Selector(9, **options)
        selectors[index].load_state_dict(state)
    selectors[0].merge(selectors[1])
    got = selectors[0].result()
    assert np.asarray(got.rows).tobytes() == np.asarray(want.rows).tobytes()
    assert np.asarray(got.scores).tobytes() == np.asarray(want.scores).tobytes()
    assert got.invalid == want.invalid


@settings(deadline=None, max_examples=20)
@given(cuts=st.lists(st.integers(0, 40), max_size=4), n_classes=st.sampled_from([2, 5, 70]))
def test_chunks_of_images_and_of_labels(cuts, n_classes):
    images = 2 * torch.randn(40, n_classes, 3, 5, generator=torch.Generator().manual_seed(0))
    for x, options in (
        (images, {"class_axis": 1}),
        (images.movedim(1, -1), {}),
        (images.flatten(1), {"kind": "multilabel_logits"}),
    ):
        want = fastal.select(x, 7, aggregate="mean", **options)
        selector = fastal.Selector(7, aggregate="mean", **options)
        bounds = [0, *sorted(cuts), 40]
        for start, stop in zip(bounds[:-1], bounds[1:], strict=True):
            selector.update(x[start:stop])
        assert torch.equal(selector.result().rows, want.rows)
        assert torch.equal(selector.result().scores, want.scores)


@pytest.mark.parametrize("n_classes", [6, 100])
def test_rows_in_column_order_have_the_same_bits(n_classes, tmp_path):
    """Items that straddle chunks are copied in row order: no bit may tell."""
    x = np.asfortranarray(3 * RNG.normal(size=(OFFSETS[-1], n_classes)).astype(np.float32))
    np.save(tmp_path / "x.npy", x)
    options = {"aggregate": "max", "on_invalid": "skip"}
    want = fastal.score(fastal.items(np.ascontiguousarray(x), lengths=LENGTHS), **options).entropy
    for pool in (
        fastal.items(x, lengths=LENGTHS),
        fastal.items(tmp_path / "x.npy", lengths=LENGTHS),
    ):
        for chunk_bytes in (500, 5000, None):
            picks = fastal.select(pool, 40, "entropy", **options, chunk_bytes=chunk_bytes)
            assert np.array_equal(picks.scores, want[picks.rows])
        few = fastal.select(pool, 3, "entropy", **options, among=picks.rows[:3])
        assert np.array_equal(few.scores, picks.scores[:3])


def test_dense_and_ragged_items_may_alternate():
    dense = torch.tensor(X[:120].reshape(10, 12, 6))
    selector = fastal.Selector(5, aggregate="mean")
    selector.update(dense)
    selector.update(fastal.items(list(dense.flip(0))))
    selector.update(dense[:, :7])  # shorter
    scores = selector.result().scores
    assert len(scores) == 5


def test_items_of_another_number_of_classes_are_refused():
    selector = fastal.Selector(5, aggregate="mean", class_axis=1)
    x = torch.randn(4, 3, 8, 8)
    broken = x.clone()
    broken[0] = torch.nan
    with pytest.raises(fastal.InvalidRows):
        selector.update(broken[:, :2])
    selector.update(x)  # the chunk before left no trace
    selector.update(x[..., :5])
    with pytest.raises(ValueError, match="rows from 8 on have 2 classes, the rows before them 3"):
        selector.update(x[:, :2])
    again = fastal.Selector(5, aggregate="mean", class_axis=1)
    again.load_state_dict(selector.state_dict())
    with pytest.raises(ValueError, match="have 2 classes, the rows before them 3"):
        again.update(x[:, :2])
    other = fastal.Selector(5, aggregate="mean", class_axis=1)
    other.update(x[:, :2], 100)
    with pytest.raises(ValueError, match="merge: the other has row_shape"):
        selector.merge(other)


def test_a_state_knows_how_items_are_scored():
    ours = {"aggregate": "mean", "class_axis": 1, "temperature": 2.0, "kind": "logits"}
    state = fastal.Selector(3, **ours).state_dict()
    for change in (
        {"aggregate": "top3"}, {"class_axis": 2}, {"temperature": 1.0}, {"kind": "log_probs"},
        {"by": "entropy"},
    ):  # fmt: skip
        with pytest.raises(ValueError, match="load_state_dict: the state has (by|kind)"):
            fastal.Selector(3, **{**ours, **change}).load_state_dict(state)
        with pytest.raises(ValueError, match="merge: the other has (by|kind)"):
            fastal.Selector(3, **ours).merge(fastal.Selector(3, **{**ours, **change}))
