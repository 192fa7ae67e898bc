"""A random sample of rows is the same for any parts, any order of merging, and saved parts."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastal.base.row_numbers import RowNumbers
from fastal.diversity.clustering.row_sample import RowSample
from fastal.scoring.rows import Rows
from fastal.selection.noise import gumbel

SEED = 3


def read(sample, x, start, stop):
    rows = torch.from_numpy(x[start:stop])
    numbers = RowNumbers(stop - start, start)
    return sample.with_rows(Rows(rows, numbers, "torch", rows))


def rows_by_sorting(n_rows, n):
    """The definition: the n rows with the largest keys, in their order."""
    keys = gumbel(SEED, RowNumbers(n_rows, 0)).astype(np.float32)
    return sorted(range(n_rows), key=lambda row: (-keys[row], row))[:n]


@settings(deadline=None)
@given(data=st.data(), n_rows=st.integers(1, 60), n=st.integers(1, 20))
def test_any_parts_in_any_order(data, n_rows, n):
    x = np.random.default_rng(0).standard_normal((n_rows, 3)).astype(np.float32)
    cuts = sorted(data.draw(st.lists(st.integers(0, n_rows), max_size=6)))
    pieces = list(zip([0, *cuts], [*cuts, n_rows], strict=True))
    merged = RowSample(n, 3, SEED)
    for start, stop in data.draw(st.permutations(pieces)):
        threshold = merged.threshold if data.draw(st.booleans()) else None
        part = read(RowSample(n, 3, SEED, threshold), x, start, stop)
        restored = RowSample(n, 3, SEED)
        restored.load_state_dict(part.state_dict())
        merged.merge(restored)
    assert merged.state_dict()["rows"].tolist() == rows_by_sorting(n_rows, n)
    whole = read(RowSample(n, 3, SEED), x, 0, n_rows)
    assert merged.units().numpy().tobytes() == whole.units().numpy().tobytes()


def test_a_threshold_that_is_too_high_is_caught():
    x = np.eye(60, dtype=np.float32)
    merged = RowSample(20, 60, SEED)
    merged.threshold = 1.0, 0
    merged.merge(read(RowSample(20, 60, SEED), x, 0, 60))
    with pytest.raises(AssertionError):
        assert merged.state_dict()["rows"].tolist() == rows_by_sorting(60, 20)
