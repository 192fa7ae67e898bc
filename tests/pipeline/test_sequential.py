"""Reducers one after the other: their passes, their states, and merging."""

import pytest

from fastal.base.reducer import Pending, Reducer
from fastal.pipeline.sequential import Sequential
from fastal.scoring.scoring_options import ScoringOptions


class Sum(Reducer):
    """Adds numbers to an initial value, in the given number of passes."""

    def __init__(self, begin=0, passes=1):
        self.total, self.passes = begin, passes

    def look(self, chunk, start=None):
        return Pending(lambda: self.add(chunk))

    def add(self, chunk):
        self.total += sum(chunk)

    def next_pass(self):
        self.passes -= 1
        return self.passes > 0

    def part(self):
        return Sum(0, self.passes)

    def merge(self, other):
        self.total += other.total

    def identity(self):
        return {}

    def _state(self):
        return {"total": self.total, "passes": self.passes}

    def _restore(self, state):
        self.total, self.passes = state["total"], state["passes"]

    def result(self):
        return self.total


class Product(Sum):
    """Multiplies an initial value by each number, in one pass."""

    backend_used, kth_score = "torch", 7.0
    next_pass = Reducer.next_pass

    def add(self, chunk):
        for number in chunk:
            self.total *= number


def sequential(*stages):
    return Sequential(*stages, identity={"name": "test"}, options=ScoringOptions(), max_passes=4)


def stages():
    return sequential(Sum(), lambda total: Sum(total, passes=2), Product)


def end(reducer, chunks=((1, 2), (3,))):
    while True:
        for chunk in chunks:
            reducer.update(chunk)
        if not reducer.next_pass():
            return reducer.result()


def test_each_stage_begins_with_the_result_of_the_last():
    assert end(stages()) == (6 + 6 + 6) * 6
    assert end(sequential(Sum())) == 6


def test_a_run_continues_from_the_state_after_any_chunk():
    want = end(stages())
    for n_before in range(8):
        first = stages()
        chunks = [(1, 2), (3,)] * 4
        for i, chunk in enumerate(chunks[:n_before]):
            first.update(chunk)
            if i % 2:
                first.next_pass()
        second = stages()
        second.load_state_dict(first.state_dict())
        assert len(second.state_dict()["stages"]) == len(first.state_dict()["stages"])
        for i, chunk in enumerate(chunks[n_before:], n_before):
            second.update(chunk)
            more = second.next_pass() if i % 2 else True
        assert (more, second.result()) == (False, want)


def test_only_reducers_at_the_same_stage_merge():
    one, other = stages(), stages()
    one.update((1, 2))
    other.update((3,))
    one.merge(other)
    assert one.current.total == 6
    one.next_pass()
    with pytest.raises(ValueError, match="merge: the other is at another stage"):
        one.merge(other)
    for bad in (one, None):
        with pytest.raises(TypeError, match="merge: wanted another Sequential"):
            one.merge(bad)


def test_a_part_of_the_current_stage_merges():
    whole = stages()
    whole.next_pass()
    before = whole.current.total
    part = whole.part()
    part.update((1, 2))
    whole.merge(part)
    assert whole.current.total == before + 3


def test_states_of_other_stages_are_refused():
    whole = stages()
    end(whole)
    with pytest.raises(ValueError, match="load_state_dict: the state has more stages"):
        sequential(Sum()).load_state_dict(whole.state_dict())
    with pytest.raises(ValueError, match="load_state_dict: the state lacks 'class'"):
        stages().load_state_dict({})


def test_a_sequence_passes_on_what_its_current_stage_says():
    whole = stages()
    assert (whole.backend_used, whole.kth_score, whole.max_passes) == (None, None, 4)
    end(whole)
    assert (whole.backend_used, whole.kth_score) == ("torch", 7.0)


def test_a_chunk_that_is_discarded_leaves_no_trace():
    whole = stages()
    whole.look((1,), 0).discard()
    assert whole.current.total == 0


def test_a_stage_may_ask_for_more_passes_once_it_has_begun():
    first, second = Sum(), Product(1)
    reducer = sequential(first, lambda _: second)
    assert reducer.max_passes == 4
    first.max_passes, second.max_passes = 3, 9
    assert reducer.max_passes == 4
    reducer.next_pass()
    assert reducer.max_passes == 12
