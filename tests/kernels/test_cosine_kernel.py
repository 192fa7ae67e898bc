"""The kernels of cosine similarities: agreement with the definition, and the memory they access."""

import inspect
import math

import numpy as np
import pytest
import torch

from fastal import ops as backend
from fastal.ops import reference
from fastal_kernels import cosine
from tests.support.matrices import DEVICE, KERNEL_DTYPES, layouts

SENTINEL = -1234.0
# By code path: one tile of columns with a tail, one full, several with a tail, several full.
COLUMNS = [1, 3, 17, 64, 100, 384]
# Tiles of centroids of 16 and 32, and several.
CENTROIDS = [1, 2, 3, 17, 130]


def unit_rows(n, n_columns, seed=1):
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((n, n_columns))
    return torch.from_numpy(rows / np.sqrt((rows * rows).sum(1, keepdims=True))).float()


def rows_of(n, n_columns, dtype, seed=2):
    rows = np.random.default_rng(seed).standard_normal((n, n_columns)) * 3
    return torch.from_numpy(rows).to(dtype)


def oracle(x, units):
    """Similarities in float64. The rows are normalised first."""
    x, units = x.double().numpy(), units.double().numpy()
    return torch.from_numpy(
        np.einsum("ij,kj->ik", x / np.sqrt((x * x).sum(1, keepdims=True)), units)
    )


def tolerance(x, fast=False):
    """The largest error of a similarity.

    The sum of products has D roundings, that of the squares D (halved by the root), the rest a few.

    Centroids in two parts are off by 2^-17 in bfloat16, 2^-23 in float16; in one by 2^-8, 2^-11.
    Interpreted tf32 is float32; on a GPU each factor is off by 2^-10.
    """
    parts = {
        torch.bfloat16: (2.0**-17, 2.0**-8),
        torch.float16: (2.0**-23, 2.0**-11),
        torch.float32: (0.0, 2.0**-9),
    }
    return parts[x.dtype][fast] + (1.5 * x.shape[1] + 8) * 2.0**-24


def assert_nearest(x, units, fast=False):
    """The similarity is right, and no other centroid's is larger by more than the tolerance."""
    want, most = oracle(x.cpu(), units), tolerance(x, fast)
    cluster, similarity = (t.cpu() for t in cosine.nearest(x, units.to(x.device), fast))
    assert cluster.dtype == torch.int64 and similarity.dtype == torch.float32
    chosen = want.gather(1, cluster[:, None])[:, 0]
    assert ((similarity - chosen).abs() <= most).all()
    assert (want.amax(1) - chosen <= 2 * most).all()


def test_twins_share_name_and_signature():
    for twin in ("nearest", "similarities"):
        signatures = [inspect.signature(getattr(m, twin)) for m in (cosine, reference)]
        assert signatures[0] == signatures[1]


@pytest.mark.parametrize("dtype", KERNEL_DTYPES)
@pytest.mark.parametrize("n_columns", COLUMNS)
@pytest.mark.parametrize("n_centroids", CENTROIDS)
def test_both_forms_agree_with_the_definition(dtype, n_columns, n_centroids):
    x, units = rows_of(7, n_columns, dtype).to(DEVICE), unit_rows(n_centroids, n_columns)
    for fast in (False, True):
        assert_nearest(x, units, fast)
        found = cosine.similarities(x, units.to(DEVICE), fast).cpu()
        assert ((found - oracle(x.cpu(), units)).abs() <= tolerance(x, fast)).all()


@pytest.mark.parametrize("n_rows", [0, 1, 63, 129])
def test_any_number_of_rows(n_rows):
    x, units = rows_of(n_rows, 20, torch.float16).to(DEVICE), unit_rows(3, 20)
    assert_nearest(x, units)
    found = cosine.similarities(x, units.to(DEVICE)).cpu()
    assert found.shape == (n_rows, 3)
    assert ((found - oracle(x.cpu(), units)).abs() <= tolerance(x)).all()


@pytest.mark.parametrize("dtype", KERNEL_DTYPES)
@pytest.mark.parametrize("n_columns", [17, 72])
def test_any_strides_and_only_the_rows_are_read(dtype, n_columns):
    """NaN surrounds most layouts: an element beyond a row would make its similarity infinite."""
    units = unit_rows(5, n_columns)
    for x in layouts(rows_of(9, n_columns, dtype)).values():
        x = x.to(DEVICE) if DEVICE == "cuda" else x
        assert_nearest(x, units)
        found = cosine.similarities(x, units.to(DEVICE)).cpu()
        assert ((found - oracle(x.cpu(), units)).abs() <= tolerance(x)).all()


@pytest.mark.parametrize("dtype", KERNEL_DTYPES)
def test_float16_keeps_the_small_parts_of_centroids(dtype):
    """Small components, as in long centroids: without a scale, they are subnormal in float16."""
    units = torch.full((2, 384), 1e-6)
    units[:, 0] = 1
    units[1, 1:] = -1e-6
    x = torch.ones(1, 384, dtype=dtype)
    x[0, 0] = 0
    want = oracle(x, units)[0]
    found = cosine.similarities(x.to(DEVICE), units.to(DEVICE)).cpu()[0].double()
    assert ((found - want).abs() <= 1e-4 * want.abs()).all()


def test_ties_go_to_the_lowest():
    # Several tiles, and exact sums: the interpreter sums by BLAS, in any order.
    units = (unit_rows(1, 16).sign() / 4).repeat(140, 1)
    x = rows_of(9, 16, torch.bfloat16)
    assert (cosine.nearest(x.to(DEVICE), units.to(DEVICE))[0] == 0).all()
    units[:100] = -units[:100]
    towards = units[139:].to(torch.bfloat16)
    assert (cosine.nearest(towards.to(DEVICE), units.to(DEVICE))[0] == 100).all()


@pytest.mark.parametrize("n_centroids", [3, 33, 131])
def test_padding_never_wins(n_centroids):
    """All similarities are negative: a centroid of zeros would be the nearest."""
    away = unit_rows(n_centroids, 40).abs()
    x = -rows_of(6, 40, torch.float32).abs()
    assert_nearest(x.to(DEVICE), away)
    away[1] = 0
    cluster, similarity = cosine.nearest(x.to(DEVICE), away.to(DEVICE))
    assert (cluster == 1).all() and (similarity == 0).all()


def strange_rows(dtype):
    """Rows of which float32 gives no accurate length, with their similarities to the first axis."""
    limits = torch.finfo(dtype)
    rows = {
        "zeros": ([0.0] * 4, 0.0),
        "nan": ([1.0, math.nan, 0.0, 0.0], math.nan),
        "inf": ([math.inf, 1.0, 0.0, 0.0], math.nan),
        "-inf": ([0.0, 0.0, -math.inf, 1.0], math.nan),
    }
    if dtype != torch.float16:  # float32 holds the square of any float16
        rows["huge"] = ([limits.max] * 4, 0.5)
        rows["tiny"] = ([limits.tiny, 0.0, 0.0, 0.0], 1.0)
    return rows


@pytest.mark.parametrize("dtype", KERNEL_DTYPES)
def test_rows_that_have_to_be_recomputed(dtype):
    rows = strange_rows(dtype)
    x = torch.tensor([row for row, _ in rows.values()], dtype=dtype, device=DEVICE)
    units = torch.eye(4, device=DEVICE)
    assert cosine.nearest(x, units)[1].isposinf().all()
    assert cosine.similarities(x, units).isposinf().all()
    for found, want in zip(
        backend.nearest(x, units, backend="triton"), reference.nearest(x, units), strict=True
    ):
        torch.testing.assert_close(found, want, equal_nan=True)
    found = backend.similarities(x, units, backend="triton")
    torch.testing.assert_close(found, reference.similarities(x, units), equal_nan=True)
    want = torch.tensor([similarity for _, similarity in rows.values()])
    torch.testing.assert_close(found[:, 0].cpu(), want, equal_nan=True)


def test_float16_squares_do_not_overflow():
    x = torch.full((1, 100), torch.finfo(torch.float16).max, dtype=torch.float16)
    assert_nearest(x.to(DEVICE), unit_rows(3, 100))


@pytest.mark.parametrize("n_rows", [1, 65, 128])
def test_only_the_outputs_are_written(monkeypatch, n_rows):
    buffers = []

    def guarded_empty(*shape, dtype, device):
        size = math.prod(shape)
        buffers.append(torch.full((size + 4096,), SENTINEL, device=device).to(dtype))
        return buffers[-1][2048 : 2048 + size].view(shape)

    x, units = rows_of(n_rows, 20, torch.float32).to(DEVICE), unit_rows(3, 20).to(DEVICE)
    monkeypatch.setattr(cosine.torch, "empty", guarded_empty)
    outputs = [*cosine.nearest(x, units), cosine.similarities(x, units)]
    for output, buffer in zip(outputs, buffers, strict=True):
        assert (output != SENTINEL).all()
        assert (buffer[:2048] == SENTINEL).all()
        assert (buffer[2048 + output.numel() :] == SENTINEL).all()


def test_the_tolerance_catches_wrong_formulas(monkeypatch):
    x, units = rows_of(7, 20, torch.bfloat16).to(DEVICE), unit_rows(3, 20)
    whole = cosine.parts_of

    def without_low_parts(units, dtype, config):
        high, low = whole(units, dtype, config)
        return high, torch.zeros_like(low)

    monkeypatch.setattr(cosine, "parts_of", without_low_parts)
    with pytest.raises(AssertionError):
        assert_nearest(x, units)

    def of_other_length(units, dtype, config):
        high, low = whole(units * 1.001, dtype, config)
        return high, low

    monkeypatch.setattr(cosine, "parts_of", of_other_length)
    with pytest.raises(AssertionError):
        assert_nearest(x, units)

    def filled_with_zeros(units, dtype, config):
        high, low = whole(units, dtype, config)
        high[len(units) :] = 0
        return high, low

    monkeypatch.setattr(cosine, "parts_of", filled_with_zeros)
    with pytest.raises(AssertionError):
        assert_nearest(-x.abs(), units.abs())
