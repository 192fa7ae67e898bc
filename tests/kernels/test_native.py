"""The native kernels: all variants, the memory that they access, their threads, their absence."""

import inspect
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fastal
from fastal.ops import reference
from fastal.ops.formulas import UNCERTAINTY_SCORES
from fastal_kernels import native
from fastal_kernels.native import threads
from tests.support.checkout import environment
from tests.support.matrices import DTYPES, regimes
from tests.support.memory import PAGE, Guarded
from tests.support.oracle import assert_scores, definitions, definitions_to_any_digit

INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}

compiled = pytest.mark.skipif(bool(native.reasons()), reason="not compiled here")

# By code path: two classes; a part of a vector, a whole one, several; near the most classes with a
# row in each lane (64) and with results transposed together (256); near the ends of blocks (512,
# 1024 and 2048).
CLASSES = [2, 3, 8, 15, 16, 17, 63, 64, 65, 100, 256, 257, 512, 513, 1025, 2048, 2049, 5000]


@pytest.fixture(params=native.variants())
def variant(request, monkeypatch):
    monkeypatch.setenv(native.VARIABLE, request.param)
    return request.param


def matrix(n_rows, n_classes, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(n_rows, n_classes, generator=generator)).to(dtype)


def as_bits(scores):
    return torch.stack(list(scores)).view(torch.int32)


# --- variants


@compiled
def test_there_is_a_variant_for_every_machine(monkeypatch):
    monkeypatch.delenv(native.VARIABLE, raising=False)
    assert native.variants()[-1] == "portable"
    assert native.variant() == native.variants()[0]


@compiled
def test_the_environment_variable_chooses_the_variant(monkeypatch):
    x = matrix(50, 1000)
    monkeypatch.delenv(native.VARIABLE, raising=False)
    best = as_bits(fastal.score(x, backend="native"))
    monkeypatch.setenv(native.VARIABLE, "portable")
    assert native.variant() == "portable"
    portable = as_bits(fastal.score(x, backend="native"))
    # Another variant sums in another order. If no bit differed, the variable had no effect.
    assert native.variants() == ["portable"] or not torch.equal(best, portable)
    monkeypatch.setenv(native.VARIABLE, "sse9")
    with pytest.raises(ValueError, match=r"FASTAL_NATIVE: wanted one of .*portable, got 'sse9'"):
        fastal.score(x, backend="native")


def test_twins_share_name_and_signature():
    ours, theirs = native.uncertainty, reference.uncertainty
    assert inspect.signature(ours) == inspect.signature(theirs)


@compiled
def test_measures_are_those_of_the_twin():
    x = matrix(5, 4)
    first, second = native.uncertainty(x, ["margin", "margin"])
    assert torch.equal(first, second)
    assert native.uncertainty(x, []) == []
    with pytest.raises(KeyError):
        native.uncertainty(x, ["doubt"])


# --- what a row's bits depend on


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["logits", "probs"])
def test_bits_depend_on_the_row_alone(variant, dtype, kind):
    for n_classes in CLASSES:
        x = matrix(70, n_classes, dtype)
        if kind == "probs":
            x = torch.softmax(x.double(), 1).to(dtype)
        want = as_bits(native.uncertainty(x, UNCERTAINTY_SCORES, kind))
        apart = torch.full((70, 2 * n_classes), torch.nan, dtype=dtype)
        apart[:, ::2] = x
        for same in (x.t().contiguous().t(), torch.cat([x, x], 1)[:, n_classes:], apart[:, ::2]):
            assert torch.equal(as_bits(native.uncertainty(same, UNCERTAINTY_SCORES, kind)), want)
        for rows in (slice(0, 1), slice(3, 40), slice(69, 70)):
            part = as_bits(native.uncertainty(x[rows], UNCERTAINTY_SCORES, kind))
            assert torch.equal(part, want[:, rows]), (n_classes, rows)


def test_bits_do_not_depend_on_the_lane_with_a_temperature(variant):
    """The gap is then rounded, and its error is kept: in the lower and the upper half of lanes."""
    for n_classes in (3, 40, 100):
        x = 1e3 * matrix(40, n_classes)
        want = as_bits(native.uncertainty(x, UNCERTAINTY_SCORES, temperature=7.5))
        for first in range(16):
            part = as_bits(native.uncertainty(x[first:], UNCERTAINTY_SCORES, temperature=7.5))
            assert torch.equal(part, want[:, first:]), (n_classes, first)


@pytest.mark.parametrize("n_classes", [3, 100, 3000])
def test_bits_do_not_depend_on_threads(variant, monkeypatch, n_classes):
    monkeypatch.setattr(native, "LEAST_SHARE", 1)
    x = matrix(300, n_classes)
    want = as_bits(native.uncertainty(x, UNCERTAINTY_SCORES))
    for n_threads in (1, 2, 3, 7):
        monkeypatch.setattr(torch, "get_num_threads", lambda n=n_threads: n)
        assert torch.equal(as_bits(native.uncertainty(x, UNCERTAINTY_SCORES)), want)


# --- memory


@pytest.mark.skipif(sys.platform != "linux", reason="protects pages")
@pytest.mark.parametrize("dtype", DTYPES)
def test_only_the_matrix_is_read(variant, dtype):
    """The matrix is next to protected pages: a read beyond it would end the process."""
    guarded = Guarded(n_pages=-(-21 * 10_001 * 8 // PAGE))
    for n_classes in CLASSES:
        for n_rows in (1, 2, 16, 21):
            x = matrix(n_rows, n_classes, dtype)
            want = as_bits(native.uncertainty(x, UNCERTAINTY_SCORES))
            for place in (guarded.at_the_start, guarded.at_the_end):
                assert torch.equal(as_bits(native.uncertainty(place(x), UNCERTAINTY_SCORES)), want)
            # Columns apart, and every other row of a wider matrix, both up to the last byte.
            wide = guarded.at_the_end(torch.cat([x, x, x], 1)[:, : 2 * n_classes + 1])
            for part in (wide[:, 1::2], wide[:, n_classes + 1 :], wide[1::2, n_classes + 1 :]):
                got = native.uncertainty(part, UNCERTAINTY_SCORES)
                assert torch.equal(
                    as_bits(got), as_bits(native.uncertainty(part.clone(), UNCERTAINTY_SCORES))
                )


@compiled
@pytest.mark.full
def test_the_guard_pages_guard():
    """The test above can fail: a read of the next byte ends the process."""
    code = f"""
import ctypes
from tests.support.memory import Guarded
guarded = Guarded(1)
ctypes.string_at(guarded._view.ctypes.data + {2 * PAGE} - 1, 1)
print("alive", flush=True)
ctypes.string_at(guarded._view.ctypes.data + {2 * PAGE}, 1)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment())
    assert done.stdout == b"alive\n", done.stderr
    assert done.returncode != 0


@pytest.mark.parametrize("n_rows", [1, 15, 16, 63, 64, 65])
def test_only_the_outputs_are_written(variant, monkeypatch, n_rows):
    sentinel, buffers = 77, []

    def guarded_empty(*shape, dtype, device):
        n = int(np.prod(shape))
        buffers.append((torch.full((n + 512,), sentinel, dtype=dtype), n))
        return buffers[-1][0][256 : 256 + n].view(shape)

    monkeypatch.setattr(native.torch, "empty", guarded_empty)
    for n_classes in (2, 10, 100, 1000):
        x = torch.zeros(n_rows, n_classes)
        before = x.clone()
        for values in native.uncertainty(x, UNCERTAINTY_SCORES):
            torch.testing.assert_close(values, torch.ones(n_rows), rtol=1e-6, atol=0)
        scores, rows, n_invalid, lost = native.scores_above_threshold(
            x, "margin", "logits", 10, None
        )
        assert sorted(rows.tolist()) == list(range(10, 10 + n_rows))
        assert (scores == 1).all()
        assert (n_invalid, lost) == (0, (-np.inf, 0))
        assert torch.equal(x, before)
    assert len(buffers) == 4 * 3  # the scores, and the scores and rows of the selection
    for buffer, n in buffers:
        assert (buffer[:256] == sentinel).all()
        assert (buffer[256 + n :] == sentinel).all()


# --- invalid rows


@pytest.mark.parametrize("dtype", DTYPES)
def test_no_nan_is_lost(variant, dtype):
    """A NaN of any payload, alone in a row, in every lane, block and remainder."""
    integer = INTEGERS[dtype.itemsize]
    payloads = torch.tensor([torch.nan], dtype=dtype).view(integer)
    low = torch.tensor([1], dtype=integer)
    infinite = torch.tensor([torch.inf], dtype=dtype).view(integer)
    nans = torch.cat([payloads, payloads | low, infinite | low, infinite | 0x55])
    nans = torch.cat([nans, nans | torch.iinfo(integer).min]).view(dtype)
    assert nans.isnan().all()
    for n_classes in (2, 5, 33, 64, 65, 100, 257, 1025, 2049):
        for base in (0.0, -torch.inf):
            columns = torch.arange(0, n_classes, 1 if n_classes < 300 else 31)
            x = torch.full((len(columns), n_classes), base, dtype=dtype)
            x[:, 0] = 1.0
            x[torch.arange(len(columns)), columns] = nans[columns % len(nans)]
            for measure in UNCERTAINTY_SCORES:  # each alone: without entropy, less is summed
                (scores,), n_invalid = native.scores_and_invalid(x, [measure], "logits")
                assert scores.isnan().all(), (n_classes, base, measure)
                assert n_invalid == len(x)


@pytest.mark.parametrize("n_classes", [2, 10, 64, 100, 256, 300, 5000])
@pytest.mark.parametrize("dtype", DTYPES)
def test_one_value_after_ruled_out_classes(variant, n_classes, dtype):
    """Rows of -inf except one or two classes, at any place: whole blocks may be -inf."""
    n = min(n_classes, 40)
    first = torch.linspace(0, n_classes - 1, n).long()
    x = torch.full((2 * n, n_classes), -torch.inf, dtype=dtype)
    x[torch.arange(n), first] = torch.linspace(-900, 900, n).to(dtype)
    x[torch.arange(n, 2 * n), first] = 1.5
    x[torch.arange(n, 2 * n), first.flip(0)] = 1.25
    assert_scores(fastal.score(x, backend="native"), definitions(x))
    ones = fastal.score(x[:n], backend="native")
    assert all((values == 0).all() for values in ones)


# --- accuracy at its worst


def worst_rounding(n_classes, block):
    """A row in which the float32 sum of every block loses digits with the same sign.

    They are lost if the maximum's term, 1, is subtracted from each sum before the sums are added.
    """
    x = torch.full((1, n_classes), float(np.log(0.995 * 2.0**-25 / block)))
    x[0, :block] = -60
    x[0, 0], x[0, 16] = 20, 0
    x[0, 32:block:16] = float(np.log(0.995 * 2.0**-23))
    return x


@pytest.mark.parametrize("block", [512, 1024, 2048])
def test_small_terms_in_many_blocks(variant, block):
    x = worst_rounding(262_144, block)
    assert_scores(fastal.score(x, backend="native"), definitions(x))


def test_small_terms_in_doubles_far_apart(variant):
    """The gap is between two floats, and each term loses half a digit beside the largest."""
    step = 2.0**-17
    offsets = step * torch.arange(-4, 5)
    x = torch.zeros(len(offsets), 64, dtype=torch.float64)
    x[:, 1] = -80 - 0.4999 * step
    x[:, 2:] = (-80 + round(-23 * np.log(2) / step) * step + offsets)[:, None]
    assert_scores(fastal.score(x, backend="native"), definitions_to_any_digit(x))


def test_doubles_that_floats_cannot_hold(variant):
    for n_classes in (3, 50, 300, 3000):
        x = regimes(n_classes, torch.float64)[:10]
        x = torch.cat([x + 2.0**40, x * 1e200, x * 1e-9])
        assert_scores(fastal.score(x, backend="native"), definitions(x))


@pytest.mark.parametrize("n_classes", [2, 3, 64, 100, 1024, 5000])
def test_the_most_negative_number_is_a_number(variant, n_classes):
    for dtype in DTYPES:
        x = torch.full((2, n_classes), -torch.inf, dtype=dtype)
        x[:, n_classes // 2] = torch.finfo(dtype).min
        x[1, 0] = torch.finfo(dtype).min
        scores = torch.stack(list(fastal.score(x, backend="native")))
        assert (scores[:, 0] == 0).all()
        assert_scores([s[1:] for s in scores], definitions(x[1:]))


@pytest.mark.parametrize("n_classes", [2, 3, 64, 100, 1024, 5000])
def test_one_hot_probabilities_may_have_signed_zeros(variant, n_classes):
    for dtype in DTYPES:
        x = torch.zeros(3, n_classes, dtype=dtype)
        x[1], x[2, ::2] = -0.0, -0.0
        x[torch.arange(3), torch.tensor([0, n_classes // 2, n_classes - 1])] = 1
        for values in fastal.score(x, kind="probs", backend="native"):
            assert (values == 0).all()


@pytest.mark.parametrize("n_classes", [2, 64, 100, 1024, 5000])
def test_probabilities_whose_ratio_is_subnormal(variant, n_classes):
    for exponent in (-62, -100, -126, -131, -140, -149):
        x = torch.full((1, n_classes), 2.0**exponent)
        x[0, 1] = 1
        truth = definitions_to_any_digit(x.double().log())
        assert_scores(fastal.score(x, kind="probs", backend="native"), truth)


# --- selection


@compiled
@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 99), n_rows=st.integers(0, 300), n_classes=st.sampled_from([2, 3, 70, 300]),
    by=st.sampled_from(UNCERTAINTY_SCORES), k=st.integers(-1, 299), first_row=st.integers(0, 2**62),
)  # fmt: skip
def test_scores_above_a_threshold_are_those_that_compare_above(
    seed, n_rows, n_classes, by, k, first_row
):
    """The threshold is the score of row k, if k is not negative. Row k may be past the end."""
    x = matrix(n_rows, n_classes, seed=seed).round()  # so that rows tie
    x[::7] = torch.nan
    (scores,) = native.uncertainty(x, [by])
    least, threshold, keep, want_tied = 0.0, None, ~scores.isnan(), 0
    if k >= 0:
        least = float(scores.nan_to_num(0.5)[k]) if k < n_rows else 0.5
        before = torch.arange(n_rows) < k
        keep = (scores > least) | ((scores == least) & before)
        threshold, want_tied = (least, first_row + k), int(((scores == least) & ~before).sum())
    got, rows, n_invalid, lost = native.scores_above_threshold(
        x, by, "logits", first_row, threshold
    )
    order = rows.argsort()
    assert torch.equal(rows[order] - first_row, keep.nonzero()[:, 0])
    assert torch.equal(got[order], scores[keep])
    assert n_invalid == len(range(0, n_rows, 7))
    assert lost == ((least, want_tied) if want_tied else (-np.inf, 0))


@compiled
@settings(deadline=None, max_examples=40)
@given(data=st.data(), k=st.sampled_from([1, 17, 500]), by=st.sampled_from(UNCERTAINTY_SCORES))
def test_any_chunks_select_the_same(data, k, by):
    x = matrix(1500, 3, seed=data.draw(st.integers(0, 9))).round()
    (scores,) = native.uncertainty(x, [by])
    want = np.lexsort((np.arange(1500), -scores.numpy()))[:k]
    selector = fastal.Selector(k, by, backend="native")
    cuts = sorted(data.draw(st.lists(st.integers(0, 1500), max_size=5)))
    pieces = list(zip([0, *cuts], [*cuts, 1500], strict=True))
    for start, stop in data.draw(st.permutations(pieces)):
        selector.update(x[start:stop], start)
    picks = selector.result()
    assert picks.rows.tolist() == want.tolist()
    assert torch.equal(picks.scores, scores[picks.rows])


def test_an_invalid_row_leaves_the_selection_as_it_was(variant, monkeypatch):
    from fastal.selection import fused_topk

    monkeypatch.setattr(fused_topk, "_FIRST_ROWS", 8)
    x = matrix(900, 5)
    selector = fastal.Selector(10, "ratio", backend="native")
    selector.update(x[:300])
    before = selector.result()
    x[899, 2] = torch.nan  # in the last of the pieces in which the chunk is scored
    with pytest.raises(fastal.InvalidRows, match="row 899"):
        selector.update(x[300:])
    after = selector.result()
    assert torch.equal(before.rows, after.rows)
    x[899, 2] = 0
    selector.update(x[300:])
    assert torch.equal(selector.result().rows, fastal.select(x, 10, "ratio").rows)


# --- threads, processes, and machines without a compiler


@compiled
@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.full
def test_a_forked_process_has_threads_of_its_own():
    """The parent's threads do not exist in the child: work for them would never end."""
    code = """
import os, torch
from fastal_kernels import native
from fastal_kernels.native.threads import _pool
torch.set_num_threads(3)
x = torch.randn(4000, 100)
want = native.uncertainty(x, ["entropy"])[0]
child = os.fork()
if child == 0:
    right = torch.equal(native.uncertainty(x, ["entropy"])[0], want)
    os._exit(_pool(2, os.getpid()).submit(int).result(timeout=30) if right else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    python = [sys.executable, "-c", code]
    done = subprocess.run(python, capture_output=True, timeout=60, env=environment())
    assert done.stdout == b"0\n", done.stderr


@compiled
def test_an_error_in_a_thread_is_raised(monkeypatch):
    met = threading.Barrier(2)

    def work(*arguments):
        met.wait(timeout=30)
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("out of order")
        return False

    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(native, "_native", type("", (), {"work": work, "variants": list}))
    monkeypatch.setattr(native, "variant", lambda: "any")
    with pytest.raises(RuntimeError, match="out of order"):
        native.uncertainty(matrix(4000, 100), ["entropy"])


@compiled
def test_subnormal_numbers_count_even_if_the_thread_flushes_them():
    code = """
import torch
from fastal_kernels import native
torch.set_num_threads(2)
x = torch.tensor([[1, 1e-40, 0]]).repeat(200_000, 1)
for flush in (True, False):
    torch.set_flush_denormal(flush)
    (ratio,) = native.uncertainty(x, ["ratio"], "probs")
    print(int((ratio.view(torch.int32) != 0).sum()))
"""
    python = [sys.executable, "-c", code]
    done = subprocess.run(python, capture_output=True, timeout=60, env=environment())
    assert done.stdout.split() == [b"200000"] * 2, done.stderr


@compiled
def test_scores_are_on_the_host_with_any_default_device():
    x = matrix(10, 5)
    want = as_bits(fastal.score(x, backend="native"))
    with torch.device("meta"):
        scores = fastal.score(x, backend="native")
        picks = fastal.select(x, 3, backend="native")
    assert torch.equal(as_bits(scores), want)
    assert torch.equal(picks.rows, fastal.select(x, 3, backend="native").rows)


@compiled
def test_without_helpers_one_thread_scores_all_rows(monkeypatch):
    """There are none at the end of the interpreter, or if the system has no more threads."""
    x = matrix(4000, 100)
    want = as_bits(native.uncertainty(x, UNCERTAINTY_SCORES))

    class Ended:
        def submit(self, share):
            raise RuntimeError("cannot schedule new futures after interpreter shutdown")

    monkeypatch.setattr(threads, "_pool", lambda n_threads, pid: Ended())
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    assert torch.equal(as_bits(native.uncertainty(x, UNCERTAINTY_SCORES)), want)


@compiled
def test_long_work_can_be_interrupted(monkeypatch):
    """Python checks for signals now and then. After an interrupt, other threads stop too."""
    x = torch.zeros(1, 1000).expand(2_000_000, 1000)
    calls, work = [], native._native.work

    def interrupted_work(*arguments):
        calls.append(work(*arguments))
        raise KeyboardInterrupt

    stand_in = type("", (), {"work": interrupted_work, "variants": native._native.variants})
    monkeypatch.setattr(native, "_native", stand_in)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    seen = []
    zeros = torch.zeros
    monkeypatch.setattr(torch, "zeros", lambda *a, **k: seen.append(zeros(*a, **k)) or seen[-1])
    with pytest.raises(KeyboardInterrupt):
        native.scores_above_threshold(x, "margin", "logits", 0, (1.0, 0))
    assert calls == [True]
    assert seen[0][0] == len(x)  # no thread finds more rows to claim


def test_without_native_kernels_torch_is_used(monkeypatch):
    monkeypatch.setattr(native, "_native", None)
    monkeypatch.setattr(native, "_MISSING", "it was not compiled", raising=False)
    x = matrix(4, 3)
    assert fastal.backend_reasons(x)["native"] == ["it was not compiled"]
    selector = fastal.Selector(2)
    selector.update(x)
    assert selector.backend_used == "torch"
    with pytest.raises(ValueError, match="'native' cannot be used: it was not compiled"):
        fastal.score(x, backend="native")


def test_reasons_name_the_input():
    reasons = fastal.backend_reasons(torch.zeros(2, 3, dtype=torch.int32))["native"]
    assert reasons[len(native.reasons()) :] == [
        "torch.int32 rows: it takes float16, bfloat16, float32 and float64"
    ]
