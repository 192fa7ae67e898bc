"""A pool over another is a `Source`, in every version of Python."""

import inspect

import numpy as np
import pytest

import fastal
from fastal.diversity.gradient_pool import GradientPool
from fastal.diversity.gradients import Gradients
from fastal.sources.chosen_rows import ChosenRows
from fastal.sources.grouped import Grouped
from fastal.sources.source import Source, SourceOver

MEMBERS = {
    "skipped", "n_rows", "row_bytes", "in_place", "on_gpu", "chunks", "locate", "check",
    "fingerprint", "ids", "carried",
}  # fmt: skip


def pools():
    rows = fastal.open_pool(np.zeros((4, 2), np.float32))
    yield Grouped(rows, np.zeros(4, np.int64))
    yield ChosenRows(rows, np.array([1, 3]))
    yield GradientPool(rows, rows, Gradients("logits"), 1 << 20)
    yield fastal.items(rows, lengths=[1, 3])
    yield fastal.draws([rows, rows])


@pytest.mark.parametrize("pool", list(pools()), ids=lambda pool: type(pool).__name__)
def test_the_members_are_seen_without_getattr(pool):
    """So `isinstance` looks for the members of a protocol from Python 3.12 on."""
    missing = object()
    unseen = {name for name in MEMBERS if inspect.getattr_static(pool, name, missing) is missing}
    assert not unseen
    assert fastal.open_pool(pool) is pool


def test_every_member_of_a_source_is_looked_for():
    named = {name for name in vars(Source) if not name.startswith("_")}
    assert named | set(Source.__annotations__) == MEMBERS
    kinds = {kind for kind in SourceOver.__subclasses__() if kind.__module__.startswith("fastal.")}
    assert {type(pool) for pool in pools()} == kinds
