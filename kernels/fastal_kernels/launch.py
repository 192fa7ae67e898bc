"""Launch configurations: a function of the matrix and the hardware, never tuned at run time.

They are chosen so that every load is as wide as the rows' alignment permits, that little is done
per row beside what is done per element, and that no lane's sum is of more than 32 batches, whose
roundings then stay below 3e-6 of it.
"""

from dataclasses import dataclass

_LOAD_BYTES = 16
_FEWEST_BYTES = 8  # loads narrower than this are not worth their instructions
_MOST_NARROW = 32  # classes that a thread can hold, of one row
_MOST_HELD = 64  # and of several


@dataclass(frozen=True)
class Isa:
    """What the hardware offers: PTX (from sm_80 on), and two float32 values an instruction."""

    ptx: bool = False
    pairs: bool = False


@dataclass(frozen=True)
class Matrix:
    """What a configuration depends on; lengths in elements.

    Attributes:
        n_classes: columns.
        itemsize: bytes of an element.
        pitch: from one row to the next.
        stride_c: from one column to the next.
        alignment: largest power of two that the address of the first row is a multiple of.
        has_boundary: whether there is memory from the last 16-byte boundary before it on.
    """

    n_classes: int
    itemsize: int
    pitch: int
    stride_c: int
    alignment: int
    has_boundary: bool = True

    def vector(self, run: int) -> int:
        """The most elements that one load can take from anywhere on, in steps of `run`."""
        if self.stride_c != 1:
            return 1
        most = min(_LOAD_BYTES // self.itemsize, self.alignment)
        return min(most, run & -run) if run else most


@dataclass(frozen=True)
class Narrow:
    """Whole rows a thread: P runs a program, of PER rows each, read V elements at a time."""

    P: int
    PER: int
    V: int
    num_warps: int = 4


@dataclass(frozen=True)
class Wide:
    """G lanes a row, V elements a load, UNROLL loads an iteration; ROWS rows at once, GROUPS times.

    IN_WINDOW: rows begin anywhere; they are read in whole vectors from the last boundary on.
    """

    V: int
    G: int
    ROWS: int
    GROUPS: int
    UNROLL: int
    IN_WINDOW: bool
    num_warps: int


def configuration(x: Matrix) -> Narrow | Wide:
    """The configuration for a matrix."""
    return _narrow(x) or wide(x)


def _narrow(x: Matrix) -> Narrow | None:
    step = x.pitch & -x.pitch if x.stride_c == 1 else _LOAD_BYTES  # 0: the same row again and again
    if x.n_classes > _MOST_NARROW or (
        # Would take a load an element; lanes that share rows do not.
        x.n_classes > _MOST_NARROW // 2 and 0 < step * x.itemsize < _FEWEST_BYTES
    ):
        return None
    # Several rows a thread, where they lie without a gap and only together allow wide loads.
    most = max(1, _MOST_HELD // x.n_classes) if x.pitch == x.n_classes else 1
    runs = {per: per * x.n_classes for per in (1, 2, 4) if per <= most}
    vectors = {per: min(x.vector(per * x.pitch), run & -run) for per, run in runs.items()}
    per = next((per for per in runs if vectors[per] * x.itemsize >= _FEWEST_BYTES), 1)
    return Narrow(P=256 if runs[per] <= 8 else 128, PER=per, V=vectors[per])


def wide(x: Matrix) -> Wide:
    """The configuration for a matrix, or a part of its columns, whose rows lanes share."""
    vector = x.vector(x.pitch)
    in_window = x.stride_c == 1 and x.has_boundary and vector * x.itemsize < _FEWEST_BYTES
    if vector * x.itemsize < _FEWEST_BYTES:
        vector = _LOAD_BYTES // x.itemsize
    lanes = next((g for most, g in _LANES if x.n_classes <= most), 256)
    num_warps = 4 if lanes <= 128 else 8
    return Wide(
        V=vector,
        G=lanes,
        ROWS=max(1, 32 * num_warps // lanes),
        # Each lane ends up with a row of its own, so that none finishes another's as well.
        GROUPS=lanes if lanes <= 8 else 1,
        UNROLL=32 // vector,
        IN_WINDOW=in_window,
        num_warps=num_warps,
    )


# Lanes by most classes: few enough that each sees many elements beside the work per row, and
# enough that what they read at once fills whole sectors of 32 bytes, lines of 128 from 256 on.
_LANES = ((256, 4), (1024, 8), (4096, 32), (65_536, 128))


def part_of(n_rows: int, n_classes: int) -> tuple[int, int]:
    """How many parts to split each row into, and their columns; the rest of them is one part more.

    No more than one unless the rows are too few to fill a GPU, and long.
    """
    n_parts = min(_MOST_PARTS, _FEW_ROWS // n_rows, n_classes // _FEWEST_COLUMNS)
    return n_parts, n_classes // max(1, n_parts) // _WHOLE_TILES * _WHOLE_TILES


_MOST_PARTS, _FEW_ROWS, _FEWEST_COLUMNS, _WHOLE_TILES = 63, 256, 8192, 2048
