"""Pools that must be refused."""

import pytest

import fastal
from fastal.sources import open_pool


def refused(pool, words=None, error=(OSError, TypeError, ValueError), **options):
    """Reads all of a pool, and checks that the error is one line that names the pool."""
    with pytest.raises(error, match=words) as e:
        fastal.select(open_pool(pool, **options), 3)
    assert str(pool) in str(e.value)
    assert "\n" not in str(e.value)
