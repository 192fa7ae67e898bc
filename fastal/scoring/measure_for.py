"""Makes a measure of a name, a callable or a measure: nothing else asks which of them was given."""

from fastal.base.argument_values import (
    DISAGREEMENT_SCORES,
    LABEL_KINDS,
    SELECTION_SCORES,
)
from fastal.base.checks import check_choice
from fastal.scoring.by_callable import ByCallable, CallableScore
from fastal.scoring.by_draws import DrawsScore
from fastal.scoring.by_items import ItemScore
from fastal.scoring.by_name import UncertaintyScore
from fastal.scoring.by_random import RandomScore
from fastal.scoring.by_score import OwnScore
from fastal.scoring.measure import Measure
from fastal.scoring.model_output import ModelOutput

By = str | ByCallable | Measure
_PLAIN = ModelOutput()


def measure_for(by: By, output: ModelOutput = _PLAIN, seed: int = 0) -> Measure:
    """The measure of one score that a name, a callable or a measure stands for.

    Args:
        by: see `fastal.select`.
        output: what the pool holds. Names take all of it, callables the kind, and a measure what
            its `for_output` says.
        seed: of by="random".

    Raises:
        ValueError: an unknown name, a measure of several scores, or an output of which the score
            has no use.
    """
    if isinstance(by, Measure):
        if len(by.names) != 1:
            raise ValueError(f"by: wanted a measure of one score, got {', '.join(by.names)}")
        return by.for_output(output)
    if callable(by):
        output.check_unused("a callable")
        return CallableScore(by, output.kind)
    check_choice("by", by, SELECTION_SCORES, ", a callable or a Measure")
    if by in ("random", "score"):
        output.check_unused(f"by={by!r}")
        return RandomScore(seed) if by == "random" else OwnScore()
    return uncertainty_of((by,), output)


def uncertainty_of(names: tuple[str, ...], output: ModelOutput) -> Measure:
    """The measure of scores by their names, one a row or item, of what a model puts out."""
    if output.draws_axis is not None or set(names) & {*DISAGREEMENT_SCORES}:
        if output.aggregate is not None:
            raise ValueError(f"aggregate: by={names[0]!r} is of draws, which are not aggregated")
        return DrawsScore(names, output)
    if output.aggregate is not None:
        return ItemScore(names, output)
    if output.kind in LABEL_KINDS or output.class_axis != -1:
        raise ValueError(
            "aggregate: wanted mean, max, sum, least, or top and a number such as top10: how the "
            "scores of the labels or rows of an item become one"
        )
    return UncertaintyScore(names, output.kind, output.temperature)
