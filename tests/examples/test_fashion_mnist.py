"""The example of Fashion-MNIST runs all strategies; without the images, on digits."""

from pathlib import Path

import numpy as np
import pytest

import fastal
from tests.support.checkout import ROOT
from tests.support.examples import example

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")
pytestmark = pytest.mark.filterwarnings("ignore:.*small model hardly tells")


@pytest.fixture
def fashion(tmp_path, monkeypatch, threads):
    """The example, with networks that are hardly trained."""
    threads(1)  # the runs are small
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(ROOT / "examples")
    module = example("fashion_mnist")
    module.STEPS = 10
    return module


@pytest.mark.full
def test_all_strategies_run_on_the_digits_if_the_images_are_missing(fashion, capsys):
    fashion.IMAGES = Path("nowhere")
    fashion.main(["--seeds", "3", "--rounds", "1"])
    out = capsys.readouterr().out
    assert "dataset-fashion-mnist is not installed: these are curves of digits" in out
    curves = fastal.Simulation.load("fashion-mnist.csv", metric="accuracy")
    names = list(fashion.every_strategy(None, None))
    assert list(curves.strategies) == names
    assert {"badge", "atlas", "clustered uncertainty", "random"} < set(names)
    assert curves.n_labelled.tolist() == [20, 40]
    assert str(curves) in out
    assert len(np.unique(curves.scores[:, :, 0])) == 1  # all begin with the same model
    assert Path("fashion-mnist.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.full
def test_the_images_are_read_if_they_are_there(fashion):
    if not fashion.IMAGES.is_dir():
        pytest.skip("needs the Debian package dataset-fashion-mnist")
    x, y, validation, test, batch = fashion.data()
    assert x.shape == (60_000, 1, 28, 28)
    assert (x.min(), x.max()) == (0, 1)
    assert np.bincount(y).tolist() == [6000] * 10
    assert (len(validation[0]), len(test[0]), batch) == (2000, 8000, 100)


def test_a_strategy_that_is_unknown_is_named(fashion, capsys):
    fashion.IMAGES = Path("nowhere")
    with pytest.raises(SystemExit):
        fashion.main(["--strategies", "random;magic"])
    assert "--strategies: wanted some of random; least_confidence;" in capsys.readouterr().err
