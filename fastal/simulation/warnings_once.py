"""Warnings that each run of a simulation would repeat."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def warnings_once() -> Iterator[None]:
    """What fastal logs during the block is logged once if it is repeated."""
    log, seen = logging.getLogger("fastal"), set()

    def is_new(record: logging.LogRecord) -> bool:
        message = record.getMessage()
        is_first = message not in seen
        seen.add(message)
        return is_first

    log.addFilter(is_new)
    try:
        yield
    finally:
        log.removeFilter(is_new)
