"""A simulation that was killed is resumed: the same numbers, and no run twice."""

import json
import re

import numpy as np
import pytest
import torch

import fastal
from fastal.simulation.fingerprint import digest
from fastal.simulation.finished_runs import FinishedRuns
from tests.support.simulation import Recorder, X, Y, fit, predict

HOW = {"rounds": 2, "batch": 5, "seeds": 3, "initial": 10}
STRATEGIES = ["margin", "random"]
MODELS = 3  # of a run


def simulate(fit=fit, predict=predict, x=X, y=Y, strategies=STRATEGIES, **how):
    return fastal.simulate(fit, predict, x, y, strategies, **{**HOW, **how})


class Dying(Recorder):
    """A fit that is killed at its n-th model."""

    __name__ = "fit"

    def __init__(self, n):
        super().__init__()
        self.n = n

    def __call__(self, x, y, seed):
        if len(self.rows) == self.n:
            raise KeyboardInterrupt
        return super().__call__(x, y, seed)


@pytest.fixture
def folder(tmp_path):
    """A folder with the checkpoint of a simulation that was killed in its third run."""
    with pytest.raises(KeyboardInterrupt):
        simulate(Dying(2 * MODELS + 1), checkpoint=tmp_path / "runs")
    return tmp_path / "runs"


@pytest.mark.parametrize("n", range(6 * MODELS))
def test_a_killed_simulation_is_resumed_to_the_same_numbers(tmp_path, n):
    with pytest.raises(KeyboardInterrupt):
        simulate(Dying(n), checkpoint=tmp_path)
    again = Dying(None)
    found = simulate(again, checkpoint=tmp_path, resume=True)
    want = simulate()
    assert found.scores.tobytes() == want.scores.tobytes()
    assert found.scores.dtype == want.scores.dtype
    assert len(again.rows) == (6 - n // MODELS) * MODELS
    assert list(tmp_path.iterdir()) == []


def test_a_simulation_may_be_killed_several_times(folder):
    with pytest.raises(KeyboardInterrupt):
        simulate(Dying(MODELS), checkpoint=folder, resume=True)
    again = Dying(None)
    found = simulate(again, checkpoint=folder, resume=True)
    assert (found.scores == simulate().scores).all()
    assert len(again.rows) == 3 * MODELS


def test_resuming_says_what_is_done(folder, capsys):
    simulate(checkpoint=folder, resume=True, progress=True)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "resumed after 2 of 6 runs"
    assert lines[1].startswith("3 of 6 runs in ")
    assert len(lines) == 5


def test_resume_without_a_checkpoint_begins(tmp_path):
    found = simulate(checkpoint=tmp_path / "new" / "runs", resume=True)
    assert (found.scores == simulate().scores).all()


def test_without_resume_a_checkpoint_is_refused_and_kept(folder):
    before = (folder / "simulation").read_bytes()
    with pytest.raises(ValueError, match="holds one already: resume it, or remove "):
        simulate(checkpoint=folder)
    assert (folder / "simulation").read_bytes() == before


def other_model(x, y, seed):
    return fit(x, y, seed)


OTHER = {
    "rounds": {"rounds": 3},
    "batch": {"batch": 4},
    "initial": {"initial": 11},
    "seeds": {"seeds": [0, 1]},
    "test": {"test": 0.25},
    "strategies": {"strategies": {"margin": "entropy", "random": "random"}},
    "kind": {"kind": "log_probs"},
    "metric": {"metric": lambda y, p: 0.0},
    "fit": {"fit": other_model},
    "predict": {"predict": lambda w, x: predict(w, x)},
    "x": {"x": np.nextafter(X, 9)},
    "y": {"y": (Y + 1) % 4},
}


@pytest.mark.parametrize("name", OTHER)
def test_a_checkpoint_of_other_arguments_is_refused_and_kept(folder, name):
    before = (folder / "simulation").read_bytes()
    message = f"simulation is of another simulation: {name} is .* there, .* in this one"
    with pytest.raises(ValueError, match=message):
        simulate(checkpoint=folder, resume=True, **OTHER[name])
    assert (folder / "simulation").read_bytes() == before


def test_a_checkpoint_of_other_test_data_is_refused(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        simulate(Dying(MODELS), test=(X, Y), checkpoint=tmp_path)
    with pytest.raises(ValueError, match="another simulation: test is"):
        simulate(test=(X, 1 - Y % 2), checkpoint=tmp_path, resume=True)
    simulate(test=(X.copy(), Y.copy()), checkpoint=tmp_path, resume=True)


DAMAGES = {
    "empty": lambda whole: b"",
    "cut short": lambda whole: whole[:-1],
    "a digit": lambda whole: whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:],
    "another file": lambda whole: b"{}",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_refused(folder, damage):
    path = folder / "simulation"
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    with pytest.raises(ValueError, match="simulation is damaged; remove it to start over"):
        simulate(checkpoint=folder, resume=True)


def test_a_folder_that_another_simulation_uses_is_refused(folder):
    identity = json.loads((folder / "simulation").read_text().partition("\n")[2])["identity"]
    in_use = pytest.raises(ValueError, match="checkpoint: another simulation uses")
    with FinishedRuns(folder, identity, resume=True), in_use:
        simulate(checkpoint=folder, resume=True)
    simulate(checkpoint=folder, resume=True)


def test_a_checkpoint_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=re.escape(str(tmp_path / "file"))):
        simulate(checkpoint=tmp_path / "file")


EQUAL = [
    (X, X[:, ::-1].copy()[:, ::-1]),
    (["a", "b"], ("a", "b")),
    ([X[0], X[1]], [X[0].copy(), X[1].copy()]),
    (torch.from_numpy(X), torch.from_numpy(X.T.copy()).T),
    (np.array(["a", None], object), ["a", None]),
]
DIFFERENT = [
    X, X.astype(np.float32), X.T, X[1:], X.tolist(), ["a", "b"], ["ab"], ["a", ["b"]], ["a b"],
    np.array(["a", "b"]), [1, 2], ["1", "2"], [1.0, 2.0], [True, 2], [b"a"], [None], [],
    np.zeros(2), np.zeros(2, np.int64), np.zeros((2, 1)), np.zeros((1, 2)), ["\ud800"],
    torch.zeros(2), torch.zeros(2, dtype=torch.bfloat16), torch.zeros(4, dtype=torch.bfloat16),
    np.zeros(0), np.float64(0), [np.zeros(2), np.zeros(1)], [np.zeros(1), np.zeros(2)],
]  # fmt: skip


@pytest.mark.parametrize(("a", "b"), EQUAL)
def test_equal_data_has_one_digest(a, b):
    assert digest("x", a) == digest("x", b)


def test_different_data_has_different_digests():
    assert len({digest("x", values) for values in DIFFERENT}) == len(DIFFERENT)


def test_data_without_a_digest_is_refused(tmp_path):
    with pytest.raises(TypeError, match="checkpoint: wanted x of arrays, or of lists of arrays"):
        simulate(x=[{"text": "a"}] * len(Y), checkpoint=tmp_path)
