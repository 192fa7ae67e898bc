"""Copies rows from the host to a GPU in pieces. The next piece is copied while one is computed."""

import threading
from collections.abc import Iterator

import torch
from torch import Tensor

_PIECE_BYTES = 8 << 20  # large enough for the full rate of the bus, small enough to overlap soon
# A piece has a multiple of so many rows. Then a row has the same alignment in the piece as in the
# matrix, and a kernel's wide loads, on which its last bits depend, are the same.
ROW_MULTIPLE = 16


def staged(x: Tensor, device: torch.device) -> Iterator[tuple[int, Tensor]]:
    """Pairs of first row and copy on `device`.

    A copy is valid until the next pair is asked for on this stream. Pageable memory is copied
    through pinned buffers. Each thread has one set of buffers and copies for each device. Copies
    run on a stream of their own.

    Args:
        x: [N, ...] on the host, N >= 0, any strides. An empty matrix is one empty piece.
        device: a GPU.
    """
    row_bytes = max(1, x[:1].numel() * x.element_size())
    rows = max(1, _PIECE_BYTES // row_bytes // ROW_MULTIPLE) * ROW_MULTIPLE
    buffers = _buffers_of(device)
    ahead = buffers[0].fill(x[:rows])
    for i, start in enumerate(range(0, max(1, len(x)), rows)):
        piece, buffer = ahead, buffers[i % 2]
        if start + rows < len(x):
            ahead = buffers[1 - i % 2].fill(x[start + rows : start + 2 * rows])
        buffer.wait_copied()
        try:
            yield start, piece
        finally:  # a caller that stops early may have started a kernel
            buffer.mark_used()


class PinnedBuffer:
    """A pinned buffer, its copy on a GPU, and the events after which each may be overwritten."""

    def __init__(self, device: torch.device, copies: torch.cuda.Stream) -> None:
        self._host = torch.empty(0, dtype=torch.uint8, device="cpu")
        self._copy = torch.empty(0, dtype=torch.uint8, device=device)
        self._copies = copies
        self._copied, self._used = torch.cuda.Event(), torch.cuda.Event()  # type: ignore[no-untyped-call]

    @torch.inference_mode(False)
    def fill(self, x: Tensor) -> Tensor:
        """Starts to copy x. The returned tensor holds x after `wait_copied`."""
        self._copied.synchronize()  # the last copy has left the pinned buffer
        self._reserve(x.numel() * x.element_size())
        if not (x.is_pinned() and x.is_contiguous()):
            x = _as(self._host, x).copy_(x)
        copy = _as(self._copy, x)
        self._copies.wait_event(self._used)
        with torch.cuda.stream(self._copies):
            copy.copy_(x, non_blocking=True)
            self._copied.record()
        return copy

    def wait_copied(self) -> None:
        """Makes the current stream wait for the copy."""
        torch.cuda.current_stream(self._copy.device).wait_event(self._copied)

    def mark_used(self) -> None:
        """Marks the copy as free for reuse after all work that the current stream has so far."""
        self._used.record(torch.cuda.current_stream(self._copy.device))

    def _reserve(self, n_bytes: int) -> None:
        if n_bytes > len(self._copy):
            n_bytes = max(n_bytes, _PIECE_BYTES)
            self._host = torch.empty(n_bytes, dtype=torch.uint8, device="cpu", pin_memory=True)
            self._copy = torch.empty(n_bytes, dtype=torch.uint8, device=self._copy.device)
            # The new memory may still be in use by the current stream.
            self._copies.wait_stream(torch.cuda.current_stream(self._copy.device))


def _as(buffer: Tensor, x: Tensor) -> Tensor:
    """The beginning of a buffer as a matrix with the shape and dtype of x."""
    return buffer[: x.numel() * x.element_size()].view(x.dtype).view(x.shape)


_of_thread = threading.local()


def _buffers_of(device: torch.device) -> tuple[PinnedBuffer, PinnedBuffer]:
    """The two buffers of the calling thread for a device."""
    buffers: dict[torch.device, tuple[PinnedBuffer, PinnedBuffer]]
    buffers = _of_thread.__dict__.setdefault("buffers", {})
    if device not in buffers:
        copies = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        buffers[device] = PinnedBuffer(device, copies), PinnedBuffer(device, copies)
    return buffers[device]
