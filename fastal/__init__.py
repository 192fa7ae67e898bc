"""fastal: the rows of an unlabelled pool most worth labelling, at the speed of memory."""

from fastal.backend import backend_reasons
from fastal.errors import InvalidRows
from fastal.scores import Scores
from fastal.selection import Picks, Selector
from fastal.uncertainty import score, select

__version__ = "0.1.0"
__all__ = [
    "InvalidRows",
    "Picks",
    "Scores",
    "Selector",
    "backend_reasons",
    "score",
    "select",
]
