"""The example of the texts reads labelled texts, compares the strategies and draws the picture."""

import functools

import numpy as np
import pytest

from tests.support.examples import example

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def text():
    """The example; it reads the files of SciPy once."""
    module = example("text")
    module.docstrings = functools.cache(module.docstrings)
    return module


@pytest.mark.full
def test_every_text_has_its_part_of_scipy_as_class(text):
    texts, y, names = text.docstrings()
    assert len(texts) == len(set(texts)) == len(y) > 1000
    assert np.bincount(y).min() >= 40 and len(names) == y.max() + 1 > 10
    part = {found: names[number] for found, number in zip(texts, y, strict=True)}
    starts = {"stats": "Perform a Fisher exact test", "signal": "Cross-correlate two N-dimensional"}
    for name, start in starts.items():
        assert {part[found] for found in texts if found.startswith(start)} == {name}
    assert not any("\nParameters\n" in found for found in texts)


@pytest.mark.full
def test_the_example_prints_the_table_and_draws_the_picture(text, tmp_path, capsys, threads):
    threads(1)  # the runs are small
    picture = tmp_path / "curves.png"
    text.main(picture, seeds=2, rounds=3)
    out, err = capsys.readouterr()
    about, title, _, *lines, last = out.splitlines()
    assert "stats" in about
    assert title == "accuracy from 20 to 80 labels, mean over 2 seeds ± 95% confidence"
    means = {line.split()[0]: float(line.split()[1]) for line in lines}
    assert list(means) == [
        "random", "margin", "entropy", "k_center", "typiclust", "clustered_uncertainty",
    ]  # fmt: skip
    assert means["clustered_uncertainty"] > means["random"]
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert last == f"The curves: {picture}"
    assert len([line for line in err.splitlines() if " of 12 runs in " in line]) == 12
