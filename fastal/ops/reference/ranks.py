"""Mean ranks of rows among the sorted values of their columns."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from fastal_kernels.row_threads import in_row_threads

# Values that are ranked together: in a thread of a CPU, and on a GPU. Each value takes about 60
# bytes.
_BLOCK, _GPU_BLOCK = 1 << 15, 1 << 24
# With fewer rows, a column's table is read from memory for too few values.
_FEWEST_ROWS = 2048
# Ranks are summed as whole numbers of this part of a place: the order of the sum changes no bit.
_PLACE = 1 << 24


def mean_ranks(x: Tensor, table: Tensor) -> Tensor:
    """The mean over the columns of the rank of a row's value among the values of a table.

    A value below all V values of its column has rank 0. A value from the largest on has rank 1. Any
    other value has rank (i - 1 + f) / V: i table values are at most as large, and f is the position
    of the value between the i-th and the next table value, from 0 to 1. If the i-th is -inf, f is
    1. So in a column that is V times the value c, values below c have rank 0, others rank 1.

    Args:
        x: [N, D] with D >= 1; float16, bfloat16, float32 or float64; any strides.
        table: [D, V] float32 with V >= 1 on the same device, sorted along V, without NaN.

    Returns:
        [N] float32 in [0, 1]. NaN for rows with NaN, +inf or no finite value. The error is at most
        2^-24: half a unit of the sums, over V >= 2, and the rounding of the result.
    """
    means_N = torch.empty(len(x), dtype=torch.float32, device=x.device)
    block = _BLOCK if x.device.type == "cpu" else _GPU_BLOCK
    most_rows = max(_FEWEST_ROWS, block // x.shape[1])
    table = table.contiguous()

    def work(claimed: Iterator[slice]) -> None:
        for rows in claimed:
            means_N[rows] = _means(x[rows], table, max(1, block // most_rows))

    in_row_threads(work, x, most_rows)
    return means_N


def _means(x_nD: Tensor, table_DV: Tensor, n_columns: int) -> Tensor:
    """The means [n] of rows, computed for n_columns columns at a time, d of them."""
    dtype = torch.float64 if x_nD.dtype == torch.float64 else torch.float32
    total_n = torch.zeros(len(x_nD), dtype=torch.int64, device=x_nD.device)
    top_n = torch.full((len(x_nD),), -math.inf, dtype=dtype, device=x_nD.device)  # keeps NaN
    for x_nd, table_dV in zip(
        torch.split(x_nD, n_columns, 1), torch.split(table_DV, n_columns), strict=True
    ):
        x_dn = x_nd.t().to(dtype).contiguous()
        torch.maximum(top_n, x_dn.amax(0), out=top_n)
        total_n += _places(x_dn, table_dV).sum(0)
    means_n = total_n.double() / (table_DV.numel() * _PLACE)
    return means_n.masked_fill_(~top_n.isfinite(), math.nan).float()


def _places(x_dn: Tensor, table_dV: Tensor) -> Tensor:
    """The ranks [d, n] of values among the tables of their columns, times V * `_PLACE`."""
    last = table_dV.shape[1] - 1
    count_dn = torch.searchsorted(table_dV.to(x_dn.dtype), x_dn, right=True)
    low_dn = table_dV.gather(1, (count_dn - 1).clamp_(min=0)).double()
    high_dn = table_dV.gather(1, count_dn.clamp(max=last)).double()
    is_outside_dn = (count_dn == 0) | (count_dn > last) | low_dn.isinf()
    part_dn = ((x_dn - low_dn) / (high_dn - low_dn)).masked_fill_(is_outside_dn, 1)
    return count_dn.sub_(1).mul_(_PLACE).add_(part_dn.mul_(_PLACE).round_().long())
