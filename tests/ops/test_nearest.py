"""Nearest centroids and sums of unit rows, against the definition in long doubles."""

import math

import array_api_strict
import numpy as np
import pytest
import torch

from fastal import InvalidRows, diversity
from fastal.ops import reference
from tests.support.embeddings import rows_of, unit
from tests.support.matrices import BACKENDS, DTYPES, KERNEL_DTYPES, layouts


@pytest.fixture(params=BACKENDS, ids="-".join)
def backend(request):
    return request.param


def dtypes_of(name):
    return DTYPES if name == "torch" else KERNEL_DTYPES


def tolerance(x, backend="torch"):
    """The largest error of a similarity.

    The sum of D products has D roundings of at most 2^-24 of the lengths' product. The squares,
    which are summed in many lanes, and all other roundings together count 8. A kernel sums one
    square after the other, and the root halves their error. For 16-bit rows, it adds the error of
    centroids of two parts.
    """
    if backend != "triton":
        return (x.shape[1] + 8) * 2.0**-24
    parts = {torch.bfloat16: 2.0**-17, torch.float16: 2.0**-23}
    return parts.get(x.dtype, 0) + (1.5 * x.shape[1] + 8) * 2.0**-24


def oracle(x, centroids):
    products = [(unit(centroids) * row).sum(1) for row in unit(x)]
    return np.array(products, np.longdouble).reshape(len(x), len(centroids))


def assert_right(x, centroids, backend, wanted=None):
    """Compares both ops, called by their public functions, with the oracle."""
    name, device = backend
    want, most = oracle(x, centroids) if wanted is None else wanted, tolerance(x, name)
    given = x.to(device)
    cluster, similarity = diversity.nearest_centroid(given, centroids, backend=name)
    assert (cluster.dtype, similarity.dtype) == (torch.int64, torch.float32)
    assert (cluster.shape, similarity.shape) == ((len(x),), (len(x),))
    all_of_them = diversity.similarities(given, centroids, backend=name).cpu().double().numpy()
    assert np.abs(all_of_them - want).max(initial=0) <= most
    chosen = np.take_along_axis(want, cluster.cpu().numpy()[:, None], 1)[:, 0]
    assert np.abs(similarity.cpu().double().numpy() - chosen).max(initial=0) <= most
    assert (want.max(1) - chosen <= 2 * most).all()


# --- the definition

SHAPES = [(0, 5, 3), (1, 1, 1), (2, 2, 2), (63, 17, 3), (64, 17, 100), (65, 17, 2), (7, 384, 100)]


@pytest.mark.parametrize(("n_rows", "n_columns", "n_centroids"), SHAPES)
def test_the_definition(backend, n_rows, n_columns, n_centroids):
    centroids = 7 * rows_of(n_centroids, n_columns, seed=1)
    for dtype in dtypes_of(backend[0]):
        assert_right(rows_of(n_rows, n_columns, dtype), centroids, backend)


@pytest.mark.parametrize("dtype", DTYPES)
def test_several_blocks(monkeypatch, dtype):
    monkeypatch.setattr(reference.cosine, "_BLOCK_BYTES", 1 << 16)
    assert_right(rows_of(4097, 17, dtype), rows_of(3, 17, seed=1), ("torch", "cpu"))


def test_any_layout(backend):
    centroids = rows_of(3, 11, seed=1)
    for dtype in dtypes_of(backend[0]):
        for x in layouts(rows_of(9, 11, dtype)).values():
            assert_right(x, centroids, backend)


def test_rows_of_any_length(backend):
    """Rows whose squares float32 cannot hold, other rows, and rows of zeros."""
    centroids = rows_of(5, 17, seed=1)
    for dtype in dtypes_of(backend[0]):
        limits = torch.finfo(dtype)
        lengths = [limits.max / 8, limits.smallest_normal, 4 * limits.smallest_normal, 1e-2, 1]
        if dtype != torch.float16:
            lengths += [1e30, 1e-30, 2.0**60, 2.0**-40, 2.0**-39, 1e19]
        if dtype == torch.float64:
            lengths += [1e300, 1e-300, 1e-310, 3e38, 1e-44]
        directions = rows_of(len(lengths), 17).clamp(-4, 4)
        x = (directions * torch.tensor(lengths, dtype=torch.float64)[:, None]).to(dtype)
        x[1] = 0
        assert x.isfinite().all()
        with np.errstate(all="ignore"):  # squares overflow in the interpreter
            assert_right(x, centroids, backend)
    assert diversity.nearest_centroid(x[1:2], -centroids, backend=backend[0])[0].tolist() == [0]


def test_subnormal_and_largest_values(backend):
    for dtype in (torch.bfloat16, torch.float32):
        values = [2.0**-133 if dtype == torch.bfloat16 else 2.0**-149, torch.finfo(dtype).max]
        x = torch.tensor(values)[:, None].expand(2, 3).to(dtype)
        found = diversity.similarities(x, torch.eye(3), backend=backend[0])
        np.testing.assert_allclose(found, 3**-0.5, rtol=0, atol=2.0**-20)


def test_centroids_of_any_length_and_type():
    x = rows_of(20, 3)
    whole = np.array([[3.0, 0, 4], [0, 0, 0], [-1, 2, -2]])
    want = diversity.similarities(x, whole / np.array([[5], [1], [3]]))
    for centroids in (whole, whole.astype("f2"), torch.tensor(whole) * 1e300):
        assert (diversity.similarities(x, centroids) - want).abs().max() <= 2.0**-23
    assert (want[:, 1] == 0).all()
    tiny = np.array([[3e-320, 0, 4e-320], [0, 0, 0], [-1e300, 2e300, -2e300]])
    assert (diversity.similarities(x, tiny) - want).abs().max() <= 1e-3  # 4e-320 has few digits
    with pytest.raises(TypeError, match="centroids: wanted an array"):
        diversity.nearest_centroid(x, whole.tolist())


def test_ties_go_to_the_lowest(backend):
    """Equal centroids tie too, although BLAS may multiply them in different ways."""
    x = torch.tensor([[1.0, 1, 0], [0, 1, 1], [0, 0, 0], [1, 1, 1]])
    found = diversity.nearest_centroid(x, torch.eye(3), backend=backend[0])
    assert found.cluster.tolist() == [0, 1, 0, 0]
    is_triton = backend[0] == "triton"
    for n_centroids in (2, 5, 17, 100) if not is_triton else (20,):
        for dtype in dtypes_of(backend[0]):
            x, same = rows_of(70, 31, dtype), rows_of(1, 31, seed=2)
            if is_triton:  # the interpreter sums by BLAS, in any order: these sums are exact
                x, same = x[:, :16].sign(), same[:, :16].sign()
            x[::2] *= torch.finfo(dtype).max / 8  # such rows are recomputed
            same = same.repeat(n_centroids, 1)
            cluster, _ = diversity.nearest_centroid(x, same, backend=backend[0])
            assert (cluster == 0).all()


def test_padding_of_tiles_is_never_the_nearest():
    """All similarities are negative: a centroid of zeros would be the nearest."""
    x = -rows_of(70, 5).abs()
    centroids = rows_of(3, 5, seed=1).abs()
    assert_right(x, centroids, ("torch", "cpu"))
    assert (diversity.nearest_centroid(x, centroids).similarity < 0).all()


def test_rows_that_are_not_finite(backend, caplog):
    x = rows_of(70, 4)
    for row, value in ((5, math.nan), (6, math.inf), (69, -math.inf)):
        x[row, row % 4] = value
    x[7] = math.inf
    with pytest.raises(InvalidRows, match=r"^row 5 has NaN or an infinite value; 4 such") as caught:
        diversity.nearest_centroid(x, torch.eye(4), backend=backend[0])
    assert caught.value.rows == [5, 6, 7, 69]
    skipping = {"on_invalid": "skip", "backend": backend[0]}
    cluster, similarity = diversity.nearest_centroid(x, torch.eye(4), **skipping)
    assert "4 of 70 rows are invalid" in caplog.text
    broken = [5, 6, 7, 69]
    assert (cluster == -1).nonzero()[:, 0].tolist() == broken
    assert similarity.isnan().nonzero()[:, 0].tolist() == broken
    found = diversity.similarities(x, torch.eye(4), **skipping)
    assert found.isnan().all(1).nonzero()[:, 0].tolist() == broken


def test_wrong_formulas_are_caught():
    x, centroids = rows_of(10, 17), rows_of(3, 17, seed=1)
    right = oracle(x, centroids)
    not_scaled = (x.double() @ torch.tensor(unit(centroids).astype("f8")).t()).numpy()
    by_sums = oracle(x, centroids) * (1 + 2.0**-18)
    for wrong in (not_scaled, by_sums, right[:, ::-1]):
        with pytest.raises(AssertionError):
            assert_right(x, centroids, ("torch", "cpu"), wrong)


# --- what a row's bits depend on


def both(x, centroids):
    units = reference.unit_rows(centroids).float()
    cluster, similarity = reference.nearest(x, units)
    return cluster, similarity, reference.similarities(x, units)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n_columns", "n_centroids"), [(3, 100), (17, 5), (17, 1), (96, 50)])
def test_bits_depend_on_the_row_alone(dtype, n_columns, n_centroids, threads, monkeypatch):
    """They depend on no other rows, and not on the row's place, strides, blocks and threads."""
    x, centroids = rows_of(3001, n_columns, dtype), rows_of(n_centroids, n_columns, seed=1)
    x[::5] *= torch.finfo(dtype).max / 8
    wants = both(x, centroids)
    for rows in ((0, 1), (5, 6), (0, 63), (0, 64), (5, 70), (7, 1007), (2990, 3001)):
        for found, want in zip(both(x[slice(*rows)], centroids), wants, strict=True):
            assert torch.equal(found, want[slice(*rows)])
    for n_threads, n_bytes in ((1, 1 << 21), (4, 1 << 18), (7, 1 << 15)):
        threads(n_threads)
        monkeypatch.setattr(reference.cosine, "_BLOCK_BYTES", n_bytes)
        monkeypatch.setattr(reference.cosine, "_RECOMPUTED_BYTES", n_bytes)
        for same in (x, x.t().contiguous().t()):
            for found, want in zip(both(same, centroids), wants, strict=True):
                assert torch.equal(found, want)


# --- arrays


def test_results_have_the_callers_kind_of_array(tmp_path):
    x, centroids = rows_of(9, 4).numpy(), rows_of(2, 4, seed=1).numpy()
    before = x.copy()
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    strict = array_api_strict.asarray(x)
    want = diversity.nearest_centroid(torch.from_numpy(x), torch.from_numpy(centroids))
    assert all(isinstance(found, torch.Tensor) for found in want)
    for given, kind in ((x, np.ndarray), (mapped, np.ndarray), (strict, type(strict))):
        found = diversity.nearest_centroid(given, centroids)
        assert all(isinstance(array, kind) for array in found)
        assert isinstance(diversity.similarities(given, centroids), kind)
        assert np.array_equal(np.asarray(found.cluster), want.cluster)
    assert np.array_equal(x, before)


@pytest.mark.parametrize(
    ("x", "error", "words"),
    [
        (np.zeros((2, 3), object), TypeError, "embeddings: wanted float16, .* dtype object"),
        (np.zeros((2, 3), np.int32), TypeError, "embeddings: wanted float16, .* torch.int32"),
        (np.zeros((2, 3), "c8"), TypeError, "embeddings: wanted float16, .* torch.complex64"),
        (np.ma.masked_array(np.zeros((2, 3), "f4")), TypeError, "embeddings: masked arrays"),
        (np.zeros((2, 3, 3), "f4"), ValueError, r"embeddings: wanted \[rows, columns\], got"),
        (np.zeros((2, 0), "f4"), ValueError, r"embeddings: wanted at least 1 columns, got"),
        (
            np.zeros((2, 4), "f4"),
            ValueError,
            "centroids: wanted 4 columns, as the embeddings have, got 3",
        ),
        (3, TypeError, "(embeddings|pool): wanted an array.*, got int"),
        ([[0.0] * 3], TypeError, "(embeddings: wanted an array|pool: chunk 0 is a list)"),
    ],
)
def test_invalid_rows_are_refused(x, error, words):
    for op in (diversity.nearest_centroid, diversity.similarities):
        with pytest.raises(error, match=f"^{words}"):
            op(x, np.eye(3))


def test_invalid_centroids_are_refused():
    x = rows_of(2, 3)
    for bad, error, words in (
        (np.zeros((0, 3)), ValueError, r"wanted \[rows, columns\]"),
        (np.zeros(3), ValueError, r"wanted \[rows, columns\]"),
        (np.eye(3) * 1j, TypeError, "wanted float16, bfloat16, float32 or float64, got"),
        (np.eye(3, dtype=int), TypeError, ".*got torch.int64; convert it to float first"),
        (np.array([[1, 2, 3], [0, np.inf, 0]]), ValueError, "row 1 has NaN or an infinite value"),
    ):
        with pytest.raises(error, match=f"^centroids: {words}"):
            diversity.nearest_centroid(x, bad)
