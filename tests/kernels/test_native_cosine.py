"""Nearest centroids, similarities and sums of unit rows by the native kernels, in all variants."""

import sys

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastal.ops import reference
from fastal.ops.reference.cluster_sums import UNIT
from fastal_kernels import native
from tests.support.embeddings import rows_of, unit
from tests.support.matrices import KERNEL_DTYPES, layouts
from tests.support.memory import PAGE, Guarded

if native.reasons():
    pytest.skip("not compiled here", allow_module_level=True)

from fastal_kernels.native import cosine

# By code path: parts of a vector, whole vectors, several spans; and of panels.
COLUMNS = [1, 3, 4, 8, 15, 16, 17, 64, 130, 255, 256, 257, 600]
ROWS = [0, 1, 2, 4, 5, 31, 32, 33, 257]
# Parts of a group of centroids, thirds of it, whole ones; few and many of them.
CENTROIDS = [1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 25, 100]


@pytest.fixture(params=native.variants())
def variant(request, monkeypatch):
    monkeypatch.setenv(native.VARIABLE, request.param)
    return request.param


def centroids_of(n, n_columns):
    return reference.unit_rows(rows_of(n, n_columns, seed=1)).float()


def unfinished(*_):
    """Leaves similarities infinite where the length is not accurate."""


def found_by(x, units):
    """All that the kernels find: clusters, similarities, all similarities, sums, rows left out."""
    cluster, similarity = cosine.nearest(x, units, unfinished)
    sums, left = cosine.unit_sums(x, cluster, len(units))
    return cluster, similarity, cosine.similarities(x, units, unfinished), sums, left


def assert_same(found, want):
    for ours, others in zip(found, want, strict=True):
        assert torch.equal(ours, others)


def most(n_columns):
    """As in tests/ops/test_nearest.py, and 1 for centroids that are rounded to float32."""
    return (n_columns + 9) * 2.0**-24


@pytest.mark.parametrize("dtype", KERNEL_DTYPES)
def test_the_definition(variant, dtype):
    for n_columns in COLUMNS:
        x = rows_of(70, n_columns, dtype)
        for n in CENTROIDS:
            units = centroids_of(n, n_columns)
            want = np.array([(unit(units) * row).sum(1) for row in unit(x)])
            cluster, similarity, of_all, sums, left = found_by(x, units)
            assert np.abs(of_all.numpy() - want).max() <= most(n_columns)
            chosen = np.take_along_axis(want, cluster.numpy()[:, None], 1)[:, 0]
            assert np.abs(similarity.numpy() - chosen).max() <= most(n_columns)
            assert (want.max(1) - chosen <= 2 * most(n_columns)).all()
            assert not len(left)
            for c in range(n):
                members = unit(x[cluster == c])
                error = 8 * 2.0**-24 * np.abs(members).sum(0) + UNIT * len(members)
                assert (np.abs(sums[c].numpy() * UNIT - members.sum(0)) <= error).all()


@pytest.mark.parametrize("dtype", KERNEL_DTYPES)
def test_bits_depend_on_the_row_alone(variant, dtype, monkeypatch, threads):
    """They depend on no other rows, and not on place, strides, blocks, panels and threads."""
    for n_columns, n in ((3, 100), (17, 5), (300, 1), (96, 50)):
        x, units = rows_of(1500, n_columns, dtype), centroids_of(n, n_columns)
        want = found_by(x, units)
        for start, stop in ((0, 1), (5, 37), (700, 1500)):
            for ours, others in zip(found_by(x[start:stop], units)[:3], want[:3], strict=True):
                assert torch.equal(ours, others[start:stop])
        for n_threads, n_bytes, n_panels in ((1, 1 << 21, 1), (4, 1 << 12, 2), (3, 1 << 14, 8)):
            threads(n_threads)
            with monkeypatch.context() as patch:
                patch.setattr(cosine, "_BLOCK_BYTES", n_bytes)
                patch.setattr(cosine, "_LEAST_PRODUCTS", 1)
                patch.setattr(cosine, "_MOST_PANELS", n_panels)
                assert_same(found_by(x, units), want)
                for laid_out in layouts(x).values():
                    assert_same(found_by(laid_out, units), found_by(laid_out.contiguous(), units))


def test_equal_centroids_tie(variant):
    """In every place of a group, and in the groups of fewer centroids at the end."""
    x = rows_of(70, 31)
    for n in CENTROIDS:
        same = centroids_of(1, 31).repeat(n, 1)
        cluster, _ = cosine.nearest(x, same, unfinished)
        assert (cluster == 0).all()
        of_all = cosine.similarities(x, same, unfinished)
        assert torch.equal(of_all, of_all[:, :1].expand(-1, n))


@settings(
    deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    seed=st.integers(0, 99),
    n_columns=st.integers(1, 40),
    n_rows=st.integers(0, 300),
    n=st.integers(1, 30),
)
def test_small_whole_numbers_have_no_error(variant, seed, n_columns, n_rows, n):
    """Products of small whole numbers are exact: the first largest is known, planted ties too."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(-2, 3, (n_rows, n_columns), generator=generator).float()
    units = torch.randint(-1, 2, (n, n_columns), generator=generator).float()
    cluster, _ = cosine.nearest(x, units, unfinished)
    has_length = x.any(1)
    want = torch.from_numpy((x @ units.t()).numpy().argmax(1)) if n_rows else cluster
    assert torch.equal(cluster[has_length], want[has_length])


def test_sums_do_not_depend_on_the_order(variant):
    x, cluster = rows_of(999, 21), torch.arange(999) % 5 - 1
    want, _ = cosine.unit_sums(x, cluster, 4)
    order = torch.randperm(999, generator=torch.Generator().manual_seed(0))
    assert torch.equal(cosine.unit_sums(x[order], cluster[order], 4)[0], want)
    parts = [cosine.unit_sums(x[i::7], cluster[i::7], 4)[0] for i in range(7)]
    assert torch.equal(sum(parts), want)
    one = cosine.unit_sums(x, torch.arange(999), 999)[0]
    for c in range(4):
        assert torch.equal(one[cluster == c].sum(0), want[c])


def test_numbers_are_rounded_to_the_nearest(variant):
    """In rows of two columns, the order of the sum of squares is known."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4000, 2, generator=generator)
    x[:, 1] *= 2.0 ** -torch.randint(0, 32, (4000,), generator=generator)
    rows = x.numpy()
    length = np.sqrt((rows * rows).sum(1, keepdims=True))
    want = np.rint(rows * (np.float32(2**30) / length))
    assert ((np.abs(want) > 2**22) & (np.abs(want) < 2**23)).any()  # numbers and halves
    sums, _ = cosine.unit_sums(x, torch.arange(4000), 4000)
    assert np.array_equal(sums.numpy(), want.astype(np.int64))


def test_rows_whose_length_is_not_accurate_are_named(variant):
    x = rows_of(40, 5)
    for row, value in ((3, 0.0), (7, 1e30), (11, 1e-30), (20, torch.nan), (39, torch.inf)):
        x[row] = value
    named = [3, 7, 11, 20, 39]
    cluster = torch.zeros(40, dtype=torch.int64)
    _, similarity, of_all, _, left = found_by(x, centroids_of(3, 5))
    assert similarity.isinf().nonzero()[:, 0].tolist() == named
    assert of_all.isinf().all(1).nonzero()[:, 0].tolist() == named
    assert sorted(left.tolist()) == named
    cluster[named[1:]] = -1
    assert cosine.unit_sums(x, cluster, 1)[1].tolist() == named[:1]


@pytest.mark.skipif(sys.platform != "linux", reason="protects pages")
@pytest.mark.parametrize("dtype", KERNEL_DTYPES)
def test_only_the_rows_are_read(variant, dtype):
    """The rows are next to protected pages: a read beyond them would end the process."""
    guarded = Guarded(n_pages=-(-257 * 600 * 4 // PAGE) * 2)
    for n_columns in COLUMNS:
        for n_rows in ROWS:
            x = rows_of(n_rows, n_columns, dtype)
            for n in (1, 3, 13):
                units = centroids_of(n, n_columns)
                want = found_by(x, units)
                assert_same(found_by(guarded.at_the_start(x), units), want)
                assert_same(found_by(guarded.at_the_end(x), units), want)
            wide = guarded.at_the_end(torch.cat([x, x[:, :1]], 1))
            assert_same(found_by(wide[:, 1:], units), found_by(wide[:, 1:].clone(), units))
            assert_same(found_by(x, guarded.at_the_end(units)), want)
