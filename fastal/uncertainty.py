"""Uncertainty sampling: scores of a matrix, and the most uncertain rows of any pool."""

import logging
from dataclasses import replace
from typing import Any, TypedDict

from fastal.base.argument_values import LABEL_KINDS
from fastal.base.arrays import converter_for, is_traced, traceable
from fastal.base.items import Items
from fastal.ops.formulas import UNCERTAINTY_SCORES, DrawsScores, Scores
from fastal.picks.picks import Picks
from fastal.pipeline.engine import Engine
from fastal.pipeline.run_on_pool import pick_from_pool
from fastal.pipeline.run_options import RunOptions
from fastal.scoring import compiled
from fastal.scoring.by_draws import DrawsScore
from fastal.scoring.by_items import ItemScore
from fastal.scoring.measure import Measure
from fastal.scoring.measure_for import By, uncertainty_of
from fastal.scoring.model_output import ModelOutput
from fastal.scoring.scorer import Scorer
from fastal.scoring.scoring_options import ScoringOptions
from fastal.selection.selector_for import selector_for
from fastal.sources import PathLike
from fastal.sources.draws import Draws
from fastal.sources.source import Source

_log = logging.getLogger("fastal")


class SelectOptions(TypedDict, total=False):
    """The keyword arguments of `select` that other strategies pass on to it."""

    on_invalid: str
    backend: str
    groups: Any
    per_group: int | None
    noise: str | None
    seed: int
    beta: float
    chunk_bytes: int | None
    checkpoint: PathLike | None
    resume: bool
    exclude: Any
    among: Any
    ties: str
    progress: bool
    engine: str | Engine


def score(
    logits: Any,
    *,
    kind: str = "logits",
    temperature: float = 1.0,
    class_axis: int = -1,
    draws_axis: int | None = None,
    aggregate: str | None = None,
    on_invalid: str = "raise",
    backend: str = "auto",
) -> Scores | DrawsScores:
    """All four uncertainty scores of every row, from one read of the matrix.

    Let p = softmax(logits, 1), p1 >= p2 the two largest probabilities of a row, and n the number of
    classes. Then least_confidence = n (1 − p1) / (n − 1), margin = 1 − (p1 − p2),
    ratio = p2 / p1 and entropy = −Σ p log p / log n. The relative error against these formulas in
    float64 is at most 1e-5, for scores from 1.2e-38 up: float32 holds smaller ones with fewer bits.

    Args:
        logits: [N, C] array with C >= 2; float16, bfloat16, float32 or float64; any strides, any
            device; torch, NumPy or another DLPack producer. −inf excludes a class. Or

            - items of several rows: [N, T, C], [N, H, W, C], [N, C, H, W] with class_axis=1, or
              `fastal.items`, which also takes a mask and items of different lengths;
            - labels that are independent: [N, labels] or [N, ...] with a kind of labels, also in
              `fastal.items`;
            - draws: [N, S, C] with draws_axis=1, or `fastal.draws`.
        kind: what the array holds: "logits", "probs" or "log_probs"; or, for labels that are
            independent, "multilabel_logits" or "multilabel_probs". It is never guessed. Rows of
            probabilities are divided by their sum. Log-probabilities are scored as logits: their
            softmax is the distribution itself. Each label is a problem of two classes, with the
            logits x and 0, or the probabilities p and 1 − p.
        temperature: logits are divided by it; see `fastal.fit_temperature`.
        class_axis: the axis of the classes, of arrays with several rows an item: 1 for images
            [N, C, H, W], which are read in place.
        draws_axis: the axis of the draws, of arrays [N, S, C] in any order: the passes of a network
            with dropout, or the members of an ensemble.
        aggregate: how the scores of an item's rows, such as tokens, pixels or labels, become one:
            "mean", "max", "sum", "least"; or "top10" for the mean of the 10 highest (any number).
            Rows that are masked, padding (all values are -100) or invalid do not count. None: each
            row keeps its score.
        on_invalid: "raise", or "skip" to give invalid rows NaN and log their count. A row is
            invalid if it has NaN, +inf or no finite value. A row of probabilities is also invalid
            if a value is below -1e-3 or the sum differs from 1 by more than 1e-3, or by more than
            rounding to the dtype explains. Values from -1e-3 to 0 count as 0. An item is invalid
            if none of its rows counts, and a row of draws if one of its draws is invalid.
        backend: "auto", "triton", "native" or "torch"; see `fastal.backend_reasons`.

    Returns:
        Scores of four [N] float32 arrays of the kind of `logits`, each in [0, 1], 1 = most
        uncertain; a sum has no upper bound. If rows keep their scores, the arrays have the shape
        of the rows, with NaN for rows that do not count: [N, T] for [N, T, C], [N, H, W] for
        images, [N, labels] for labels, and [rows of all items] for items of different lengths.
        With `draws_axis`, DrawsScores. Within `torch.compile` (also with fullgraph=True) and
        `torch.jit.trace`, a call with the defaults of all but `kind` is one operator.

    Raises:
        InvalidRows: with on_invalid="raise"; it names the first invalid rows and their count.
        ValueError, TypeError: a bad argument; the message names it, what came and what was wanted.

    Source: Munro, Human-in-the-Loop Machine Learning, section 3.2.

    Example:
        >>> import fastal, numpy as np
        >>> scores = fastal.score(np.array([[0.0, 0.0, 9.0], [1.0, 1.0, 0.0]]))
        >>> scores.margin.round(3)
        array([0., 1.], dtype=float32)
        >>> tokens = np.array([[[0.0, 9.0], [1.0, 1.0]], [[0.0, 9.0], [-100.0, -100.0]]])
        >>> fastal.score(tokens, aggregate="mean").ratio.round(3)  # of two sentences
        array([0.5, 0. ], dtype=float32)
        >>> fastal.score(np.array([[0.0, 9.0]]), kind="multilabel_logits").ratio.round(3)
        array([[1., 0.]], dtype=float32)
    """
    if isinstance(logits, Draws):
        logits, draws_axis = logits.whole(), 1 if draws_axis is None else draws_axis
    output = ModelOutput(kind, temperature, class_axis, draws_axis, aggregate)
    if is_traced():
        if not output.is_plain:
            raise ValueError("score: in a traced call, wanted the defaults of all but kind")
        return Scores(*compiled.score(traceable(logits, kind), kind, on_invalid, backend).unbind())
    if isinstance(logits, (Source, list, tuple)):
        raise TypeError(
            f"{kind}: wanted an array (torch, NumPy, DLPack), got {type(logits).__name__}; of a "
            "list with one array for each item, give fastal.items(list); of one for each draw, "
            "fastal.draws(list)"
        )
    measure = _measure_of(logits, output)
    scorer = Scorer(measure, ScoringOptions(on_invalid, backend))
    if isinstance(measure, ItemScore) and aggregate is None:
        of_items = ItemScore(UNCERTAINTY_SCORES[:1], replace(output, aggregate="max"))
        scores = scorer.score(logits, measure.scores, lambda rows: of_items.scores(rows)[0][0])
    else:
        scores = scorer.score(logits)
    if scorer.invalid:
        _log.warning("%d of %d rows are invalid: NaN", scorer.invalid, scorer.next_row)
    given = logits.values if isinstance(logits, Items) else logits
    names = DrawsScores if isinstance(measure, DrawsScore) else Scores
    return names(*map(converter_for(given), scores))


def _measure_of(logits: Any, output: ModelOutput) -> Measure:
    """The measure of all scores of an array."""
    if output.draws_axis is not None:
        return DrawsScore(DrawsScores._fields, output)
    has_rows = isinstance(logits, Items) or len(getattr(logits, "shape", ())) > 2
    if has_rows or output.kind in LABEL_KINDS or output.aggregate is not None:
        return ItemScore(UNCERTAINTY_SCORES, output)
    return uncertainty_of(UNCERTAINTY_SCORES, output)


def select(
    pool: Any,
    k: int | None = None,
    by: By = "margin",
    *,
    kind: str = "logits",
    temperature: float = 1.0,
    class_axis: int = -1,
    draws_axis: int | None = None,
    aggregate: str | None = None,
    on_invalid: str = "raise",
    backend: str = "auto",
    groups: Any = None,
    per_group: int | None = None,
    noise: str | None = None,
    seed: int = 0,
    beta: float = 1.0,
    chunk_bytes: int | None = None,
    checkpoint: PathLike | None = None,
    resume: bool = False,
    exclude: Any = None,
    among: Any = None,
    ties: str = "first",
    progress: bool = False,
    engine: str | Engine = "local",
) -> Picks:
    """The k rows of a pool most worth labelling, in one pass, exact and deterministic.

    Args:
        pool: [N, C] array in memory; a file, a folder, a glob or a list of these (rows are numbered
            across files in path order); an iterable of [n, C] arrays, such as `predictions`; or a
            pool that `open_pool` returned, which also names the columns of scores, ids and groups.
            An item may have several rows, as [N, T, C] or `fastal.items`, several labels, or
            several draws, as [N, S, C] or `fastal.draws`; see `score`. The item is what is picked,
            counted, grouped and excluded. A list of arrays is a pool in chunks: of a list with an
            array for each item, give fastal.items(list).
        k: how many rows to pick, at least 1. If k >= N, every valid row is picked. Required unless
            `per_group` is given.
        by: "least_confidence", "margin", "ratio" or "entropy" (see `score`), with `draws_axis` of
            the mean of the draws; for draws also "bald", "mean_entropy", "expected_entropy",
            "variation_ratio", "vote_entropy", "kl_to_mean" or "variance" (see `DrawsScores`); a
            measure, such as `fastal.Head` or those of `fastal.diversity`; or a callable from a
            chunk, given as a torch tensor, to [n] scores (larger = more worth labelling), which are
            rounded to float32 and ranked as such. "score" ranks a pool [N] of scores of your own in
            the same way. "random" picks random rows, for a baseline. A row's score is then a
            multiple of 2^-24 in [0, 1), by its number and the seed. The values are not read, and no
            row is invalid.
        kind: as in `score`.
        temperature: as in `score`.
        class_axis: as in `score`.
        draws_axis: as in `score`; for the scores of draws alone, the default is 1. Axis 0 counts
            the rows. If it counts the draws, give fastal.draws(x, axis=0).
        aggregate: as in `score`; required for items of several rows and for labels.
        on_invalid: "raise" at the first chunk with an invalid row, or "skip" to leave such rows
            out and count them in the picks' `invalid`.
        backend: as in `score`.
        groups: for quotas: a label for each row [N]; "predicted" for the predicted classes of rows
            [C], which items of several rows and draws do not have; a `diversity.CosineClusters`,
            for the clusters of the rows of the pool beside (`beside` of `open_pool`), which is read
            first, in one pass; or a .parquet, .csv or .npy file with a column `cluster` or `group`,
            such as `fastal assign` writes. The rows of the file are matched by id if file and pool
            have ids, else by row number. Rows without a cluster are the group -1. None: the pool's
            own labels (`group_column`).
        per_group: with k, the most rows to pick of a group; without k, so many rows of each
            group, or all its rows if it has fewer.
        noise: None picks the k best rows. "power", "softmax" and "softrank" draw rows at random,
            better rows more likely; see `Selector`.
        seed: of the noise, by="random" and ties="random", from 0 to 2^64 - 1. The same seed gives
            the same picks, for any chunks.
        beta: the weight of the scores against the noise: larger = less random.
        chunk_bytes: how many bytes of the pool to read at once; None: chosen by the pool.
        checkpoint: a folder to save the state in, every 30 seconds; for pools of files. Rows read
            after the last save are read again when the run is resumed.
        resume: continue from the checkpoint, if there is one. A checkpoint of another pool, k or
            other argument is refused.
        exclude: rows that must not be picked, such as those that are labelled: row numbers; a mask
            [N]; picks; a file of picks (.csv, .jsonl, .parquet or .json, as written here or as
            exported by Label Studio, Prodigy, doccano or Argilla) or another table with a column
            `row` or `id`; or a list of several of these. Picks are matched by id if they and the
            pool have ids, else by row number. Such rows count in no quota, and it does not matter
            whether they are valid. Ids that are not in the pool are counted in a warning.
        among: the only rows that may be picked, in the same forms, such as the picks of another
            strategy. If they are few, only they are read. Ids that are not in the pool are an
            error.
        ties: of rows with equal scores, "first" picks the lowest row numbers, and "random" draws by
            `seed`. A warning is logged if more rows have the score of the last pick than fit.
        progress: show a bar on stderr while the pool is read, with the time left and the k-th best
            score, and a line of figures at the end. If stderr is neither a terminal nor a
            notebook's, a line every 10 seconds takes the place of the bar.
        engine: who reads the pool: "local", this process; or "ray", the machines of a Ray cluster,
            each of which opens the files itself; see `fastal.distributed.Ray`. The picks are the
            same, bit for bit.

    Returns:
        Picks, best first; ties as `ties` says. With noise, picks come in the order of the draws.
        Arrays are of the kind of the pool, NumPy for files. A warning is logged if
        nothing was picked, if picks have the score of a row of equal values (padding, failed
        items), and if logits seem to be probabilities.

    Raises:
        InvalidRows: with on_invalid="raise"; it names rows by their numbers in the pool and, for
            files, by file and row.
        ValueError, TypeError, OSError: a bad argument or file; the message names it. Items of
            several rows and labels without `aggregate`, and draws without `draws_axis` or a score
            of draws, are such errors.

    Source: the noise is from Kirsch et al., Stochastic Batch Acquisition (2023), section 3; quotas
    are from Munro, Human-in-the-Loop Machine Learning, section 4.5.

    Example:
        >>> import fastal, numpy as np
        >>> logits = np.array([[9.0, 0.0], [0.1, 0.0], [3.0, 0.0], [0.0, 0.5]])
        >>> fastal.select(logits, k=2, by="margin").rows
        array([1, 3])
        >>> sentences = fastal.items([logits[:2], logits[2:3], logits[3:]])  # [tokens, classes]
        >>> fastal.select(sentences, k=1, aggregate="mean").rows
        array([2])
        >>> ensemble = fastal.draws([logits, logits[:, ::-1]])  # two predictions of each row
        >>> fastal.select(ensemble, k=1, by="bald").rows
        array([0])
    """
    is_predicted = isinstance(groups, str) and groups == "predicted"
    if groups is not None and per_group is None:
        raise ValueError(
            "groups: wanted per_group as well, the number of rows to pick of each group"
        )
    output = output_of(pool, by, ModelOutput(kind, temperature, class_axis, draws_axis, aggregate))
    selector = selector_for(
        k, by, output, ScoringOptions(on_invalid, backend), per_group=per_group,
        predicted=is_predicted, noise=noise, seed=seed, beta=beta, ties=ties,
    )  # fmt: skip
    options = RunOptions(chunk_bytes, checkpoint, resume, exclude, among, progress, engine)
    return pick_from_pool(selector, pool, options, groups=None if is_predicted else groups)


def output_of(pool: Any, by: By, output: ModelOutput) -> ModelOutput:
    """What a pool holds, where its caller need not say that it holds draws.

    Args:
        pool: any pool that `fastal.select` takes.
        by: the score of its rows.
        output: what the caller says of it.
    """
    if isinstance(pool, Draws) and output.draws_axis is None and by in UNCERTAINTY_SCORES:
        return replace(output, draws_axis=1)
    return output
