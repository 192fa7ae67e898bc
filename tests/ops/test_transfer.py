"""The transfer of host rows to a GPU: the rows of each piece, and when a buffer may be refilled."""

import pytest
import torch

from fastal.ops import transfer


class PinnedBuffer:
    """A stand-in that fails if it is filled while its copy is in use."""

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
def buffers(monkeypatch):
    pair = PinnedBuffer(), PinnedBuffer()
    monkeypatch.setattr(transfer, "_buffers_of", lambda device: pair)
    monkeypatch.setattr(transfer, "_PIECE_BYTES", 32 * 12)  # 32 rows of three float32 values
    return pair


def staged(x):
    return transfer.staged(x, torch.device("cuda"))


@pytest.mark.parametrize("n_rows", [0, 1, 31, 32, 33, 64, 65, 200])
def test_every_row_arrives_once(buffers, n_rows):
    x = torch.arange(3.0 * n_rows).view(n_rows, 3)
    pieces = list(staged(x))
    assert torch.equal(torch.cat([piece for _, piece in pieces]), x)
    assert [start for start, _ in pieces] == list(range(0, max(1, n_rows), 32))
    assert sum(buffers[0].log) + sum(buffers[1].log) == n_rows


def test_the_next_piece_is_copied_while_one_is_computed(buffers):
    pieces = staged(torch.zeros(100, 3))
    next(pieces)
    assert [buffer.log for buffer in buffers] == [[32], [32]]
    next(pieces)
    assert [buffer.log for buffer in buffers] == [[32, 32], [32]]


def test_a_caller_that_stops_early_leaves_the_buffers_free(buffers):
    for _ in range(3):
        pieces = staged(torch.zeros(40, 3))
        next(pieces)
        pieces.close()
        buffers[1].is_filled = False  # its copy was never used; the next fill waits for the copy
    assert not buffers[0].is_filled


def test_a_piece_has_at_least_one_multiple_of_rows(buffers):
    assert [len(piece) for _, piece in staged(torch.zeros(40, 500))] == [16, 16, 8]
