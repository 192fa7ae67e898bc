"""Unit rows, their sums by cluster, which no order changes, and the memory of nearest centroids."""

import sys
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastal.ops import reference
from fastal.ops.reference.cluster_sums import UNIT
from tests.support.embeddings import rows_of, unit
from tests.support.matrices import DTYPES, layouts
from tests.support.memory import peak


@pytest.mark.parametrize("dtype", DTYPES)
def test_unit_rows(dtype):
    """Rows of any length, up to float64's rounding: also the largest and least of the dtype."""
    limits = torch.finfo(dtype)
    x = rows_of(40, 17, dtype).clamp(-4, 4)
    x[:10] *= limits.max / 8
    x[10:20] *= limits.smallest_normal
    x[20] = 0
    found = reference.unit_rows(x)
    assert found.dtype == torch.float64
    assert np.abs(found.numpy() - unit(x)).max() <= 20 * 2.0**-53
    assert (found[20] == 0).all()
    for row, value in enumerate((torch.nan, torch.inf, -torch.inf)):
        x[row, row] = value
    assert reference.unit_rows(x).isnan().all(1).nonzero()[:, 0].tolist() == [0, 1, 2]


def test_the_example_of_nemo_curator():
    """normalize_embeddings of [3, 4, 5], to the digits that the example prints."""
    found = reference.unit_rows(torch.tensor([[3.0, 4, 5]]))[0]
    assert (found - torch.tensor([0.42426407, 0.565685, 0.707107])).abs().max() < 1e-6


@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_against_the_definition(dtype):
    """Component and length are rounded to float32, the result to UNIT: 1.1e-6 and half a UNIT."""
    clusters = torch.arange(500) % 4 - 1
    for x in layouts(rows_of(500, 17, dtype)).values():
        sums = reference.unit_sums(x, clusters, 3)
        assert (sums.dtype, sums.shape) == (torch.int64, (3, 17))
        for cluster in range(3):
            members = unit(x[clusters == cluster])
            most = 11 * 2.0**-24 * np.abs(members).sum(0) + UNIT * len(members)
            assert (np.abs(sums[cluster].numpy() * UNIT - members.sum(0)) <= most).all()


def test_rows_left_out_count_for_nothing():
    x, clusters = rows_of(30, 5), torch.zeros(30, dtype=torch.int64)
    clusters[[3, 17, 29]] = -1
    want = reference.unit_sums(x, clusters, 2)
    for value in (torch.nan, torch.inf, 1e30, 0):
        x[clusters < 0] = value
        assert torch.equal(reference.unit_sums(x, clusters, 2), want)
    assert (want[1] == 0).all()
    assert (reference.unit_sums(x[:0], clusters[:0], 2) == 0).all()
    assert (reference.unit_sums(torch.zeros(9, 5), torch.zeros(9).long(), 1) == 0).all()


@settings(deadline=None, max_examples=30)
@given(
    cuts=st.lists(st.integers(0, 900), max_size=6),
    seed=st.integers(0, 99),
    dtype=st.sampled_from(DTYPES),
    n_columns=st.sampled_from([1, 3, 17, 96]),
)
def test_no_order_and_no_chunks_change_a_bit(cuts, seed, dtype, n_columns):
    generator = torch.Generator().manual_seed(seed)
    x = rows_of(900, n_columns, dtype, seed)
    x[::7] *= torch.finfo(dtype).max / 16
    clusters = torch.randint(-1, 3, (900,), generator=generator)
    want = reference.unit_sums(x, clusters, 3)
    order = torch.randperm(900, generator=generator)
    x, clusters = x[order], clusters[order]
    bounds = [0, *sorted(cuts), 900]
    parts = [slice(*pair) for pair in pairwise(bounds)]
    found = sum(reference.unit_sums(x[part], clusters[part], 3) for part in parts)
    assert torch.equal(found, want)


def test_blocks_and_threads_change_no_bit(monkeypatch):
    x, clusters = rows_of(5000, 40), torch.arange(5000) % 7
    want = reference.unit_sums(x, clusters, 7)
    monkeypatch.setattr(reference.cluster_sums, "_BLOCK_BYTES", 999)
    monkeypatch.setattr(reference.cluster_sums, "_EXACT_ROWS", 1234)
    before = torch.get_num_threads()
    for n_threads in (1, 4):
        torch.set_num_threads(n_threads)
        assert torch.equal(reference.unit_sums(x, clusters, 7), want)
    torch.set_num_threads(before)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.full
def test_nearest_centroids_take_less_than_a_third_of_the_rows():
    """A pool of equal rows needs no memory itself. Rows of zeros are all recomputed."""
    code = """
from fastal.diversity import nearest_centroid
torch.set_num_threads(2)
c = torch.randn(50, 384)
for name, value in (("float32", 1), ("bfloat16", 1), ("float64", 1), ("float32", 0)):
    dtype = getattr(torch, name)
    x = torch.full((1, 1), value, dtype=dtype).expand(300_000 // dtype.itemsize, 384)
    nearest_centroid(x[:1000], c)
    measure(lambda: nearest_centroid(x, c))
"""
    assert peak(code) < 0.3 * 300_000 * 384
