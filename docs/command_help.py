"""The directive `fastal-commands`: the help of every command, as its `--help` prints it.

The help is taken from the commands when the site is built. It has their headings and examples,
which extensions for click do not know.
"""

from collections.abc import Iterator

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
        return list(_sections(main, _context(main, "fastal")))


def _sections(group: click.Group, context: click.Context) -> Iterator[nodes.section]:
    """The sections of the commands of a group; those of a group in it follow its own."""
    for name, command in group.commands.items():
        of_command = _context(command, name, context)
        yield _section(of_command)
        if isinstance(command, click.Group):
            yield from _sections(command, of_command)


def _context(
    command: click.Command, name: str, parent: click.Context | None = None
) -> click.Context:
    # Not by `Context(...)`: settings such as the names of --help belong to the command.
    return command.make_context(
        name, [], parent, resilient_parsing=True, terminal_width=_WIDTH, max_content_width=_WIDTH
    )


def _section(context: click.Context) -> nodes.section:
    text, path = context.get_help(), context.command_path
    return nodes.section(
        "",
        nodes.title(text=path),
        nodes.literal_block(text, text, language="text"),
        ids=[path.replace(" ", "-")],
        names=[path],
    )


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_directive("fastal-commands", Commands)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
