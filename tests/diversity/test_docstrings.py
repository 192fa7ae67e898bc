"""Every public name of `fastal.diversity` has an example, and the examples run."""

import doctest

import pytest

from fastal import diversity

METHODS = ["fit", "assign", "sample", "save", "load"]
DOCUMENTED = {name: getattr(diversity, name) for name in diversity.__all__}
DOCUMENTED |= {
    f"CosineClusters.{name}": getattr(diversity.CosineClusters, name) for name in METHODS
}


def run_example(docstring, name):
    """Runs the example of a docstring; raises if it fails or if there is none."""
    _, _, example = docstring.partition("Example:\n")
    test = doctest.DocTestParser().get_doctest(example, {}, name, None, None)
    assert test.examples, f"{name}: no example"
    messages = []
    failed, _ = doctest.DocTestRunner(verbose=False).run(test, out=messages.append)
    assert not failed, "".join(messages)


@pytest.mark.parametrize("name", DOCUMENTED)
def test_the_example_of_a_docstring_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_example(DOCUMENTED[name].__doc__, name)


@pytest.mark.parametrize(
    ("docstring", "words"),
    [("Adds.", "no example"), ("Example:\n    >>> 1 + 1\n    3\n", "Failed example")],
)
def test_a_missing_or_wrong_example_is_found(docstring, words):
    with pytest.raises(AssertionError, match=words):
        run_example(docstring, "name")
