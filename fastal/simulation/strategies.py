"""Strategies by name and as functions, and the check of what they pick."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastal.base.argument_values import UNCERTAINTY_SCORES
from fastal.base.arrays import as_tensor, is_array
from fastal.base.checks import check_choice
from fastal.picks.picks import Picks
from fastal.simulation.known_data import n_rows
from fastal.simulation.round import Round
from fastal.uncertainty import select

RANDOM = "random"
NAMES = (*UNCERTAINTY_SCORES, RANDOM)

Strategy = Callable[[Round], Any]


def strategies_for(given: Any, kind: str) -> dict[str, Strategy]:
    """The strategies of a simulation by name.

    Args:
        given: names; or a mapping from names to names and functions.
        kind: what the predictions are, for the strategies that are named.

    Raises:
        TypeError, ValueError: a strategy is unknown or named twice, or there is none.
    """
    if isinstance(given, (str, bytes)) or not isinstance(given, (Mapping, list, tuple)):
        raise TypeError(
            f"strategies: wanted a list of {', '.join(NAMES)}, or a mapping from names to these or "
            f"to functions, got {given!r}"
        )
    if not given:
        raise ValueError("strategies: wanted at least one, got none")
    if len(set(given)) < len(given):
        raise ValueError(f"strategies: wanted each name once, got {list(given)}")
    pairs = given.items() if isinstance(given, Mapping) else ((name, name) for name in given)
    return {_checked_name(name): _strategy(strategy, kind) for name, strategy in pairs}


def picked_rows(name: str, strategy: Strategy, given: Round) -> NDArray[np.int64]:
    """The rows that a strategy picks for a round.

    Raises:
        TypeError, ValueError: they are not k different rows of the pool without a label.
    """
    labelled = given.labelled.copy()  # the strategy may write to its own
    picked = strategy(given)
    where = f"strategies: {name!r} in round {given.number}"
    rows = picked.rows if isinstance(picked, Picks) else picked
    if is_array(rows) and not isinstance(rows, np.ndarray):
        rows = as_tensor(rows, "strategies").cpu()
    found = np.asarray(rows)
    if found.ndim != 1 or (len(found) and found.dtype.kind not in "iu"):
        raise TypeError(
            f"{where}: wanted Picks or row numbers [{given.k}], got {found.dtype} of shape "
            f"{found.shape}"
        )
    if len(found) != given.k:
        raise ValueError(f"{where}: wanted {given.k} rows, got {len(found)}")
    n_pool = n_rows(given.x)
    is_outside = (found < 0) | (found >= n_pool)
    if is_outside.any():
        row = found[is_outside][0]
        raise ValueError(f"{where}: row {row} is not in the pool of {n_pool:,} rows")
    is_labelled = np.isin(found, labelled)
    if is_labelled.any():
        raise ValueError(f"{where}: row {found[is_labelled][0]} has a label already")
    distinct, counts = np.unique(found, return_counts=True)
    if len(distinct) < len(found):
        raise ValueError(f"{where}: row {distinct[counts > 1][0]} is picked twice")
    return found.astype(np.int64)


def _checked_name(name: Any) -> str:
    if not isinstance(name, str):
        raise TypeError(f"strategies: wanted names, got {name!r}")
    return name


def _strategy(strategy: Any, kind: str) -> Strategy:
    if callable(strategy):
        return strategy  # type: ignore[no-any-return]
    check_choice("strategies", strategy, NAMES, more=" or a function under a name in a mapping")
    return _at_random if strategy == RANDOM else _by_score(strategy, kind)


def _by_score(name: str, kind: str) -> Strategy:
    def pick(given: Round) -> Picks:
        return select(given.predictions, given.k, name, kind=kind, exclude=given.labelled)

    return pick


def _at_random(given: Round) -> Picks:
    # No value is read, so the model need not predict the pool.
    pool = np.zeros((n_rows(given.x), 1), np.float32)
    return select(pool, given.k, RANDOM, exclude=given.labelled, seed=given.seed)
