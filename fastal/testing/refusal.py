"""Calls that must refuse rows that cannot be scored."""

import re
from collections.abc import Callable, Sequence
from typing import Any

from fastal import InvalidRows


def check_refused(
    call: Callable[[], Any], bad: Sequence[int], wanted: type[ValueError] = ValueError
) -> None:
    """Raises unless a call raises an error that names the first of the bad rows.

    Args:
        call: the call.
        bad: the rows that cannot be scored, ascending.
        wanted: the class of the error. The message of a ValueError must have the number of the row,
            the rows of an `InvalidRows` must begin with it.

    Raises:
        AssertionError: it does not.
    """
    try:
        found = call()
    except wanted as error:
        if isinstance(error, InvalidRows):
            names_it = error.rows[:1] == [bad[0]] and set(error.rows) <= set(bad)
        else:
            names_it = re.search(rf"\b{bad[0]}\b", str(error)) is not None
        if not names_it:
            raise AssertionError(
                f"wanted an error that names row {bad[0]}, got {error!r}"
            ) from error
    else:
        raise AssertionError(f"wanted {wanted.__name__} that names row {bad[0]}, got {found!r}")
