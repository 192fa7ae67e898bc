"""The help: options under headings, an example of each command, nothing that is cut off."""

import re
import shlex

import click
import pytest
from click.testing import CliRunner

from fastal.cli import main
from fastal.cli.help import HEADINGS, Option


def paths(group, *before):
    """The names that lead to each command that does something."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from paths(command, *before, name)
        else:
            yield " ".join((*before, name))


COMMANDS = list(paths(main))


def command_of(path):
    command = main
    for name in path.split():
        command = command.commands[name]
    return command


def shown(*arguments, width=80):
    done = CliRunner().invoke(main, [*arguments, "--help"], terminal_width=width)
    assert done.exit_code == 0
    return done.stdout


def options_of(name):
    return [p for p in command_of(name).params if isinstance(p, click.Option)]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_a_heading_and_a_help_text(name):
    text = shown(*name.split())
    for option in options_of(name):
        assert isinstance(option, Option), option.name
        assert option.heading in HEADINGS
        assert option.help.endswith("."), option.name
        section = text.partition(f"\n{option.heading}:\n")[2].partition("\n\n")[0]
        assert f"  {max(option.opts, key=len)}" in section
    headings = re.findall(r"^(\w+):$", text, re.MULTILINE)
    assert headings[-1] in ("Example", "Examples")
    assert headings[:-1] == [heading for heading in HEADINGS if heading in headings]
    assert "Options:" not in text


@pytest.mark.parametrize("name", COMMANDS)
def test_the_examples_are_parsed(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = command_of(name)
    assert command.examples
    for example in command.examples:
        assert f"\n  {example}\n" in shown(*name.split())
        assert example.startswith(f"fastal {name} ") or example == f"fastal {name}"
        arguments = shlex.split(example)[1 + len(name.split()) :]
        context = command.make_context(name, arguments, parent=click.Context(main))
        assert set(context.params) == {parameter.name for parameter in command.params}


@pytest.mark.parametrize("width", [40, 80, 120])
def test_nothing_is_cut_off(width):
    for arguments in ((), *(name.split() for name in COMMANDS), ["combine"]):
        text = re.sub(r"(POOL|RUN|\[ARGS\])\.\.\.", "", shown(*arguments, width=width))
        assert "..." not in text
    for group, arguments in ((main, ()), (main.commands["combine"], ("combine",))):
        words = shown(*arguments, width=width).split()
        for command in group.commands.values():
            first = command.get_short_help_str()
            assert first.endswith(".")
            assert " ".join(first.split()) in " ".join(words)


def test_commands_stand_in_the_order_of_use():
    listed = re.findall(r"^  ([\w-]+)  ", shown().partition("Commands:\n")[2], re.MULTILINE)
    assert listed == list(main.commands)
    assert listed[:2] == ["select", "score"]


def test_a_mistyped_option_or_command_is_named():
    for arguments, words in (
        (["choose"], "No such command 'choose'"),
        (["select", "pool.npy", "--onbadfile", "skip"], "No such option"),
    ):
        done = CliRunner().invoke(main, arguments)
        assert done.exit_code == 2
        assert words in done.stderr
