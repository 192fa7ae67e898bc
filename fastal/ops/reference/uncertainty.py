"""Uncertainty scores of rows of predictions, on any device that torch supports.

The rows are scored in blocks that fit the L2 cache, in two reused buffers. So the matrix is read
from memory once, and no temporary is [N, C].
"""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from fastal.ops.formulas import FORMULAS, Statistics
from fastal_kernels.row_threads import in_row_threads

# Bytes of a block in each of the two buffers of a thread, and on a GPU. With a quarter of it,
# starting torch's ops takes half the time. Larger blocks fall out of an L2 cache. A GPU gains
# nothing from small blocks.
_BLOCK_BYTES, _GPU_BLOCK_BYTES = 1 << 19, 1 << 27
# Blocks of fewer classes are transposed, so that torch vectorises across rows.
_TRANSPOSE_BELOW = 32
# A probability from here to 0 counts as 0: rounding may leave it where the true value is 0.
LEAST_PROB = -1e-3
# On CPUs, torch sums in another order the columns after the last multiple of 32 or 64, and a single
# row. Blocks are padded to these sizes, so that no row's score depends on the end of its block.
_TRANSPOSED_MULTIPLE, _FEWEST_ROWS = 128, 2
# A smaller float32 tail may have lost digits: its terms may be subnormal, each off by 2^-150.
_FAR = 2.0**-90

# If torch calls MKL for these functions, the first call in a process must not come from several
# threads: one of them may get a kernel of 1e-4 precision for its share (pytorch/pytorch#188792).
for _dtype in (torch.float32, torch.float64):
    torch.ones(1, dtype=_dtype, device="cpu").exp().log().log1p()


def uncertainty(
    logits: Tensor, measures: Sequence[str], kind: str = "logits", temperature: float = 1.0
) -> list[Tensor]:
    """Uncertainty scores of each row, in the order of `measures`.

    Args:
        logits: [N, C] with C >= 2; float16, bfloat16, float32 or float64; any strides.
        measures: names from `fastal.ops.formulas.UNCERTAINTY_SCORES`.
        kind: what the matrix holds: "logits", "probs" or "log_probs". Log-probabilities are scored
            as logits: their softmax is the distribution itself.
        temperature: logits are divided by it; 1 for "probs".

    Returns:
        A list of [N] float32 tensors in [0, 1]. Larger is more uncertain. Every score of an invalid
        row is NaN. A row is invalid if it has NaN, +inf or no finite value. A row of "probs" is
        also invalid if it has a value below -1e-3, or if its sum differs from 1 by more than
        `probs_tolerance`. Probabilities from -1e-3 to 0 count as 0.
    """
    n_rows, n_classes = logits.shape
    scores = [torch.empty(n_rows, dtype=torch.float32, device=logits.device) for _ in measures]
    block_bytes = _BLOCK_BYTES if logits.device.type == "cpu" else _GPU_BLOCK_BYTES
    # A division by the temperature rounds the distances from the maximum once more: float32 would
    # lose a digit of the smallest scores.
    in_double = logits.dtype == torch.float64 or temperature != 1
    dtype = torch.float64 if in_double else torch.float32
    block_rows = min(_padded(block_bytes // (n_classes * dtype.itemsize), n_classes), n_rows)

    def work(claimed: Iterator[slice]) -> None:
        size = _padded(block_rows, n_classes) * n_classes
        buffers = torch.zeros(2, size, dtype=dtype, device=logits.device)
        for rows in claimed:
            statistics = _statistics(
                logits[rows], buffers, kind, "entropy" in measures, temperature
            )
            if dtype == torch.float32:
                _recompute_small_tails(logits[rows], statistics, kind)
            for out, measure in zip(scores, measures, strict=True):
                out[rows] = FORMULAS[measure](statistics).clamp_(max=1)

    in_row_threads(work, logits, max(1, block_rows))
    return scores


def probs_tolerance(dtype: torch.dtype, n_classes: int) -> float:
    """How far from 1 the sum of a row of probabilities may be.

    The tolerance is 1e-3, or the dtype's spacing at 1 if that is larger. The spacing is twice the
    change of a sum when its probabilities are rounded to the dtype. The rounding of subnormal
    probabilities is added: half the smallest number for each class. It matters in float16 with many
    classes.
    """
    info = torch.finfo(dtype)
    return max(1e-3, info.eps) + n_classes * info.smallest_normal * info.eps / 2


def _padded(n_rows: int, n_classes: int) -> int:
    """The rows of a block, with padding."""
    if n_classes < _TRANSPOSE_BELOW:
        return max(1, -(-n_rows // _TRANSPOSED_MULTIPLE)) * _TRANSPOSED_MULTIPLE
    return max(n_rows, _FEWEST_ROWS)


def _statistics(
    block: Tensor, buffers: Tensor, kind: str, with_moment: bool, temperature: float
) -> Statistics:
    """The statistics of a block [n, C], computed in two buffers that no result aliases."""
    n_rows, n_classes = block.shape
    dtype = block.dtype
    # Each buffer is a matrix with the classes along `dim` and the rows along the other dimension:
    # [n, C], or [C, n] if the block is transposed. So these names have no shapes.
    dim, width = int(n_classes >= _TRANSPOSE_BELOW), _padded(n_rows, n_classes)
    shape = (width, n_classes) if dim else (n_classes, width)
    padded_d, padded_e = (buffer[: width * n_classes].view(shape) for buffer in buffers)
    d, e = (p.narrow(1 - dim, 0, n_rows) for p in (padded_d, padded_e))
    block = block if dim else block.t()
    if dtype != e.dtype:
        block = e.copy_(block)
    elif block.stride(1) != 1:
        # Copies while transposing: clamp is three to ten times faster at it than copy_.
        block = torch.clamp(block, min=-math.inf, out=e)
    maximum = block.amax(dim, keepdim=True)

    # e = e^(x − m) and d = x − m. d is clamped where e is exactly 0, because 0 · −inf would be NaN.
    # If the maximum of a row is NaN or infinite, all its values become NaN: inf − inf.
    floor = -800.0 if d.dtype == torch.float64 else -128.0
    if kind == "probs":
        negative = block.amin(dim) < LEAST_PROB
        torch.div(block, maximum, out=e).clamp_(min=0)
        if with_moment:
            torch.log(e, out=d).clamp_(min=floor)
    else:
        torch.sub(block, maximum, out=d).div_(temperature).clamp_(min=floor)
        torch.exp(d, out=e)
    d, e = padded_d, padded_e
    moment = d.mul_(e).sum(dim) if with_moment else None

    # The e of the maximum and its ties are 1, all others are fractions. The two kinds are summed
    # apart. So one maximum is left out of the tail exactly, and without a search for it.
    fractions = torch.frac(e, out=d)
    tail, runner_up = fractions.sum(dim), fractions.amax(dim)
    tied = e.sub_(fractions).sum(dim) - 1
    tail += tied
    runner_up = torch.maximum(runner_up, tied.clamp_(max=1))

    tail, runner_up = tail[:n_rows], runner_up[:n_rows]
    moment = None if moment is None else moment[:n_rows]
    if kind == "probs":
        total = (1 + tail) * maximum.squeeze(dim)
        tail[negative | ((total - 1).abs() > probs_tolerance(dtype, n_classes))] = math.nan
    return Statistics(tail, runner_up, moment, n_classes)


def _recompute_small_tails(block: Tensor, s: Statistics, kind: str) -> None:
    """Replaces the statistics of rows whose terms are subnormal relative to the maximum.

    Their sums are computed relative to the runner-up, which is below the maximum in such rows. The
    ratio of the two enters as two factors, so that neither is subnormal. Rows of tail 0 are
    skipped: all other classes are ruled out, or the scores are below 1e-38.
    """
    if s.tail.amin() >= _FAR:  # the usual case, but not if there is NaN
        return
    rows = ((s.tail > 0) & (s.tail < _FAR)).nonzero()[:, 0]
    if not len(rows):
        return
    rows = torch.cat([rows, rows[:1]])  # never a single row: see _FEWEST_ROWS
    x_nC = block[rows].to(s.tail.dtype)
    maximum_n1 = x_nC.amax(1, keepdim=True)
    second_n1 = x_nC.where(x_nC < maximum_n1, -math.inf).amax(1, keepdim=True)
    x_nC = x_nC.minimum(second_n1)  # the maximum's own term becomes 1, and 0 in the moment
    if kind == "probs":
        e_nC = x_nC.clamp_(min=0).div_(second_n1)
        d_nC = e_nC.log().clamp_(min=-128.0)
        gap_n = (second_n1.log() - maximum_n1.log()).squeeze(1)
        # Logarithms of GPUs are off by a unit in the last place, which would cost the ratio 1e-5.
        large_n = (second_n1 * 2.0**64 / maximum_n1).squeeze(1)
        factors = large_n, torch.full_like(large_n, 2.0**-64)
    else:
        d_nC = x_nC.sub_(second_n1).clamp_(min=-128.0)
        e_nC = d_nC.exp()
        gap_n = (second_n1 - maximum_n1).squeeze(1)
        factors = torch.exp(gap_n / 2), torch.exp(gap_n / 2)
    rest_n = e_nC.sum(1) - 1
    s.tail[rows] = rest_n * factors[0] * factors[1]
    s.runner_up[rows] = factors[0] * factors[1]
    if s.moment is not None:
        moment_n = d_nC.mul_(e_nC).sum(1) + gap_n * rest_n
        s.moment[rows] = moment_n * factors[0] * factors[1]
