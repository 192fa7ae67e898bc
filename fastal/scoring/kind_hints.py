"""Recognises rows that are of another kind than the caller said, from a few of their values."""

from torch import Tensor

EXAMINED_ROWS = 64
_OFF = 0.01  # how far a sum that is meant to be 1 may be from 1
_SIDE = 8  # how many places of each axis of the rows of items are examined
_LEAST_LABELS = 16  # fewer logits may all be from 0 to 1
_PADDING = -100.0


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


def suspected_labels(x: Tensor, kind: str) -> str:
    """A warning if some values of labels, of any shape, are of the other kind; else empty."""
    values = x.detach().double()
    values = values[values.isfinite() & (values != _PADDING)]
    if not len(values):
        return ""
    least, most = float(values.min()), float(values.max())
    are_probs = least >= -_OFF and most <= 1 + _OFF
    span = f"{kind}: the first rows have values from {least:.3g} to {most:.3g}"
    if kind == "multilabel_probs" and not are_probs:
        return f"{span}; those that are no probabilities do not count (kind='multilabel_logits')"
    if kind == "multilabel_logits" and are_probs and len(values) >= _LEAST_LABELS:
        return (
            f"{span}, as probabilities have; if they are probabilities, kind='multilabel_probs' "
            "gives the right picks"
        )
    return ""


def some_rows(x: Tensor, class_axis: int) -> Tensor:
    """Some rows [n, C] of items [n, ...], those that are not padding; copied."""
    x = x.movedim(class_axis, -1)
    for axis, size in enumerate(x.shape[:-1]):
        x = x.narrow(axis, 0, min(size, _SIDE))
    rows = x.reshape(-1, x.shape[-1])
    return rows[(rows != _PADDING).any(-1)]


def are_probabilities(x: Tensor) -> bool:
    """Whether rows [n, C] all have values from 0 to 1 that sum to 1."""
    if not len(x) or not abs(float(x[0].sum()) - 1) <= _OFF:  # decides most cases at little cost
        return False
    x = x.detach().double()
    return bool(((x >= 0) & (x <= 1)).all()) and _is_1(x.sum(1))


def _is_1(x: Tensor) -> bool:
    return bool(((x - 1).abs() <= _OFF).all())
