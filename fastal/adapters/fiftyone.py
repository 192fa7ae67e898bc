"""Scores and picks for the datasets of FiftyOne: fields are read at once and written at once.

`samples` is a dataset or a view. What must not be picked, such as samples that are labelled, is
left out of the view: `dataset.match_tags("labelled", bool=False)`.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import fiftyone as fo
import numpy as np
from numpy.typing import NDArray

import fastal
from fastal import diversity

__all__ = [
    "compute_representativeness",
    "compute_uncertainty",
    "compute_uniqueness",
    "open_samples",
    "select",
    "view_of",
]

Samples: TypeAlias = Any  # a dataset or a view

_MISSING = "raise", "skip"
_log = logging.getLogger("fastal")


def open_samples(samples: Samples, field: str, *, missing: str = "raise") -> Any:
    """The values of a field as a pool, whose ids are those of the samples.

    It is a pool for all strategies of fastal. `view_of` shows their picks.

    Args:
        samples: a dataset or a view, not empty.
        field: the name of a field:

            - one with a vector per sample, such as embeddings or `predictions.logits`: rows [N, C];
            - one with a `Classification` or `Classifications`: their `logits` are read;
            - one within a list of labels, such as `predictions.detections.confidence`, or within
              the frames of videos: items with a row per label or frame, see `fastal.items`. For
              lists of labels within frames, give the view `to_frames()`;
            - one with a number per sample: [N].
        missing: what to do with a sample whose value is None or has no labels, or one of whose
            labels or frames has no value: "raise", or "skip" to leave out the whole sample and log
            how many there are.

    Returns:
        The pool; its rows are in the order of the samples. The values are in memory, as floats.

    Raises:
        ValueError: a sample has no value, or one of another length; the message names the sample.
            Or there is no such field, or no sample with a value; or the field is within lists
            of lists.
        TypeError: `samples` or a value has the wrong type.

    Example:
        >>> import fiftyone as fo, numpy as np, fastal
        >>> from fastal.adapters.fiftyone import open_samples
        >>> dataset = fo.Dataset()
        >>> for name, logits in {"sure": [9.0, 0.0], "torn": [0.0, 0.1]}.items():
        ...     prediction = fo.Classification(logits=np.array(logits))
        ...     _ = dataset.add_sample(fo.Sample(f"{name}.png", prediction=prediction))
        >>> picks = fastal.select(open_samples(dataset, "prediction"), k=1)
        >>> dataset[picks.ids[0]].filename
        'torn.png'
    """
    ids, values = _read(samples, field, missing)
    return fastal.open_pool(values, ids=ids)


def view_of(
    samples: Samples,
    picks: fastal.Picks,
    *,
    rank_field: str | None = None,
    score_field: str | None = None,
) -> Any:
    """The picked samples as a view, best first.

    Args:
        samples: the dataset or view that the picks come from.
        picks: picks of a pool that `open_samples` made, or others with the ids of samples.
        rank_field: a field to write the ranks of the picks to, from 1. Samples that are not picked
            get None, so no rank of an earlier selection stays.
        score_field: a field to write the scores of the picks to, likewise.

    Returns:
        A `DatasetView`.

    Raises:
        ValueError: the picks have no ids, or ids that are not among the samples.

    Example:
        >>> import fiftyone as fo, fastal
        >>> from fastal.adapters.fiftyone import open_samples, view_of
        >>> dataset = fo.Dataset()
        >>> for number in (3.0, 7.0, 5.0):
        ...     _ = dataset.add_sample(fo.Sample(f"{number:.0f}.png", number=number))
        >>> picks = fastal.select(open_samples(dataset, "number"), k=2, by="score")
        >>> [sample.filename for sample in view_of(dataset, picks)]
        ['7.png', '5.png']
    """
    _check_samples("samples", samples)
    if picks.ids is None:
        raise ValueError("picks: wanted picks with the ids of samples, as open_samples gives them")
    ids = [str(given) for given in picks.ids]
    known = samples.values("id")
    if unknown := set(ids).difference(known):
        raise ValueError(
            f"picks: {len(unknown)} of {len(ids)} ids are not among the samples, such as "
            f"{min(unknown)!r}"
        )
    for name, values in (
        (rank_field, range(1, len(ids) + 1)),
        (score_field, np.asarray(picks.scores).tolist()),
    ):
        if name is not None:
            _write(samples, name, known, dict(zip(ids, values, strict=True)))
    return samples.select(ids, ordered=True)


def select(
    samples: Samples,
    field: str,
    k: int,
    strategy: Callable[..., fastal.Picks] = fastal.select,
    *,
    missing: str = "raise",
    rank_field: str | None = None,
    score_field: str | None = None,
    **options: Any,
) -> Any:
    """The k samples most worth labelling as a view, best first.

    Args:
        samples: a dataset or a view.
        field: see `open_samples`.
        k: how many samples to pick, at least 1.
        strategy: a function of the pool and k that returns picks: `fastal.select`, or one of
            `fastal.diversity`, such as `diversity.k_center`.
        missing: see `open_samples`.
        rank_field: see `view_of`.
        score_field: see `view_of`.
        options: arguments of the strategy, such as `by`, `kind`, `temperature`, `aggregate` and
            `on_invalid` of `fastal.select`.

    Returns:
        A `DatasetView`.

    Raises:
        InvalidRows: with on_invalid="raise"; it names the first sample that cannot be scored.
        ValueError, TypeError: as `open_samples` and the strategy.

    Example:
        >>> import fiftyone as fo, numpy as np
        >>> from fastal import diversity
        >>> from fastal.adapters.fiftyone import select
        >>> dataset = fo.Dataset()
        >>> for name, x in {"a": [1.0, 0.0], "b": [1.0, 0.1], "c": [0.0, 1.0]}.items():
        ...     _ = dataset.add_sample(fo.Sample(f"{name}.png", embedding=np.array(x)))
        >>> view = select(dataset, "embedding", 2, diversity.k_center)
        >>> [sample.filename for sample in view]
        ['a.png', 'c.png']
    """
    ids, values = _read(samples, field, missing)
    picks = _picked(ids, values, k, strategy, options)
    return view_of(samples, picks, rank_field=rank_field, score_field=score_field)


def compute_uncertainty(
    samples: Samples,
    field: str,
    uncertainty_field: str = "uncertainty",
    *,
    missing: str = "raise",
    **options: Any,
) -> None:
    """Writes the uncertainty of each sample into a field.

    It takes the place of `fiftyone.brain.compute_hardness`, whose values are those of by="entropy"
    times ln C.

    Args:
        samples: a dataset or a view.
        field: see `open_samples`.
        uncertainty_field: the field to write: floats in [0, 1], 1 = most uncertain. Samples that
            were left out get None.
        missing: see `open_samples`.
        options: arguments of `fastal.select`, such as `by` (default "margin"), `kind`,
            `temperature`, `aggregate` and `on_invalid`.

    Raises:
        InvalidRows: with on_invalid="raise"; it names the first sample that cannot be scored.
        ValueError, TypeError: as `open_samples` and `fastal.select`.

    Example:
        >>> import fiftyone as fo, numpy as np
        >>> from fastal.adapters.fiftyone import compute_uncertainty
        >>> dataset = fo.Dataset()
        >>> for logits in ([9.0, 0.0], [1.0, 1.0]):
        ...     prediction = fo.Classification(logits=np.array(logits))
        ...     _ = dataset.add_sample(fo.Sample(f"{logits}.png", prediction=prediction))
        >>> compute_uncertainty(dataset, "prediction", by="ratio")
        >>> [round(value, 3) for value in dataset.values("uncertainty")]
        [0.0, 1.0]
    """
    ids, values = _read(samples, field, missing)
    picks = _picked(ids, values, len(ids), fastal.select, options)
    _write_scores(samples, uncertainty_field, picks)


def compute_representativeness(
    samples: Samples,
    embeddings: str,
    representativeness_field: str = "representativeness",
    *,
    labelled: Samples | None = None,
    missing: str = "raise",
    **options: Any,
) -> None:
    """Writes into a field how similar each sample is to all samples together.

    The value is the score of `fastal.diversity.representative`: the cosine similarity of the
    embedding to the direction of all embeddings, minus that to the direction of the labelled ones.

    Args:
        samples: a dataset or a view.
        embeddings: the field of the embeddings, see `open_samples`.
        representativeness_field: the field to write: floats in [-1, 1], or in [-2, 2] with
            `labelled`; larger = more representative. Samples that were left out get None.
        labelled: the samples that are labelled, with the same field; None: there are none.
        missing: see `open_samples`; also of the labelled samples.
        options: arguments of `fastal.diversity.representative`, such as `on_invalid`.

    Raises:
        InvalidRows: with on_invalid="raise"; it names the first sample that is not finite.
        ValueError, TypeError: as `open_samples` and `fastal.diversity.representative`.

    Example:
        >>> import fiftyone as fo, numpy as np
        >>> from fastal.adapters.fiftyone import compute_representativeness
        >>> dataset = fo.Dataset()
        >>> for x in ([1.0, 0.0], [1.0, 0.1], [0.0, 1.0]):
        ...     _ = dataset.add_sample(fo.Sample(f"{x}.png", embedding=np.array(x)))
        >>> compute_representativeness(dataset, "embedding")
        >>> [round(value, 2) for value in dataset.values("representativeness")]
        [0.88, 0.92, 0.48]
    """
    ids, values = _read_embeddings(samples, embeddings, missing)
    known: list[str] = []
    training = np.empty((0, values.shape[1]), np.float32)
    if labelled is not None:
        known, training = _read_embeddings(labelled, embeddings, missing, "labelled")
    options = {"training": training, **options}
    with _naming_samples(known, "labelled sample", where="training"):
        picks = _picked(ids, values, len(ids), diversity.representative, options)
    _write_scores(samples, representativeness_field, picks)


def compute_uniqueness(
    samples: Samples,
    embeddings: str,
    uniqueness_field: str = "uniqueness",
    *,
    missing: str = "raise",
    on_invalid: str = "raise",
) -> None:
    """Writes into a field how far each sample is from the most similar other sample.

    The value is 1 - the cosine similarity of the two embeddings, within 2^-22. All pairs of samples
    are compared, in blocks: time grows with the square of the number of samples, and memory with
    the number.

    Args:
        samples: a dataset or a view of at least two samples.
        embeddings: the field of the embeddings, see `open_samples`.
        uniqueness_field: the field to write: floats in [0, 2], where samples with equal embeddings
            have 0. Samples that were left out get None.
        missing: see `open_samples`.
        on_invalid: "raise", or "skip" to leave out samples that are not finite.

    Raises:
        InvalidRows: with on_invalid="raise"; it names the first sample that is not finite.
        ValueError, TypeError: as `open_samples`.

    Example:
        >>> import fiftyone as fo, numpy as np
        >>> from fastal.adapters.fiftyone import compute_uniqueness
        >>> dataset = fo.Dataset()
        >>> for x in ([1.0, 0.0], [2.0, 0.0], [0.0, 1.0]):
        ...     _ = dataset.add_sample(fo.Sample(f"{x}.png", embedding=np.array(x)))
        >>> compute_uniqueness(dataset, "embedding")
        >>> dataset.values("uniqueness")
        [0.0, 0.0, 1.0]
    """
    ids, values = _read_embeddings(samples, embeddings, missing)
    if on_invalid == "skip":
        finite = np.isfinite(values).all(1)
        ids, values = [ids[place] for place in np.flatnonzero(finite)], values[finite]
    if len(ids) < 2:
        raise ValueError(
            f"samples: wanted at least 2 with {embeddings!r} to compare, got {len(ids)}"
        )
    nearest = np.full(len(ids), -1.0)
    # Each sample is compared with those before it, and then with those after it.
    for order in (np.arange(len(ids)), np.arange(len(ids))[::-1]):
        with _naming_samples([ids[place] for place in order]):
            found = diversity.deduplicate(
                values[order],
                np.ones((1, values.shape[1])),
                -1.0,
                memory_bytes=4 * values.size,
                on_invalid=on_invalid,
            )
        places = order[found.rows]
        nearest[places] = np.maximum(nearest[places], found.similarity)
    _write(
        samples, uniqueness_field, samples.values("id"),
        dict(zip(ids, (1 - nearest).tolist(), strict=True)),
    )  # fmt: skip


@contextmanager
def _naming_samples(ids: Sequence[str], what: str = "sample", where: str = "") -> Iterator[None]:
    """A context in which the error about an invalid row names its sample.

    Args:
        ids: of the samples.
        what: what they are.
        where: the argument that has the rows. Errors about others pass.
    """
    try:
        yield
    except fastal.InvalidRows as error:
        if error.where != where:
            raise
        raise error.located(f"{what} {ids[error.rows[0]]}") from None


def _picked(
    ids: list[str],
    values: Any,
    k: int,
    strategy: Callable[..., fastal.Picks],
    options: dict[str, Any],
) -> fastal.Picks:
    with _naming_samples(ids):
        return strategy(fastal.open_pool(values, ids=ids), k=k, **options)


def _write_scores(samples: Samples, field: str, picks: fastal.Picks) -> None:
    scores = np.asarray(picks.scores).tolist()
    _write(samples, field, samples.values("id"), dict(zip(picks.ids, scores, strict=True)))


def _write(samples: Samples, field: str, known: list[str], values: dict[str, Any]) -> None:
    """Writes the values by id; the other known samples get None."""
    samples.set_values(field, {given: values.get(given) for given in known}, key_field="id")


def _check_samples(name: str, samples: Samples) -> None:
    if not isinstance(samples, (fo.Dataset, fo.DatasetView)):
        raise TypeError(f"{name}: wanted a dataset or a view, got {type(samples).__name__}")


def _read(
    samples: Samples, field: str, missing: str, name: str = "samples"
) -> tuple[list[str], Any]:
    """The ids of the samples that have a value, and the values: an array [N, ...], or items."""
    _check_samples(name, samples)
    if missing not in _MISSING:
        raise ValueError(f"missing: wanted {' or '.join(_MISSING)}, got {missing!r}")
    path, has_rows = _path(samples, field)
    ids, found = samples.values(["id", path])
    if not ids:
        raise ValueError(f"{name}: wanted at least one sample, got none")
    absent = [given for given, value in zip(ids, found, strict=True) if _is_missing(value)]
    if len(absent) == len(ids):
        raise ValueError(f"{path}: none of {len(ids)} samples has a value")
    if absent:
        if missing == "raise":
            raise ValueError(
                f"{path}: sample {absent[0]} has no value; {len(absent)} such among {len(ids)} "
                "samples. missing='skip' leaves them out"
            )
        _log.warning("%d of %d samples have no %s: left out", len(absent), len(ids), path)
    there = [pair for pair in zip(ids, found, strict=True) if not _is_missing(pair[1])]
    ids = [given for given, _ in there]
    arrays = [_array(path, *pair) for pair in there]
    odd = next((place for place, x in enumerate(arrays) if not _fits(x, arrays[0], has_rows)), None)
    if odd is not None:
        raise ValueError(
            f"{path}: sample {ids[odd]} has a value of shape {arrays[odd].shape}, sample {ids[0]} "
            f"one of shape {arrays[0].shape}; wanted equal shapes"
        )
    return ids, fastal.items(arrays) if has_rows else np.stack(arrays)


def _read_embeddings(
    samples: Samples, field: str, missing: str, name: str = "samples"
) -> tuple[list[str], NDArray[Any]]:
    ids, values = _read(samples, field, missing, name)
    if not isinstance(values, np.ndarray) or values.ndim != 2:
        raise ValueError(f"embeddings: wanted a field with a vector per sample, got {field!r}")
    return ids, values


def _path(samples: Samples, field: str) -> tuple[str, bool]:
    """The path of the numbers of a field, and whether a sample has several rows of them."""
    if not isinstance(field, str):
        raise TypeError(f"field: wanted a name, got {field!r}")
    found = samples.get_field(field)
    if found is None:
        wanted = ", ".join(samples.get_field_schema())
        raise ValueError(f"field: there is no field {field!r}; wanted one of {wanted}, or a path")
    path = field
    if isinstance(found, fo.EmbeddedDocumentField):
        if not issubclass(found.document_type, (fo.Classification, fo.Classifications)):
            raise ValueError(
                f"field: {field!r} holds {found.document_type.__name__}; wanted the path of its "
                "numbers, such as predictions.detections.confidence"
            )
        path = f"{field}.logits"
    parts = path.split(".")
    above = (samples.get_field(".".join(parts[:end])) for end in range(1, len(parts)))
    n_levels = (parts[0] == "frames") + sum(isinstance(part, fo.ListField) for part in above)
    if n_levels > 1:
        raise ValueError(
            f"field: {path!r} is within {n_levels} levels of lists; wanted one list of labels or "
            "frames for each sample. For the labels of frames, give samples.to_frames()"
        )
    return path, n_levels == 1


def _is_missing(value: Any) -> bool:
    """Whether a sample, or one of its labels or frames, has no value."""
    if value is None:
        return True
    return isinstance(value, list) and (not value or any(part is None for part in value))


def _array(path: str, given: str, value: Any) -> Any:
    try:
        found = np.asarray(value)
    except ValueError:
        raise ValueError(f"{path}: the rows of sample {given} have different lengths") from None
    if found.dtype.kind not in "iuf":
        raise TypeError(f"{path}: wanted numbers, sample {given} has {found.dtype}")
    return found if found.dtype.kind == "f" else found.astype(np.float64)


def _fits(x: Any, first: Any, has_rows: bool) -> bool:
    """Whether two samples have values of one shape; the number of rows of a sample is its own."""
    return bool(x.ndim == first.ndim and x.shape[has_rows:] == first.shape[has_rows:])
