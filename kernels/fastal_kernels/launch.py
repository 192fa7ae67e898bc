"""Launch configurations, a function of the shape alone: no tuning at run time."""

from dataclasses import dataclass

_TILE = 1024  # elements in flight in a program with short rows; 8 a thread at 4 warps
# Lanes of a row at most; 262,144 classes are then 64 values a lane. A value costs its lane's sum
# two roundings where the maximum rises: 2 · 64 · 2^−24 = 7.6e-6 if all went the same way.
_MAX_LANES = 4096


@dataclass(frozen=True)
class Config:
    """How a matrix is cut: BLOCK_N rows a program, `lanes` columns at a time."""

    block_n: int
    lanes: int
    num_warps: int


def uncertainty_config(n_classes: int) -> Config:
    """The configuration for rows of `n_classes` classes."""
    lanes = min(1 << (n_classes - 1).bit_length(), _TILE)
    # From 64 values a lane on, more lanes instead: keeps the sums short, see _MAX_LANES.
    while lanes < _MAX_LANES and lanes * 64 < n_classes:
        lanes *= 2
    return Config(block_n=max(1, _TILE // lanes), lanes=lanes, num_warps=8 if lanes > _TILE else 4)
