"""Scores of items of several draws: the draws stream by, and the sums of each class are kept.

Letters: N items, S draws of an item, C classes. G lanes share an item, and a lane has V classes. A
tile [V, R, G] is R items by W = V * G classes: class v * G + g is at [v, :, g]. Sums are float64,
because BALD is the difference of two entropies that may be nearly equal.

Float64 arithmetic bounds the kernel. So the layout of a tile serves the work per draw, not the
loads: each thread has one item, and divides and takes logarithms for V of its classes at once.
Therefore the compiler must not know the strides. It would else give a thread values of V items.

If a tile holds all classes, each draw is read once. Else a program scores one item. It first finds
the state of each of its draws, which reads the draw twice. It then reads all draws of a tile of
classes, tile by tile. Reads after the first one come from the L2 cache if it holds the item.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastal_kernels.hardware import isa_of
from fastal_kernels.launch import Isa, drawn
from fastal_kernels.measures import DRAWS_SCORES, LEAST_PROB, asked_for, probs_tolerance

_VARIATION, _VOTES, _VARIANCE = (
    1 << DRAWS_SCORES.index(name) for name in ("variation_ratio", "vote_entropy", "variance")
)
# Programs that read items in turn. More would not run at once on any GPU. Each has a buffer.
_MOST_PROGRAMS = 4096
# Arguments that Triton must not specialise: one kernel serves all their values, and the layout of
# a tile does not depend on them.
_SIZES = ("N", "S", "stride_n", "stride_s", "stride_c", "stride_m")

LEAST: tl.constexpr = tl.constexpr(LEAST_PROB)
# The rounding errors of both entropies stay below this. A smaller difference is no disagreement.
LEAST_BALD: tl.constexpr = tl.constexpr(1e-12)
# Below this, e^d is exactly 0 in float64.
FLOOR: tl.constexpr = tl.constexpr(-800.0)
# A logarithm is taken of at least this, because 0 · −inf is NaN.
TINY: tl.constexpr = tl.constexpr(2.0**-1000)
INFINITY: tl.constexpr = tl.constexpr(float("inf"))


def draws(
    x: Tensor, measures: Sequence[str], kind: str = "logits", temperature: float = 1.0
) -> list[Tensor]:
    """Scores of each item from all of its draws, in the order of `measures`.

    Args:
        x: [N, S, C] with S >= 1 and C >= 2; float16, bfloat16 or float32; any strides; on a GPU.
        measures: names from `DRAWS_SCORES`.
        kind: what the draws hold: "logits", "probs" or "log_probs".
        temperature: divides logits and log-probabilities; above 0. Probabilities ignore it.

    Returns:
        A list of [N] float32 tensors, all at least 0. Larger is more uncertain. NaN for items with
        an invalid draw.
    """
    asked = asked_for(measures, DRAWS_SCORES)
    n_items, n_draws, n_classes = x.shape
    scores = torch.empty(len(asked), n_items, dtype=torch.float32, device=x.device)
    if scores.numel():
        constants = constants_of(n_classes, kind, asked, isa_of(x.device))
        n_programs, states = triton.cdiv(n_items, constants["R"]), None
        if n_classes > constants["V"] * constants["G"]:
            n_programs = min(n_programs, _MOST_PROGRAMS)
            states = x.new_empty(n_programs, n_draws, 3, dtype=torch.float64)
        with torch.cuda.device_of(x):  # Triton launches on the current device
            draws_kernel[(n_programs,)](
                p_x=x, p_scores=scores, p_states=states, N=n_items, S=n_draws,
                stride_n=x.stride(0), stride_s=x.stride(1), stride_c=x.stride(2),
                stride_m=scores.stride(0), per_temperature=1 / temperature,
                tolerance=probs_tolerance(x.dtype, n_classes),
                **constants,
            )  # fmt: skip
    return [scores[asked.index(measure)] for measure in measures]


def constants_of(n_classes: int, kind: str, measures: tuple[str, ...], isa: Isa) -> dict[str, Any]:
    """The compile-time arguments for items of n_classes, for measures in their order."""
    asked = sum(1 << DRAWS_SCORES.index(measure) for measure in measures)
    config = drawn(n_classes)
    constants = {
        "C": n_classes,
        "MEASURES": asked,
        "WITH_VARIANCE": asked & _VARIANCE != 0,
        "WITH_VOTES": asked & (_VARIATION | _VOTES) != 0,
        "IS_PROBS": kind == "probs",
        "num_warps": config.threads // isa.warp_size,
        **asdict(config),
    }
    if isa.ptx:  # else the assembler spills a few registers to fit more programs
        constants["maxnreg"] = 255
    return constants


@triton.jit
def log1p(x, per_total):
    """The logarithm log(1 + x) for float64 x >= 0; per_total is 1 / (1 + x)."""
    # What the rounding of 1 + x loses is at most 2^-53 of it: the next term of the series is 1e-32.
    total = 1.0 + x
    return tl.log(total) + (x - (total - 1.0)) * per_total


@triton.jit
def surprise(p):
    """The term -p log p of an entropy, for float64 p >= 0."""
    return -p * tl.log(tl.maximum(p, TINY))


@triton.jit
def of_rows(x):
    """Values [R] of items, to be broadcast to a tile."""
    return x[None, :, None]


@triton.jit
def class_sum(x):
    """The sum [R] over the classes of a tile."""
    return tl.sum(tl.sum(x, axis=0), axis=1)


@triton.jit
def class_max(x):
    """The maximum [R] over the classes of a tile."""
    return tl.max(tl.max(x, axis=0), axis=1)


@triton.jit
def class_min(x):
    """The minimum [R] over the classes of a tile."""
    return tl.min(tl.min(x, axis=0), axis=1)


@triton.jit
def classes_from(start, V: tl.constexpr, G: tl.constexpr):
    """The classes [V, 1, G] of a tile that begins with class `start`."""
    return start + tl.arange(0, V)[:, None, None] * G + tl.arange(0, G)[None, None, :]


@triton.jit
def load_tile(p_draw, o_c, m_n, stride_c, C: tl.constexpr, IS_PROBS: tl.constexpr):
    """Classes o_c [V, 1, G] of draws at p_draw [R], as float32; neutral beyond the last class."""
    p = of_rows(p_draw) + o_c.to(tl.int64) * stride_c
    neutral = 0.0 if IS_PROBS else float("-inf")
    return tl.load(p, mask=of_rows(m_n) & (o_c < C), other=neutral).to(tl.float32)


@triton.jit
def top_and_first(x, o_c, C: tl.constexpr):
    """The largest value [R] and its first class."""
    top = class_max(x)
    return top, class_min(tl.where(x == of_rows(top), o_c, C))


@triton.jit
def powers(x, top, per_temperature, IS_PROBS: tl.constexpr):
    """Float64 d and e^d of a tile: d is the distance of each value to the largest one, top [R]."""
    x, top = x.to(tl.float64), of_rows(top.to(tl.float64))
    if IS_PROBS:
        e = tl.maximum(x, 0.0) / top
        d = tl.log(tl.maximum(e, TINY))
    else:
        d = tl.maximum((x - top) * per_temperature, FLOOR)
        e = tl.exp(d)
    return d, e


@triton.jit
def is_valid_draw(top, least, tail, tolerance, IS_PROBS: tl.constexpr):
    """Whether draws [R] are valid."""
    is_valid = tl.abs(top) < INFINITY
    if IS_PROBS:
        total = (1.0 + tail) * top.to(tl.float64)
        is_valid = is_valid & (least >= LEAST) & (tl.abs(total - 1.0) <= tolerance)
    return is_valid


@triton.jit
def entropy_of(tail, moment):
    """The entropy [R] of draws, from sums without their largest value, and 1 / (1 + tail)."""
    per_total = 1.0 / (1.0 + tail)
    return log1p(tail, per_total) - moment * per_total, per_total


@triton.jit
def find_states(
    p_item, p_state, m_n, S, stride_s, stride_c, per_temperature, tolerance,
    C: tl.constexpr, IS_PROBS: tl.constexpr, V: tl.constexpr, G: tl.constexpr,
):  # fmt: skip
    """Stores the largest value, its class and the tail of each draw of an item.

    Returns the sum of the draws' entropies, and whether the draws are valid, each [1].
    """
    entropy = tl.zeros([1], tl.float64)
    is_valid = m_n
    for s in tl.range(0, S):
        p_draw = p_item + tl.cast(s, tl.int64) * stride_s
        most = tl.full([V, 1, G], float("-inf"), tl.float32)
        least = tl.zeros([V, 1, G], tl.float32)
        first = tl.full([V, 1, G], C, tl.int32)
        for start in tl.range(0, C, V * G):
            o_c = classes_from(start, V, G)
            x = load_tile(p_draw, o_c, m_n, stride_c, C, IS_PROBS)
            least = tl.minimum(least, x)
            x = tl.where(x < INFINITY, x, INFINITY)
            first = tl.where(x > most, o_c, first)
            most = tl.maximum(most, x)
        top = class_max(most)
        vote = class_min(tl.where(most == of_rows(top), first, C))
        tails = tl.zeros([V, 1, G], tl.float64)
        moments = tl.zeros([V, 1, G], tl.float64)
        for start in tl.range(0, C, V * G):
            o_c = classes_from(start, V, G)
            x = load_tile(p_draw, o_c, m_n, stride_c, C, IS_PROBS)
            d, e = powers(x, top, per_temperature, IS_PROBS)
            e = tl.where(o_c == of_rows(vote), 0.0, e)
            tails += e
            moments += d * e
        tail = class_sum(tails)
        of_draw, _ = entropy_of(tail, class_sum(moments))
        entropy += of_draw
        is_valid &= is_valid_draw(top, class_min(least), tail, tolerance, IS_PROBS)
        o_state = s * 3 + tl.arange(0, 1)
        tl.store(p_state + o_state, top.to(tl.float64))
        tl.store(p_state + o_state + 1, vote.to(tl.float64))
        tl.store(p_state + o_state + 2, tail)
    return entropy, is_valid


@triton.jit
def class_sums(
    p_item, p_state, m_n, start, entropy, is_valid,
    S, stride_s, stride_c, per_temperature, tolerance,
    C: tl.constexpr, WITH_VARIANCE: tl.constexpr, WITH_VOTES: tl.constexpr, IS_PROBS: tl.constexpr,
    V: tl.constexpr, R: tl.constexpr, G: tl.constexpr,
):  # fmt: skip
    """Sums [V, R, G] over all draws, for the classes of the tile that begins with `start`.

    These are p, its variance times S, and the votes. If the tile holds all classes, the draws'
    entropies are added to `entropy`, and `is_valid` is updated.

    The variance is that of the differences to the first draw. This one is at most sqrt(S) standard
    deviations from the mean, so few digits are lost, and equal draws give 0. Where p is close to 1,
    1 - p is summed instead: this is the first draw's vote.
    """
    o_c = classes_from(start, V, G)
    p_sum = tl.zeros([V, R, G], tl.float64)
    first = tl.zeros([V, R, G], tl.float64)
    first_vote = tl.full([R], C, tl.int32)
    differences = tl.zeros([V, R, G], tl.float64)
    squares = tl.zeros([V, R, G], tl.float64)
    votes = tl.zeros([V, R, G], tl.int32)
    for s in tl.range(0, S):
        p_draw = p_item + tl.cast(s, tl.int64) * stride_s
        x = load_tile(p_draw, o_c, m_n, stride_c, C, IS_PROBS)
        if p_state is None:
            least = class_min(x)
            x = tl.where(x < INFINITY, x, INFINITY)
            top, vote = top_and_first(x, o_c, C)
            d, e = powers(x, top, per_temperature, IS_PROBS)
            others = tl.where(o_c == of_rows(vote), 0.0, e)
            tail = class_sum(others)
            of_draw, per_total = entropy_of(tail, class_sum(d * others))
            entropy += of_draw
            is_valid &= is_valid_draw(top, least, tail, tolerance, IS_PROBS)
        else:
            o_state = s * 3 + tl.arange(0, 1)
            top = tl.load(p_state + o_state)
            vote = tl.load(p_state + o_state + 1).to(tl.int32)
            tail = tl.load(p_state + o_state + 2)
            d, e = powers(x, top, per_temperature, IS_PROBS)
            per_total = 1.0 / (1.0 + tail)
        p = e * of_rows(per_total)
        p_sum += p
        if WITH_VOTES:
            votes += (o_c == of_rows(vote)).to(tl.int32)
        if WITH_VARIANCE:
            first_vote = tl.where(s == 0, vote, first_vote)
            rest = tl.where(of_rows(vote == first_vote), of_rows(tail * per_total), 1.0 - p)
            p = tl.where(o_c == of_rows(first_vote), -rest, p)
            first = tl.where(s == 0, p, first)
            differences += p - first
            squares += (p - first) * (p - first)
    if WITH_VARIANCE:
        squares -= differences * differences / tl.cast(S, tl.float64)
    return p_sum, squares, votes, entropy, is_valid


@triton.jit
def store_scores(
    p_scores, stride_m, o_n, m_n, is_valid, S, entropy, top, second, tail, others, squares,
    most_votes, vote_surprise, C: tl.constexpr, MEASURES: tl.constexpr,
):  # fmt: skip
    """Stores the scores asked for, [M, N] in order, of items o_n [R]."""
    n_draws = tl.cast(S, tl.float64)
    # The sum of m is 1 within rounding: -log(top) is log(1 + tail / top).
    mean_entropy = others + top * log1p(tail / top, top)
    for i in tl.static_range(11):
        if MEASURES & (1 << i):
            if i == 0 or i == 5:  # bald, kl_to_mean
                score = mean_entropy - entropy / n_draws
                score = tl.where(score < LEAST_BALD, 0.0, score)
            elif i == 1:  # mean_entropy
                score = mean_entropy
            elif i == 2:  # expected_entropy
                score = entropy / n_draws
            elif i == 3:  # variation_ratio
                score = (n_draws - most_votes) / n_draws
            elif i == 4:  # vote_entropy
                score = vote_surprise
            elif i == 6:  # variance
                score = squares / n_draws / C
            elif i == 7:  # least_confidence
                score = tail * C / (C - 1)
            elif i == 8:  # margin
                score = tail + second
            elif i == 9:  # ratio
                score = second / top
            else:  # entropy
                score = mean_entropy / tl.log(tl.full(tail.shape, C, tl.float64))
            score = tl.where(is_valid, score.to(tl.float32), float("nan"))
            tl.store(p_scores + o_n, score, mask=m_n)
            p_scores += stride_m


@triton.jit(do_not_specialize=_SIZES)
def draws_kernel(
    p_x,  # [N, S, C]
    p_scores,  # [M, N]
    p_states,  # [programs, S, 3] states of draws; None if a tile holds all classes
    N: tl.int64, S: tl.int32,
    stride_n: tl.int64, stride_s: tl.int64, stride_c: tl.int64, stride_m: tl.int64,
    per_temperature: tl.float64, tolerance: tl.float64,
    C: tl.constexpr, MEASURES: tl.constexpr, WITH_VARIANCE: tl.constexpr, WITH_VOTES: tl.constexpr,
    IS_PROBS: tl.constexpr, V: tl.constexpr, R: tl.constexpr, G: tl.constexpr,
):  # fmt: skip
    """Scores R items at a time: those of its number, and every n_programs * R items further on."""
    program = tl.program_id(0).to(tl.int64)
    n_draws = tl.cast(S, tl.float64)
    p_state = None if p_states is None else p_states + program * S * 3
    step = tl.num_programs(0).to(tl.int64) * R
    for item in tl.range(program * R, N, step):
        o_n = item + tl.arange(0, R)
        m_n = o_n < N
        p_item = p_x + o_n * stride_n
        entropy = tl.zeros([R], tl.float64)
        is_valid = m_n
        if p_state is not None:
            tl.debug_barrier()  # the states of the item before have been read
            entropy, is_valid = find_states(
                p_item, p_state, m_n, S, stride_s, stride_c, per_temperature, tolerance,
                C, IS_PROBS, V, G,
            )  # fmt: skip
            tl.debug_barrier()  # all threads see the states
        top = tl.zeros([R], tl.float64)
        second = tl.zeros([R], tl.float64)
        tail = tl.zeros([R], tl.float64)
        others = tl.zeros([R], tl.float64)
        spread = tl.zeros([R], tl.float64)
        most_votes = tl.zeros([R], tl.int32)
        vote_surprise = tl.zeros([R], tl.float64)
        for start in tl.range(0, C, V * G):
            p, squares, votes, entropy, is_valid = class_sums(
                p_item, p_state, m_n, start, entropy, is_valid,
                S, stride_s, stride_c, per_temperature, tolerance,
                C, WITH_VARIANCE, WITH_VOTES, IS_PROBS, V, R, G,
            )  # fmt: skip
            # One largest value is left out of the sums, as for a draw.
            m = p / n_draws
            o_c = classes_from(start, V, G)
            tile_top, tile_first = top_and_first(m, o_c, C)
            m = tl.where(o_c == of_rows(tile_first), 0.0, m)
            loser = tl.minimum(top, tile_top)
            top = tl.maximum(top, tile_top)
            second = tl.maximum(tl.maximum(second, loser), class_max(m))
            tail += class_sum(m) + loser
            others += class_sum(surprise(m)) + surprise(loser)
            if WITH_VARIANCE:
                spread += class_sum(squares)
            if WITH_VOTES:
                most_votes = tl.maximum(most_votes, class_max(votes))
                vote_surprise += class_sum(surprise(votes.to(tl.float64) / n_draws))
        store_scores(
            p_scores, stride_m, o_n, m_n, is_valid, S, entropy, top, second, tail, others, spread,
            most_votes.to(tl.float64), vote_surprise, C, MEASURES,
        )  # fmt: skip
