"""The pool of gradients: how often it reads the predictions and the embeddings."""

import numpy as np
import pytest

import fastal
from fastal.diversity.gradient_pool import GradientPool
from fastal.diversity.gradients import Gradients
from fastal.sources.source import SourceOver


class Losing(SourceOver):
    """A source that counts its passes and loses the rows from `first_lost` on while it is read."""

    n_passes = 0
    first_lost = 1000

    def chunks(self, rows, start=0):
        self.n_passes += not start
        return super().chunks(rows, start)

    def check(self, start, *, lost):
        return super().check(start, lost=lost or start >= self.first_lost)


def rows(n_columns):
    return np.random.default_rng(n_columns).normal(size=(100, n_columns)).astype(np.float32)


@pytest.fixture
def logits(tmp_path):
    """Two files of 50 rows."""
    for name, part in zip("ab", np.split(rows(3), 2), strict=True):
        np.save(tmp_path / f"{name}.npy", part)
    return Losing(fastal.open_pool(tmp_path, on_bad_file="skip"))


def starts(pool, size=25, start=0):
    return [chunk.start for chunk in pool.chunks(size, start)]


def test_a_whole_pass_is_kept(logits):
    pool = GradientPool(logits, fastal.open_pool(rows(4)), Gradients("logits"), 1 << 20)
    for _ in range(3):
        assert starts(pool) == [0, 25, 50, 75]
    assert logits.n_passes == 1
    assert starts(pool, start=50) == [50, 75]


def test_a_pass_that_is_left_early_or_begins_further_on_keeps_nothing(logits):
    pool = GradientPool(logits, fastal.open_pool(rows(4)), Gradients("logits"), 1 << 20)
    next(pool.chunks(25))
    starts(pool, start=50)
    assert starts(pool) == [0, 25, 50, 75]
    assert logits.n_passes == 2


def test_a_pass_in_which_a_file_is_skipped_keeps_nothing(logits):
    logits.first_lost = 75
    pool = GradientPool(logits, fastal.open_pool(rows(4)), Gradients("logits"), 1 << 20)
    for _ in range(3):
        assert starts(pool) == [0, 25, 50]
    assert pool.skipped[0].from_row == 25
    assert logits.n_passes == 2
