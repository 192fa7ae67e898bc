"""Which rows of a pool are read: numbers of rows, and filters over them."""

import hashlib
import pickle
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import fastal
from fastal.base import row_filter
from fastal.base.row_filter import row_filter_of
from fastal.base.row_numbers import RowNumbers, row_numbers

ROWS = st.sets(st.integers(0, 30))


@given(
    exclude=st.none() | ROWS,
    among=st.none() | ROWS,
    start=st.integers(0, 25),
    n=st.integers(0, 12),
    as_masks=st.booleans(),
    n_rows=st.sampled_from([None, 31]),
)
def test_the_rows_that_are_left(exclude, among, start, n, as_masks, n_rows):
    def form(rows):
        if rows is None:
            return None
        return np.isin(np.arange(31), list(rows)) if as_masks else list(rows)

    n = min(n, 31 - start)
    found = row_filter_of(form(exclude), form(among), n_rows)
    want = [
        (among is None or row in among) and (exclude is None or row not in exclude)
        for row in range(31)
    ]
    if found is None:
        assert among is None
        assert not exclude
        return
    kept = found.kept(RowNumbers(n, start))
    assert ([True] * n if kept is None else kept.tolist()) == want[start : start + n]
    assert found.n_left(31) == sum(want)
    every_third = np.arange(start, 31, 3)
    kept = found.kept(RowNumbers(len(every_third), start, every_third))
    kept = [True] * len(every_third) if kept is None else kept.tolist()
    assert kept == [want[row] for row in every_third]


def test_a_mask_and_its_rows_have_one_identity():
    rows = [7, 2, 3]
    mask = np.isin(np.arange(9), rows)
    for name in ("exclude", "among"):
        by_rows, by_mask, others = (
            row_filter_of(**{"exclude": None, "among": None} | {name: given})
            for given in (rows, mask, [7, 2])
        )
        assert by_rows.identity() == by_mask.identity() != others.identity()
        assert name in by_rows.identity()


def test_the_rows_of_a_filter_are_hashed_once_also_for_its_copies():
    found = row_filter_of([7, 2, 3], None)
    with patch.object(row_filter.hashlib, "sha256", wraps=hashlib.sha256) as hashing:
        identities = [found.identity(), found.identity()]
        identities.append(pickle.loads(pickle.dumps(found)).identity())
        assert hashing.call_count == 1
    digest = hashlib.sha256(np.array([2, 3, 7], np.int64).tobytes()).hexdigest()[:16]
    assert identities == [{"exclude": f"3 rows, {digest}"}] * 3


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        (np.zeros(4, bool), ValueError, "x: wanted a mask with a value for each of the 5 rows"),
        ([0, -1], ValueError, "x: wanted row numbers from 0 on, got -1"),
        ([0, 3, 3], ValueError, "x: row 3 is there twice"),
        ([0, 7, 5], ValueError, "x: row 7 is not in the pool, which has 5 rows"),
        ([0.5], TypeError, "x: wanted row numbers or the values of a mask in a list, got 0.5"),
        ([1, "a"], TypeError, "x: wanted row numbers or the values of a mask in a list, got 'a'"),
        (3, TypeError, "x: wanted row numbers, a mask or picks, got int"),
        (np.zeros((2, 2), int), TypeError, r"x: wanted row numbers or a mask, got int64 of shape"),
        (torch.tensor([2.0]), TypeError, "x: wanted row numbers or a mask, got float32"),
    ],
)
@pytest.mark.parametrize("name", ["exclude", "among"])
def test_what_names_no_rows_is_refused(given, error, words, name):
    pool = np.zeros((5, 2), np.float32)
    with pytest.raises(error, match=words.replace("x:", f"{name}:")):
        row_filter_of(**{"exclude": None, "among": None, name: given}, n_rows=5)
    with pytest.raises(error, match=words.replace("x:", f"{name}:")):
        fastal.select(pool, 1, **{name: given})


def test_what_the_caller_passed_is_not_kept():
    mask = np.array([True, False, False])
    selector = fastal.Selector(3, exclude=mask)
    mask[:] = True
    selector.update(np.zeros((3, 2)))
    assert selector.result().rows.tolist() == [1, 2]


@pytest.mark.parametrize("numbers", [RowNumbers(4, 10), row_numbers(np.array([3, 7, 8, 20]), 4)])
def test_row_numbers(numbers):
    every = numbers.at(np.arange(4)).tolist()
    assert len(numbers) == 4
    assert (numbers.start, numbers.stop) == (every[0], every[-1] + 1)
    for row in range(25):
        assert numbers.before(row) == sum(one < row for one in every)
    for first in range(5):
        for stop in range(first, 6):
            part = numbers.part(first, stop)
            assert part.at(np.arange(len(part))).tolist() == every[first:stop]
    rows = np.arange(0, 25, 3)
    there, here = numbers.found(rows)
    assert rows[there].tolist() == [row for row in rows.tolist() if row in every]
    assert numbers.at(here).tolist() == rows[there].tolist()


@pytest.mark.parametrize(
    ("start", "error", "words"),
    [
        ("a", TypeError, "start: wanted a row number, got 'a'"),
        (-1, ValueError, "start: wanted a row number from 0"),
        (2**63 - 1, ValueError, "start: wanted a row number from 0"),
        (np.array([1, 2]), ValueError, "an integer for each of 3 rows, got int64 of shape"),
        (np.array([1.0, 2, 3]), ValueError, "an integer for each of 3 rows, got float64"),
        (np.array([1, 3, 3]), ValueError, "ascending row numbers from 0 on, got 3 out of order"),
        (np.array([-1, 3, 4]), ValueError, "ascending row numbers from 0 on, got -1 out of order"),
    ],
)
def test_what_are_no_row_numbers_is_refused(start, error, words):
    with pytest.raises(error, match=words):
        row_numbers(start, 3)
    with pytest.raises(error, match=words):
        fastal.Selector(1).update(np.zeros((3, 2)), start)
