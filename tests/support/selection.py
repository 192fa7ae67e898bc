"""Which tests run, and in which order."""

import pytest

FAST_CASES = 2  # of a test function that `--fast` runs
LONG_FIXTURES = {"clone", "compiled", "kernels", "server"}  # builds, compilations, processes


def mark_full(item):
    """Marks a test `full` that takes long by its nature: forks, compiles, or draws examples."""
    draws_examples = hasattr(getattr(item, "obj", None), "hypothesis")
    if draws_examples or LONG_FIXTURES & {*item.fixturenames}:
        item.add_marker(pytest.mark.full)


def fast(items):
    """The tests of `--fast`: none that is marked `full`, and of each function the outer cases.

    The first and the last case of a function differ in every parameter.
    """
    of_functions = {}
    for item in items:
        if not item.get_closest_marker("full"):
            of_functions.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for cases in of_functions.values():
        step = max(1, (len(cases) - 1) // (FAST_CASES - 1))
        yield from cases[::step][:FAST_CASES]
