"""Pools that must be refused."""

import pytest

import fastal
from fastal.sources import open_pool


def refused(pool, words=None, error=(OSError, TypeError, ValueError), **options):
    """Reads all of a pool; the error must be one line that names it."""
    with pytest.raises(error, match=words) as e:
        fastal.select(open_pool(pool, **options), 3)
    assert str(pool) in str(e.value)
    assert "\n" not in str(e.value)
