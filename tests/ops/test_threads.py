"""Ops on the host work in threads of their own, since torch's threads wait by spinning."""

import functools

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from fastal import ops
from fastal.diversity.near_duplicates import near_duplicates
from fastal.diversity.typical_rows import neighbour_distances
from fastal.ops import reference
from tests.support.embeddings import rows_of

GRAIN = 32_768  # torch divides no op over fewer numbers among threads


class Steps(TorchDispatchMode):
    """The large steps that the calling thread computes. Modes are the calling thread's alone."""

    FREE = ("empty", "empty_like", "zeros", "slice", "view", "detach", "unsqueeze", "t")

    def __init__(self):
        super().__init__()
        self.large = []

    def __torch_dispatch__(self, step, types, args=(), kwargs=None):
        found = step(*args, **(kwargs or {}))
        tensors = [x for x in (*args, found) if isinstance(x, torch.Tensor)]
        name = step.overloadpacket.__name__
        if name not in self.FREE and max((x.numel() for x in tensors), default=0) >= GRAIN:
            self.large.append(name)
        return found


X = rows_of(40_000, 8)
Y = X[:5000].double()
UNITS = reference.unit_rows(rows_of(20, 8, seed=1)).float()
CLUSTERS = torch.arange(len(X)) % 20
OPS = {
    "nearest": lambda: reference.nearest(X, UNITS),
    "similarities": lambda: reference.similarities(X, UNITS),
    "euclidean": lambda: reference.euclidean(X, UNITS),
    "euclidean to one": lambda: reference.euclidean(X, UNITS[:1]),
    "euclidean_upper": lambda: reference.euclidean_upper(X, UNITS.double()),
    "unit_sums": lambda: reference.unit_sums(X, CLUSTERS, 20),
    "uncertainty": lambda: reference.uncertainty(X, ["entropy"]),
    "draws": lambda: reference.draws(X[:, None], ["bald"]),
    "mean_ranks": lambda: reference.mean_ranks(X, UNITS.t().sort(1).values),
    "near_duplicates": lambda: near_duplicates(X, [torch.arange(900), torch.arange(80)], 0.99),
    **{
        f"{name}, native": functools.partial(getattr(ops, name), X, *given, backend="native")
        for name, given in {
            "nearest": (UNITS,),
            "similarities": (UNITS,),
            "unit_sums": (CLUSTERS, 20),
        }.items()
        if ops.instruction_set()
    },
    "neighbour_distances": lambda: neighbour_distances(Y, 3),
}


@pytest.mark.parametrize("name", OPS)
def test_the_calling_thread_computes_no_large_step(name, threads):
    threads(2)
    with Steps() as steps:
        OPS[name]()
    assert not steps.large


def test_a_large_step_of_the_calling_thread_is_seen(threads):
    with Steps() as steps:
        X.square()
        X[:9].square()
        torch.empty_like(X)
    assert steps.large == ["pow"]
    threads(1)  # then nothing waits, and the calling thread does all the work
    with Steps() as steps:
        reference.nearest(X, UNITS)
    assert "mm" in steps.large
