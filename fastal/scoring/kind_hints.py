"""Recognises rows that are of another kind than the caller said, from a few of their values."""

from torch import Tensor

EXAMINED_ROWS = 64
_OFF = 0.01  # how far a sum that is meant to be 1 may be from 1


def describe(x: Tensor, kind: str) -> str:
    """What invalid rows seem to be, with the `kind` to pass; empty if nothing is recognised.

    Args:
        x: [n, C], a few invalid rows.
        kind: what the caller said they are: "logits", "probs" or "log_probs".
    """
    x = x.detach().double().cpu()
    finite = x[x.isfinite()]
    if not len(finite):
        return "they have no finite value"
    least, most = float(finite.min()), float(finite.max())
    if kind != "probs" or len(finite) < x.numel():
        return ""
    if least == most == 0:
        return "they are all zeros"
    sums = x.sum(1)
    span = f"values from {least:.3g} to {most:.3g}"
    if least < 0:
        if _is_1(x.exp().sum(1)):
            return f"they have {span}, as log-probabilities have (kind='log_probs')"
        return f"they have {span}, as logits have (kind='logits')"
    found = f"they have {span} and sums from {float(sums.min()):.3g} to {float(sums.max()):.3g}"
    if most <= 1:
        return f"{found}, as sigmoids of several labels have; wanted one distribution per row"
    if _is_1(sums / sums[0]):
        return f"{found}, as parts of a whole have: divide them by it"
    return f"{found}, as logits have (kind='logits')"


def suspected(x: Tensor, kind: str) -> str:
    """A warning if rows are probabilities and `kind` says that they are logits; else empty.

    Args:
        x: [n, C], a few rows.
        kind: what the caller said they are. Logits of kind "log_probs", and the reverse, need no
            warning: the scores are the same.
    """
    if kind == "probs" or not are_probabilities(x):
        return ""
    return (
        f"{kind}: the first rows have values from 0 to 1 that sum to 1, as probabilities have; if "
        "they are probabilities, kind='probs' gives the right picks"
    )


def are_probabilities(x: Tensor) -> bool:
    """Whether rows [n, C] all have values from 0 to 1 that sum to 1."""
    if not len(x) or not abs(float(x[0].sum()) - 1) <= _OFF:  # decides most cases at little cost
        return False
    x = x.detach().double()
    return bool(((x >= 0) & (x <= 1)).all()) and _is_1(x.sum(1))


def _is_1(x: Tensor) -> bool:
    return bool(((x - 1).abs() <= _OFF).all())
