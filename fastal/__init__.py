"""fastal: the rows of an unlabelled pool most worth labelling, at the speed of memory."""

from fastal.base.errors import InvalidRows
from fastal.ops import backend_reasons
from fastal.ops.formulas import Scores
from fastal.selection.picks import Picks
from fastal.selection.selector import Selector
from fastal.selection.stratified import StratifiedSelector
from fastal.sources import open_pool
from fastal.sources.predictions import predictions
from fastal.uncertainty import score, select
from fastal.version import __version__

__all__ = [
    "InvalidRows",
    "Picks",
    "Scores",
    "Selector",
    "StratifiedSelector",
    "__version__",
    "backend_reasons",
    "open_pool",
    "predictions",
    "score",
    "select",
]
