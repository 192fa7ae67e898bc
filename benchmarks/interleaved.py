"""Timing what is compared by turns: a shared machine is fast and slow by turns as well."""

import statistics
import time
from collections.abc import Callable

Work = Callable[[], object]


def seconds(work: Work, before: Work = lambda: None) -> float:
    before()
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def interleaved(*works: Work, rounds: int, before: Work = lambda: None) -> list[list[float]]:
    """Seconds of each in every round."""
    taken = []
    for number in range(rounds + rounds % 2):
        step = -1 if number % 2 else 1
        taken.append([seconds(work, before) for work in works[::step]][::step])
    return taken


def means(taken: list[list[float]]) -> list[float]:
    return [statistics.mean(column) for column in zip(*taken, strict=True)]
