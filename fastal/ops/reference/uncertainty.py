"""Uncertainty scores of rows of predictions.

Runs on any device that torch runs on. Works through the rows in blocks that fit the L2 cache, in
two reused buffers, so that the matrix is read from memory once and no [N, C] temporary exists.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from fastal.ops.formulas import FORMULAS, Statistics

# Bytes of a block, for each thread, in each of the two buffers. A quarter of this loses half the
# time to starting torch's ops, and more falls out of an L2 cache. Many cores share the most there
# may be; a GPU has no use for small blocks.
_BLOCK_BYTES, _MOST_BLOCK_BYTES, _GPU_BLOCK_BYTES = 1 << 19, 1 << 24, 1 << 27
# With fewer classes than this the block is turned, so that torch vectorises across rows.
_TURN_BELOW = 32
# What rounding, of whatever a probability was computed from, may leave of 0: it counts as 0.
_LEAST_PROB = -1e-3
# On CPUs, torch sums a column in another order beyond the last multiple of 32 or 64 columns, and a
# lone row in another than one of many. Blocks are padded to these sizes, so that no row's score
# depends on where its block ends.
_TURNED_MULTIPLE, _FEWEST_ROWS = 128, 2
# A float32 tail below this may have lost digits: its terms may be subnormal, each off by 2^-150.
_FAR = 2.0**-90

# Where torch calls MKL for these, the first call in a process must not come from several threads:
# one of them may get a kernel of 1e-4 precision for its share (pytorch/pytorch#188792).
for _dtype in (torch.float32, torch.float64):
    torch.ones(1, dtype=_dtype, device="cpu").exp().log().log1p()


def uncertainty(logits: Tensor, measures: Sequence[str], kind: str = "logits") -> list[Tensor]:
    """Uncertainty scores of each row, in the order of `measures`.

    Args:
        logits: [N, C] with C >= 2; float16, bfloat16, float32 or float64; any strides.
        measures: names from `fastal.ops.formulas.UNCERTAINTY_SCORES`.
        kind: what the matrix holds: "logits", "probs" or "log_probs". Log-probabilities go the way
            of logits, since softmax gives back the distribution they are the logarithm of.

    Returns:
        A list of [N] float32 tensors in [0, 1], larger = more uncertain. Every score of an invalid
        row is NaN: one with NaN, +inf or no finite value, or for "probs" one with a value below
        -1e-3 or a sum that is off 1 by more than `probs_tolerance`; values from there to 0 are 0.
    """
    n_rows, n_classes = logits.shape
    scores = [torch.empty(n_rows, dtype=torch.float32, device=logits.device) for _ in measures]
    if logits.device.type == "cpu":
        block_bytes = min(_BLOCK_BYTES * torch.get_num_threads(), _MOST_BLOCK_BYTES)
    else:
        block_bytes = _GPU_BLOCK_BYTES
    dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
    block_rows = min(_padded(block_bytes // (n_classes * dtype.itemsize), n_classes), n_rows)
    buffers = torch.zeros(
        2, _padded(block_rows, n_classes) * n_classes, dtype=dtype, device=logits.device
    )
    for start in range(0, n_rows, block_rows or 1):
        block = logits[start : start + block_rows]
        statistics = _statistics(block, buffers, kind, "entropy" in measures)
        if dtype == torch.float32:
            _sum_again(block, statistics, kind)
        for out, measure in zip(scores, measures, strict=True):
            out[start : start + block_rows] = FORMULAS[measure](statistics).clamp_(max=1)
    return scores


def probs_tolerance(dtype: torch.dtype, n_classes: int) -> float:
    """How far from 1 the sum of a row of probabilities may be.

    1e-3, or the dtype's spacing at 1 where that is coarser, twice what rounding probabilities to it
    can do to their sum. To this is added what rounding subnormal ones can do, half the smallest
    number for each class, which tells in float16 with a large vocabulary.
    """
    info = torch.finfo(dtype)
    return max(1e-3, info.eps) + n_classes * info.smallest_normal * info.eps / 2


def _padded(n_rows: int, n_classes: int) -> int:
    if n_classes < _TURN_BELOW:
        return max(1, -(-n_rows // _TURNED_MULTIPLE)) * _TURNED_MULTIPLE
    return max(n_rows, _FEWEST_ROWS)


def _statistics(block: Tensor, buffers: Tensor, kind: str, with_moment: bool) -> Statistics:
    n_rows, n_classes = block.shape
    dtype = block.dtype
    # Each buffer as a matrix with the classes along `dim`, the rows along the other.
    dim, width = int(n_classes >= _TURN_BELOW), _padded(n_rows, n_classes)
    shape = (width, n_classes) if dim else (n_classes, width)
    padded_d, padded_e = (buffer[: width * n_classes].view(shape) for buffer in buffers)
    d, e = (p.narrow(1 - dim, 0, n_rows) for p in (padded_d, padded_e))
    block = block if dim else block.t()
    if dtype != e.dtype:
        block = e.copy_(block)
    elif block.stride(1) != 1:
        # A copy that turns the block: copy_ is three to ten times slower at this than an op is.
        block = torch.clamp(block, min=-math.inf, out=e)
    maximum = block.amax(dim, keepdim=True)

    # e = e^(x − m) and d = x − m, clamped where e is exactly 0, lest 0 · −inf become NaN. A row
    # whose maximum is NaN or infinite turns NaN throughout: inf − inf.
    floor = -800.0 if d.dtype == torch.float64 else -128.0
    if kind == "probs":
        negative = block.amin(dim) < _LEAST_PROB
        torch.div(block, maximum, out=e).clamp_(min=0)
        if with_moment:
            torch.log(e, out=d).clamp_(min=floor)
    else:
        torch.sub(block, maximum, out=d).clamp_(min=floor)
        torch.exp(d, out=e)
    d, e = padded_d, padded_e
    moment = d.mul_(e).sum(dim) if with_moment else None

    # Among the e, those of the maximum and its ties are 1 and all others fractions. Summing the
    # two kinds apart leaves one maximum out of the tail without a search for it, and exactly.
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


def _sum_again(block: Tensor, s: Statistics, kind: str) -> None:
    """Replaces the statistics of rows whose terms are subnormal beside that of the maximum.

    Their sums are taken relative to the runner-up, which is below the maximum there. The distance
    between the two enters as two factors, so that neither is subnormal. Rows of tail 0 are left
    alone: all other classes are ruled out, or the scores are below 1e-38.
    """
    if s.tail.amin() >= _FAR:  # the usual case; NaN goes on
        return
    rows = ((s.tail > 0) & (s.tail < _FAR)).nonzero()[:, 0]
    if not len(rows):
        return
    rows = torch.cat([rows, rows[:1]])  # never a lone one: see _FEWEST_ROWS
    x = block[rows].to(s.tail.dtype)
    maximum = x.amax(1, keepdim=True)
    second = x.where(x < maximum, -math.inf).amax(1, keepdim=True)
    x = x.minimum(second)  # the maximum's own term becomes 1, and 0 in the moment
    if kind == "probs":
        e = x.clamp_(min=0).div_(second)
        d = e.log().clamp_(min=-128.0)
        gap = (second.log() - maximum.log()).squeeze(1)
    else:
        d = x.sub_(second).clamp_(min=-128.0)
        e = d.exp()
        gap = (second - maximum).squeeze(1)
    rest, half = e.sum(1) - 1, torch.exp(gap / 2)
    s.tail[rows] = rest * half * half
    s.runner_up[rows] = half * half
    if s.moment is not None:
        s.moment[rows] = (d.mul_(e).sum(1) + gap * rest) * half * half
