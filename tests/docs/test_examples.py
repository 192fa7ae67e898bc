"""The examples of the pages and the README run, and the commands that they show parse."""

import doctest
import importlib.util
import math
import re
import shlex

import click
import pytest
from click.testing import CliRunner

import fastal.adapters
import fastal.testing
from fastal import diversity
from fastal.cli import main
from tests.support.checkout import ROOT

PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "kernels" / "README.md",
    *sorted(path for path in ROOT.glob("docs/**/*.md") if "_build" not in path.parts),
]
BLOCK = re.compile(
    r"^```(?P<language>python|console|sh)\n(?P<text>.*?)^```$|^<!-- setup\n(?P<setup>.*?)^-->$",
    re.MULTILINE | re.DOTALL,
)
INLINE = re.compile(r"(?<!`)`(?!`)([^`]+)`(?!`)")
FLOAT = re.compile(r"-?\d*\.\d+(?:e-?\d+)?")


PADDING = re.compile(r" +(?=[,\]])")  # NumPy's, which depends on the digits


class WithinRounding(doctest.OutputChecker):
    """Floats may differ in their last digits, as they do between backends."""

    def check_output(self, want, got, optionflags):
        if super().check_output(want, got, optionflags):
            return True
        text = [PADDING.sub("", FLOAT.sub("#", shown)) for shown in (want, got)]
        if not super().check_output(*text, optionflags):
            return False
        pairs = zip(FLOAT.findall(want), FLOAT.findall(got), strict=False)
        return all(math.isclose(float(a), float(b), rel_tol=2e-5) for a, b in pairs)


def run_doctest(text, names, page, line=0):
    test = doctest.DocTestParser().get_doctest(text, names, page.name, str(page), line)
    said = []
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    runner = doctest.DocTestRunner(WithinRounding(), verbose=False, optionflags=flags)
    runner.run(test, clear_globs=False, out=said.append)
    names.update(test.globs)
    assert not runner.failures, "".join(said)


def run_console(text, page):
    """Runs `$ fastal ...` lines, and compares what goes to standard output."""
    for shown in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        line, _, want = shown.partition("\n")
        program, *arguments = shlex.split(line, comments=True)
        assert program == "fastal", f"{page}: {line}"
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 0, f"{page}: {line}\n{result.output}"
        flags = doctest.ELLIPSIS
        assert WithinRounding().check_output(want, result.stdout, flags), result.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_examples_of_a_page_run_and_print_what_the_page_says(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    source = page.read_text(encoding="utf-8")
    for block in BLOCK.finditer(source):
        text = block["setup"] or block["text"]
        if block["language"] == "console":
            run_console(text, page)
        elif block["language"] == "python" and ">>> " in text:
            run_doctest(text, names, page, source.count("\n", 0, block.start("text")))
        elif block["language"] != "sh":
            exec(compile(text, str(page), "exec"), names)


@pytest.mark.parametrize("broken", [">>> 1 + 1\n3\n", ">>> 0.5\n0.50002\n", ">>> 1 + 1\n"])
def test_an_example_that_prints_something_else_is_found(broken):
    with pytest.raises(AssertionError, match="Failed example"):
        run_doctest(broken, {}, ROOT / "README.md")


def commands(page):
    """Every command line that a page shows, in blocks and within sentences."""
    text = page.read_text(encoding="utf-8")
    for block in BLOCK.finditer(text):
        if block["language"] in ("sh", "console"):
            lines = block["text"].replace("\\\n", " ").splitlines()
            yield from (line.removeprefix("$ ").strip() for line in lines)
    for span in INLINE.findall(BLOCK.sub("", text)):
        yield " ".join(span.split())


def check_command(line):
    """Raises where a command line names a command, an option or a file that there is not."""
    words = shlex.split(line, comments=True)
    if words[0] == "fastal" and len(words) > 1:
        context = click.Context(main, info_name="fastal")
        if words[1] == "COMMAND":
            return
        if words[1].startswith("-"):
            main.make_context("fastal", words[1:], resilient_parsing=True)
            return
        command, name, rest = main, "fastal", words[1:]
        while isinstance(command, click.Group) and rest and rest[0] != "STRATEGY":
            name, *rest = rest
            command = command.get_command(context, name)
            if command is None:
                raise click.UsageError(f"no command {name}")
        if rest and rest[0] not in ("--help", "...", "STRATEGY"):
            command.make_context(name, rest, parent=context)
    elif "python" in words[0] and words[1:2] == ["-m"] and words[2].startswith("benchmarks"):
        if importlib.util.find_spec(words[2]) is None:
            raise click.UsageError(f"no module {words[2]}")
    elif words[0].startswith("scripts/") and not (ROOT / words[0]).is_file():
        raise click.UsageError(f"no file {words[0]}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_commands_that_a_page_shows_parse(page):
    for line in commands(page):
        if re.match(r"(fastal|scripts/|\S*python -m) ?", line):
            try:
                check_command(line)
            except click.ClickException as error:
                pytest.fail(f"{line}: {error.format_message()}")


@pytest.mark.parametrize(
    "line", ["fastal pick pool.npy", "fastal select pool.npy --by size", "fastal score p --top 3",
             "scripts/documents", "python -m benchmarks.gone"],
)  # fmt: skip
def test_a_command_that_does_not_parse_is_found(line):
    with pytest.raises(click.ClickException):
        check_command(line)


def every_command(group):
    """A group, its commands, and those of groups in it."""
    yield group
    for command in group.commands.values():
        yield from every_command(command) if isinstance(command, click.Group) else [command]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_names_that_a_page_mentions_exist(page):
    options = {
        spelling
        for command in every_command(main)
        for option in command.params
        for spelling in option.opts
    }
    for span in INLINE.findall(BLOCK.sub("", page.read_text(encoding="utf-8"))):
        if found := re.match(r"(fastal|diversity)\.(\w+)(?:$|\(|\.)", span):
            module = {"fastal": fastal, "diversity": diversity}[found[1]]
            assert hasattr(module, found[2]), f"{span}: no such name"
        if "benchmarks" not in str(page) and (found := re.match(r"--[\w-]+", span)):
            assert found[0] in options, f"{span}: no such option"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_links_of_a_page_lead_to_files(page):
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path = target.partition("#")[0]
        if path and not path.startswith("https://"):
            assert (page.parent / path).exists(), target
