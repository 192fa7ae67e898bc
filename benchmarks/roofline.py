"""The bounds of a kernel on a card, predicted from counts of its instructions.

Nothing here is a measurement. A kernel cannot beat a bound, and may stay well below it.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Card:
    """The figures of a card's data sheet; the clock is in Hz."""

    bytes_per_second: float
    multiprocessors: int
    clock: float
    fp32_lanes: int = 128  # for each clock and multiprocessor


# Clocks of A100 and B200 follow from the data sheets' dense bfloat16 rates (312 and 2250 TFLOP/s).
# H100 and H200 reach 1.83 GHz by theirs (989 TFLOP/s) and 1.98 GHz at most. 1.755 GHz is assumed
# for a card under load, so that their compute bounds err on the low side.
CARDS = {
    "A100": Card(2.039e12, 108, 1.41e9, fp32_lanes=64),
    "H100": Card(3.35e12, 132, 1.755e9),
    "H200": Card(4.8e12, 132, 1.755e9),
    "B200": Card(8.0e12, 148, 1.85e9),
}

# Lanes that a multiprocessor serves in a clock, equal on all four cards.
_ISSUE = 4 * 32  # four schedulers, one warp instruction each
_SLOW = 16  # MUFU, and conversions
_SHUFFLE = 32


@dataclass(frozen=True)
class Work:
    """The cost of a row. A warp instruction counts 32 lanes, idle or not. `sass` has the kinds."""

    bytes_moved: float
    issue_slots: float  # lanes of all instructions
    slow_lanes: float  # lanes of MUFU and of conversions
    shuffle_lanes: float = 0
    fp32_lanes: float = 0
    l1_lines: float = 0  # lines of 128 bytes that the loads of warps touch, counted for each load


@dataclass(frozen=True)
class Prediction:
    """The share of the memory's rate that each bound allows, and the name of the lowest.

    A share above 1 means that the bound does not bind.
    """

    predicted_shares: dict[str, float]
    binding: str


def predicted_bound(work: Work, card: Card) -> Prediction:
    """The largest share of a card's memory rate that rows with this cost can reach."""
    seconds = work.bytes_moved / card.bytes_per_second
    lanes = {
        "issue": (work.issue_slots, _ISSUE),
        "slow": (work.slow_lanes, _SLOW),
        "shuffle": (work.shuffle_lanes, _SHUFFLE),
        "fp32": (work.fp32_lanes, card.fp32_lanes),
        "L1": (work.l1_lines, 1),
    }
    shares = {"memory": 1.0}
    for bound, (used, rate) in lanes.items():
        available = seconds * rate * card.multiprocessors * card.clock
        shares[bound] = available / used if used else float("inf")
    return Prediction(shares, min(shares, key=shares.__getitem__))
