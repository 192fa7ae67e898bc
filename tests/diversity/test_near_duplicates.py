"""The most similar earlier row is the exact one, however near other rows come to it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastal.diversity import deduplicate, near_duplicates

# The error of the product of two rows of length 1 in float64, with room.
ERROR = 1e-14


def rows_of_few_kinds(n, width, noise, seed):
    """Rows of length 1 of five kinds, which differ by noise; a third of them are exact copies."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((5, width))[rng.integers(0, 5, n)]
    x += noise * rng.standard_normal((n, width))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    x[rng.permutation(n)[: n // 3]] = x[rng.integers(0, n, n // 3)]
    return torch.from_numpy(x.astype(np.float32))


def similarities(units):
    """The least and the largest float32 that the similarity of two rows may be rounded to."""
    x = units.numpy().astype(np.longdouble)
    x /= np.sqrt((x * x).sum(1))[:, None]
    exact = x @ x.T
    return [(exact + error).clip(-1, 1).astype(np.float32) for error in (-ERROR, ERROR)]


def assert_most_similar(found, units, threshold):
    """Checks every duplicate, and every row that is none."""
    least, most = similarities(units)
    rows, of, similarity = (column.numpy() for column in found)
    found = dict(zip(rows.tolist(), zip(of.tolist(), similarity, strict=True), strict=True))
    assert len(found) == len(rows)
    for row in range(len(units)):
        before = slice(0, row)
        if row not in found:
            assert not (least[row, before] >= np.float32(threshold)).any()
            continue
        earlier, similarity = found[row]
        assert least[row, earlier] <= similarity <= most[row, earlier]
        assert similarity >= np.float32(threshold)
        assert earlier < row
        assert (least[row, before] <= similarity).all()
        assert (least[row, :earlier] < similarity).all()  # ties go to the first


@settings(deadline=None, max_examples=60)
@given(
    n=st.integers(1, 150),
    width=st.sampled_from([2, 8, 33, 384]),
    noise=st.sampled_from([0, 1e-5, 1e-4, 3e-4, 1e-3, 0.1]),
    threshold=st.sampled_from([-1, 0.9, 1 - 2**-20, 1 - 2**-24, 1]),
    block_rows=st.sampled_from([64, 1024]),
    seed=st.integers(0, 99),
)
def test_the_most_similar_earlier_row_is_exact(n, width, noise, threshold, block_rows, seed):
    units = rows_of_few_kinds(n, width, noise, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(near_duplicates, "_BLOCK_ROWS", block_rows)
        (found,) = near_duplicates.near_duplicates(units, [torch.arange(n)], threshold)
    assert_most_similar(found, units, threshold)


@pytest.mark.parametrize("block_rows", [64, 1024])
def test_each_group_is_compared_by_itself(monkeypatch, block_rows, threads):
    monkeypatch.setattr(near_duplicates, "_BLOCK_ROWS", block_rows)
    units = rows_of_few_kinds(400, 8, 1e-4, 0)
    rows = torch.randperm(400, generator=torch.Generator().manual_seed(0))
    groups = torch.split(rows, [3, 0, 150, 1, 246])
    wants = [near_duplicates.near_duplicates(units, [group], 0.9)[0] for group in groups]
    for n_threads in (1, 3):
        threads(n_threads)
        founds = near_duplicates.near_duplicates(units, groups, 0.9)
        for found, want in zip(founds, wants, strict=True):
            assert all(map(torch.equal, found, want))
    assert near_duplicates.near_duplicates(units, [], 0.9) == []


def test_products_in_float32_alone_are_found_wrong(monkeypatch):
    units = rows_of_few_kinds(150, 64, 3e-4, 0)
    rows = torch.arange(150)

    def by_product(units, rows, places):
        products = units[rows[places]] @ units[rows].t()
        return products.masked_fill(rows >= places[:, None], -2).argmax(1)

    monkeypatch.setattr(near_duplicates, "_most_similar_in_float64", by_product)
    for threshold in (-1, 1):
        (found,) = near_duplicates.near_duplicates(units, [rows], threshold)
        with pytest.raises(AssertionError):
            assert_most_similar(found, units, threshold)


@pytest.mark.parametrize("width", [8, 64, 384])
@pytest.mark.parametrize("noise", [1e-4, 3e-4])
def test_a_threshold_of_1_finds_every_copy_among_rows_that_are_nearly_equal(width, noise):
    rng = np.random.default_rng(1)
    x = rng.standard_normal((5, width))[rng.integers(0, 5, 400)]
    x = (x + noise * rng.standard_normal((400, width))).astype(np.float32)
    x[200:] = x[rng.permutation(200)]
    found = deduplicate(x, np.ones((1, width)), 1)
    assert set(found.rows.tolist()) >= {*range(200, 400)}
    assert (found.similarity == 1).all()
