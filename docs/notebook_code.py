"""The directive `notebook-code`: the code of a notebook, cell after cell.

It is taken from the notebook when the site is built, as `literalinclude` takes that of a script.
"""

import json
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class NotebookCode(SphinxDirective):
    """A block with the cells of the notebook at a path relative to the page."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """The block."""
        relative, path = self.env.relfn2path(self.arguments[0])
        self.env.note_dependency(relative)
        notebook = json.loads(Path(path).read_text(encoding="utf-8"))
        cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
        text = "\n\n".join("".join(cell["source"]) for cell in cells)
        return [nodes.literal_block(text, text, language="python")]


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_directive("notebook-code", NotebookCode)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
