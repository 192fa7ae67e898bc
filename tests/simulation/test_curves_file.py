"""Curves that were saved read back; files that hold no curves are refused with their line."""

import numpy as np
import pytest

import fastal

HEAD = "strategy,seed,round,n_labelled,score\n"


def test_saved_curves_read_back_to_the_same_bits(tmp_path):
    scores = np.random.default_rng(0).random((2, 3, 4))
    saved = fastal.Simulation(
        ('a, "b"', "random"), (5, 0, 2**63), np.array([1, 2, 5, 9]), scores, "f1"
    )
    saved.save(tmp_path / "curves.csv")
    found = fastal.Simulation.load(tmp_path / "curves.csv", metric="f1")
    assert (found.strategies, found.seeds, found.metric) == (saved.strategies, saved.seeds, "f1")
    assert (found.scores == scores).all()
    assert found.n_labelled.tolist() == [1, 2, 5, 9]
    assert repr(found) == repr(saved)


def test_runs_of_several_processes_are_joined(tmp_path):
    scores = np.random.default_rng(0).random((3, 2, 3))
    labels = np.array([1, 2, 5])
    whole = fastal.Simulation(("a", "b", "random"), (0, 7), labels, scores, "f1")
    paths = []
    for i, seed in enumerate(whole.seeds):
        for part in (slice(0, 2), slice(2, 3)):  # the strategies
            paths.append(tmp_path / f"{seed}-{part.start}.csv")
            some = scores[part, i : i + 1]
            fastal.Simulation(whole.strategies[part], (seed,), labels, some, "f1").save(paths[-1])
    joined = fastal.Simulation.load(*paths, metric="f1")
    assert repr(joined) == repr(whole)
    assert (joined.scores == scores).all()
    with pytest.raises(ValueError, match=r"0-0\.csv, .* lacks round 0 of random, seed 7"):
        fastal.Simulation.load(*paths[:3])
    with pytest.raises(ValueError, match=r"0-0\.csv line 2: a, seed 0, round 0 came before"):
        fastal.Simulation.load(*paths, paths[0])
    with pytest.raises(ValueError, match=r"paths: wanted a \.csv file or several, got none"):
        fastal.Simulation.load()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "wanted the columns strategy,seed"),
        ("rank,row,score\n", "wanted the columns strategy,seed"),
        (HEAD, "wanted the scores of two or more rounds, got 0"),
        (HEAD + "a,0,0,10,0.5\n", "wanted the scores of two or more rounds, got 1"),
        (HEAD + "a,0,0,10,0.5\na,0,1,20\n", "line 3: wanted strategy,seed"),
        (HEAD + "a,0,0,10,much\n", "line 2: wanted strategy,seed"),
        (HEAD + "a,0,0,10,nan\n", "line 2: wanted a finite score, got nan"),
        (HEAD + "a,0,0,10,0.5\na,0,0,10,0.5\n", "line 3: a, seed 0, round 0 came before"),
        (HEAD + "a,-1,0,10,0.5\n", "line 2: wanted a seed from 0 to .*, got -1"),
        (HEAD + f"a,{2**64},0,10,0.5\n", f"line 2: wanted a seed from 0 to .*, got {2**64}"),
        (HEAD + f"a,0,0,{2**63},0.5\n", f"line 2: wanted n_labelled from 0 to .*, got {2**63}"),
        (HEAD + "a,0,0,10,0.5\nb,0,0,11,0.5\n", "line 3: wanted 10 labels in round 0"),
        (HEAD + "a,0,0,10,0.5\na,0,1,20,0.5\nb,0,0,10,0.5\n", "lacks round 1 of b, seed 0"),
        (HEAD + "a,0,0,10,0.5\na,0,2,20,0.5\n", "lacks round 1 of a, seed 0"),
        (HEAD + "a,0,0,10,0.5\na,0,1,10,0.5\n", "wanted more labels in each round"),
    ],
)
def test_a_file_without_whole_curves_is_refused(tmp_path, text, message):
    path = tmp_path / "curves.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as raised:
        fastal.Simulation.load(path)
    assert str(raised.value).startswith(str(path))
