"""Selection behind the scores: candidates above the running threshold; exact compaction."""

import triton
import triton.language as tl


@triton.jit
def append(score, row, m_n, p_keys, p_selection):
    """Appends the keys of the rows that may be among the best, and counts invalid rows.

    A key is a score's bits above the bits of 2^32 - 1 - row: keys are unique, larger ones are
    better, ties go to the lower row. Rows are taken modulo 2^32: all belong to one segment of as
    many rows. Which keys are appended does not depend on the order of programs, only their order
    in the buffer does.

    Args:
        score: float32 in [0, 1] or NaN, of any shape; row: their row numbers; m_n: which are rows at all.
        p_keys: [capacity] int64. p_selection: [3] int64: the threshold, which a key has to exceed,
            the number of keys, and of invalid rows.
    """
    key = (score.to(tl.int32, bitcast=True).to(tl.int64) << 32) | (0xFFFFFFFF - (row & 0xFFFFFFFF))
    is_valid = score == score
    passes = m_n & is_valid & (key > tl.load(p_selection))
    invalid = m_n & (is_valid == 0)
    SIZE: tl.constexpr = score.numel
    # Both counts in one sum: there are far fewer than 2^16 rows in a program.
    events = tl.sum(tl.reshape(passes.to(tl.int32) + (invalid.to(tl.int32) << 16), [SIZE]))
    if events != 0:
        passes = tl.reshape(passes.to(tl.int64), [SIZE])
        place = tl.atomic_add(p_selection + 1, (events & 0xFFFF).to(tl.int64), sem="relaxed")
        place += tl.cumsum(passes) - 1
        tl.store(p_keys + place, tl.reshape(key, [SIZE]), mask=passes != 0)
        if events >> 16 != 0:
            tl.atomic_add(p_selection + 2, (events >> 16).to(tl.int64), sem="relaxed")
