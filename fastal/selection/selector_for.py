"""The selection that the arguments of `fastal.select` ask for."""

from fastal.scoring.measure_for import By
from fastal.scoring.scoring_options import ScoringOptions
from fastal.selection.selector import Selector
from fastal.selection.stratified import StratifiedSelector


def selector_for(
    k: int | None,
    by: By,
    options: ScoringOptions,
    *,
    kind: str = "logits",
    per_group: int | None = None,
    predicted: bool = False,
    noise: str | None = None,
    seed: int = 0,
    beta: float = 1.0,
    ties: str = "first",
) -> Selector | StratifiedSelector:
    """A selector with quotas if `per_group` is given, else one without; see `fastal.select`."""
    on_invalid, backend = options.on_invalid, options.backend
    if per_group is None:
        return Selector(
            k, by, kind=kind, on_invalid=on_invalid, backend=backend, noise=noise, seed=seed,  # type: ignore[arg-type]
            beta=beta, ties=ties,
        )  # fmt: skip
    return StratifiedSelector(
        per_group, by, k=k, predicted=predicted, kind=kind, on_invalid=on_invalid, backend=backend,
        noise=noise, seed=seed, beta=beta, ties=ties,
    )  # fmt: skip
