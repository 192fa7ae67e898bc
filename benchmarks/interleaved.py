"""Times several works alternately, because the speed of a shared machine varies over time."""

import statistics
import time
from collections.abc import Callable

Work = Callable[[], object]


def seconds(work: Work, before: Work = lambda: None) -> float:
    """The seconds that `work` takes, without those of `before`, which runs first."""
    before()
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def interleaved(*works: Work, rounds: int, before: Work = lambda: None) -> list[list[float]]:
    """The seconds of each work, for each round. The order is reversed every other round.

    The number of rounds is rounded up to an even one. `before` runs before each work, untimed.
    """
    taken = []
    for number in range(rounds + rounds % 2):
        step = -1 if number % 2 else 1
        taken.append([seconds(work, before) for work in works[::step]][::step])
    return taken


def means(taken: list[list[float]]) -> list[float]:
    """The mean seconds of each work."""
    return [statistics.mean(column) for column in zip(*taken, strict=True)]
