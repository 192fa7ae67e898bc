"""The arguments that all combined strategies share: rows, chunks, ids, invalid rows, seeds."""

import logging

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fastal
from fastal.pipeline.checkpoint import Checkpoint
from tests.support.combined import FIRST, N_ROWS, OTHER, STRATEGIES, pools

LOGITS, X = pools()
each = pytest.mark.parametrize("name", STRATEGIES)


def values(picks):
    """All that is known of the picks, as plain values."""
    columns = {name: list(column) for name, column in picks.columns.items()}
    return (
        np.asarray(picks.rows).tobytes(),
        np.asarray(picks.scores).tobytes(),
        None if picks.groups is None else np.asarray(picks.groups).tolist(),
        columns,
        picks.strategy,
        picks.invalid,
    )


@each
@pytest.mark.parametrize("k", [1, 2, 30])
def test_k_different_rows_are_picked(name, k):
    before = LOGITS.copy(), X.copy()
    picks = STRATEGIES[name](LOGITS, X, k)
    assert len({*picks.rows.tolist()}) == len(picks) == k
    assert picks.strategy == name
    assert picks.scores.dtype == np.float32
    assert (LOGITS == before[0]).all()
    assert (X == before[1]).all()


@each
def test_all_rows_that_are_left_are_picked_and_a_warning_says_so(name, caplog):
    logits, x = pools(12)
    picks = STRATEGIES[name](logits, x, 20)
    assert sorted(picks.rows.tolist()) == list(range(12))
    assert "k: wanted 20 rows; 12 valid ones are left, all picked" in caplog.text
    caplog.clear()
    picks = STRATEGIES[name](logits, x, 20, exclude=[3, 4])
    assert sorted(picks.rows.tolist()) == [0, 1, 2, *range(5, 12)]
    assert "10 valid ones are left" in caplog.text


@each
def test_rows_are_left_out_as_if_they_were_not_there(name):
    rng = np.random.default_rng(5)
    allowed = np.sort(rng.choice(N_ROWS, 150, replace=False))
    mask = np.isin(np.arange(N_ROWS), allowed)
    logits, x = LOGITS.copy(), X.copy()
    logits[~mask], x[~mask] = np.nan, np.nan  # whether they are valid does not matter
    want = values(STRATEGIES[name](LOGITS, X, 9, among=allowed))
    for how in ({"among": mask}, {"exclude": ~mask}, {"exclude": np.flatnonzero(~mask)}):
        assert values(STRATEGIES[name](logits, x, 9, **how)) == want
    rows = np.frombuffer(want[0], np.int64)
    assert np.isin(rows, allowed).all()


@each
def test_no_row_left_is_an_error(name):
    with pytest.raises(ValueError, match=r"exclude and among leave no row"):
        STRATEGIES[name](LOGITS, X, 3, exclude=range(N_ROWS))


@each
@settings(deadline=None, max_examples=4)
@given(cuts=st.lists(st.integers(1, N_ROWS - 1), max_size=2), k=st.sampled_from([1, 4, 17]))
def test_picks_are_the_same_for_any_chunks(name, cuts, k):
    want = values(STRATEGIES[name](LOGITS, X, k))
    logits, x = (
        np.split(array, sorted({*(cut + shift for cut in cuts if cut + shift < N_ROWS)}))
        for array, shift in ((LOGITS, 0), (X, 1))
    )
    assert values(STRATEGIES[name](logits, x, k)) == want
    assert values(STRATEGIES[name](LOGITS, X, k, chunk_bytes=3000)) == want


@each
def test_files_give_the_picks_of_arrays(name, tmp_path):
    np.save(tmp_path / "logits.npy", LOGITS)
    np.save(tmp_path / "x.npy", X)
    picks = STRATEGIES[name](tmp_path / "logits.npy", tmp_path / "x.npy", 9)
    assert values(picks) == values(STRATEGIES[name](LOGITS, X, 9))


@each
def test_tensors_give_tensors(name):
    picks = STRATEGIES[name](torch.from_numpy(LOGITS), torch.from_numpy(X), 9)
    assert isinstance(picks.rows, torch.Tensor)
    assert values(picks) == values(STRATEGIES[name](LOGITS, X, 9))


@each
def test_rows_are_matched_by_id_and_carried(name):
    rng = np.random.default_rng(1)
    ids, order = rng.permutation(10_000)[:N_ROWS], rng.permutation(N_ROWS)
    pool = fastal.open_pool(LOGITS, ids=ids, carry={"text": [f"text {i}" for i in ids]})
    shuffled = fastal.open_pool(X[order], ids=ids[order])
    picks = STRATEGIES[name](pool, shuffled, 9, among=picks_of(ids, range(300)))
    assert (picks.ids == ids[picks.rows]).all()
    assert picks["text"].tolist() == [f"text {i}" for i in picks.ids]
    assert (picks.rows < 300).all()
    with pytest.raises(ValueError, match=r"has no row with the id"):
        STRATEGIES[name](pool, fastal.open_pool(X, ids=ids + 1), 9)


def picks_of(ids, rows):
    return fastal.Picks(np.array(rows), np.zeros(len(rows), np.float32), ids[rows])


@each
def test_invalid_rows_raise_or_are_left_out_and_counted(name):
    logits, x = LOGITS.copy(), X.copy()
    first = int(STRATEGIES[name](LOGITS, X, 1).rows[0])
    logits[7] = np.nan
    with pytest.raises(fastal.InvalidRows, match="row 7 "):
        STRATEGIES[name](logits, X, 5)
    picks = STRATEGIES[name](logits, X, 5, on_invalid="skip")
    assert 7 not in picks.rows
    assert picks.invalid == 1
    x[first] = np.inf
    with pytest.raises(fastal.InvalidRows, match=rf"row {first} \({OTHER[name]}"):
        STRATEGIES[name](LOGITS, x, 5)
    picks = STRATEGIES[name](logits, x, 5, on_invalid="skip")
    assert not {first, 7} & {*picks.rows.tolist()}
    assert picks.invalid == 2
    x[7] = np.nan  # a row that is invalid in both pools counts once
    assert STRATEGIES[name](logits, x, 5, on_invalid="skip").invalid == 2


@each
def test_rows_that_are_all_invalid_are_an_error(name):
    for logits, x in ((LOGITS * np.nan, X), (LOGITS, X * np.nan)):
        with pytest.raises(ValueError, match=r"invalid|0 valid rows|no row that may be picked"):
            STRATEGIES[name](logits, x, 3, on_invalid="skip")


@each
def test_draws_are_scored_by_their_mean(name):
    draws = fastal.draws([LOGITS, LOGITS])
    picks, want = (STRATEGIES[name](pool, X, 9) for pool in (draws, LOGITS))
    assert picks.rows.tolist() == want.rows.tolist()


@each
def test_pools_of_other_lengths_are_refused(name):
    with pytest.raises(ValueError, match=rf"{OTHER[name]}: wanted 400 rows, as {FIRST[name]} has"):
        STRATEGIES[name](LOGITS, X[1:], 3)


@each
def test_a_generator_is_refused(name):
    for logits, x, argument in ((iter([LOGITS]), X, FIRST[name]), (LOGITS, iter([X]), OTHER[name])):
        with pytest.raises(ValueError, match=rf"{argument}: wanted a pool that can be read again"):
            STRATEGIES[name](logits, x, 3)


@each
def test_bad_arguments_are_named(name):
    for how, match in (
        ({"backend": "fast"}, "backend: wanted one of"),
        ({"on_invalid": "drop"}, "on_invalid: wanted one of"),
        ({"chunk_bytes": 0}, "chunk_bytes: wanted at least 1"),
        ({"exclude": [N_ROWS]}, "exclude: row 400 is not in the pool"),
    ):
        with pytest.raises(ValueError, match=match):
            STRATEGIES[name](LOGITS, X, 3, **how)
    with pytest.raises(ValueError, match="k: wanted at least 1"):
        STRATEGIES[name](LOGITS, X, 0)
    with pytest.raises(TypeError, match="colour"):
        STRATEGIES[name](LOGITS, X, 3, colour="red")


@each
def test_each_stage_has_a_checkpoint_of_its_own(name, tmp_path):
    np.save(tmp_path / "logits.npy", LOGITS)
    np.save(tmp_path / "x.npy", X)
    files = tmp_path / "logits.npy", tmp_path / "x.npy"
    want = values(STRATEGIES[name](*files, 9))
    folder = tmp_path / "state"
    assert values(STRATEGIES[name](*files, 9, checkpoint=folder, resume=True)) == want
    assert len([*folder.iterdir()]) > 1
    with pytest.raises(ValueError, match="resume: wanted checkpoint"):
        STRATEGIES[name](*files, 9, resume=True)


@each
def test_progress_changes_nothing(name, capsys):
    want = values(STRATEGIES[name](LOGITS, X, 9))
    assert capsys.readouterr().err == ""
    assert values(STRATEGIES[name](LOGITS, X, 9, progress=True)) == want
    assert "rows/s" in capsys.readouterr().err


@each
def test_padding_is_warned_of(name, caplog):
    logits = LOGITS.copy()
    logits[5:] = 0
    with caplog.at_level(logging.WARNING):
        STRATEGIES[name](logits, X, 9)
    assert "picks are rows of equal values, as padding and failed items are" in caplog.text


@each
@pytest.mark.parametrize("chunk", [2, 4])
def test_an_interrupted_run_continues_to_the_same_picks(name, chunk, tmp_path, monkeypatch):
    np.save(tmp_path / "logits.npy", LOGITS)
    np.save(tmp_path / "x.npy", X)
    files = tmp_path / "logits.npy", tmp_path / "x.npy"
    how = {"checkpoint": tmp_path / "state", "chunk_bytes": 32 * 100}
    want = values(STRATEGIES[name](*files, 9))
    monkeypatch.setattr(Checkpoint, "is_due", True)
    saved = []

    def save_then_fail(self, reducer, source, row):
        save(self, reducer, source, row)
        saved.append(row)
        if len(saved) == chunk:
            raise KeyboardInterrupt

    save = Checkpoint.save
    with monkeypatch.context() as patched:
        patched.setattr(Checkpoint, "save", save_then_fail)
        with pytest.raises(KeyboardInterrupt):
            STRATEGIES[name](*files, 9, **how)
    with pytest.raises(ValueError, match="holds one already: resume it"):
        STRATEGIES[name](*files, 9, **how)
    assert values(STRATEGIES[name](*files, 9, **how, resume=True)) == want
