"""Scores of cleanlab that fastal computes, and the graph of neighbours that its Datalab takes.

Scores are oriented as cleanlab's are: a small score means that a row should be labelled next, or
that its label is likely wrong. Those of fastal are the other way round: large = uncertain.
"""

import operator
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from cleanlab import multiannotator
from cleanlab.internal.multiannotator_utils import find_best_temp_scaler, temp_scale_pred_probs
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from torch import Tensor

import fastal

__all__ = ["get_active_learning_scores", "get_label_quality_scores", "knn_graph"]

Metric: TypeAlias = Literal["cosine", "euclidean"]

_LEAST_PROBABILITY = 1e-30  # what cleanlab raises smaller ones to, before it takes logarithms
_CHUNK_VALUES = 1 << 22  # probabilities whose logarithms are in memory at once
_TILE = 2048  # rows whose distances to as many others are in memory at once
_MOST = 1e150  # coordinates whose squares are finite


def get_active_learning_scores(
    labels_multiannotator: Any = None, pred_probs: Any = None, pred_probs_unlabeled: Any = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scores of ActiveLab, for rows with labels of one or several annotators and for rows without.

    It takes the place of `cleanlab.multiannotator.get_active_learning_scores`. The scores of rows
    without labels differ by less than 1e-6. cleanlab fits what the labels decide: the temperature,
    and the weights of the model and of the annotators.

    Args:
        labels_multiannotator: [N, M], the classes that M annotators gave, from 0 to K - 1, and NaN
            where one gave none: an array or a DataFrame. None: no row has labels.
        pred_probs: [N, K], probabilities of these rows, out of sample; needed with labels.
        pred_probs_unlabeled: [U, K], probabilities of rows without labels, K >= 2; float16, float32
            or float64. None: there are no such rows.

    Returns:
        The scores of the rows with labels [N] and of those without [U], from 0 to 1, in the same
        scale. **Small = label next.** For a row without labels, let p be its largest probability
        after the temperature, and w and a the weights of the model and of an average annotator.
        Then the score is (w p + a / K) / (w + a), which orders rows as least confidence does. If
        there are no labels, or each row has one, w = a and the temperature is 1.

    Raises:
        ValueError: of a row without labels, the probabilities are NaN, negative or sum to another
            number than 1; or another argument is bad. The message names it.
        TypeError: an argument is of a wrong type.

    Source: Goh & Mueller, ActiveLab: Active Learning with Re-Labeling by Multiple Annotators
    (arXiv:2301.11856).

    Example:
        >>> import numpy as np
        >>> from fastal.adapters.cleanlab import get_active_learning_scores
        >>> pool = np.array([[0.9, 0.1], [0.5, 0.5], [0.6, 0.4]])
        >>> _, scores = get_active_learning_scores(pred_probs_unlabeled=pool)
        >>> scores.round(3), scores.argsort()[:2]
        (array([0.7 , 0.5 , 0.55]), array([1, 2]))
    """
    labelled, temperature, share = np.empty(0), 1.0, 0.5
    if pred_probs is not None or pred_probs_unlabeled is None:
        labelled, temperature, share = _labelled_rows(labels_multiannotator, pred_probs)
    if pred_probs_unlabeled is None:
        return labelled, np.empty(0)
    found = np.asarray(pred_probs_unlabeled)
    if found.ndim != 2 or (pred_probs is not None and found.shape[1] != np.shape(pred_probs)[1]):
        known = "" if pred_probs is None else f" = {np.shape(pred_probs)[1]}, as of pred_probs"
        raise ValueError(
            f"pred_probs_unlabeled: wanted [rows, classes{known}], got shape {found.shape}"
        )
    n_classes = found.shape[1]
    try:
        confidence = _largest_probability(found, temperature)
    except fastal.InvalidRows as error:
        raise ValueError(f"pred_probs_unlabeled: {error}") from error
    return labelled, share * confidence + (1 - share) / n_classes


def _labelled_rows(labels: Any, pred_probs: Any) -> tuple[NDArray[np.float64], float, float]:
    """What the rows with labels decide.

    Returns:
        Their scores [N], the temperature, and the share of the model in the weights of the model
        and of one annotator.
    """
    annotators = labels
    if hasattr(labels, "to_numpy"):
        annotators = labels.to_numpy(dtype=np.float64, na_value=np.nan)
    if not _have_several_labels(annotators):
        scores, _ = multiannotator.get_active_learning_scores(annotators, pred_probs)
        return scores, 1.0, 0.5
    temperature = float(find_best_temp_scaler(annotators, pred_probs))
    found = multiannotator.get_label_quality_multiannotator(
        annotators, temp_scale_pred_probs(pred_probs, temperature), return_weights=True,
        return_annotator_stats=False, return_detailed_quality=False, verbose=False,
    )  # fmt: skip
    of_model, of_annotators = found["model_weight"], found["annotator_weight"]
    of_one = np.mean(of_annotators)
    quality = found["label_quality"]["consensus_quality_score"].to_numpy()
    known = of_model + np.where(np.isnan(annotators), 0, of_annotators).sum(1)
    scores = (known * quality + of_one / np.shape(pred_probs)[1]) / (known + of_one)
    return scores, temperature, float(of_model / (of_model + of_one))


def _have_several_labels(annotators: Any) -> bool:
    """Whether some row has several labels; False if these are not labels, which cleanlab says."""
    if not isinstance(annotators, np.ndarray) or annotators.ndim != 2:
        return False
    return bool((np.sum(~np.isnan(annotators), axis=1) != 1).any())


def _largest_probability(p: NDArray[Any], temperature: float) -> NDArray[np.float64]:
    """The largest probability of each row [U] of [U, K], after the temperature."""
    if temperature == 1:
        return _certainty(fastal.score(p, kind="probs"), p.shape[1])
    fastal.score(p, kind="probs")  # logarithms would hide rows that are no distribution
    found = np.empty(len(p))
    n_rows = max(_CHUNK_VALUES // p.shape[1], 1)
    for first in range(0, len(p), n_rows):
        chunk = np.log(np.maximum(p[first : first + n_rows], _LEAST_PROBABILITY, dtype=np.float64))
        scores = fastal.score(chunk, kind="log_probs", temperature=temperature)
        found[first : first + n_rows] = _certainty(scores, p.shape[1])
    return found


def _certainty(scores: Any, n_classes: int) -> NDArray[np.float64]:
    """The largest probability of each row, from its least confidence."""
    least = np.asarray(scores.least_confidence, np.float64)
    return 1 - least * (n_classes - 1) / n_classes


def get_label_quality_scores(
    labels: Any, pred_probs: Any, *, method: str = "self_confidence", kind: str = "probs"
) -> NDArray[np.float32]:
    """How well the predictions of a model agree with given labels.

    It takes the place of `cleanlab.rank.get_label_quality_scores`. It also takes logits, and files
    that do not fit into memory. It has no `adjust_pred_probs`. `fastal.label_quality` says which
    labels are issues, too.

    Args:
        labels: [N], the class of each row, from 0 to K - 1; as for `fastal.label_quality`.
        pred_probs: [N, K], out of sample: any pool that `fastal.label_quality` takes; an array for
            "confidence_weighted_entropy", which reads it three times. The others read it twice.
        method: one of the following, where c is the probability of the label.

            - "self_confidence": c.
            - "normalized_margin": (c - q + 1) / 2, where q is the largest of the other classes.
            - "confidence_weighted_entropy": log(1 + z) / z, where z is the entropy, scaled to
              [0, 1], divided by c. A certain row has 1 if its label is right, where cleanlab says
              0, and 0 if its label is wrong.
        kind: "probs", "logits" or "log_probs", as for `fastal.score`.

    Returns:
        [N] float32, from 0 to 1. **Small = the label is likely wrong.** NaN for rows without a
        label.

    Raises:
        InvalidRows, ValueError, TypeError, OSError: as `fastal.label_quality`; or a bad method.

    Example:
        >>> import numpy as np
        >>> from fastal.adapters.cleanlab import get_label_quality_scores
        >>> p = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]])
        >>> get_label_quality_scores([0, 1, 1], p, method="normalized_margin")
        array([0.9, 0.8, 0.3], dtype=float32)
    """
    methods = "self_confidence", "normalized_margin", "confidence_weighted_entropy"
    if method not in methods:
        raise ValueError(f"method: wanted one of {methods}, got {method!r}")
    is_weighted = method == "confidence_weighted_entropy"
    scores = fastal.score(pred_probs, kind=kind) if is_weighted else None
    quality = fastal.label_quality(pred_probs, labels, kind=kind)
    if scores is None:
        return np.asarray(getattr(quality, method))
    entropy = np.asarray(scores.entropy, np.float64)
    confidence = np.asarray(quality.self_confidence, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = entropy / confidence
        found = np.log1p(z) / z
    found[z == 0] = 1
    found[confidence == 0] = 0
    return found.astype(np.float32)


def knn_graph(features: Any, k: int = 10, metric: Metric | None = None) -> csr_matrix:
    """The exact graph of the k nearest neighbours of each row, for `Datalab.find_issues`.

    All distances are computed in float64, a block of rows at a time, on the device of the
    features. Memory is 16 bytes per neighbour, and the block. Euclidean distances are computed from
    the differences of the rows, however far the rows are from each other and from the origin.
    Cosine distances are those of differences too, but the k neighbours are chosen by products.

    Args:
        features: [N, D] with N > k: a NumPy array, which may be mapped, or a torch tensor.
        k: how many neighbours, at least 1. The row itself is none.
        metric: "cosine", from 0 to 2, or "euclidean"; None is what cleanlab takes: cosine if D > 3,
            else Euclidean. A row of zeros has the cosine distance 1 to all rows except other rows
            of zeros.

    Returns:
        [N, N] in compressed sparse rows. Each row has k distances, float64, the nearest first; ties
        go to the lower row. Rows that are equal have a stored distance of 0. Of neighbours whose
        distances are equal within rounding, any may be among the k: Euclidean distances that differ
        by less than a relative D * 1e-15, or are below 1e-150, and cosine distances that differ by
        less than D * 1e-15, such as those of all directions less than 1e-8 apart.

    Raises:
        ValueError: the features are not [N, D], have NaN or an infinite value, or k or the metric
            is bad; the message names it.
        TypeError: k is no integer, or the features are not numbers.

    Example:
        >>> import numpy as np
        >>> from fastal.adapters.cleanlab import knn_graph
        >>> graph = knn_graph(np.array([[0.0], [1.0], [5.0]]), k=1)
        >>> graph.toarray()
        array([[0., 1., 0.],
               [1., 0., 0.],
               [0., 4., 0.]])
    """
    points = _Points(features, metric)
    try:
        k = operator.index(k)
    except TypeError:
        raise TypeError(f"k: wanted an integer, got {k!r}") from None
    if not 1 <= k < points.n:
        raise ValueError(f"k: wanted 1 to {points.n - 1}, the rows less one, got {k}")
    distances, neighbours = points.in_order(points.nearest(k))
    starts = np.arange(0, points.n * k + 1, k)
    return csr_matrix((distances.ravel(), neighbours.ravel(), starts), (points.n, points.n))


class _Points:
    """Points in Euclidean space that have the neighbours of the features.

    For cosine distances they are the units along the features; half their squared distance is the
    cosine distance. Rows of zeros become units along an axis of their own.

    Args:
        features: as for `knn_graph`.
        metric: as for `knn_graph`.

    Raises:
        ValueError, TypeError: a bad argument; the message names it.
    """

    def __init__(self, features: Any, metric: str | None) -> None:
        if not isinstance(features, Tensor):
            features = np.asarray(features)
            if features.dtype.kind not in "biuf":
                raise TypeError(f"features: wanted real numbers, got {features.dtype}")
        elif features.is_complex():
            raise TypeError(f"features: wanted real numbers, got {features.dtype}")
        self._features = features
        shape = tuple(features.shape)
        if len(shape) != 2:
            raise ValueError(f"features: wanted [rows, values], got shape {shape}")
        metric = metric or ("cosine" if shape[1] > 3 else "euclidean")
        if metric not in ("cosine", "euclidean"):
            raise ValueError(f"metric: wanted 'cosine', 'euclidean' or None, got {metric!r}")
        self.n = shape[0]
        self._is_cosine = metric == "cosine"
        self._check()

    def _check(self) -> None:
        """ValueError if a feature is not finite, or its square is not."""
        for first in range(0, self.n, _TILE):
            rows = self._float64(slice(first, first + _TILE))
            bad = ~(rows.abs() < _MOST).all(1)
            if bad.any():
                row = first + int(bad.nonzero()[0])
                raise ValueError(f"features: row {row} has NaN, or a value beyond {_MOST:g}")

    def _float64(self, rows: slice | NDArray[Any]) -> Tensor:
        part = self._features[rows]
        if not isinstance(part, Tensor):  # it is copied: mapped files are read-only
            part = torch.from_numpy(np.array(part, np.float64))
        return part.to(torch.float64)

    def _at(self, rows: slice | NDArray[Any]) -> Tensor:
        """The points of rows, [n, D or D + 1] float64."""
        x = self._float64(rows)
        if not self._is_cosine:
            return x
        largest = x.abs().amax(1, keepdim=True)
        is_zero = largest == 0
        x = x / largest.masked_fill(is_zero, 1.0)  # so that no square is 0 or infinite
        length = torch.linalg.vector_norm(x, dim=1, keepdim=True).masked_fill(is_zero, 1.0)
        return torch.cat((x / length, is_zero.to(x.dtype)), 1)

    def nearest(self, k: int) -> NDArray[Any]:
        """The k nearest neighbours of all rows, [N, k] integers, in any order."""
        best = np.full((self.n, k), -np.inf)
        neighbours = np.zeros((self.n, k), np.int32 if self.n < 1 << 31 else np.int64)

        def add(rows: slice, nearness: Tensor, first: int) -> None:
            """Takes the nearness [n, m] of rows to the rows from `first` on into account."""
            found, at = nearness.topk(min(k, nearness.shape[1]))
            both = np.concatenate((best[rows], found.cpu().numpy()), 1)
            names = np.concatenate((neighbours[rows], at.cpu().numpy() + first), 1)
            chosen = both.argpartition(-k, 1)[:, -k:]
            best[rows] = np.take_along_axis(both, chosen, 1)
            neighbours[rows] = np.take_along_axis(names, chosen, 1)

        tiles = [slice(start, min(start + _TILE, self.n)) for start in range(0, self.n, _TILE)]
        for number, of_x in enumerate(tiles):
            x = self._at(of_x)
            for of_y in tiles[number:]:
                if of_y is of_x:
                    nearness = self._nearness(x, x)
                    nearness.fill_diagonal_(-torch.inf)  # a row is no neighbour of itself
                else:
                    nearness = self._nearness(x, self._at(of_y))
                    add(of_y, nearness.T, of_x.start)
                add(of_x, nearness, of_y.start)
        return neighbours

    def _nearness(self, x: Tensor, y: Tensor) -> Tensor:
        """How near points [n, D] are to points [m, D], [n, m]; large = near."""
        if self._is_cosine:
            return x @ y.T
        # Products would lose all distances that are small beside the coordinates.
        return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist").neg_()

    def in_order(self, neighbours: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[Any]]:
        """The distances [N, k] of neighbours [N, k], and the neighbours, the nearest first."""
        neighbours = np.sort(neighbours, 1)  # ties go to the lower row
        distances = np.empty(neighbours.shape)
        n_rows = max(_TILE // neighbours.shape[1], 1)
        for first in range(0, self.n, n_rows):
            rows = slice(first, first + n_rows)
            x, y = self._at(rows), self._at(neighbours[rows].ravel())
            apart = x[:, None] - y.view(len(x), -1, y.shape[1])
            squares = apart.square_().sum(2)
            found = (squares / 2 if self._is_cosine else squares.sqrt_()).cpu().numpy()
            order = found.argsort(1, kind="stable")
            distances[rows] = np.take_along_axis(found, order, 1)
            neighbours[rows] = np.take_along_axis(neighbours[rows], order, 1)
        return distances, neighbours
