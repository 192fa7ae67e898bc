"""Checks that a backend of scores, or an integration that selects rows, must pass.

fastal's own tests use them. They need no test framework: a check returns None, or raises an
AssertionError that names the case. Every input is drawn from a seed, so a failure repeats.
"""

from fastal.testing.cases import REGIMES, far_apart, invalid_rows, layouts, regimes
from fastal.testing.compare import assert_scores
from fastal.testing.definitions import definitions
from fastal.testing.scores import check_scores
from fastal.testing.select import check_select
from fastal.testing.selector import check_selector

__all__ = [
    "REGIMES",
    "assert_scores",
    "check_scores",
    "check_select",
    "check_selector",
    "definitions",
    "far_apart",
    "invalid_rows",
    "layouts",
    "regimes",
]
