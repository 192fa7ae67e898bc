"""Truth for scores of items of several rows: plain loops over the rows of each item."""

import numpy as np

from tests.support.oracle import RELATIVE, TINY, as_numpy, of_probabilities

BOOK = ("least_confidence", "margin", "ratio", "entropy")
AGGREGATIONS = ("mean", "sum", "max", "least", 1, 3, 100)  # numbers: the mean of the highest


def items_oracle(x, offsets, aggregate, kind="logits", temperature=1.0, mask=None):
    """The four scores of items whose rows follow one another: [4, n], NaN for invalid items.

    In C's long double. `rows_oracle` says how exact a row is.
    """
    rows = rows_oracle(x, kind, temperature, mask)
    return of_items(rows, offsets, aggregate)


def of_items(rows, offsets, aggregate):
    """One score for each item from those of its rows [4, rows], which are NaN if they do not count."""
    found = np.full((len(rows), len(offsets) - 1), np.nan, np.longdouble)
    for item, (first, stop) in enumerate(zip(offsets[:-1], offsets[1:], strict=True)):
        for measure, scores in enumerate(rows[:, int(first) : int(stop)]):
            counted = sorted(score for score in scores if not np.isnan(score))
            if counted:
                found[measure, item] = _one_of(counted, aggregate)
    return found


def _one_of(ascending, aggregate):
    if aggregate == "max":
        return ascending[-1]
    if aggregate == "least":
        return ascending[0]
    if aggregate == "sum":
        return sum(ascending)
    chosen = ascending if aggregate == "mean" else ascending[-aggregate:]
    return sum(chosen) / len(chosen)


def rows_oracle(x, kind="logits", temperature=1.0, mask=None):
    """The four scores of rows [rows, C], or of labels [rows]: [4, rows], NaN if a row does not count.

    1 − p1 of classes is right to 1e-7 of itself from 1e-12 on; labels have closed forms.
    """
    x = as_numpy(x).astype(np.longdouble)
    found = np.full((4, len(x)), np.nan, np.longdouble)
    for row, values in enumerate(x):
        if mask is not None and not mask[row]:
            continue
        if kind.startswith("multilabel"):
            scores = _label(values, kind, temperature)
        else:
            scores = _distribution(values, kind, temperature)
        if scores is not None:
            found[:, row] = scores
    return found


def _distribution(x, kind, temperature):
    if kind == "probs":
        if np.isnan(x).any() or (x < -1e-3).any() or abs(x.sum() - 1) > 0.01:
            return None
        p = x.clip(min=0)
    else:
        if np.isnan(x).any() or (x == np.inf).any() or not np.isfinite(x).any():
            return None
        if (x == -100).all():
            return None
        p = np.exp((x - x.max()) / np.longdouble(temperature))
    return np.array(of_probabilities((p / p.sum())[None], len(x)))[:, 0]


def _label(x, kind, temperature):
    if kind == "multilabel_probs":
        if not -1e-3 <= x <= 1.01:  # NaN too
            return None
        p = x.clip(0, 1)
        less, more = min(p, 1 - p), max(p, 1 - p)
    else:
        if np.isnan(x) or x == np.inf:
            return None
        e = np.exp(-abs(x) / np.longdouble(temperature))
        less, more = e / (1 + e), 1 / (1 + e)
    entropy = -more * np.log1p(-less) - (less * np.log(less) if less else 0)
    return np.array([2 * less, 2 * less, less / more, entropy / np.log(np.longdouble(2))])


def assert_items(scores, truth):
    """Holds scores [4, ...], in the order of the book, against the truth; NaN in the same places."""
    for name, got, want in zip(BOOK, scores, truth, strict=True):
        got, want = as_numpy(got).astype(np.longdouble), np.asarray(want)
        assert got.shape == want.shape, name
        assert np.array_equal(np.isnan(got), np.isnan(want)), f"{name}: {got} for {want}"
        got, want = got[~np.isnan(got)], want[~np.isnan(want)]
        assert (got >= 0).all(), f"{name}: {got}"
        excess = np.abs(got - want) - np.where(want < TINY, TINY, RELATIVE * want)
        worst = np.argmax(excess) if len(want) else 0
        assert (excess <= 0).all(), f"{name}: item {worst}: {got[worst]} for {want[worst]}"


def as_aggregate(aggregation):
    """The argument `aggregate` of `fastal.select` that means this aggregation."""
    return f"top{aggregation}" if isinstance(aggregation, int) else aggregation
