"""Which labels are wrong: the quality of given labels by the predictions of a model."""

import logging
from dataclasses import replace
from typing import Any

from fastal.labelled.confident_learning import ConfidentLearning, LabelQuality
from fastal.labelled.given_labels import with_labels
from fastal.pipeline.run_on_pool import in_numpy, run_on_pool
from fastal.pipeline.run_options import RunOptions
from fastal.sources import PathLike, Source, open_pool

_log = logging.getLogger("fastal")
_COLUMNS = ("self_confidence", "normalized_margin", "issues", "given", "suggested")


def label_quality(
    pool: Any,
    labels: Any,
    *,
    kind: str = "logits",
    temperature: float = 1.0,
    on_invalid: str = "raise",
    backend: str = "auto",
    chunk_bytes: int | None = None,
    checkpoint: PathLike | None = None,
    resume: bool = False,
    progress: bool = False,
) -> LabelQuality:
    """Which labels are likely wrong, by confident learning: two scores of each label, and issues.

    Let p be the probabilities of a row and k its label. Then

    - the self-confidence is p_k, and the normalized margin is (p_k − max p_j + 1) / 2, where j is
      every class except k;
    - the threshold of a class is the mean self-confidence of the rows that have it as their label;
    - a row reaches a class if its probability is at least the threshold of the class, less 1e-6;
    - the suggested class is the one class that the row reaches; if it reaches several, the most
      probable of all classes (ties go to the lower class);
    - the label is an issue if another class is suggested, and the most probable class exceeds the
      label by more than 1e-6.

    These are the definitions of cleanlab 2: the scores are those of
    `cleanlab.rank.get_label_quality_scores` (methods "self_confidence" and "normalized_margin"),
    the thresholds those of `cleanlab.count.get_confident_thresholds`, the issues those of
    `cleanlab.filter.find_label_issues(filter_by="confident_learning")`, and the suggested class is
    that of `cleanlab.count.compute_confident_joint`. The paper suggests, of several classes that a
    row reaches, the most probable of these. It has no 1e-6.

    The predictions should be out of sample: a model that was trained on these labels agrees with
    their errors.

    Args:
        pool: [N, C] predictions with C >= 2; any pool that `fastal.select` takes and that can be
            read again, such as a list of arrays, but not a generator. It is read twice.
        labels: the label of each row, [N] integers from 0 to C - 1, as an array or a list; None for
            a row without a label, which is then left out. Or a .parquet, .csv or .npy file with a
            column `label`, `cluster` or `group`: the first of these that it has. Its rows are
            matched by id if file and pool have ids, else by row number. An empty field of a .csv
            file, or a null, is a row without a label.
        kind: "logits", "probs" or "log_probs", as for `fastal.score`.
        temperature: logits are divided by it, as for `fastal.score`; see `fastal.fit_temperature`.
        on_invalid: "raise", or "skip" to leave out invalid rows and log their count. The rules are
            those of `fastal.score`. Whether a row without a label is valid does not matter.
        backend: "auto" or "torch". Probabilities are computed in float64.
        chunk_bytes: as for `fastal.select`.
        checkpoint: as for `fastal.select`; it has 12 bytes per row, and 24 per issue.
        resume: as for `fastal.select`.
        progress: as for `fastal.select`.

    Returns:
        LabelQuality. Small scores mean that the label is likely wrong. The relative error of the
        scores is at most 1e-5, for scores from 1.2e-38 up. No chunking changes a bit. Memory is 20
        bytes per row, 24 per issue, and a chunk.

    Raises:
        InvalidRows: with on_invalid="raise"; it names the first invalid rows.
        ValueError: a label is out of range, there is not one label for each row, no valid row has
            a label, or another argument is bad; the message names it.
        TypeError: labels are text, bools or floats, or another argument is bad.
        OSError: as `fastal.select`.

    Source: Northcutt, Jiang, Chuang, Confident Learning: Estimating Uncertainty in Dataset Labels,
    Journal of Artificial Intelligence Research 70 (2021), section 3.1.

    Example:
        >>> import fastal, numpy as np
        >>> logits = np.array([[3.0, 0.0], [2.0, 0.0], [0.0, 1.0], [4.0, 0.0]])
        >>> quality = fastal.label_quality(logits, [0, 0, 1, 1])
        >>> quality.normalized_margin.round(3)
        array([0.953, 0.881, 0.731, 0.018], dtype=float32)
        >>> quality.issues, quality.suggested
        (array([3]), array([0]))
    """
    reducer = ConfidentLearning(kind, temperature, on_invalid=on_invalid, backend=backend)
    opened = open_pool(pool)
    quality = run_on_pool(
        reducer, with_labels(opened, labels),
        RunOptions(chunk_bytes, checkpoint, resume, progress=progress),
        lambda found, _: _in_kind_of(opened, found),
    )  # fmt: skip
    warn_of_left_out(quality)
    return quality


def warn_of_left_out(quality: LabelQuality) -> None:
    """Logs how many rows are invalid or have no label."""
    if quality.invalid:
        _log.warning("%d rows are invalid: left out", quality.invalid)
    if quality.unlabelled:
        _log.warning("%d rows have no label: left out", quality.unlabelled)


def _in_kind_of(pool: Source, quality: LabelQuality) -> LabelQuality:
    columns = in_numpy(pool, *(getattr(quality, name) for name in _COLUMNS))
    return replace(quality, **dict(zip(_COLUMNS, columns, strict=True)))
