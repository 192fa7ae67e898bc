"""Launch configurations: a function of the matrix and the hardware, never tuned at run time.

They are chosen so that every load is as wide as the rows' alignment permits, that little is done
per row beside what is done per element, and that no lane's sum is of more than 32 batches, whose
roundings then stay below 3e-6 of it.
"""

from dataclasses import dataclass

_LOAD_BYTES = 16
_FEWEST_BYTES = 8  # loads narrower than this are not worth their instructions
_MOST_NARROW = 32  # classes of rows that a thread may take whole
_MOST_ALONE = 16  # up to which there is no better way
_ENOUGH_L1_BYTES = 16  # a clock: an H100's memory delivers 14.5 to each multiprocessor
_MOST_HELD = 160  # elements of a run that a thread can hold
_FEWEST_HELD = 10  # and is to hold, lest more be done for the thread than for its rows
_SECTOR_BYTES = 32  # what caches fetch at least
_MOST_BEYOND = 1 / 8  # of a row's columns
_SEARCHES = 1024  # of a program at a time


@dataclass(frozen=True)
class Isa:
    """What the hardware offers: PTX (from sm_80 on); two float32 values an instruction (sm_100).

    `shared`: bytes of shared memory that a program may have.
    """

    ptx: bool = False
    pairs: bool = False
    warp_size: int = 32
    shared: int = 64 << 10


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
    """Whole rows a thread: P runs a program, of PER consecutive rows, V elements a load."""

    P: int
    PER: int
    V: int

    @property
    def threads(self) -> int:
        """Of a program: one a run."""
        return self.P


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
    threads: int


@dataclass(frozen=True)
class Ranked:
    """ROWS rows a program, COLUMNS at a time."""

    ROWS: int
    COLUMNS: int
    threads: int


def ranked(x: Matrix) -> Ranked:
    """The configuration for mean ranks: 8 values a thread, to hide how long a search takes.

    Of columns a sector, so that each is read once and lanes have few tables to share; fewer where
    much of the last ones would be beyond the row.
    """
    sector = _SECTOR_BYTES // x.itemsize
    sizes = [sector >> i for i in range(sector.bit_length()) if sector >> i <= x.n_classes]
    columns = next(n for n in sizes if -x.n_classes % n <= x.n_classes * _MOST_BEYOND)
    return Ranked(ROWS=_SEARCHES // columns, COLUMNS=columns, threads=128)


def configuration(x: Matrix) -> Narrow | Wide:
    """The configuration for a matrix."""
    return _narrow(x) or wide(x)


def _narrow(x: Matrix) -> Narrow | None:
    if x.n_classes > _MOST_NARROW:
        return None
    is_dense = x.pitch == x.n_classes and x.stride_c == 1
    runs = (per * x.n_classes for per in (1, 2, 4, 8) if is_dense or per == 1)
    held = [run for run in runs if _FEWEST_HELD <= run <= _MOST_HELD] or [x.n_classes]
    run = max(held, key=lambda run: (_l1_bytes(run, x.itemsize), -run))
    if x.n_classes > _MOST_ALONE and _l1_bytes(run, x.itemsize) < _ENOUGH_L1_BYTES:
        return None
    vector = min(x.vector(run if is_dense else x.pitch), run & -run)
    return Narrow(P=128, PER=run // x.n_classes, V=vector)


def _l1_bytes(run: int, itemsize: int) -> float:
    """Bytes a clock from L1, which serves one line of 128 bytes of those that 32 runs touch."""
    load = min(_LOAD_BYTES, (run & -run) * itemsize)
    return min(2.0 * _LOAD_BYTES, load * max(1.0, 128 / (run * itemsize)))


def wide(x: Matrix) -> Wide:
    """The configuration for a matrix, or a part of its columns, whose rows lanes share."""
    vector = x.vector(x.pitch)
    in_window = x.stride_c == 1 and x.has_boundary and vector * x.itemsize < _FEWEST_BYTES
    if vector * x.itemsize < _FEWEST_BYTES:
        vector = _LOAD_BYTES // x.itemsize
    lanes = next((g for most, g in _LANES if x.n_classes <= most), 256)
    threads = max(128, lanes)
    return Wide(
        V=vector,
        G=lanes,
        ROWS=threads // lanes,
        # Each lane ends up with a row of its own, so that none finishes another's as well.
        GROUPS=lanes if lanes <= 8 else 1,
        UNROLL=32 // vector,
        IN_WINDOW=in_window,
        threads=threads,
    )


# Lanes by most classes: few enough that each sees many elements beside the work per row, and
# enough that what they read at once fills whole sectors of 32 bytes, lines of 128 from 256 on.
_LANES = ((64, 2), (256, 4), (1024, 8), (4096, 32), (65_536, 128))
# Longer rows than two of these are split, so that few of them keep a GPU busy. By their length
# alone: a row's score must not depend on how many others there are.
_PART = 65_536
_WHOLE_TILES = 2048


def parts_of(n_classes: int) -> tuple[int, int, int]:
    """How many parts a row is split into, their columns, and the columns of what is left."""
    n_parts = max(1, n_classes // _PART)
    if n_parts == 1:
        return 1, n_classes, 0
    columns = -(-n_classes // n_parts // _WHOLE_TILES) * _WHOLE_TILES
    return n_classes // columns, columns, n_classes % columns


@dataclass(frozen=True)
class Products:
    """BN rows a program; tiles of BK centroids by BD columns, STAGES of them read at a time.

    SPLIT: centroids come in two parts. All columns are in a tile, or they are read again for each
    tile of centroids.
    """

    BN: int
    BK: int
    BD: int
    STAGES: int
    SPLIT: bool
    threads: int


_LINE_BYTES = 128
_FEWEST_TILED = 16  # of anything: what the hardware multiplies at once
_MOST_TILED, _MOST_TILED_EXACT = 128, 64  # centroids
_MOST_STAGES = 4


def products(
    n_columns: int, n_centroids: int, load_bytes: int, itemsize: int, is_split: bool, exact: bool,
    isa: Isa,
) -> Products:  # fmt: skip
    """The configuration for rows that can be read by so many bytes, against centroids.

    If exact, there is no help of tensor cores.
    """
    most = _MOST_TILED_EXACT if exact else _MOST_TILED
    tiled = min(most, max(_FEWEST_TILED, _power_of_two_from(n_centroids)))
    columns = max(_FEWEST_TILED, _power_of_two_from(n_columns))
    # If exact, both factors of a tile are in registers.
    columns = min(columns, _FEWEST_TILED if exact else _LINE_BYTES // itemsize)
    # Fewer rows where so many would spill: narrow loads take more pointers.
    rows = 64 if exact or load_bytes < _FEWEST_BYTES else 128
    stage = (rows + tiled * (1 + is_split)) * columns * itemsize
    stages = 2 if exact else max(1, min(_MOST_STAGES, isa.shared // stage))
    threads = 128 if exact else 256
    return Products(rows, tiled, columns, stages, is_split, threads)


def _power_of_two_from(n: int) -> int:
    return 1 << (n - 1).bit_length()
