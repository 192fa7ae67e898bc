"""Reducers one after the other: their passes, their states, and merging."""

import pytest

from fastal.pipeline.sequential import Sequential


class Sum:
    """Adds numbers to an initial value, in the given number of passes."""

    def __init__(self, begin=0, passes=1):
        self.total, self.passes = begin, passes

    def update(self, chunk, start=None, *, confirm=None):
        if confirm is not None:
            confirm()
        self.total += sum(chunk)

    def next_pass(self):
        self.passes -= 1
        return self.passes > 0

    def merge(self, other):
        self.total += other.total

    def state_dict(self):
        return {"total": self.total, "passes": self.passes}

    def load_state_dict(self, state):
        self.total, self.passes = state["total"], state["passes"]

    def result(self):
        return self.total


class Product(Sum):
    """Multiplies an initial value by each number. It has no `next_pass`."""

    next_pass = None
    backend_used, bar = "torch", 7.0

    def update(self, chunk, start=None, *, confirm=None):
        for number in chunk:
            self.total *= number


def stages():
    return Sequential(Sum(), lambda total: Sum(total, passes=2), Product)


def end(reducer, chunks=((1, 2), (3,))):
    while True:
        for chunk in chunks:
            reducer.update(chunk)
        if not reducer.next_pass():
            return reducer.result()


@pytest.fixture(autouse=True)
def one_pass(monkeypatch):
    monkeypatch.setattr(Product, "next_pass", lambda self: False)


def test_each_stage_begins_with_the_result_of_the_last():
    assert end(stages()) == (6 + 6 + 6) * 6
    assert end(Sequential(Sum())) == 6


def test_stages_without_next_pass_have_one_pass(monkeypatch):
    monkeypatch.delattr(Product, "next_pass")
    monkeypatch.delattr(Sum, "next_pass")
    assert end(stages()) == (6 + 6) * 6


def test_the_state_after_every_chunk_can_be_resumed():
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


def test_only_equal_stages_can_be_merged():
    one, other = stages(), stages()
    one.update((1, 2))
    other.update((3,))
    one.merge(other)
    assert one.current.total == 6
    one.next_pass()
    with pytest.raises(ValueError, match="merge: the other is at another stage"):
        one.merge(other)
    for bad in (one, Sum(), None):
        with pytest.raises(TypeError, match="merge: wanted other Sequential"):
            one.merge(bad)


def test_states_of_other_stages_are_refused():
    whole = stages()
    end(whole)
    with pytest.raises(ValueError, match="load_state_dict: the state has more stages"):
        Sequential(Sum()).load_state_dict(whole.state_dict())
    with pytest.raises(ValueError, match="load_state_dict: the state lacks 'stages'"):
        stages().load_state_dict({})


def test_attributes_are_those_of_the_current_stage():
    whole = stages()
    assert (whole.backend_used, whole.bar) == (None, None)
    end(whole)
    assert (whole.backend_used, whole.bar) == ("torch", 7.0)
    called = []
    stages().update((1,), 0, confirm=lambda: called.append(1))
    assert called == [1]
