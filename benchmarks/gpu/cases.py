"""The cases of the checks and their sizes: in full, quick, or so small that they are interpreted.

Checks run side by side: each may hold at most `CASE_BYTES` of the GPU's memory. Three steps take a
part of the memory that is free: large matrices, timings, and rows sent from the host.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch

CARD_BYTES = 24 << 30  # the smallest GPU that the checks are meant for
CASE_BYTES = CARD_BYTES // 24
FLOAT32, BFLOAT16, FLOAT16 = torch.float32, torch.bfloat16, torch.float16


@dataclass(frozen=True)
class LargeMatrix:
    """A matrix whose far end is checked. `edge` is the first element or row beyond an int32."""

    n_rows: int
    n_classes: int
    dtype: torch.dtype
    edge: int = 2**31
    by_columns: bool = False
    embeddings: bool = False  # whether its rows are also checked as embeddings

    @property
    def nbytes(self) -> int:
        """The bytes of the matrix and of its scores, clusters and similarities."""
        return self.n_rows * (self.n_classes * self.dtype.itemsize + (24 if self.embeddings else 8))


@dataclass(frozen=True)
class Embeddings:
    """Embeddings, and the number of centroids they are compared with."""

    n_rows: int
    n_columns: int
    n_centroids: int
    dtype: torch.dtype
    fast: bool = False


@dataclass(frozen=True)
class Activations:
    """Activations, and the number of validation values of each column."""

    n_rows: int
    n_columns: int
    n_values: int
    dtype: torch.dtype


@dataclass(frozen=True)
class Draws:
    """Items of several draws of the scores of classes."""

    n_items: int
    n_draws: int
    n_classes: int
    dtype: torch.dtype


@dataclass(frozen=True)
class Cases:
    """The cases of each step.

    Attributes:
        classes: numbers of classes for the correctness of the kernels.
        reference_classes: the same for the torch backend on the device.
        few, many: how often the rows of the regimes are repeated above 5000 classes, and up to it.
        pools: rows, classes and dtype of the pools that rows are selected from.
        far: matrices with more elements or rows than an int32 can number.
        sanitized: numbers of classes and columns under compute-sanitizer.
        cosine, ranks: embeddings and activations.
        draws: items whose scores are checked.
        core_set, duplicates: rows and columns.
        counted: rows, rows of a chunk and k, for selections whose work on the host is counted.
        timed: rows, classes and dtype of the matrices that are timed.
        timed_cosine: embeddings whose nearest centroids are timed.
        timed_draws: items whose scores are timed.
        timed_picks: the k that are selected from them, if they have as many rows.
        host: bytes and classes of the rows that are sent from the host, and the k selected.
    """

    classes: tuple[int, ...]
    reference_classes: tuple[int, ...]
    few: int
    many: int
    pools: tuple[tuple[int, int, torch.dtype], ...]
    far: tuple[LargeMatrix, ...]
    sanitized: tuple[int, ...]
    cosine: tuple[Embeddings, ...]
    ranks: tuple[Activations, ...]
    draws: tuple[Draws, ...]
    core_set: tuple[int, int]
    duplicates: tuple[int, int]
    counted: tuple[int, int, int]
    timed: tuple[tuple[int, int, torch.dtype], ...]
    timed_cosine: tuple[Embeddings, ...]
    timed_draws: tuple[Draws, ...]
    timed_picks: tuple[int, ...]
    host: tuple[int, int, int]


FULL = Cases(
    classes=(
        2,
        3,
        7,
        10,
        16,
        17,
        31,
        32,
        33,
        64,
        100,
        257,
        1000,
        1001,
        1024,
        1025,
        4096,
        4097,
        32_000,
        50_257,
        131_072,
        262_144,
    ),
    reference_classes=(2, 10, 33, 1000, 1001, 50_257),
    few=17,
    many=65,
    pools=(
        (1_000_000, 2, FLOAT32),
        (1_000_000, 10, FLOAT32),
        (1_000_000, 33, BFLOAT16),
        (250_000, 1000, BFLOAT16),
        (250_000, 1001, FLOAT16),
    ),
    far=(
        LargeMatrix(2**31 // 10 + 1000, 10, FLOAT32),
        LargeMatrix(2**31 // 1001 + 1000, 1001, BFLOAT16, embeddings=True),
        LargeMatrix(2**31 // 131_072 + 100, 131_072, BFLOAT16),
        LargeMatrix(2**31 // 1000 + 1000, 1000, BFLOAT16, by_columns=True, embeddings=True),
        LargeMatrix(2**31 + 1000, 2, BFLOAT16),
    ),
    sanitized=(2, 10, 33, 257, 1001, 32_000),
    # By path through the launch table: one tile of columns, with a tail and full; several tiles,
    # with a tail and full; tiles of 16 to 128 centroids, and several; centroids of one part and of
    # two.
    cosine=(
        Embeddings(300, 1, 1, FLOAT16),
        Embeddings(300, 3, 2, FLOAT32),
        Embeddings(300, 64, 10, BFLOAT16),
        Embeddings(300, 100, 17, FLOAT16),
        Embeddings(300, 384, 130, FLOAT32),
        Embeddings(300, 384, 130, FLOAT32, fast=True),
        Embeddings(20_000, 768, 1000, BFLOAT16),
        Embeddings(20_000, 768, 1000, BFLOAT16, fast=True),
        Embeddings(300, 768, 1000, FLOAT16, fast=True),
        Embeddings(300, 1001, 100, BFLOAT16),
        Embeddings(300, 4096, 300, BFLOAT16),
    ),
    ranks=(
        Activations(300, 1, 1, FLOAT32),
        Activations(300, 3, 2, BFLOAT16),
        Activations(300, 10, 1000, FLOAT32),
        Activations(300, 33, 17, FLOAT16),
        Activations(2000, 384, 10_000, BFLOAT16),
        Activations(2000, 1000, 1000, FLOAT32),
    ),
    # One lane, several lanes, several warps, one tile that is not full, several tiles.
    draws=(
        Draws(2000, 2, 2, FLOAT32),
        Draws(2000, 20, 10, FLOAT32),
        Draws(2000, 5, 33, BFLOAT16),
        Draws(500, 100, 100, FLOAT16),
        Draws(200, 10, 1000, BFLOAT16),
        Draws(60, 4, 3000, FLOAT32),
        Draws(20, 3, 131_072, BFLOAT16),
    ),
    core_set=(50_000, 96),
    duplicates=(50_000, 96),
    counted=(1 << 24, 1 << 20, 1000),
    timed=(
        (1_000_000, 1000, BFLOAT16),
        (65_536, 131_072, BFLOAT16),
        (100_000_000, 10, FLOAT32),
        (100_000_000, 2, FLOAT32),
        (1_000_000, 1001, BFLOAT16),
        (262_144, 32_000, BFLOAT16),
    ),
    timed_cosine=(
        Embeddings(1_000_000, 768, 10, BFLOAT16),
        Embeddings(1_000_000, 768, 100, BFLOAT16),
        Embeddings(1_000_000, 768, 1000, BFLOAT16),
        Embeddings(1_000_000, 384, 1000, FLOAT32),
    ),
    timed_draws=(Draws(5_000_000, 20, 10, FLOAT32), Draws(200_000, 10, 1000, BFLOAT16)),
    timed_picks=(1000, 1_000_000),
    host=(2_000_000_000, 1000, 1000),
)
QUICK = replace(
    FULL,
    classes=FULL.reference_classes,
    far=(),
    cosine=FULL.cosine[2:8],
    ranks=FULL.ranks[2:5],
    timed=tuple((n_rows // 8, n_classes, dtype) for n_rows, n_classes, dtype in FULL.timed[:3]),
    timed_cosine=FULL.timed_cosine[2:3],
    timed_draws=FULL.timed_draws[:1],
    host=(250_000_000, 1000, 1000),
)
INTERPRETED = Cases(
    classes=(2, 10),
    reference_classes=(2, 33),
    few=3,
    many=3,
    pools=((40, 2, FLOAT32), (40, 10, FLOAT32)),
    far=(
        LargeMatrix(230, 10, FLOAT32, edge=2000),
        LargeMatrix(40, 101, BFLOAT16, edge=2000, embeddings=True),
        LargeMatrix(40, 100, BFLOAT16, edge=2000, by_columns=True),
    ),
    sanitized=(10,),
    cosine=(
        Embeddings(9, 3, 2, FLOAT32),
        Embeddings(70, 40, 17, BFLOAT16),
        Embeddings(9, 72, 10, FLOAT16, True),
    ),
    ranks=(Activations(9, 1, 1, FLOAT32), Activations(20, 10, 9, BFLOAT16)),
    draws=(Draws(9, 3, 4, FLOAT32), Draws(9, 2, 5, BFLOAT16)),
    core_set=(60, 5),
    duplicates=(60, 9),
    counted=(200, 50, 5),
    timed=((64, 10, BFLOAT16),),
    timed_cosine=(Embeddings(64, 10, 3, BFLOAT16),),
    timed_draws=(Draws(20, 3, 4, FLOAT32),),
    timed_picks=(5,),
    host=(640, 10, 3),
)


def cases_for(options: Any) -> Cases:
    """The cases for the command's options."""
    cases = INTERPRETED if options.device == "cpu" else QUICK if options.quick else FULL
    return replace(cases, classes=options.classes) if options.classes else cases
