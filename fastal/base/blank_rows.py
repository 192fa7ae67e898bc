"""Rows that hold nothing: padding and failed items."""

from typing import NamedTuple


class Blank(NamedTuple):
    """The scores by which rows that hold nothing are recognised: padding and failed items.

    Attributes:
        least: the least score of such a row.
        most: the largest score of such a row.
        value: the value that fills such a row; None: any value, the same in all columns.
    """

    least: float
    most: float
    value: float | None
