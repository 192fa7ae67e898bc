"""The selection that the arguments of `fastal.select` ask for."""

from fastal.scoring.measure_for import By
from fastal.scoring.model_output import ModelOutput
from fastal.scoring.scoring_options import ScoringOptions
from fastal.selection.selector import Selector
from fastal.selection.stratified import StratifiedSelector

_PLAIN, _OPTIONS = ModelOutput(), ScoringOptions()


def selector_for(
    k: int | None,
    by: By,
    output: ModelOutput = _PLAIN,
    options: ScoringOptions = _OPTIONS,
    *,
    per_group: int | None = None,
    predicted: bool = False,
    noise: str | None = None,
    seed: int = 0,
    beta: float = 1.0,
    ties: str = "first",
) -> Selector | StratifiedSelector:
    """A selector with quotas if `per_group` is given, else one without; see `fastal.select`."""
    scoring = {**vars(output), **vars(options)}
    random = {"noise": noise, "seed": seed, "beta": beta, "ties": ties}
    if per_group is None:
        return Selector(k, by, **scoring, **random)  # type: ignore[arg-type]
    return StratifiedSelector(per_group, by, k=k, predicted=predicted, **scoring, **random)  # type: ignore[arg-type]
