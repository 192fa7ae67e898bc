"""Marks of tests that need more than every machine has."""

import pytest

from tests.support.matrices import HAS_TRITON

needs_triton = pytest.mark.skipif(not HAS_TRITON, reason="Triton is not installed")
