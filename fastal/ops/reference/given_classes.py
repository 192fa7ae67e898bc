"""What rows of predictions say of the classes that they were given, in float64.

Rows are read in blocks. Every block has the same shape, with stale rows at the end of the last, so
no row's bits depend on the rows around it. No temporary is [N, C].
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from fastal.ops.reference.uncertainty import LEAST_PROB, probs_tolerance

# Bytes of a block, on a CPU and on a GPU. On CPUs, torch sums a single row in another order.
_BLOCK_BYTES, _GPU_BLOCK_BYTES, _FEWEST_ROWS = 1 << 22, 1 << 27, 2
# Differences of probabilities up to this are none when labels are judged, as in cleanlab.
SLACK = 1e-6


class _Block(NamedTuple):
    """Rows of predictions as weights, which are proportional to the probabilities.

    Attributes:
        start: the place of the first row.
        n: how many rows there are; later ones are stale.
        weights: [b, C] float64.
        first: [b, 1] int64, the class with the largest weight.
        top: [b] float64, its weight.
        second: [b] float64, the largest weight of the other classes.
        rest: [b] float64, the sum of the weights of the other classes.
        total: [b] float64, the sum of all weights; NaN for invalid rows.
    """

    start: int
    n: int
    weights: Tensor
    first: Tensor
    top: Tensor
    second: Tensor
    rest: Tensor
    total: Tensor


def label_confidence(
    x_NC: Tensor, rows_n: Tensor, labels_n: Tensor, kind: str, temperature: float = 1.0
) -> tuple[Tensor, Tensor]:
    """The self-confidence and the normalized margin of rows.

    With p the probabilities of a row and k its label, they are p_k and (p_k − max p_j + 1) / 2,
    where j is every class except k.

    Args:
        x_NC: [N, C] with C >= 2; float16, bfloat16, float32 or float64; any strides.
        rows_n: [n] int64, the places of rows in `x_NC`.
        labels_n: [n] int64, the class that each was given, from 0 to C - 1.
        kind: what the matrix holds, as for `uncertainty`.
        temperature: logits are divided by it; 1 for "probs".

    Returns:
        Two tensors [n] float32 in [0, 1], on the device of the matrix. Smaller means that the label
        is more likely wrong. Both are NaN for invalid rows, which are those of `uncertainty`.
    """
    confidence_n, margin_n = x_NC.new_empty(2, len(rows_n), dtype=torch.float32)
    for block in _blocks(x_NC, rows_n, kind, temperature):
        of = slice(block.start, block.start + block.n)
        labels_b1 = labels_n[of, None]
        label_b = block.weights[: block.n].gather(1, labels_b1)[:, 0]
        first, top, second, rest, total = (column[: block.n] for column in block[3:])
        is_first = (labels_b1 == first)[:, 0]
        confidence_n[of] = label_b / total
        # The forms do not subtract nearly equal numbers: 1 − top / total is rest / total.
        margin_n[of] = torch.where(is_first, total + (top - second), label_b + rest) / (2 * total)
    return confidence_n, margin_n


def suggested_classes(
    x_NC: Tensor,
    rows_n: Tensor,
    labels_n: Tensor,
    thresholds_C: Tensor,
    kind: str,
    temperature: float = 1.0,
) -> Tensor:
    """The class to which each row likely belongs instead of its label, if the label is an issue.

    A row reaches the classes whose probability is at least their threshold − `SLACK`. The class is
    the only one that it reaches; or, of a row that reaches several, the most probable of all
    classes. The label is no issue if it is this class, or if no probability exceeds that of the
    label by more than `SLACK`. Of equally probable classes, the lowest counts.

    Args:
        x_NC: as for `label_confidence`.
        rows_n: as for `label_confidence`.
        labels_n: as for `label_confidence`.
        thresholds_C: [C] float64; NaN for classes that no row reaches.
        kind: as for `label_confidence`.
        temperature: as for `label_confidence`.

    Returns:
        [n] int64, on the device of the matrix; -1 if the label is no issue, and for invalid rows.
    """
    classes_n = torch.empty_like(rows_n)
    least_C = thresholds_C - SLACK
    for block in _blocks(x_NC, rows_n, kind, temperature):
        of = slice(block.start, block.start + block.n)
        weights_bC, first_b = block.weights[: block.n], block.first[: block.n, 0]
        top_b, total_b = block.top[: block.n], block.total[: block.n]
        label_b = weights_bC.gather(1, labels_n[of, None])[:, 0]
        is_reached_bC = weights_bC.div_(total_b[:, None]) >= least_C
        n_reached_b = is_reached_bC.sum(1)
        found_b = torch.where(n_reached_b > 1, first_b, is_reached_bC.byte().argmax(1))
        is_issue_b = (n_reached_b > 0) & (found_b != labels_n[of])
        is_issue_b &= top_b - label_b > SLACK * total_b
        classes_n[of] = found_b.masked_fill_(~is_issue_b, -1)
    return classes_n


def _blocks(x_NC: Tensor, rows_n: Tensor, kind: str, temperature: float) -> Iterator[_Block]:
    n_classes = x_NC.shape[1]
    block_bytes = _BLOCK_BYTES if x_NC.device.type == "cpu" else _GPU_BLOCK_BYTES
    size = max(_FEWEST_ROWS, block_bytes // (8 * n_classes))
    weights = x_NC.new_zeros(size, n_classes, dtype=torch.float64)
    for start in range(0, len(rows_n), size):
        places = rows_n[start : start + size]
        weights[: len(places)] = x_NC[places]
        is_bad = None
        if kind == "probs":
            is_bad = weights.amin(1) < LEAST_PROB
            weights.clamp_(min=0)
        else:
            # A row with NaN, +inf or no finite value gets a NaN: inf − inf.
            weights.sub_(weights.amax(1, keepdim=True)).div_(temperature).exp_()
        top, first = weights.max(1, keepdim=True)
        weights.scatter_(1, first, 0)
        rest, second = weights.sum(1), weights.amax(1)
        weights.scatter_(1, first, top)
        total = top[:, 0] + rest
        if is_bad is not None:
            off = (total - 1).abs() > probs_tolerance(x_NC.dtype, n_classes)
            total.masked_fill_(is_bad | off, torch.nan)
        yield _Block(start, len(places), weights, first, top[:, 0], second, rest, total)
