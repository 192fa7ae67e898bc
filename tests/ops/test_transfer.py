"""Host rows on their way to a GPU: which rows go where, and when a buffer may be written again."""

import pytest
import torch

from fastal.ops import transfer as staging


class PinnedBuffer:
    """A buffer that must not be filled while its copy is looked at."""

    def __init__(self):
        self.is_filled, self.log = False, []

    def fill(self, x):
        assert not self.is_filled
        self.is_filled = True
        self.log.append(len(x))
        return x.clone()

    def wait_copied(self):
        assert self.is_filled

    def mark_used(self):
        self.is_filled = False


@pytest.fixture
def slots(monkeypatch):
    pair = PinnedBuffer(), PinnedBuffer()
    monkeypatch.setattr(staging, "_buffers_of", lambda device: pair)
    monkeypatch.setattr(staging, "_PIECE_BYTES", 32 * 12)  # 32 rows of three float32 values
    return pair


def staged(x):
    return staging.staged(x, torch.device("cuda"))


@pytest.mark.parametrize("n_rows", [0, 1, 31, 32, 33, 64, 65, 200])
def test_every_row_arrives_once(slots, n_rows):
    x = torch.arange(3.0 * n_rows).view(n_rows, 3)
    pieces = list(staged(x))
    assert torch.equal(torch.cat([piece for _, piece in pieces]), x)
    assert [start for start, _ in pieces] == list(range(0, max(1, n_rows), 32))
    assert sum(slots[0].log) + sum(slots[1].log) == n_rows


def test_the_next_piece_is_on_its_way_while_one_is_worked_on(slots):
    pieces = staged(torch.zeros(100, 3))
    next(pieces)
    assert [slot.log for slot in slots] == [[32], [32]]
    next(pieces)
    assert [slot.log for slot in slots] == [[32, 32], [32]]


def test_whoever_breaks_off_leaves_the_buffers_free(slots):
    for _ in range(3):
        pieces = staged(torch.zeros(40, 3))
        next(pieces)
        pieces.close()
        slots[1].is_filled = False  # its copy was never looked at; the next fill waits for it
    assert not slots[0].is_filled


def test_wide_rows_go_one_multiple_at_a_time(slots):
    assert [len(piece) for _, piece in staged(torch.zeros(40, 500))] == [16, 16, 8]
