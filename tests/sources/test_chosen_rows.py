"""Chosen rows: what is read from the pool, in one pass and in several."""

import numpy as np
import pytest

import fastal
from fastal import combine, diversity
from fastal.sources import chosen_rows
from fastal.sources.chosen_rows import ChosenRows
from fastal.sources.source import SourceOver

ROWS = np.array([1, 5, 6, 40, 99])


class Counted(SourceOver):
    """A source that counts how often its chunks are asked for from the first chosen row on."""

    n_passes = 0

    def chunks(self, rows, start=0):
        self.n_passes += start <= ROWS[0]
        return super().chunks(rows, start)


def pool(n=100):
    return np.random.default_rng(0).normal(size=(n, 4)).astype(np.float32)


def read(source, size):
    chunks = list(source.chunks(size))
    numbers = np.concatenate([chunk.numbers for chunk in chunks])
    return numbers, np.concatenate([chunk.x for chunk in chunks])


@pytest.mark.parametrize("size", [1, 2, 100])
def test_few_rows_are_read_once_and_stay_the_same(size):
    x = pool()
    source = Counted(fastal.open_pool(x))
    chosen = ChosenRows(source, ROWS)
    for _ in range(3):
        numbers, rows = read(chosen, size)
        assert numbers.tolist() == ROWS.tolist()
        assert (rows == x[ROWS]).all()
    assert source.n_passes == 1
    # A pass that begins further on is not of the rows in memory.
    assert [chunk.start for chunk in chosen.chunks(1, 6)] == [6, 40, 99]


def test_rows_that_do_not_fit_are_read_in_every_pass(monkeypatch):
    monkeypatch.setattr(chosen_rows, "_KEPT_BYTES", len(ROWS) * 16 - 1)
    source = Counted(fastal.open_pool(pool()))
    chosen = ChosenRows(source, ROWS)
    assert (read(chosen, 2)[1] == read(chosen, 2)[1]).all()
    assert source.n_passes == 2


def test_a_pass_that_is_left_early_keeps_nothing():
    source = Counted(fastal.open_pool(pool()))
    chosen = ChosenRows(source, ROWS)
    next(chosen.chunks(1))
    assert len(read(chosen, 2)[0]) == len(ROWS)
    assert source.n_passes == 2


def test_a_pass_in_which_a_file_is_skipped_keeps_nothing(tmp_path):
    for name, part in zip("ab", np.split(pool(), 2), strict=True):
        np.save(tmp_path / f"{name}.npy", part)
    source = Counted(fastal.open_pool(tmp_path, on_bad_file="skip"))
    chosen = ChosenRows(source, np.array([1, 6, 50, 60]))
    for chunk in chosen.chunks(100):
        is_in_b = chunk.start >= 50
        assert chosen.check(chunk.start, lost=is_in_b) == (not is_in_b)
    for _ in range(2):
        assert read(chosen, 100)[0].tolist() == [1, 6]
    assert source.n_passes == 2


def test_a_file_that_changes_between_passes_is_still_found_out(tmp_path):
    path = tmp_path / "pool.npy"
    np.save(path, pool())
    chosen = ChosenRows(fastal.open_pool(path), ROWS)
    for chunk in chosen.chunks(100):
        assert chosen.check(chunk.start, lost=False)
    np.save(path, pool() + 1)
    chunk = next(chosen.chunks(100))
    with pytest.raises(ValueError, match=r"pool\.npy.* changed"):
        chosen.check(chunk.start, lost=False)


def test_picks_do_not_depend_on_what_is_kept(monkeypatch):
    x, rows = pool(400), np.arange(0, 400, 5)
    logits = x[:, :3].copy()

    def picks():
        return (
            diversity.k_center(x, 20, among=rows).rows.tolist(),
            combine.diverse(logits, x, 5, oversample=8).rows.tolist(),
        )

    kept = picks()
    monkeypatch.setattr(chosen_rows, "_KEPT_BYTES", 0)
    assert picks() == kept
