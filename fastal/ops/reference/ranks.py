"""Where the values of a row rank among the sorted values of their columns, on average."""

import math

import torch
from torch import Tensor

# Values that are looked at together, for each thread of a CPU; on a GPU. Each takes some 60 bytes.
_BLOCK, _MOST_BLOCK, _GPU_BLOCK = 1 << 15, 1 << 18, 1 << 24
# Fewer rows than this and a column's table is fetched from memory for too few of them.
_FEWEST_ROWS = 2048
# Ranks are summed as whole numbers of this part of a place: whatever their order, no bit changes.
_PLACE = 1 << 24


def mean_ranks(x: Tensor, table: Tensor) -> Tensor:
    """The mean over the columns of where a row's values rank among the values of a table.

    A value below all V of its column has rank 0, one from the largest on has rank 1; another has
    (i - 1 + f) / V, where i of them are at most as large, and f is how far it is from the i-th to
    the next, from 0 to 1; where the i-th is -inf, f is 1. So a column of one value c, V times, has
    rank 0 below c, and 1 from c on.

    Args:
        x: [N, D] with D >= 1; float16, bfloat16, float32 or float64; any strides.
        table: [D, V] float32 with V >= 1 on the same device, sorted along V, without NaN.

    Returns:
        [N] float32 in [0, 1]; NaN for rows with NaN, +inf or no finite value. They are off by at
        most 2^-24: half a unit of the sums, over V >= 2, and the rounding of the result.
    """
    means = torch.empty(len(x), dtype=torch.float32, device=x.device)
    if x.device.type == "cpu":
        block = min(_BLOCK * torch.get_num_threads(), _MOST_BLOCK)
    else:
        block = _GPU_BLOCK
    n_rows = max(_FEWEST_ROWS, block // x.shape[1])
    for start in range(0, len(x), n_rows):
        rows = slice(start, start + n_rows)
        means[rows] = _means(x[rows], table.contiguous(), max(1, block // n_rows))
    return means


def _means(x: Tensor, table: Tensor, n_columns: int) -> Tensor:
    """Means of rows [n, D], so many columns at a time."""
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    total = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    top = torch.full((len(x),), -math.inf, dtype=dtype, device=x.device)  # NaN stays in it
    for values, columns in zip(
        torch.split(x, n_columns, 1), torch.split(table, n_columns), strict=True
    ):
        values = values.t().to(dtype).contiguous()
        torch.maximum(top, values.amax(0), out=top)
        total += _places(values, columns).sum(0)
    means = total.double() / (table.numel() * _PLACE)
    return means.masked_fill_(~top.isfinite(), math.nan).float()


def _places(values: Tensor, columns: Tensor) -> Tensor:
    """The ranks of values [d, n] among columns [d, V], times V, in parts of a place."""
    last = columns.shape[1] - 1
    count = torch.searchsorted(columns.to(values.dtype), values, right=True)
    low = columns.gather(1, (count - 1).clamp_(min=0)).double()
    high = columns.gather(1, count.clamp(max=last)).double()
    beside = (count == 0) | (count > last) | low.isinf()
    part = ((values - low) / (high - low)).masked_fill_(beside, 1)
    return count.sub_(1).mul_(_PLACE).add_(part.mul_(_PLACE).round_().long())
