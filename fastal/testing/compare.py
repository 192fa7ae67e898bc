"""Scores against their definitions, and what a failure says."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastal import Scores
from fastal.testing.arrays import as_floats
from fastal.testing.options import choices

# Against the definition on the same input. Scores below float32's smallest normal number cannot
# have a relative precision: there float32 is spaced by 1.4e-45, and GPUs round to 0.
RELATIVE = 1e-5
TINY = float(np.finfo(np.float32).tiny)


def assert_scores(
    found: Any,
    wanted: Any,
    *,
    names: Sequence[str] = Scores._fields,
    case: str = "",
    rows: Sequence[str] = (),
) -> None:
    """Raises unless scores are within a relative 1e-5 of what is wanted, and within [0, 1].

    Scores below 1.2e-38, float32's smallest normal number, may differ by that much. NaN is right
    where NaN is wanted, as for the invalid rows of `fastal.score` with on_invalid="skip".

    Args:
        found: the scores [N] of each name: a mapping, `fastal.Scores`, or one array for each name,
            in their order.
        wanted: the same, such as `definitions` returns.
        names: the scores to compare.
        case: what the scores are of; the message begins with it.
        rows: what the message calls each row, for all N or for none: "row 0", "row 1", ...

    Raises:
        AssertionError: it names the score, the worst row, what came, what was wanted, the relative
            error, and how many rows are wrong.
        ValueError: names that are no names of scores, or no name.

    Example:
        >>> import fastal, numpy as np
        >>> from fastal.testing import assert_scores, definitions
        >>> logits = np.array([[0.0, 9.0], [1.0, 1.0]])
        >>> assert_scores(fastal.score(logits), definitions(logits))
    """
    names = choices("names", names, Scores._fields)
    of_found, of_wanted = by_name(found, names), by_name(wanted, names)
    for name in names:
        error = error_in(of_found[name], of_wanted[name], rows)
        if error:
            raise AssertionError(": ".join(filter(None, (case, name, error))))


def by_name(scores: Any, names: Sequence[str]) -> Mapping[str, Any]:
    """Scores by their name.

    Raises:
        AssertionError: a score is missing.
    """
    if hasattr(scores, "_asdict"):
        scores = scores._asdict()
    elif not isinstance(scores, Mapping):
        arrays = list(scores)
        if len(arrays) != len(names):
            raise AssertionError(f"wanted {len(names)} scores: {', '.join(names)}; got {arrays}")
        scores = dict(zip(names, arrays, strict=True))
    missing = [name for name in names if name not in scores]
    if missing:
        raise AssertionError(f"wanted {', '.join(missing)}; got {', '.join(scores) or 'nothing'}")
    of_names: Mapping[str, Any] = scores
    return of_names


def error_in(found: Any, wanted: Any, rows: Sequence[str] = ()) -> str:
    """What is wrong with scores, and where they are worst; empty if nothing is."""
    want: NDArray[Any] = as_floats(wanted)
    got: NDArray[Any] = as_floats(found)
    if want.ndim != 1:
        return f"wanted scores [N] to compare with, got {want.dtype} {list(want.shape)}"
    if got.shape != want.shape or got.dtype.kind not in "fiu":
        return f"wanted numbers {list(want.shape)}, got {got.dtype} {list(got.shape)}"
    got = got.astype(np.result_type(want, np.float64))
    with np.errstate(invalid="ignore"):
        tolerance = np.where(want < TINY, TINY, RELATIVE * want)
        off = np.abs(got - want)
        single = got.astype(np.float32)  # as scores are: 1 + 2e-16 is 1
        right = (off <= tolerance) & (single >= 0) & (single <= 1)
    right |= np.isnan(got) & np.isnan(want)
    if right.all():
        return ""
    worst = int(np.argmax(np.where(right, -1, np.nan_to_num(off / tolerance, nan=np.inf))))
    relative = off[worst] / want[worst] if want[worst] else np.inf
    place = rows[worst] if rows else f"row {worst}"
    outside = "" if 0 <= single[worst] <= 1 else ", and scores are within [0, 1]"
    return (
        f"{place}: got {got[worst]:.9g}, wanted {want[worst]:.9g}; the relative error is "
        f"{relative:.2g}, allowed is {RELATIVE:.0e}{outside}; {(~right).sum()} of {len(want)} "
        "rows are wrong"
    )


@contextmanager
def checking(case: str) -> Iterator[None]:
    """A context in which every failure names the case. Errors of the checked code are failures."""
    try:
        yield
    except AssertionError as error:
        raise AssertionError(f"{case}: {error}") from error.__cause__
    except Exception as error:
        raise AssertionError(f"{case}: raised {type(error).__name__}: {error}") from error
