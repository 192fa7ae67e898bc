"""Rows that are matched by id, against a search by comparison."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastal.sources.matching import places

INTEGERS = st.integers(-(2**63), 2**64 - 1)
TEXT = st.text(max_size=3)


def as_ids(values):
    """As a pool of files gives its ids."""
    if all(type(value) is int for value in values):
        for dtype in (np.int64, np.uint64):
            if all(np.iinfo(dtype).min <= value <= np.iinfo(dtype).max for value in values):
                return np.array(values, dtype)
    found = np.empty(len(values), object)
    found[:] = values
    return found


@given(st.data())
def test_every_id_is_found_in_any_order(data):
    kind = data.draw(st.sampled_from([INTEGERS, st.integers(0, 9), TEXT, INTEGERS.map(str)]))
    among = data.draw(st.lists(kind, unique=True, min_size=1))
    wanted = data.draw(st.lists(st.sampled_from(among)))
    as_text = data.draw(st.booleans())
    found = places(as_ids(wanted), as_ids([*map(str, among)] if as_text else among), "x")
    assert found.tolist() == [among.index(value) for value in wanted]


@given(st.data(), st.sampled_from([INTEGERS, TEXT]))
def test_the_first_id_that_is_missing_is_named(data, kind):
    among = data.draw(st.lists(kind, unique=True))
    wanted = data.draw(st.lists(kind, min_size=1).filter(lambda ids: not {*ids} <= {*among}))
    first = next(value for value in wanted if value not in among)
    with pytest.raises(ValueError, match=r"^x: has no row with the id ") as error:
        places(as_ids(wanted), as_ids(among), "x")
    # If their dtypes have no common one, integers are compared as text.
    assert str(error.value).endswith((f" {first!r}", f" {str(first)!r}"))


@given(st.data(), st.sampled_from([st.integers(0, 9), TEXT]))
def test_the_first_id_that_comes_again_is_named(data, kind):
    among = data.draw(st.lists(kind, min_size=2).filter(lambda ids: len({*ids}) < len(ids)))
    again = next(value for i, value in enumerate(among) if value in among[:i])
    with pytest.raises(ValueError, match=r"^x: has several rows") as error:
        places(as_ids([among[0]]), as_ids(among), "x")
    assert str(error.value) == f"x: has several rows with the id {again!r}"


def test_large_integers_are_not_rounded():
    """As floats, both would be equal."""
    wanted, among = np.array([2**63 - 1]), np.array([2**63, 2**63 - 1], np.uint64)
    assert places(wanted, among, "x").tolist() == [1]


def test_missing_ids_match_only_one_another():
    assert places(as_ids([None, "a"]), as_ids(["a", None]), "x").tolist() == [1, 0]
