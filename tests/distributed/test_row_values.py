"""What travels with a shard: the values of its rows, and the best rows so far."""

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastal.base.groups import as_groups
from fastal.base.row_numbers import row_numbers
from fastal.base.row_values import RowValues
from fastal.selection.grouped_topk import GroupedTopK
from fastal.selection.ties import TieOrder
from fastal.selection.topk import TopK

WRITES = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, 12), st.booleans(), st.integers(-9, 9)),
    max_size=6,
)


def numbers_of(start, n, has_gaps):
    return row_numbers(start + 3 * np.arange(n), n) if has_gaps else row_numbers(start, n)


@given(WRITES, st.integers(0, 30), st.integers(0, 60), st.integers(0, 60))
@settings(deadline=None)
def test_values_from_a_row_on_are_those_of_a_dictionary(writes, first, start, n):
    held = RowValues(-1.0, torch.float32, first)
    naive, stops = {}, [first]
    for number, (offset, count, has_gaps, value) in enumerate(writes):
        numbers = numbers_of(first + offset, count, has_gaps)
        values = torch.arange(count) + float(value + 100 * number)
        if number % 2:
            held.reserve(numbers.stop + 5)
        held.write(numbers, values)
        naive |= dict(zip(numbers.at(np.arange(count)).tolist(), values.tolist(), strict=True))
        stops.append(numbers.stop)
    assert (held.first, held.n_rows) == (first, max(stops))
    want = [naive.get(row, -1.0) for row in range(first, held.n_rows)]
    assert held.values.tolist() == want
    start += first
    for has_gaps in (False, True):
        numbers = numbers_of(start, n, has_gaps)
        got = held.read(numbers).tolist()
        assert got == [naive.get(row, -1.0) for row in numbers.at(np.arange(n)).tolist()]
    part = held.part(start, start + n)
    assert (part.first, part.values.tolist()) == (
        start,
        [naive.get(row, -1.0) for row in range(start, min(start + n, held.n_rows))],
    )
    held.trim()
    assert held.values.tolist() == want
    twin = pickle.loads(pickle.dumps(part))
    twin.write(row_numbers(start, n), torch.ones(n))
    assert twin.values.tolist() == [1.0] * n
    assert held.values.tolist() == want  # a part is a copy


def test_a_part_that_counts_from_the_first_row_of_the_pool_is_wrong():
    held = RowValues(0.0, torch.float32)
    held.write(row_numbers(0, 10), torch.arange(10.0))
    assert held.part(4, 7).read(row_numbers(5, 2)).tolist() == [5.0, 6.0]
    wrong = RowValues(0.0, torch.float32)
    wrong.load(torch.arange(4.0, 7.0))
    assert wrong.read(row_numbers(5, 2)).tolist() != [5.0, 6.0]


def test_values_are_loaded_with_their_first_row():
    held = RowValues(0.0, torch.float32)
    held.load(torch.tensor([1.0, 2.0]), 7)
    assert (held.first, held.n_rows) == (7, 9)
    assert held.read(row_numbers(8, 3)).tolist() == [2.0, 0.0, 0.0]
    held.load(torch.tensor([5.0]))
    assert (held.first, held.n_rows) == (7, 8)


def scores(n, seed=0):
    return np.random.default_rng(seed).integers(0, 50, n).astype(np.float32) / 8


@pytest.mark.parametrize("ties", ["first", "random"])
@pytest.mark.parametrize("n_before", [0, 5, 1000])
def test_a_pickled_top_is_small_and_goes_on_as_before(ties, n_before):
    tops = [
        lambda: TopK(7, TieOrder(ties, 3)),
        lambda: GroupedTopK(2, None, TieOrder(ties, 3)),
        lambda: GroupedTopK(3, 7, TieOrder(ties, 3)),
    ]
    for make in tops:
        one = make()
        add(one, 0, n_before)
        content = pickle.dumps(one)
        assert len(content) < 2000
        twin = pickle.loads(content)
        for each in (one, twin):
            add(each, n_before, 200_000)  # more than its buffer holds
        assert pickle.dumps(one.state_dict()) == pickle.dumps(twin.state_dict())
        merged = make()
        add(merged, n_before, 200_000)
        merged.merge(pickle.loads(content))
        add(one, 0, 0)
        assert pickle.dumps(best(merged)) == pickle.dumps(best(one))


def add(top, start, n):
    values = scores(n, start)
    if isinstance(top, TopK):
        top.update(torch.from_numpy(values), row_numbers(start, n))
    else:
        groups = as_groups(np.arange(n) % 5, n, "groups")
        top.update(values, row_numbers(start, n), values, groups)


def best(top):
    return [np.asarray(column).tolist() for column in top.best()]
