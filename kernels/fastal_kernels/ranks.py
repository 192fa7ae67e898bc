"""Mean ranks of rows among the sorted values of their columns: the matrix is read once.

Letters: N rows, D columns, V sorted values of each column. Reads N * D elements once from memory
and writes 4 N bytes. For each element, it also reads about log2 V values of the column's table. The
caches hold the table.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastal_kernels.hardware import isa_of
from fastal_kernels.launch import Matrix, ranked
from fastal_kernels.registers import sticky_max

# Ranks are summed as whole multiples of 2^-24 of a place: the order of the sum changes no bit.
PLACE_BITS: tl.constexpr = tl.constexpr(24)


def mean_ranks(x: Tensor, table: Tensor) -> Tensor:
    """The mean over the columns of the rank of a row's value among the values of a table.

    Args:
        x: [N, D] with D >= 1; float16, bfloat16 or float32; any strides; on a GPU.
        table: [D, V] float32 with V >= 1 on the same device, sorted along V, without NaN.

    Returns:
        [N] float32 in [0, 1], with an error of at most 2.3e-7. NaN for rows with NaN, +inf or no
        finite value.
    """
    means = torch.empty(len(x), dtype=torch.float32, device=x.device)
    _launch(x, table, {"p_means": means, "p_sums": None, "p_maxima": None})
    return means


def add_ranks(x: Tensor, table: Tensor, sums: Tensor, maxima: Tensor) -> None:
    """Adds the ranks of some of the columns to sums, for a table that is read in parts.

    Args:
        x, table: these columns, as for `mean_ranks`.
        sums: [N] int64 ranks in units of 2^-24 of a place. The caller sets them to 0 first.
        maxima: [N] float32 maxima. The caller sets them to -inf first. Infinite for invalid rows.
    """
    _launch(x, table, {"p_means": None, "p_sums": sums, "p_maxima": maxima})


def means_of(sums: Tensor, maxima: Tensor, n_values: int) -> Tensor:
    """The result of `mean_ranks`, after `add_ranks` has read all n_values of the tables."""
    means: Tensor = sums.double() / (n_values << PLACE_BITS.value)
    return means.masked_fill_(maxima.isinf(), torch.nan).float()


def _launch(x: Tensor, table: Tensor, out: dict[str, Any]) -> None:
    n_rows, n_columns = x.shape
    if n_rows == 0:
        return
    pitch, stride_d = x.stride()
    matrix = Matrix(n_columns, x.element_size(), pitch if n_rows > 1 else n_columns, stride_d, 1)
    constants = constants_of(matrix, table.shape[1], isa_of(x.device).warp_size)
    sizes = {"N": n_rows, "V": table.shape[1]}
    with torch.cuda.device_of(x):  # Triton launches on the current device
        grid = (triton.cdiv(n_rows, constants["ROWS"]),)
        ranks_kernel[grid](p_x=x, p_table=table.contiguous(), **out, **sizes, **constants)


def constants_of(matrix: Matrix, n_values: int, warp_size: int) -> dict[str, Any]:
    """The compile-time arguments for a matrix and n_values of each column."""
    config = ranked(matrix)
    return {
        "D": matrix.n_classes,
        "PITCH": matrix.pitch,
        "STRIDE_D": matrix.stride_c,
        "STEPS": (n_values - 1).bit_length(),
        "ROWS": config.ROWS,
        "COLUMNS": config.COLUMNS,
        "num_warps": config.threads // warp_size,
    }


@triton.jit
def count_up_to(x, p_columns, V, STEPS: tl.constexpr):
    """The number of the V sorted values at p_columns that are at most x."""
    count = tl.zeros(x.shape, tl.int32)
    left = V
    for _ in range(STEPS):  # until one value is left
        half = left >> 1
        count = tl.where(tl.load(p_columns + (count + (half - 1))) <= x, count + half, count)
        left -= half
    return tl.where(tl.load(p_columns + count) <= x, count + 1, count)


@triton.jit
def places(x, p_columns, V, STEPS: tl.constexpr):
    """The ranks of values among the V at p_columns, times V, in units of 2^-24 of a place."""
    count = count_up_to(x, p_columns, V, STEPS)
    low = tl.load(p_columns + tl.maximum(count - 1, 0))
    high = tl.load(p_columns + tl.minimum(count, V - 1))
    is_between = (count > 0) & (count < V) & (low > float("-inf"))
    # The difference of huge values would overflow: their halves are subtracted. Small values are
    # not halved, because a subnormal number would lose a bit.
    scale = tl.where(tl.maximum(tl.abs(low), tl.abs(high)) > 2.0**126, 0.5, 1.0)
    part = (x * scale - low * scale) / (high * scale - low * scale)
    part = tl.where(is_between, part, 1.0) * 2.0**PLACE_BITS + 0.5
    return ((count - 1).to(tl.int64) << PLACE_BITS) + part.to(tl.int32)


@triton.jit(do_not_specialize=("N", "V"))
def ranks_kernel(
    p_x,  # [N, D]
    p_table,  # [D, V], contiguous
    p_means,  # [N]; or None, and the results are added to sums and maxima [N] of earlier columns
    p_sums, p_maxima,
    N: tl.int64, V: tl.int32,
    D: tl.constexpr, PITCH: tl.constexpr, STRIDE_D: tl.constexpr, STEPS: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Ranks ROWS rows, COLUMNS columns at a time. Few columns: many lanes share their tables."""
    o_n = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    m_n = o_n < N
    p_rows = p_x + (o_n * PITCH)[:, None]
    total = tl.zeros([ROWS, COLUMNS], tl.int64)
    top = tl.full([ROWS, COLUMNS], float("-inf"), tl.float32)
    for start in range(0, D, COLUMNS):
        o_d = start + tl.arange(0, COLUMNS)[None, :]
        m_d = o_d < D
        p = p_rows + o_d.to(tl.int64) * STRIDE_D
        x = tl.load(p, mask=m_n[:, None] & m_d, other=float("-inf"), eviction_policy="evict_first")
        x = x.to(tl.float32)
        top = sticky_max(top, x)
        p_columns = p_table + tl.minimum(o_d, D - 1).to(tl.int64) * V
        total += tl.where(m_d, places(x, p_columns, V, STEPS), 0)
    row_total = tl.sum(total, axis=1)
    row_top = tl.max(tl.where(top < float("inf"), top, float("inf")), axis=1)  # NaN becomes +inf
    if p_means is not None:
        n_places = (tl.cast(V, tl.int64) * D).to(tl.float64) * 2.0**PLACE_BITS
        mean = (row_total.to(tl.float64) / n_places).to(tl.float32)
        is_valid = tl.abs(row_top) < float("inf")
        tl.store(p_means + o_n, tl.where(is_valid, mean, float("nan")), mask=m_n)
    else:
        row_total += tl.load(p_sums + o_n, mask=m_n)
        row_top = tl.maximum(row_top, tl.load(p_maxima + o_n, mask=m_n))
        tl.store(p_sums + o_n, row_total, mask=m_n)
        tl.store(p_maxima + o_n, row_top, mask=m_n)
