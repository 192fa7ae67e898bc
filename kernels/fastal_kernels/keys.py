"""Selection keys: the score and the number of a row in one int64; the better row's is larger.

    score   0sssssss ssssssss ssssssss ssssssss   float32 in [0, 1], by its bits
    row     gggggggg gggggggg gggggggg gggggggg rrrrrrrr rrrrrrrr rrrrrrrr rrrrrrrr   int64
    key     0sssssss ssssssss ssssssss ssssssss RRRRRRRR RRRRRRRR RRRRRRRR RRRRRRRR   R = not r

The bits of floats from 0 to 1 are in the order of the floats. The row is inverted: of two rows with
the same score, the lower one has the larger key. The upper half of a row's number is its *segment*
g. It is not part of the key. Keys are unique and comparable within a segment of 2^32 rows.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

ROW_BITS: tl.constexpr = tl.constexpr(32)
ROW_MASK: tl.constexpr = tl.constexpr((1 << 32) - 1)


@triton.jit
def pack_key(score, row):
    """The keys of rows with float32 scores in [0, 1]. The key of NaN is undefined."""
    bits = tl.maximum(score.to(tl.int32, bitcast=True), 0)  # -0.0, whose sign bit is set, is 0
    return (bits.to(tl.int64) << ROW_BITS) | (ROW_MASK - (row & ROW_MASK))


@triton.jit
def unpack_score(key):
    """The float32 score of a key; NaN for the key -1."""
    return (key >> ROW_BITS).to(tl.int32).to(tl.float32, bitcast=True)


def unpack_keys(keys: Tensor, segment: int) -> tuple[Tensor, Tensor]:
    """The float32 scores and int64 row numbers of int64 keys, which are rows of one segment."""
    low, mask = ROW_BITS.value, ROW_MASK.value
    scores = (keys >> low).to(torch.int32).view(torch.float32)
    return scores, (mask - (keys & mask)) | (segment << low)


def threshold_key(score: float) -> int:
    """A key that the keys of all rows with this score exceed, and those of worse rows do not."""
    low: int = ROW_BITS.value
    bits = int(torch.tensor(score, dtype=torch.float32, device="cpu").view(torch.int32)) << low
    return max(bits - 1, 0)
