"""Cosine similarities of rows to centroids. No normalised rows and no [N, K] products are stored.

Reads N * D elements. Writes 12 N bytes, or 4 N K bytes if all similarities are asked for. A program
streams the centroids past its rows. Products are summed in float32. Each finished product is
divided by the length of its row.

Letters: N rows, D columns, K centroids; a tile is BN rows or BK centroids by BD columns.
"""

from dataclasses import asdict
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastal_kernels.hardware import isa_of
from fastal_kernels.launch import Isa, Matrix, Products, products

# If the sum of a row's squares is between these, float32 gives an accurate length. The similarity
# of other rows is +inf.
LEAST_SQUARE: tl.constexpr = tl.constexpr(2.0**-80)
MOST_SQUARE: tl.constexpr = tl.constexpr(2.0**120)
_SIZES = ("N", "K", "width")


def nearest(x: Tensor, units: Tensor, fast: bool = False) -> tuple[Tensor, Tensor]:
    """The most similar centroid of each row, and its similarity.

    Args:
        x: [N, D] with D >= 1; float16, bfloat16 or float32; any strides; on a GPU.
        units: [K, D] float32 with K >= 1 on the same device, each of length 1, or 0.
        fast: round the centroids to the type of 16-bit rows; use tf32 for float32 rows.

    Returns:
        Clusters [N] int64, and cosine similarities [N] float32, not yet clipped to [-1, 1]. Ties go
        to the lowest cluster. If float32 gives no accurate length of a row, its similarity is +inf
        and its cluster arbitrary: the caller has to recompute the row.
    """
    cluster = torch.empty(len(x), dtype=torch.int64, device=x.device)
    similarity = torch.empty(len(x), dtype=torch.float32, device=x.device)
    _launch(nearest_kernel, x, units, fast, {"p_cluster": cluster, "p_similarity": similarity})
    return cluster, similarity


def similarities(x: Tensor, units: Tensor, fast: bool = False) -> Tensor:
    """The cosine similarities of each row to every centroid, for few centroids.

    Args:
        x, units, fast: as for `nearest`.

    Returns:
        [N, K] float32, not yet clipped to [-1, 1]. Rows are +inf as for `nearest`.
    """
    similarity = torch.empty(len(x), len(units), dtype=torch.float32, device=x.device)
    _launch(similarities_kernel, x, units, fast, {"p_similarity": similarity})
    return similarity


@triton.jit
def load_rows(
    p_rows, o_d, D: tl.constexpr, STRIDE_D: tl.constexpr, BD: tl.constexpr, WIDEN: tl.constexpr
):
    """Columns o_d [BD] of the rows at p_rows [BN], as [BN, BD]; 0 beyond column D - 1."""
    columns = o_d if STRIDE_D == 1 else o_d.to(tl.int64) * STRIDE_D
    p = p_rows[:, None] + columns[None, :]
    if D % BD == 0:
        x = tl.load(p)
    else:
        x = tl.load(p, mask=o_d[None, :] < D, other=0.0)
    return x.to(tl.float32) if WIDEN else x


@triton.jit
def add_products(
    acc, x, p_high, p_low, o_u, PRECISION: tl.constexpr, WIDEN: tl.constexpr
):  # fmt: skip
    """The sum acc + x (high + low) [BN, BK], with centroids of one part or of two."""
    high = tl.load(p_high + o_u)
    acc = tl.dot(x, high.to(tl.float32) if WIDEN else high, acc, input_precision=PRECISION)
    if p_low is not None:
        low = tl.load(p_low + o_u)
        acc = tl.dot(x, low.to(tl.float32) if WIDEN else low, acc, input_precision=PRECISION)
    return acc


@triton.jit
def sum_of_squares(x):
    """The sum of squares of each row of x [BN, BD], as [BN] float32."""
    x = x.to(tl.float32)
    return tl.sum(x * x, axis=1)


@triton.jit
def tile_products(
    x, p_rows, p_high, p_low, k, width, WITH_SQUARES: tl.constexpr,
    D: tl.constexpr, STRIDE_D: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, BD: tl.constexpr,
    STAGES: tl.constexpr, PRECISION: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
    """Products [BN, BK] of rows with the centroids from k on, and the sums of squares [BN] of rows.

    If a tile holds all columns, the rows are x. Else x is None, and the rows are read from p_rows
    on, up to column `width`. This is a run-time argument: the compiler would unroll a loop of known
    length completely.
    """
    o_d = tl.arange(0, BD)
    WIDTH: tl.constexpr = (D + BD - 1) // BD * BD
    o_u = tl.arange(0, BK)[None, :] * WIDTH + o_d[:, None]
    first = tl.cast(k, tl.int64) * WIDTH
    acc = tl.zeros([BN, BK], tl.float32)
    squares = tl.zeros([BN], tl.float32)
    if D <= BD:
        if WITH_SQUARES:
            squares = sum_of_squares(x)
        p_part = None if p_low is None else p_low + first
        acc = add_products(acc, x, p_high + first, p_part, o_u, PRECISION, WIDEN)
    else:
        for d in tl.range(0, width, BD, num_stages=STAGES):
            tile = load_rows(p_rows, d + o_d, D, STRIDE_D, BD, WIDEN)
            p_part = None if p_low is None else p_low + first + d
            acc = add_products(acc, tile, p_high + first + d, p_part, o_u, PRECISION, WIDEN)
            if WITH_SQUARES:
                squares += sum_of_squares(tile)
                # A use of the sums makes the products end in this iteration. Else they could read
                # the tile after it was overwritten: on sm_90, Triton 3.6 and 3.7 give a tile with
                # two uses a buffer too few.
                acc += 0.0
    return acc, squares


@triton.jit
def better(best, cluster, acc, k):
    """Updates the largest product and its centroid [BN] with the products of a tile from k on."""
    BK: tl.constexpr = acc.shape[1]
    largest = tl.max(acc, axis=1)
    is_better = largest > best
    # `item`: Triton 3.7 cannot compile a reduction to no dimensions for sm_100 here.
    if tl.max(is_better.to(tl.int32)[None, :], axis=1).item() != 0:
        o_k = tl.arange(0, BK)[None, :]
        first = tl.min(tl.where(acc == largest[:, None], o_k, BK), axis=1)
        cluster = tl.where(is_better, k + first, cluster)
        best = tl.where(is_better, largest, best)
    return best, cluster


@triton.jit
def over_length(products, squares, SCALE: tl.constexpr):
    """Similarities from products; +inf if float32 gives no accurate length of a row."""
    is_accurate = (squares >= LEAST_SQUARE) & (squares <= MOST_SQUARE)
    per_product = tl.div_rn(1.0, tl.sqrt_rn(tl.where(is_accurate, squares, 1.0)) * SCALE)
    return tl.where(is_accurate, products * per_product, float("inf"))


@triton.jit(do_not_specialize=_SIZES)
def nearest_kernel(
    p_x, p_high, p_low,  # [N, D]; centroids in whole tiles of `width` columns; low may be None
    p_cluster, p_similarity,  # [N]
    N: tl.int64, K: tl.int32, width: tl.int32,
    D: tl.constexpr, PITCH: tl.constexpr, STRIDE_D: tl.constexpr, SCALE: tl.constexpr,
    BN: tl.constexpr, BK: tl.constexpr, BD: tl.constexpr, ONE_TILE: tl.constexpr,
    STAGES: tl.constexpr, PRECISION: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
    """The nearest centroids of BN rows. Centroids beyond K repeat the last one, and never win."""
    o_n = tl.program_id(0).to(tl.int64) * BN + tl.arange(0, BN)
    p_rows = p_x + tl.minimum(o_n, N - 1) * PITCH  # past the end: the last row once more
    x = load_rows(p_rows, tl.arange(0, BD), D, STRIDE_D, BD, WIDEN) if D <= BD else None
    acc, squares = tile_products(
        x, p_rows, p_high, p_low, 0, width, True, D, STRIDE_D, BN, BK, BD, STAGES, PRECISION, WIDEN
    )
    best = tl.full([BN], float("-inf"), tl.float32)
    best, cluster = better(best, tl.zeros([BN], tl.int32), acc, 0)
    if not ONE_TILE:
        # If the columns have a loop of their own, that loop loads ahead.
        for k in tl.range(BK, K, BK, num_stages=STAGES if D <= BD else 1):
            acc, _ = tile_products(
                x, p_rows, p_high, p_low, k, width, False,
                D, STRIDE_D, BN, BK, BD, STAGES, PRECISION, WIDEN,
            )  # fmt: skip
            best, cluster = better(best, cluster, acc, k)
    cluster = tl.minimum(cluster, K - 1)
    tl.store(p_cluster + o_n, cluster.to(tl.int64), mask=o_n < N)
    tl.store(p_similarity + o_n, over_length(best, squares, SCALE), mask=o_n < N)


@triton.jit(do_not_specialize=_SIZES)
def similarities_kernel(
    p_x, p_high, p_low,  # as for `nearest_kernel`
    p_similarity,  # [N, K]
    N: tl.int64, K: tl.int32, width: tl.int32,
    D: tl.constexpr, PITCH: tl.constexpr, STRIDE_D: tl.constexpr, SCALE: tl.constexpr,
    BN: tl.constexpr, BK: tl.constexpr, BD: tl.constexpr, ONE_TILE: tl.constexpr,
    STAGES: tl.constexpr, PRECISION: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
    """The similarities of BN rows to BK centroids. Neighbouring programs share the rows."""
    n_tiles = 1 if ONE_TILE else tl.cdiv(K, BK)
    program = tl.program_id(0)
    k = program % n_tiles * BK
    o_n = (program // n_tiles).to(tl.int64) * BN + tl.arange(0, BN)
    p_rows = p_x + tl.minimum(o_n, N - 1) * PITCH
    x = load_rows(p_rows, tl.arange(0, BD), D, STRIDE_D, BD, WIDEN) if D <= BD else None
    acc, squares = tile_products(
        x, p_rows, p_high, p_low, k, width, True, D, STRIDE_D, BN, BK, BD, STAGES, PRECISION, WIDEN
    )
    o_k = k + tl.arange(0, BK)[None, :]
    p = p_similarity + o_n[:, None] * K + o_k
    found = over_length(acc, squares[:, None], SCALE)
    tl.store(p, found, mask=(o_n[:, None] < N) & (o_k < K))


def variant(
    n_columns: int, pitch: int, stride_d: int, n_centroids: int, dtype: torch.dtype, fast: bool,
    isa: Isa,
) -> tuple[Products, dict[str, Any]]:  # fmt: skip
    """The configuration for rows and centroids, and the compile-time arguments of their kernel.

    Args:
        n_columns, n_centroids: D and K.
        pitch, stride_d: elements from a row to the next, from a column to the next.
        dtype: of the rows.
        fast: as for `nearest`.
        isa: what the device offers.
    """
    itemsize = dtype.itemsize
    is_half = itemsize == 2
    is_split, is_exact = is_half and not fast, not (is_half or fast)
    rows = Matrix(n_columns, itemsize, pitch, stride_d, alignment=16)
    load_bytes = rows.vector(pitch) * itemsize
    config = products(n_columns, n_centroids, load_bytes, itemsize, is_split, is_exact, isa)
    constants = asdict(config)
    constants.pop("SPLIT")
    if isa.ptx:  # else the assembler spills a few registers to fit more programs
        constants["maxnreg"] = 255
    return config, constants | {
        "D": n_columns,
        "PITCH": pitch,
        "STRIDE_D": stride_d,
        "SCALE": scale_of(dtype),
        "ONE_TILE": n_centroids <= config.BK,
        "PRECISION": "ieee" if is_half or is_exact else "tf32",
        "WIDEN": triton.knobs.runtime.interpret,  # the interpreter is wrong with bfloat16
        "num_warps": constants.pop("threads") // isa.warp_size,
    }


def scale_of(dtype: torch.dtype) -> float:
    """The scale of centroids: in float16, their small parts would else be subnormal."""
    return 2.0**15 if dtype == torch.float16 else 1.0


def parts_of(units: Tensor, dtype: torch.dtype, config: Products) -> tuple[Tensor, Tensor | None]:
    """Scaled centroids in whole tiles, rounded to a dtype, and the rest of the rounding or None.

    The last centroid is repeated to fill its tile. Missing columns are zeros.
    """
    n_centroids, n_columns = units.shape
    whole = units.new_zeros(_up(n_centroids, config.BK), _up(n_columns, config.BD))
    whole[:n_centroids, :n_columns] = units
    whole[n_centroids:] = whole[n_centroids - 1]
    whole *= scale_of(dtype)
    high = whole.to(dtype)
    return high, (whole - high).to(dtype) if config.SPLIT else None


def _up(n: int, step: int) -> int:
    return -(-n // step) * step


def _launch(kernel: Any, x: Tensor, units: Tensor, fast: bool, out: dict[str, Tensor]) -> None:
    n_rows, n_columns = x.shape
    if n_rows == 0:
        return
    pitch, stride_d = x.stride()
    config, constants = variant(
        n_columns, pitch if n_rows > 1 else n_columns, stride_d if n_columns > 1 else 1,
        len(units), x.dtype, fast, isa_of(x.device),
    )  # fmt: skip
    high, low = parts_of(units, x.dtype, config)
    n_programs = triton.cdiv(n_rows, config.BN)
    if kernel is similarities_kernel:
        n_programs *= triton.cdiv(len(units), config.BK)
    sizes = {"N": n_rows, "K": len(units), "width": high.shape[1]}
    with torch.cuda.device_of(x):  # Triton launches on the current device
        kernel[(n_programs,)](p_x=x, p_high=high, p_low=low, **out, **sizes, **constants)
