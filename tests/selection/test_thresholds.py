"""Parts that begin with the threshold of what was merged before give the same picks and counts."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fastal
from tests.support.matrices import BACKENDS

PAIRS = np.array([[0, 0], [0, 1], [2, 0], [0, 3], [4, 0], [np.nan, 0]], np.float32)


def merged(x, cuts, k, lag, *, above=0.0, **options):
    """A selector that merges parts, each of which got the threshold of `lag` merges before."""
    whole = fastal.Selector(k, on_invalid="skip", **options)
    thresholds = [None] * (lag + 1)
    sizes = []
    for start, stop in zip([0, *cuts], [*cuts, len(x)], strict=True):
        part, restored = whole.part(), whole.part()
        if thresholds[-1 - lag] is not None:
            score, rank = thresholds[-1 - lag]
            part.set_context((score + above, rank))
        part.update(x[start:stop], start)
        state = part.state_dict()
        sizes.append(len(state["top"]["rows"]))
        restored.load_state_dict(state)
        whole.merge(restored)
        thresholds.append(whole.context_for(0, 0))
    return whole, sizes


@pytest.mark.parametrize(("backend", "device"), BACKENDS)
@settings(deadline=None)
@given(data=st.data(), k=st.integers(1, 20), lag=st.integers(0, 3))
def test_any_parts_with_any_threshold_of_earlier_ones(backend, device, data, k, lag):
    kinds = data.draw(st.lists(st.integers(0, 5), min_size=1, max_size=60))
    options = {
        "backend": backend,
        "ties": data.draw(st.sampled_from(["first", "random"])),
        "noise": data.draw(st.sampled_from([None, "power"])),
        "exclude": data.draw(st.none() | st.just([1, 5])),
    }
    cuts = sorted(data.draw(st.lists(st.integers(0, len(kinds)), max_size=6)))
    x = torch.from_numpy(PAIRS[kinds]).to(device)
    whole, _ = merged(x, cuts, k, lag, **options)
    one = fastal.Selector(k, on_invalid="skip", **options)
    one.update(x)
    found, want = whole.result(), one.result()
    assert found.rows.tolist() == want.rows.tolist()
    assert found.scores.tolist() == want.scores.tolist()
    assert found.invalid == want.invalid
    assert whole._top.tied() == one._top.tied()


def test_states_leave_out_the_rows_below_the_threshold():
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((1000, 3)))
    cuts = range(100, 1000, 100)
    whole, sizes = merged(x, cuts, 50, 0)
    assert whole.result().rows.tolist() == fastal.select(x, 50).rows.tolist()
    assert sizes[0] == 50 and sum(sizes[1:]) < 225  # of 450


def test_a_threshold_that_is_too_high_is_caught():
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((1000, 3)))
    wrong, _ = merged(x, range(100, 1000, 100), 50, 0, above=0.2)
    assert wrong.result().rows.tolist() != fastal.select(x, 50).rows.tolist()
