"""How Sphinx builds the documentation: `scripts/docs`.

Sphinx reads the docstrings, and `command_help.py` the options of the commands, so that no page
repeats them. MyST lets pages be Markdown, as the README is. Furo is the theme of pip, attrs and
Black.
"""

import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "kernels"), str(ROOT / "docs")]

# Of the tools of adapters, what the adapters import: a build needs no tool. A mock of autodoc
# would hide the arguments of the subclass.
sys.modules["transformers"] = SimpleNamespace(TrainerCallback=object)
sys.modules["skactiveml.base"] = SimpleNamespace(
    SingleAnnotatorPoolQueryStrategy=object, SkactivemlClassifier=object
)
sys.modules["baal.active.heuristics.heuristics"] = SimpleNamespace(
    AbstractHeuristic=object, available_reductions={}
)
sys.modules["small_text.query_strategies"] = SimpleNamespace(QueryStrategy=object)
sys.modules["fiftyone"] = SimpleNamespace()
sys.modules["daft"] = SimpleNamespace(DataType=object, Expression=object, Series=object)
sys.modules["datasets"] = SimpleNamespace(Dataset=object)
sys.modules["lightning.pytorch.callbacks"] = SimpleNamespace(BasePredictionWriter=object)

import fastal  # noqa: E402

project = "fastal"
copyright = "the authors of fastal"  # noqa: A001
version = release = fastal.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "command_help",
    "notebook_code",
]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"fastal {release}"
html_show_sphinx = False

myst_heading_anchors = 3

autodoc_member_order = "bysource"
# Tools, and packages that come with them, of which the adapters subclass nothing.
autodoc_mock_imports = ["cleanlab", "modAL", "scipy", "skactiveml", "sklearn"]
autodoc_typehints = "none"  # the signatures say more to a reader than torch's long names
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # a NamedTuple lists its fields in its own text
napoleon_use_rtype = False  # "Returns" says shapes, not the names of types
default_role = "py:obj"
# Their pages are on the network, which a build must not need.
nitpick_ignore_regex = [("py:class", r"(collections\.abc|os|torch|numpy)\..*")]
smartquotes_action = "D"  # two hyphens become a dash; quotation marks stay


properties: dict[str, list[str]] = {}  # docstrings by name
_MARKUP = re.compile(r"(`[^`]*`)|[*|]|_(?!\w)")


def code_without_target(
    _app: Sphinx, _env: Any, node: pending_xref, text: nodes.TextElement
) -> nodes.TextElement | None:
    """A single backtick in a docstring marks code, and links only to what is public."""
    is_default_role = node.get("reftype") == "obj" and node.get("refdomain") == "py"
    return text if is_default_role else None


def without_aliases(_app: Sphinx, _kind: str, _name: str, member: Any, *_: Any) -> bool | None:
    """The class's own text describes the fields of a NamedTuple. Python's text says nothing."""
    return True if type(member).__name__ == "_tuplegetter" else None


def as_plain_text(_app: Sphinx, what: str, name: str, *rest: Any) -> None:
    """A star or an underscore in a docstring, as in *.npy, is no markup."""
    lines = rest[-1]
    for number, line in enumerate(lines):
        lines[number] = _MARKUP.sub(lambda found: found[1] or rf"\{found[0]}", line)
    if what == "property":
        properties[name] = list(lines)


def whole_properties(_app: Sphinx, what: str, name: str, *rest: Any) -> None:
    """Napoleon takes what comes before a colon in a property's docstring for its type."""
    if what == "property":
        rest[-1][:] = properties[name]


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("missing-reference", code_without_target)
    app.connect("autodoc-skip-member", without_aliases)
    app.connect("autodoc-process-docstring", as_plain_text, priority=400)  # Napoleon has 500
    app.connect("autodoc-process-docstring", whole_properties, priority=600)
