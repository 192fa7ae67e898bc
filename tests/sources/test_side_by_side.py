"""Two pools that are read together give the same rows, however each is cut."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastal
from fastal.sources.chosen_rows import ChosenRows
from fastal.sources.side_by_side import check_same_rows, side_by_side
from fastal.sources.source import Skipped

X = np.arange(40.0).reshape(20, 2)
Y = -np.arange(20.0).reshape(20, 1)


def cut(x, cuts):
    return fastal.open_pool(list(np.split(x, sorted(cuts))))


def read(pool, beside, rows=7, start=0):
    pairs = list(side_by_side([pool, beside], rows, start, "beside"))
    for pair in pairs:
        x, y = pair.parts
        numbers = pair.numbers.at(np.arange(len(x)))
        assert (x == X[numbers]).all()
        assert (y == Y[numbers]).all()
        assert (pair.given is None) == pair.numbers.are_consecutive
    return [row for pair in pairs for row in pair.numbers.at(np.arange(len(pair.parts[0])))]


CUTS = st.lists(st.integers(0, 20), max_size=6)


@given(ours=CUTS, theirs=CUTS)
def test_every_row_comes_once_beside_its_own(ours, theirs):
    assert read(cut(X, ours), cut(Y, theirs)) == list(range(20))


@given(rows=st.sets(st.integers(0, 19), min_size=1), size=st.integers(1, 25))
def test_chosen_rows_keep_their_numbers(rows, size):
    chosen = np.array(sorted(rows))
    pools = (ChosenRows(fastal.open_pool(x), chosen) for x in (X, Y))
    assert read(*pools, rows=size) == chosen.tolist()


def test_reading_begins_at_any_row():
    assert read(fastal.open_pool(X), fastal.open_pool(Y), start=13) == list(range(13, 20))


def test_empty_pools_have_a_shape():
    pools = [fastal.open_pool(X[:0]), fastal.open_pool(Y[:0])]
    (pair,) = side_by_side(pools, 7, 0, "beside")
    assert [x.shape for x in pair.parts] == [(0, 2), (0, 1)]


def test_rows_of_skipped_files_are_left_out(tmp_path):
    for i, part in enumerate(np.split(Y, [5, 9])):
        np.save(tmp_path / f"{i}.npy", part)
    beside = fastal.open_pool(tmp_path, on_bad_file="skip")
    beside.skipped = [Skipped(str(tmp_path / "1.npy"), 0, "it is bad")]
    for cuts in ([], [4, 7], [5, 9], [8]):
        assert read(cut(X, cuts), beside) == [*range(5), *range(9, 20)]


@pytest.mark.parametrize(("n_ours", "n_theirs", "found"), [(20, 12, "fewer"), (12, 20, "more")])
def test_pools_of_other_lengths_are_refused(n_ours, n_theirs, found):
    message = f"beside: wanted as many rows as the other pool has, got {found}"
    with pytest.raises(ValueError, match=message):
        read(cut(X[:n_ours], [6]), cut(Y[:n_theirs], [6]))
    with pytest.raises(ValueError, match=rf"x: wanted {n_ours} rows, .* got {n_theirs}"):
        check_same_rows(fastal.open_pool(X[:n_ours]), fastal.open_pool(Y[:n_theirs]), "x")
