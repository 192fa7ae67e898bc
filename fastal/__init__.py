"""fastal: the rows of an unlabelled pool most worth labelling, at the speed of memory."""

from fastal.backend import backend_reasons
from fastal.errors import InvalidRows
from fastal.scores import Scores
from fastal.selection import Picks, Selector
from fastal.sources import open_pool
from fastal.sources.predictions import predictions
from fastal.stratified import StratifiedSelector
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
