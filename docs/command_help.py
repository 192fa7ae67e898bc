"""The directive `fastal-commands`: the help of every command, as its `--help` prints it.

The help is taken from the commands when the site is built. It has their headings and examples,
which extensions for click do not know.
"""

import click
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from fastal.cli import main

_WIDTH = 80  # of a terminal


class Commands(SphinxDirective):
    """A section for each command."""

    def run(self) -> list[nodes.Node]:
        """The sections, in the order of the commands."""
        group = _context(main, "fastal")
        commands = {name: main.get_command(group, name) for name in main.list_commands(group)}
        return [
            _section(name, _context(command, name, group)) for name, command in commands.items()
        ]


def _context(
    command: click.Command, name: str, parent: click.Context | None = None
) -> click.Context:
    # Not by `Context(...)`: settings such as the names of --help belong to the command.
    return command.make_context(
        name, [], parent, resilient_parsing=True, terminal_width=_WIDTH, max_content_width=_WIDTH
    )


def _section(name: str, context: click.Context) -> nodes.section:
    text = context.get_help()
    return nodes.section(
        "",
        nodes.title(text=f"fastal {name}"),
        nodes.literal_block(text, text, language="text"),
        ids=[f"fastal-{name}"],
        names=[f"fastal {name}"],
    )


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_directive("fastal-commands", Commands)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
