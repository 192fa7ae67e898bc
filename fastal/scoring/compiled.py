"""What `torch.compile` sees of fastal: one opaque operator that scores."""

import torch
from torch import Tensor

from fastal.ops.formulas import UNCERTAINTY_SCORES
from fastal.scoring.by_name import UncertaintyScore
from fastal.scoring.scorer import Scorer
from fastal.scoring.scoring_options import ScoringOptions


@torch.library.custom_op("fastal::score", mutates_args=())
def score(x: Tensor, kind: str, on_invalid: str, backend: str) -> Tensor:
    """The four scores [4, N] float32 of a matrix [N, C]; see `fastal.score`."""
    scorer = Scorer(UncertaintyScore(UNCERTAINTY_SCORES, kind), ScoringOptions(on_invalid, backend))
    return torch.stack(scorer.score(x)).to(x.device)


@score.register_fake
def _(x: Tensor, *_: str) -> Tensor:
    return x.new_empty(len(UNCERTAINTY_SCORES), x.shape[0], dtype=torch.float32)
