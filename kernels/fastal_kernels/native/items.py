"""Scores of items of several rows, such as sentences, images and sets of labels, on CPUs."""

from collections.abc import Sequence

import torch
from torch import Tensor

from fastal_kernels import native
from fastal_kernels.measures import UNCERTAINTY_SCORES, asked_for, probs_tolerance
from fastal_kernels.native.threads import in_threads

_AGGREGATES = ("", "mean", "sum", "max", "least", "highest")  # in the order of job.h


def item_scores(
    x: Tensor,
    measures: Sequence[str],
    kind: str,
    *,
    aggregate: str | int,
    temperature: float = 1.0,
    offsets: Tensor | None = None,
    mask: Tensor | None = None,
) -> tuple[list[Tensor], int]:
    """Scores of items, in the order of `measures`; see `fastal.ops.reference.items`.

    Args:
        x: [n, T, C], or with offsets [rows, C]; for labels, which are rows without classes, [n, T]
            or [rows]. Float16, bfloat16, float32 or float64; any strides; on the host.
        measures: names from `UNCERTAINTY_SCORES`.
        kind: "logits", "log_probs" or "probs"; or "multilabel_logits" or "multilabel_probs".
        aggregate: "mean", "sum", "max", "least"; a number for the mean of so many highest scores;
            or "" for the scores of the rows.
        temperature: logits are divided by it.
        offsets: [n + 1] int64, contiguous: the first row of each item, and the number of rows.
        mask: one bool for each row, contiguous; False for rows that do not count.

    Returns:
        A list of float32 tensors: [n], or one for each row. NaN for items without a valid row, and
        for rows that are invalid or do not count. And the number of items without a valid row.
    """
    are_labels, is_probs = kind.startswith("multilabel"), kind.endswith("probs")
    is_probs = is_probs and kind != "log_probs"
    n_items = len(x) if offsets is None else len(offsets) - 1
    length = x.shape[1] if offsets is None else 0
    n_rows = n_items * length if offsets is None else len(x)
    strides = [stride * x.element_size() for stride in x.stride()]
    item_stride = strides.pop(0) if offsets is None else 0
    longest = length
    if offsets is not None and n_items:
        longest = int(offsets.diff().max())
    n_classes = 2 if are_labels else x.shape[-1]
    asked = asked_for(measures)
    scores = torch.empty(
        len(asked), n_items if aggregate else n_rows, dtype=torch.float32, device="cpu"
    )
    outputs = dict(zip(asked, scores, strict=True))
    n_threads = min(torch.get_num_threads(), 1 + x.numel() // native.LEAST_SHARE)
    progress = torch.zeros(native.COUNTS, dtype=torch.int64, device="cpu")
    arguments = (
        native.variant(),
        x.data_ptr(),
        native.DTYPES.index(x.dtype),
        n_rows,
        n_classes,
        strides[0],
        0 if are_labels else strides[1],
        is_probs,
        are_labels,
        probs_tolerance(x.dtype, n_classes),
        1 / temperature,
        tuple(native.address_of(outputs.get(measure)) for measure in UNCERTAINTY_SCORES),
        n_items,
        length,
        item_stride,
        native.address_of(offsets),
        native.address_of(mask),
        _AGGREGATES.index("highest" if isinstance(aggregate, int) else aggregate),
        aggregate if isinstance(aggregate, int) else 0,
        longest,
        n_threads,
        progress.data_ptr(),
    )

    def work() -> object:
        _ = x, outputs, offsets, mask  # keeps the memory alive
        return native.call("items", arguments)

    if n_items:
        in_threads(work, n_threads, progress, n_items)
    return [outputs[measure] for measure in measures], int(progress[2])
