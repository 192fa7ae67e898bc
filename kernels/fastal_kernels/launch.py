"""Launch configurations: a function of the matrix and the hardware, never tuned at run time.

They follow three aims:
* Every load is as wide as the alignment of the rows permits.
* The work per row is small beside the work per element.
* The sum of a lane adds at most 32 batches. Its roundings then stay below 3e-6 of the sum.
"""

from dataclasses import dataclass

_LOAD_BYTES = 16
_FEWEST_BYTES = 8  # loads narrower than this are not worth their instructions
_MOST_NARROW = 32  # the most classes of a row that one thread may read whole
_MOST_ALONE = 16  # up to this many classes, a thread always reads whole rows
_ENOUGH_L1_BYTES = 16  # a clock: an H100's memory delivers 14.5 to each multiprocessor
_MOST_HELD = 160  # the most elements of a run that a thread can hold in registers
_FEWEST_HELD = 10  # the fewest that pay for the work per thread
_SECTOR_BYTES = 32  # the least that caches fetch
_MOST_BEYOND = 1 / 8  # the largest share of a row's columns that may be read beyond its end
_SEARCHES = 1024  # searches of a program at a time
_MOST_DRAWN, _MOST_LANES_DRAWN = 4, 256  # classes of a lane, lanes of an item of several draws


@dataclass(frozen=True)
class Isa:
    """What the hardware offers.

    Attributes:
        ptx: whether it takes PTX (NVIDIA from sm_80 on).
        pairs: whether one instruction computes two float32 values (sm_100).
        warp_size: lanes of a warp.
        shared: bytes of shared memory that a program may have.
    """

    ptx: bool = False
    pairs: bool = False
    warp_size: int = 32
    shared: int = 64 << 10


@dataclass(frozen=True)
class Matrix:
    """The properties of a matrix that its configuration depends on. Lengths are in elements.

    Attributes:
        n_classes: columns.
        itemsize: bytes of an element.
        pitch: from one row to the next.
        stride_c: from one column to the next.
        alignment: the largest power of two that divides the address of the first row.
        has_boundary: whether the tensor's memory reaches back to the 16-byte boundary before it.
    """

    n_classes: int
    itemsize: int
    pitch: int
    stride_c: int
    alignment: int
    has_boundary: bool = True

    def vector(self, run: int) -> int:
        """The most elements of one load that starts at any multiple of `run`."""
        if self.stride_c != 1:
            return 1
        most = min(_LOAD_BYTES // self.itemsize, self.alignment)
        return min(most, run & -run) if run else most


@dataclass(frozen=True)
class Narrow:
    """A thread reads whole rows: P runs of PER consecutive rows a program, V elements a load."""

    P: int
    PER: int
    V: int

    @property
    def threads(self) -> int:
        """Threads of a program: one for each run."""
        return self.P


@dataclass(frozen=True)
class Wide:
    """Lanes share a row: G lanes a row, V elements a load, UNROLL loads an iteration.

    A program scores ROWS rows at a time, GROUPS times. With IN_WINDOW, rows begin at any address.
    They are read in whole vectors, starting at the 16-byte boundary before the row.
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
    """A program ranks ROWS rows, COLUMNS columns at a time."""

    ROWS: int
    COLUMNS: int
    threads: int


def ranked(x: Matrix) -> Ranked:
    """The configuration for mean ranks.

    Each thread ranks 8 values at a time, which hides the latency of the searches. The columns are
    those of one sector: then each sector is read once, and lanes share few tables. There are fewer
    columns if too many of the last ones would lie beyond the row.
    """
    sector = _SECTOR_BYTES // x.itemsize
    sizes = [sector >> i for i in range(sector.bit_length()) if sector >> i <= x.n_classes]
    columns = next(n for n in sizes if -x.n_classes % n <= x.n_classes * _MOST_BEYOND)
    return Ranked(ROWS=_SEARCHES // columns, COLUMNS=columns, threads=128)


@dataclass(frozen=True)
class Drawn:
    """A program scores R items of several draws at a time: G lanes an item, V classes a lane."""

    V: int
    R: int
    G: int

    @property
    def threads(self) -> int:
        """Threads of a program: R items of G lanes."""
        return self.R * self.G


def drawn(n_classes: int) -> Drawn:
    """The configuration for items of several draws.

    A lane shares the work per draw among its classes. The float64 sums of four classes take about
    40 registers. Eight would leave too few programs to hide the latency of float64.
    """
    held = min(_MOST_DRAWN, _power_of_two_from(n_classes))
    lanes = min(_MOST_LANES_DRAWN, _power_of_two_from(n_classes) // held)
    return Drawn(V=held, R=max(1, 128 // lanes), G=lanes)


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
    """Bytes a clock from L1. It serves one line of 128 bytes a clock; 32 runs touch many lines."""
    load = min(_LOAD_BYTES, (run & -run) * itemsize)
    return min(2.0 * _LOAD_BYTES, load * max(1.0, 128 / (run * itemsize)))


def wide(x: Matrix) -> Wide:
    """The configuration for a matrix, or for a part of its columns, with lanes that share a row."""
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
        # As many groups as lanes: then each lane finishes one row.
        GROUPS=lanes if lanes <= 8 else 1,
        UNROLL=32 // vector,
        IN_WINDOW=in_window,
        threads=threads,
    )


# (most classes, lanes). Few lanes: each reads many elements for its work per row. Enough lanes:
# their loads fill whole sectors of 32 bytes, and whole lines of 128 bytes from 256 classes on.
_LANES = ((64, 2), (256, 4), (1024, 8), (4096, 32), (65_536, 128))
# A row of at least two parts is split: then few such rows keep a GPU busy. The number of rows does
# not matter, because a row's score must not depend on how many others there are.
_PART = 65_536
_WHOLE_TILES = 2048


def parts_of(n_classes: int) -> tuple[int, int, int]:
    """The number of equal parts of a row, their columns, and the columns of the rest."""
    n_parts = max(1, n_classes // _PART)
    if n_parts == 1:
        return 1, n_classes, 0
    columns = -(-n_classes // n_parts // _WHOLE_TILES) * _WHOLE_TILES
    return n_classes // columns, columns, n_classes % columns


@dataclass(frozen=True)
class Products:
    """BN rows a program, tiles of BK centroids by BD columns, STAGES tiles in flight.

    With SPLIT, each centroid is the sum of two parts. If the rows have more columns than a tile,
    they are read again for each tile of centroids.
    """

    BN: int
    BK: int
    BD: int
    STAGES: int
    SPLIT: bool
    threads: int


_LINE_BYTES = 128
_FEWEST_TILED = 16  # the smallest side of a tile that the hardware multiplies
_MOST_TILED, _MOST_TILED_EXACT = 128, 64  # centroids of a tile
_MOST_STAGES = 4


def products(
    n_columns: int, n_centroids: int, load_bytes: int, itemsize: int, is_split: bool, exact: bool,
    isa: Isa,
) -> Products:  # fmt: skip
    """The configuration for the products of rows with centroids.

    Args:
        n_columns: columns of the rows.
        n_centroids: centroids.
        load_bytes: bytes of the widest load that the rows allow.
        itemsize: bytes of an element of the rows.
        is_split: whether each centroid is the sum of two parts.
        exact: multiply in float32, without tensor cores.
        isa: what the device offers.
    """
    most = _MOST_TILED_EXACT if exact else _MOST_TILED
    tiled = min(most, max(_FEWEST_TILED, _power_of_two_from(n_centroids)))
    columns = max(_FEWEST_TILED, _power_of_two_from(n_columns))
    # If exact, both factors of a tile are held in registers.
    columns = min(columns, _FEWEST_TILED if exact else _LINE_BYTES // itemsize)
    # 128 rows would spill here: narrow loads need more pointers.
    rows = 64 if exact or load_bytes < _FEWEST_BYTES else 128
    stage = (rows + tiled * (1 + is_split)) * columns * itemsize
    stages = 2 if exact else max(1, min(_MOST_STAGES, isa.shared // stage))
    threads = 128 if exact else 256
    return Products(rows, tiled, columns, stages, is_split, threads)


def _power_of_two_from(n: int) -> int:
    return 1 << (n - 1).bit_length()
