"""Every public method of clusters has an example; `tests/test_docstrings.py` runs all examples."""

import pytest

from fastal.diversity import CosineClusters


@pytest.mark.parametrize("name", ["fit", "assign", "sample", "save", "load"])
def test_every_public_method_of_clusters_has_an_example(name):
    assert "Example:\n" in getattr(CosineClusters, name).__doc__
