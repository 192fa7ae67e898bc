"""Makes a measure of a name, a callable or a measure: nothing else asks which of them was given."""

from fastal.base.argument_values import SELECTION_SCORES
from fastal.base.checks import check_choice
from fastal.ops.formulas import KINDS
from fastal.scoring.by_callable import ByCallable, CallableScore
from fastal.scoring.by_name import UncertaintyScore
from fastal.scoring.by_random import RandomScore
from fastal.scoring.measure import Measure

By = str | ByCallable | Measure


def measure_for(by: By, kind: str = "logits", seed: int = 0) -> Measure:
    """The measure of one score that a name, a callable or a measure stands for.

    Args:
        by: see `fastal.select`.
        kind: "logits", "probs" or "log_probs", for names and callables. A measure has its own.
        seed: of by="random".

    Raises:
        ValueError: an unknown name or kind, or a measure of several scores.
    """
    if isinstance(by, Measure):
        check_choice("kind", kind, KINDS)
        if len(by.names) != 1:
            raise ValueError(f"by: wanted a measure of one score, got {', '.join(by.names)}")
        return by
    if callable(by):
        check_choice("kind", kind, KINDS)
        return CallableScore(by, kind)
    check_choice("by", by, SELECTION_SCORES, ", a callable or a Measure")
    if by == "random":
        check_choice("kind", kind, KINDS)
        return RandomScore(seed)
    return UncertaintyScore((by,), kind)
