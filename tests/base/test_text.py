"""What is shown to people, and what is JSON: nothing hidden, one line, no numbers that are none."""

import json
import logging
import os
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from fastal.base.text import as_json, shown
from fastal.cli import main

EVIL = "\x1b]0;title\x07\x1b[2J\x9b31m\u202e\u2066\u2028\n\r\tforged"


def run(*arguments):
    return CliRunner().invoke(main, list(map(str, arguments)))


@given(st.text())
def test_shown_text_is_one_line_without_control_characters(text):
    line = shown(text)
    assert len(line.splitlines()) <= 1
    assert line.isascii() or not {c for c in line if ord(c) < 32 or 127 <= ord(c) < 160}
    if text.isprintable():
        assert line == text


def test_letters_of_all_languages_are_shown_as_they_are():
    text = "Grüße/日本語/файл/ملف/🙂.npy"
    assert shown(text) == text
    assert shown(EVIL) == (
        r"\x1b]0;title\x07\x1b[2J\x9b31m\u202e\u2066\u2028\n\r\tforged"
    )  # fmt: skip
    assert shown("a\udcff") == r"a\udcff"


def test_names_are_escaped_in_messages_and_unchanged_elsewhere(tmp_path):
    name = f"{EVIL.replace('/', '')}.npy"
    (tmp_path / name).write_bytes(b"junk")
    np.save(tmp_path / "ok.npy", np.arange(27, dtype=np.float32).reshape(9, 3) ** 2)
    done = run("select", tmp_path, "--k", 3)
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert not {"\x1b", "\x9b", "\u202e"} & {*done.stderr}
    skip = ("select", tmp_path, "--k", 3, "--on-bad-file", "skip", "--out", tmp_path / "o.csv")
    done = run(*skip)
    assert (done.exit_code, done.stderr.count("\n")) == (3, 2)  # how it went, and what was skipped
    assert not {"\x1b", "\x9b", "\u202e"} & {*done.stderr}
    record = json.loads((tmp_path / "o.run.json").read_text())
    assert record["skipped"][0]["file"] == str(tmp_path / name)
    events = [json.loads(line) for line in run(*skip, "--log-json").stderr.splitlines()]
    assert events[-1]["file"] == str(tmp_path / name)


def test_log_messages_are_escaped_and_spelled(tmp_path, monkeypatch):
    np.save(tmp_path / "ok.npy", np.arange(27, dtype=np.float32).reshape(9, 3) ** 2)
    log = logging.getLogger("fastal")
    monkeypatch.setattr(
        "fastal.commands.uncertainty.selector_for",
        lambda *_, **__: log.warning("%s: on_invalid='skip' leaves them out", EVIL) or 1 / 0,
    )
    said = run("select", tmp_path / "ok.npy", "--k", 3).stderr.splitlines()
    assert said[0] == f"{shown(EVIL)}: --on-invalid skip leaves them out"


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 1.5])
def test_json_has_no_constants_of_python(value):
    text = as_json({"a": [value, {"b": (value,)}], "c": "Infinity"})
    held = json.loads(text, parse_constant=lambda _: pytest.fail("no JSON"))
    np.testing.assert_equal(float(held["a"][0]), value)
    assert held["a"][1] == {"b": [held["a"][0]]}


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["select", "--k", 3], "--on-invalid skip leaves them out"),
        (["select", "--k", 0, "--on-invalid", "skip"], "Error: --k: wanted at least 1, got 0"),
        (["select", "--k", 3, "--beta", -1, "--noise", "power"], "Error: --beta: wanted"),
        (["select", "--k", 3, "--resume"], "Error: --resume: wanted --checkpoint, the folder"),
        (["select", "--k", 3, "--out", "a.txt"], "Error: --out: wanted a .csv or"),
        (["cluster", "--clusters", 0], "Error: --clusters: wanted at least 1, got 0"),
        (["score", "--checkpoint", "c"], "Error: --checkpoint: wanted --out, a file"),
    ],
)
def test_messages_spell_options_as_the_command_line_does(tmp_path, monkeypatch, command, words):
    monkeypatch.chdir(tmp_path)
    x = np.ones((9, 3), np.float32)
    x[4] = np.nan
    np.save("x.npy", x)
    name, *options = command
    done = run(name, "x.npy", *options)
    assert (done.exit_code, words in done.stderr) == (2, True), done.stderr


def test_a_file_name_with_an_option_in_it_is_not_rewritten(tmp_path):
    np.savez(tmp_path / "k=3, seed=1.npz", a=np.ones((3, 3)), b=np.ones((3, 3)))
    done = run("select", tmp_path / "k=3, seed=1.npz", "--k", 3)
    assert "k=3, seed=1.npz: --column: wanted the name of one array" in done.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no such device")  # noqa: PTH110
@pytest.mark.full
@pytest.mark.parametrize(("pool", "status"), [("pool.npy", 0), ("none.npy", 2)])
def test_a_full_standard_error_does_not_change_the_exit_status(tmp_path, pool, status):
    np.save(tmp_path / "pool.npy", np.ones((9, 3), np.float32))
    command = [sys.executable, "-m", "fastal", "select", pool, "--k", "3", "--out", "o.csv"]
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run(command, cwd=tmp_path, stderr=full, check=False)
    assert done.returncode == status
    assert (tmp_path / "o.csv").exists() == (status == 0)


@pytest.mark.parametrize("name", ["out", "k", "labelled"])
def test_the_names_of_files_are_not_taken_for_options(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    assert run("select", name, "--k", 3).stderr == f"Error: {name}: no such file\n"
