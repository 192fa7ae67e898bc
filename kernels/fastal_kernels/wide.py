"""Rows of many classes: G lanes share a row. Each lane reads V neighbouring columns at a time.

Letters: N rows, C classes, R rows of a program at a time; a tile is W = G * V columns.
"""

import triton
import triton.language as tl

from fastal_kernels.online import (
    NO_REFERENCE,
    least,
    meet_in_turn,
    no_losers,
    push,
    row_of_lanes,
)
from fastal_kernels.rows import TWO_TO_MINUS_64, exp_of_difference, statistics
from fastal_kernels.scores import score_of, store_scores
from fastal_kernels.topk import append

# Arguments that Triton must not specialise: one kernel serves all their values.
_SIZES = ("offset", "stride_m", "first_row", "first_state", "n_states", "N")


@triton.jit
def load_tile(
    p_row, head, TILE: tl.constexpr, C: tl.constexpr, V: tl.constexpr, W: tl.constexpr,
    STRIDE_C: tl.constexpr, IN_WINDOW: tl.constexpr, IS_PROBS: tl.constexpr, PTX: tl.constexpr,
):  # fmt: skip
    """W columns from TILE * W on, of rows that begin `head` < V elements after p_row.

    Values beyond the row are neutral: they change no score.
    """
    START: tl.constexpr = TILE * W
    p = p_row + START * STRIDE_C
    neutral = 0.0 if IS_PROBS else float("-inf")
    o_c = START + tl.arange(0, W)[None, :]
    end = (head + C)[:, None]
    if START + W <= C:
        x = tl.load(p, eviction_policy="evict_first")
    elif IN_WINDOW:
        # Reads whole vectors: up to V - 1 elements beyond the row, within its last 16 bytes.
        x = tl.load(p, mask=o_c // V * V < end, other=neutral, eviction_policy="evict_first")
    else:
        x = tl.load(p, mask=o_c < C, other=neutral, eviction_policy="evict_first")
    if not PTX:
        x = x.to(tl.float32)
    if IN_WINDOW and (TILE == 0 or START + W > C):
        x = tl.where((o_c >= head[:, None]) & (o_c < end), x, tl.full(x.shape, neutral, x.dtype))
    return x


@triton.jit
def row_state(
    p_row, head, at, C: tl.constexpr, V: tl.constexpr, G: tl.constexpr, UNROLL: tl.constexpr,
    IN_WINDOW: tl.constexpr, STRIDE_C: tl.constexpr, WITH_T: tl.constexpr,
    IS_PROBS: tl.constexpr, PTX: tl.constexpr, PAIRS: tl.constexpr,
):  # fmt: skip
    """The state of rows of C columns that begin `head` < V elements after p_row [R, W]."""
    W: tl.constexpr = V * G
    N_TILES: tl.constexpr = (C + (V - 1 if IN_WINDOW else 0) + W - 1) // W
    N_FULL: tl.constexpr = C // W  # tiles that lie within the row
    a = load_tile(p_row, head, 0, C, V, W, STRIDE_C, IN_WINDOW, IS_PROBS, PTX)
    r, m, s, t = no_losers(a, V, IS_PROBS)
    LOOPED: tl.constexpr = N_TILES > UNROLL + 1
    DONE: tl.constexpr = 1 + (((N_FULL - 1) // UNROLL) * UNROLL if LOOPED else 0)
    if LOOPED:
        for tile in range(1, DONE, UNROLL):
            xs = ()
            for u in tl.static_range(UNROLL):
                p = p_row + (tl.cast(tile, tl.int64) + u) * (W * STRIDE_C)
                x = tl.load(p, eviction_policy="evict_first")
                xs += (x if PTX else x.to(tl.float32),)
            a, r, m, s, t = push(a, r, m, s, t, xs, at, V, WITH_T, IS_PROBS, PTX, PAIRS)
    xs = ()
    for tile in tl.static_range(DONE, N_TILES):
        xs += (load_tile(p_row, head, tile, C, V, W, STRIDE_C, IN_WINDOW, IS_PROBS, PTX),)
    a, pending = meet_in_turn(a, xs, IS_PROBS)
    return row_of_lanes(
        a, r, m, s, t, pending, at, LOOPED, V, WITH_T, IS_PROBS, PTX, PAIRS
    )  # fmt: skip


@triton.jit
def is_extreme(a, at):
    """Whether the maximum `a` of a valid row is beyond the range of the sums."""
    return (tl.abs(a) > at.usual) & (tl.abs(a) < float("inf"))


@triton.jit
def extreme_statistics(p_row, a, at, C: tl.constexpr, W: tl.constexpr, STRIDE_C: tl.constexpr):
    """The `statistics` of rows with a huge maximum a [R], from a second read of them."""
    R: tl.constexpr = p_row.shape[0]
    o_c = tl.arange(0, W)[None, :]
    ties = tl.zeros([R], tl.int32) - 1
    second = tl.full([R], float("-inf"), tl.float32)
    tail = tl.zeros([R], tl.float64)  # float64: the sums are long, and such rows are rare
    moment = tl.zeros([R], tl.float64)
    for start in range(0, C, W):
        p = p_row + tl.cast(start, tl.int64) * STRIDE_C
        x = tl.load(p, mask=start + o_c < C, other=float("-inf")).to(tl.float32)
        is_maximum = x == a[:, None]
        d, e = exp_of_difference(x, a[:, None], at, True)
        e = tl.where(is_maximum, 0.0, e)  # scaled by 2^64: subnormal terms may have a normal sum
        ties += tl.sum(is_maximum.to(tl.int32), axis=1)
        second = tl.maximum(second, tl.max(tl.where(is_maximum, float("-inf"), x), axis=1))
        tail += tl.sum(e.to(tl.float64), axis=1)
        moment += tl.sum((d * e).to(tl.float64), axis=1)
    _, runner_up = exp_of_difference(second, a, at, True)
    runner_up = tl.where(ties > 0, 1.0, runner_up * TWO_TO_MINUS_64)
    tail = tail * TWO_TO_MINUS_64 + ties
    return tail.to(tl.float32), runner_up, moment.to(tl.float32)


@triton.jit
def first_tile(
    p_x, offset, row, C: tl.constexpr, PITCH: tl.constexpr, STRIDE_C: tl.constexpr,
    PARTS: tl.constexpr, IN_WINDOW: tl.constexpr, V: tl.constexpr, W: tl.constexpr,
):  # fmt: skip
    """Pointers [R, W] to the first tile of the rows, and the elements from there to the rows."""
    start = row // PARTS * PITCH + row % PARTS * (C * STRIDE_C) if PARTS > 1 else row * PITCH
    start += offset
    head = start % V if IN_WINDOW else tl.zeros_like(start)
    if STRIDE_C == 1 and (IN_WINDOW or PITCH % V == 0):
        # In a window: the boundary before the row. Else equals `start`, and tells the alignment.
        start = start // V * V
    o_c = tl.arange(0, W)
    if STRIDE_C != 1:
        o_c = o_c.to(tl.int64) * STRIDE_C
    return p_x + start[:, None] + o_c[None, :], head


@triton.jit(do_not_specialize=_SIZES)
def wide_kernel(
    # [N, C], which begins `offset` elements after p_x. The offset makes p_x aligned if possible.
    p_x, offset: tl.int64,
    # Outputs: see `store_scores` and `append`.
    p_scores, stride_m: tl.int64, p_keys, p_selection, first_row: tl.int64,
    # None, or [N / PARTS, n_states, 5]: then the states of the parts go there from first_state on.
    p_states, first_state: tl.int32, n_states: tl.int32,
    N: tl.int64, per_class, per_log, tolerance,
    at,  # `AtTemperature`
    C: tl.constexpr, PITCH: tl.constexpr, STRIDE_C: tl.constexpr, PARTS: tl.constexpr,
    IN_WINDOW: tl.constexpr, V: tl.constexpr, G: tl.constexpr, ROWS: tl.constexpr,
    GROUPS: tl.constexpr, UNROLL: tl.constexpr, MEASURES: tl.constexpr, BY: tl.constexpr,
    WITH_T: tl.constexpr, IS_PROBS: tl.constexpr, PTX: tl.constexpr, PAIRS: tl.constexpr,
):  # fmt: skip
    """Scores ROWS * GROUPS rows, ROWS at a time. Lane g of row i finishes row g * ROWS + i."""
    W: tl.constexpr = V * G
    first = tl.program_id(0).to(tl.int64) * (ROWS * GROUPS)
    o_r = tl.arange(0, ROWS)
    o_g = tl.arange(0, GROUPS)[None, :]
    zeros = tl.zeros([ROWS, GROUPS], tl.float32)
    a, r, m, s, t = zeros, zeros, zeros, zeros, zeros
    for group in range(GROUPS):
        row = tl.minimum(first + group * ROWS + o_r, N - 1)  # past the end: the last row once more
        p_row, head = first_tile(
            p_x, offset, row, C, PITCH, STRIDE_C, PARTS, IN_WINDOW, V, W
        )  # fmt: skip
        row_a, row_r, row_m, row_s, row_t = row_state(
            p_row, head, at, C, V, G, UNROLL, IN_WINDOW, STRIDE_C, WITH_T, IS_PROBS, PTX, PAIRS
        )
        a = tl.where(o_g == group, row_a[:, None], a)
        r = tl.where(o_g == group, row_r[:, None], r)
        m = tl.where(o_g == group, row_m[:, None], m)
        s = tl.where(o_g == group, row_s[:, None], s)
        t = tl.where(o_g == group, row_t[:, None], t)
    o_n = first + o_g * ROWS + o_r[:, None]
    m_n = o_n < N
    if p_states is not None:
        p = p_states + (o_n // PARTS * n_states + first_state + o_n % PARTS) * 5
        tl.store(p, a, mask=m_n)
        tl.store(p + 1, r, mask=m_n)
        tl.store(p + 2, m, mask=m_n)
        tl.store(p + 3, s, mask=m_n)
        tl.store(p + 4, t, mask=m_n)
    else:
        tail, runner_up, moment = statistics(a, r, m, s, t, tolerance, at, IS_PROBS)
        if not IS_PROBS:
            extreme = is_extreme(a, at)
            if tl.max(tl.reshape(extreme.to(tl.int32), [ROWS * GROUPS])) != 0:
                for group in range(GROUPS):
                    row = tl.minimum(first + group * ROWS + o_r, N - 1)
                    p_row, _ = first_tile(p_x, offset, row, C, PITCH, STRIDE_C, 1, False, 1, W)
                    row_a = tl.sum(tl.where(o_g == group, a, 0.0), axis=1)
                    row_tail, row_runner_up, row_moment = extreme_statistics(
                        p_row, row_a, at, C, W, STRIDE_C
                    )
                    here = extreme & (o_g == group)
                    tail = tl.where(here, row_tail[:, None], tail)
                    runner_up = tl.where(here, row_runner_up[:, None], runner_up)
                    moment = tl.where(here, row_moment[:, None], moment)
            moment *= at.per_temperature
        store_scores(
            tail, runner_up, moment, 0, o_n, m_n, p_scores, stride_m, per_class, per_log,
            MEASURES, C, PTX,
        )  # fmt: skip
        if BY >= 0:
            score = score_of(BY, tail, runner_up, moment, per_class, per_log, C, PTX)
            append(score, first_row + o_n, m_n, p_keys, p_selection)


@triton.jit(do_not_specialize=_SIZES)
def merge_kernel(
    p_states, n_states: tl.int32,  # [N, n_states, 5], written by `wide_kernel`
    p_x, offset: tl.int64, p_scores, stride_m: tl.int64, p_keys, p_selection, first_row: tl.int64,
    N: tl.int64, per_class, per_log, tolerance,
    at,  # `AtTemperature`
    C: tl.constexpr, PITCH: tl.constexpr, STRIDE_C: tl.constexpr, PARTS: tl.constexpr,
    MEASURES: tl.constexpr, BY: tl.constexpr, WITH_T: tl.constexpr, IS_PROBS: tl.constexpr,
    PTX: tl.constexpr,
):  # fmt: skip
    """Scores one row from the states of its parts. PARTS is a power of two, at least n_states."""
    o_n = tl.program_id(0).to(tl.int64) + tl.arange(0, 1)
    o_p = tl.arange(0, PARTS)[None, :]
    nothing: tl.constexpr = least(tl.float32, IS_PROBS)
    p = p_states + (o_n[:, None] * n_states + o_p) * 5
    is_part = o_p < n_states
    a = tl.load(p, mask=is_part, other=0.0 if IS_PROBS else float("-inf"))
    r = tl.load(p + 1, mask=is_part, other=nothing)
    m = tl.load(p + 2, mask=is_part, other=0.0 if IS_PROBS else NO_REFERENCE)
    s = tl.load(p + 3, mask=is_part, other=0.0)
    t = tl.load(p + 4, mask=is_part, other=0.0)
    a, r, m, s, t = row_of_lanes(a, r, m, s, t, (), at, True, 1, WITH_T, IS_PROBS, PTX, False)
    tail, runner_up, moment = statistics(a, r, m, s, t, tolerance, at, IS_PROBS)
    if not IS_PROBS:
        extreme = is_extreme(a, at)
        if tl.max(extreme.to(tl.int32)) != 0:
            p_row, _ = first_tile(p_x, offset, o_n, C, PITCH, STRIDE_C, 1, False, 1, 1024)
            tail, runner_up, moment = extreme_statistics(p_row, a, at, C, 1024, STRIDE_C)
        moment *= at.per_temperature
    store_scores(
        tail, runner_up, moment, 0, o_n, o_n < N, p_scores, stride_m, per_class, per_log,
        MEASURES, C, PTX,
    )  # fmt: skip
    if BY >= 0:
        score = score_of(BY, tail, runner_up, moment, per_class, per_log, C, PTX)
        append(score, first_row + o_n, o_n < N, p_keys, p_selection)
