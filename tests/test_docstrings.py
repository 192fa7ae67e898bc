"""The examples in docstrings run, and every public function and class has one."""

import doctest
import importlib
import inspect

import pytest

import fastal
from fastal import testing
from tests.support.modules import modules

MODULES = [
    name
    for name, path in modules().items()
    if name.startswith("fastal.") and ">>>" in path.read_text()
    if not name.startswith("fastal.adapters.")  # tests/adapters/ has these: they need their tools
]
PUBLIC = [
    pytest.param(getattr(home, name), id=f"{home.__name__}.{name}")
    for home in (fastal, fastal.combine, fastal.diversity, fastal.report, testing)
    for name in home.__all__
    if callable(getattr(home, name))
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_give_the_output_that_they_show(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert found.attempted > 0
    assert found.failed == 0


@pytest.mark.parametrize("public", PUBLIC)
def test_every_public_name_has_an_example(public):
    assert ">>>" in inspect.getdoc(public)


WRONG = '''
def half(x):
    """Half of x.

    >>> half(4)
    3.0
    """
    return x / 2
'''


def test_a_wrong_example_is_caught(tmp_path, monkeypatch, capsys):
    (tmp_path / "wrong_example.py").write_text(WRONG)
    monkeypatch.syspath_prepend(tmp_path)
    assert doctest.testmod(importlib.import_module("wrong_example")).failed == 1
    assert "Expected:\n    3.0" in capsys.readouterr().out
