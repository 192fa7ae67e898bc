"""How commands and options show themselves: options under headings, an example at the end."""

import inspect
import re
from functools import partial
from typing import Any

import click

HELP_NAMES = {"help_option_names": ["-h", "--help"]}
HEADINGS = ("Selection", "Pool", "Output", "Running")


class Option(click.Option):
    """An option whose help stands under a heading.

    Args:
        names: as for `click.Option`.
        heading: one of `HEADINGS`.
        settings: as for `click.Option`.
    """

    def __init__(self, *names: Any, heading: str, **settings: Any) -> None:
        super().__init__(*names, **settings)
        self.heading = heading


selection_option = partial(click.option, cls=Option, heading="Selection")
pool_option = partial(click.option, cls=Option, heading="Pool")
output_option = partial(click.option, cls=Option, heading="Output")
running_option = partial(click.option, cls=Option, heading="Running")


class Command(click.Command):
    """A command whose help groups the options by heading and ends with examples.

    Args:
        settings: as for `click.Command`.
        examples: command lines.
    """

    def __init__(self, *, examples: tuple[str, ...], **settings: Any) -> None:
        # Here too, and not in the group alone: click keeps the first help option that it makes.
        super().__init__(context_settings=HELP_NAMES, **settings)
        self.examples = examples

    def get_short_help_str(self, limit: int = 45) -> str:  # noqa: ARG002
        """The first sentence of the help, whole on a terminal of any width."""
        return _first_sentence(self)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the options under their headings."""
        for heading in HEADINGS:
            records = [
                record
                for option in self.get_params(ctx)
                if _heading(option) == heading and (record := option.get_help_record(ctx))
            ]
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the examples, each on a line that can be copied."""
        super().format_epilog(ctx, formatter)
        with formatter.section("Example" if len(self.examples) == 1 else "Examples"):
            for example in self.examples:
                formatter.write(f"{'':{formatter.current_indent}}{example}\n")


class Group(click.Group):
    """A group that lists its commands in the order in which they were added."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """The names of the commands."""
        return list(self.commands)

    def get_short_help_str(self, limit: int = 45) -> str:  # noqa: ARG002
        """See `Command.get_short_help_str`."""
        return _first_sentence(self)


def _first_sentence(command: click.Command) -> str:
    first = inspect.cleandoc(command.help or "").partition("\n\n")[0]
    return re.split(r"(?<=\.)\s", " ".join(first.split()))[0]


def _heading(parameter: click.Parameter) -> str | None:
    if isinstance(parameter, Option):
        return parameter.heading
    return HEADINGS[-1] if isinstance(parameter, click.Option) else None  # --help
