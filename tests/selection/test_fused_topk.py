"""Selection behind the scores: exact whatever the order of programs, chunks and launches."""

import pickle
from itertools import pairwise, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fastal
from fastal.ops import uncertainty
from tests.support.matrices import DEVICE, KERNEL_DTYPES

few_examples = settings(deadline=None, max_examples=20)


def matrix(n_rows, n_classes, seed=0, dtype=torch.float32):
    """Logits with few distinct rows, so that ties are the rule."""
    generator = torch.Generator().manual_seed(seed)
    distinct = 3 * torch.randn(max(2, n_rows // 3), n_classes, generator=generator)
    which = torch.randint(len(distinct), (n_rows,), generator=generator)
    return distinct[which].to(dtype).to(DEVICE)


def selector(k, by="entropy", **options):
    return fastal.Selector(k, by, backend="triton", **options)


def best_of(x, k, by="entropy", kind="logits", first=0):
    """The definition: the k best of the valid rows' scores, ties to the lower row."""
    (scores,) = uncertainty(x, [by], kind, backend="triton")
    scores = scores.cpu().numpy()
    rows = np.flatnonzero(~np.isnan(scores))
    rows = rows[np.lexsort((rows, -scores[rows]))][:k]
    return (rows + first).tolist(), scores[rows].tobytes()


def picked(picks):
    assert picks.rows.dtype == torch.int64
    return picks.rows.tolist(), picks.scores.cpu().numpy().tobytes()


@pytest.mark.parametrize("dtype", KERNEL_DTYPES)
@pytest.mark.parametrize("n_classes", [2, 3, 10, 31, 40, 100, 1100])
def test_every_path_selects(n_classes, dtype):
    x = matrix(300 if n_classes < 1000 else 9, n_classes, dtype=dtype)
    for by in ("least_confidence", "margin", "ratio", "entropy"):
        chosen = selector(7, by)
        chosen.update(x)
        assert chosen.backend_used == "triton"
        assert picked(chosen.result()) == best_of(x, 7, by)


def test_a_pickled_selector_holds_its_picks_alone_and_goes_on():
    x = matrix(900, 10)
    chosen, whole = selector(7), selector(7)
    whole.update(x[:600])
    chosen.update(x[:600])
    pickled = pickle.dumps(chosen)
    assert len(pickled) < 5000
    found = pickle.loads(pickled)
    for other in (whole, chosen, found):
        other.update(x[600:], 600)
    want = best_of(x, 7)
    assert picked(whole.result()) == picked(chosen.result()) == picked(found.result()) == want


@pytest.fixture
def program_order(monkeypatch):
    """Has the interpreter run programs in shuffled order; on a GPU it is anyone's guess."""
    if DEVICE == "cuda":
        return lambda seed: None
    from triton.runtime.interpreter import InterpreterBuilder

    in_order = InterpreterBuilder.set_grid_idx

    def shuffle(seed):
        def set_grid_idx(builder, x, y, z):
            order = np.random.default_rng(seed).permutation(builder.grid_dim[0])
            in_order(builder, int(order[x]), y, z)

        monkeypatch.setattr(InterpreterBuilder, "set_grid_idx", set_grid_idx)

    return shuffle


@pytest.mark.full
@pytest.mark.parametrize("n_classes", [2, 10, 40, 1100])
def test_the_order_of_programs_changes_nothing(program_order, n_classes):
    n_rows = {2: 4096, 10: 700, 40: 300, 1100: 24}[n_classes]
    x = matrix(n_rows, n_classes)
    scores = uncertainty(x, ["margin"], backend="triton")[0]
    wanted = best_of(x, n_rows // 8, "margin")
    for seed in range(3):
        program_order(seed)
        assert torch.equal(uncertainty(x, ["margin"], backend="triton")[0], scores)
        chosen = selector(n_rows // 8, "margin")
        chosen.update(x[: n_rows // 3])
        chosen.update(x[n_rows // 3 :])
        assert picked(chosen.result()) == wanted


@pytest.mark.full
def test_the_order_of_parts_changes_nothing(program_order):
    x = torch.randn(2, 140_001, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    scores = uncertainty(x, fastal.ops.formulas.UNCERTAINTY_SCORES, backend="triton")
    program_order(1)
    for before, after in zip(
        scores,
        uncertainty(x, fastal.ops.formulas.UNCERTAINTY_SCORES, backend="triton"),
        strict=True,
    ):
        assert torch.equal(before, after)


@pytest.fixture(params=[None, (8, 64, 8)], ids=["large launches", "small launches"])
def launches(request, monkeypatch):
    """Launches so small that the threshold rises within a chunk, as well as the real size."""
    from fastal_kernels import topk

    if request.param is not None:
        for name, size in zip(
            ("_FIRST_ROWS", "_MOST_ROWS", "_LEAST_LIMIT"), request.param, strict=True
        ):
            monkeypatch.setattr(topk, name, size)


@pytest.mark.parametrize("n_classes", [2, 3, 40])
def test_nothing_but_the_keys_is_written(n_classes):
    from fastal_kernels.topk import Candidates
    from fastal_kernels.uncertainty import select

    x = matrix(600, n_classes)
    candidates = Candidates(700, torch.device(DEVICE), 0, None)
    poison = torch.full((4096,), -7, device=DEVICE)
    candidates._keys = poison[1024:3072]
    assert select(x, "ratio", "logits", 0, candidates) == 0
    assert (poison[1024:1624] >= 0).all()
    assert (poison[:1024] == -7).all()
    assert (poison[1624:] == -7).all()


@pytest.mark.full
@pytest.mark.usefixtures("launches")
@pytest.mark.parametrize("k", [1, 7, 64, 500, 1000])
@pytest.mark.parametrize("order", ["as it comes", "ascending", "descending"])
def test_no_order_of_rows_overflows(k, order):
    x = matrix(700, 2)
    if order != "as it comes":
        gaps = (x[:, 0] - x[:, 1]).abs()
        x = x[gaps.argsort(descending=order == "ascending")]
    chosen = selector(k)
    chosen.update(x)
    assert picked(chosen.result()) == best_of(x, k)


@few_examples
@given(data=st.data(), seed=st.integers(0, 99), k=st.integers(1, 60))
def test_any_chunks_in_any_order(data, seed, k):
    x = matrix(50, 3, seed)
    cuts = data.draw(st.lists(st.integers(0, 50), max_size=5))
    pieces = data.draw(st.permutations(list(pairwise([0, *sorted(cuts), 50]))))
    chosen = selector(k)
    for start, stop in pieces:
        chosen.update(x[start:stop], start)
        if data.draw(st.booleans()):  # what `merge` and `state_dict` do in between
            state, chosen = chosen.state_dict(), selector(k)
            chosen.load_state_dict(state)
            chosen.update(x[:0])
    assert picked(chosen.result()) == best_of(x, k)


@few_examples
@given(data=st.data(), k=st.integers(1, 30))
def test_rows_on_both_sides_of_a_segment_border(data, k):
    border = data.draw(st.sampled_from([1 << 32, 5 << 32, (1 << 63) - 41]))
    first = border - data.draw(st.integers(0, 40))
    x = matrix(40, 2, seed=k)
    starts = data.draw(st.permutations(range(0, 40, 10)))
    chosen = selector(k)
    for start in starts:
        chosen.update(x[start : start + 10], first + start)
    assert picked(chosen.result()) == best_of(x, k, first=first)


@pytest.mark.usefixtures("launches")
@pytest.mark.parametrize("seen", [0, 3, 200])
def test_an_invalid_chunk_leaves_no_trace(seen):
    x = matrix(700, 4)
    bad = x[300:].clone()
    bad[37, 2] = bad[399, 0] = torch.nan
    chosen = selector(25)
    chosen.update(x[:seen])
    with pytest.raises(fastal.InvalidRows) as error:
        chosen.update(bad, 300)
    assert error.value.rows == [337, 699]
    assert error.value.count == 2
    chosen.update(x[seen:300], seen)
    chosen.update(x[300:], 300)
    assert picked(chosen.result()) == best_of(x, 25)


@pytest.mark.usefixtures("launches")
@pytest.mark.parametrize("fails", [1, 3, 5])
@pytest.mark.parametrize("seen", [0, 200])
def test_an_interrupted_update_leaves_no_trace(monkeypatch, seen, fails):
    """Out of memory, or Ctrl-C: whatever stops an update, the next one finds what it left."""
    from fastal_kernels import uncertainty as kernels

    x = matrix(700, 4)
    chosen = selector(25)
    chosen.update(x[:seen])
    start, calls = kernels._start, iter(range(1, 100))

    def failing(*arguments):
        start(*arguments)
        if next(calls) == fails:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(kernels, "_start", failing)
        try:
            chosen.update(x[seen:])
        except KeyboardInterrupt:
            chosen.update(x[seen:450])
            chosen.update(x[450:])
    assert picked(chosen.result()) == best_of(x, 25)


@pytest.mark.parametrize("where", list(product([False, True], repeat=3)))
def test_inference_mode_may_come_and_go(where):
    x = matrix(300, 3)
    chosen = selector(40)
    for in_mode, rows in zip(where, (x[:100], x[100:200], x[200:]), strict=True):
        with torch.inference_mode(in_mode):
            chosen.update(rows.clone())
    with torch.inference_mode(not where[-1]):
        assert picked(chosen.result()) == best_of(x, 40)


@pytest.mark.parametrize("kind", ["logits", "probs", "log_probs"])
@pytest.mark.parametrize("n_classes", [4, 60])
def test_invalid_rows_are_left_out_and_counted(kind, n_classes):
    x = matrix(400, n_classes)
    x = torch.softmax(x, 1) if kind == "probs" else torch.log_softmax(x, 1)
    x[5] = torch.nan
    x[77, 1] = torch.inf
    chosen = selector(1000, kind=kind, on_invalid="skip")
    chosen.update(x[:80])
    chosen.update(x[80:])
    picks = chosen.result()
    assert picks.invalid == 2
    assert len(picks.rows) == 398
    assert picked(picks) == best_of(x, 1000, kind=kind)


def test_a_certain_row_counts(launches):
    x = torch.full((3, 5), -torch.inf)
    x[:, 2] = 1.0
    chosen = selector(3)
    chosen.update(x.to(DEVICE))
    picks = chosen.result()
    assert picks.rows.tolist() == [0, 1, 2]
    assert picks.scores.tolist() == [0, 0, 0]


def test_a_wrong_tie_rule_is_caught():
    x = torch.zeros(5, 2, device=DEVICE)
    rows, scores = best_of(x, 2)
    assert rows == [0, 1]
    assert (rows[::-1], scores) != best_of(x, 2)
