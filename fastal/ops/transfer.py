"""Rows on the host, on a GPU piece by piece: the next is on its way while one is worked on."""

import threading
from collections.abc import Iterator

import torch
from torch import Tensor

_PIECE_BYTES = 8 << 20  # long enough for the full rate of the bus, short enough to overlap soon
# Rows begin alike, with regard to the wide loads on which a kernel's last bits depend, in pieces of
# multiples of so many.
ROW_MULTIPLE = 16


def staged(x: Tensor, device: torch.device) -> Iterator[tuple[int, Tensor]]:
    """Pairs of first row and copy on `device`, good until the next is asked for on this stream.

    Pageable memory goes through pinned buffers. These and the copies are allocated once a thread
    and device. Copies run on a stream of their own.

    Args:
        x: [N, ...] on the host, any strides; N >= 0, an empty matrix is one empty piece.
        device: a GPU.
    """
    row_bytes = max(1, x[:1].numel() * x.element_size())
    rows = max(1, _PIECE_BYTES // row_bytes // ROW_MULTIPLE) * ROW_MULTIPLE
    slots = _buffers_of(device)
    ahead = slots[0].fill(x[:rows])
    for i, start in enumerate(range(0, max(1, len(x)), rows)):
        piece, slot = ahead, slots[i % 2]
        if start + rows < len(x):
            ahead = slots[1 - i % 2].fill(x[start + rows : start + 2 * rows])
        slot.wait_copied()
        try:
            yield start, piece
        finally:  # whoever breaks off may have started a kernel
            slot.mark_used()


class PinnedBuffer:
    """A pinned buffer, its copy on a GPU, and when each may be written again."""

    def __init__(self, device: torch.device, copies: torch.cuda.Stream) -> None:
        self._host = torch.empty(0, dtype=torch.uint8, device="cpu")
        self._copy = torch.empty(0, dtype=torch.uint8, device=device)
        self._copies = copies
        self._copied, self._used = torch.cuda.Event(), torch.cuda.Event()  # type: ignore[no-untyped-call]

    @torch.inference_mode(False)
    def fill(self, x: Tensor) -> Tensor:
        """Starts to copy x; what it returns holds x after `wait_copied`."""
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
        """Has the current stream wait for the copy."""
        torch.cuda.current_stream(self._copy.device).wait_event(self._copied)

    def mark_used(self) -> None:
        """What the current stream has been given so far is the last that looks at the copy."""
        self._used.record(torch.cuda.current_stream(self._copy.device))

    def _reserve(self, n_bytes: int) -> None:
        if n_bytes > len(self._copy):
            n_bytes = max(n_bytes, _PIECE_BYTES)
            self._host = torch.empty(n_bytes, dtype=torch.uint8, device="cpu", pin_memory=True)
            self._copy = torch.empty(n_bytes, dtype=torch.uint8, device=self._copy.device)
            # The allocator gives what the current stream may still be using.
            self._copies.wait_stream(torch.cuda.current_stream(self._copy.device))


def _as(buffer: Tensor, x: Tensor) -> Tensor:
    """The beginning of a buffer as a matrix like x."""
    return buffer[: x.numel() * x.element_size()].view(x.dtype).view(x.shape)


_of_thread = threading.local()


def _buffers_of(device: torch.device) -> tuple[PinnedBuffer, PinnedBuffer]:
    slots: dict[torch.device, tuple[PinnedBuffer, PinnedBuffer]] = _of_thread.__dict__.setdefault(
        "slots", {}
    )
    if device not in slots:
        copies = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        slots[device] = PinnedBuffer(device, copies), PinnedBuffer(device, copies)
    return slots[device]
