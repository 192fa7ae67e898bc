"""The launch table, and launches through Triton's JIT, which only compiles without a GPU."""

import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastal_kernels.launch import Matrix, Narrow, Wide, configuration, parts_of
from tests.support.checkout import compiling
from tests.support.marks import needs_triton

CLASSES = st.one_of(st.integers(2, 70), st.integers(2, 5000), st.integers(2, 262_144))


def powers_of_two(*numbers):
    return all(n > 0 and n & (n - 1) == 0 for n in numbers)


@settings(deadline=None, max_examples=500)
@given(
    n_classes=CLASSES, itemsize=st.sampled_from([2, 4]), gap=st.integers(0, 20),
    stride_c=st.sampled_from([1, 1, 1, 2, 3, 1000]),
    alignment=st.sampled_from([1, 2, 4, 8, 16, 1024]), has_boundary=st.booleans(),
)  # fmt: skip
def test_every_matrix_is_covered(n_classes, itemsize, gap, stride_c, alignment, has_boundary):
    x = Matrix(n_classes, itemsize, n_classes + gap, stride_c, alignment, has_boundary)
    config = configuration(x)
    assert powers_of_two(config.V, config.threads)
    assert config.V * itemsize <= 16
    if isinstance(config, Narrow):
        assert powers_of_two(config.P, config.PER)
        assert config.P == config.threads
        assert config.PER * n_classes % config.V == 0  # no load goes beyond the run
        dense = x.pitch == n_classes and stride_c == 1
        assert config.PER == 1 or dense
        start = config.PER * x.pitch
    else:
        assert powers_of_two(config.G, config.ROWS, config.GROUPS, config.UNROLL)
        assert config.G * config.ROWS == config.threads
        assert config.GROUPS <= config.G
        # The roundings of a lane: one for each batch.
        assert parts_of(n_classes)[1] / (config.G * config.V * config.UNROLL) <= 32
        start = 1 if config.IN_WINDOW else x.pitch
        assert not config.IN_WINDOW or (stride_c == 1 and has_boundary)
    if stride_c == 1 and (isinstance(config, Narrow) or x.pitch % config.V == 0):
        aligned = config.V <= alignment or not has_boundary or getattr(config, "IN_WINDOW", False)
        assert aligned
        assert start % config.V == 0 or config.IN_WINDOW


@given(n_classes=CLASSES)
def test_parts_make_up_a_row(n_classes):
    n_parts, columns, rest = parts_of(n_classes)
    assert n_parts * columns + rest == n_classes
    assert 0 <= rest < columns
    assert (columns < n_classes) == (n_classes >= 131_072)
    assert columns == n_classes or columns % 2048 == 0


CONFIGURATIONS = {
    (2, 4): Narrow(P=128, PER=8, V=4),
    (10, 4): Narrow(P=128, PER=1, V=2),
    (100, 4): Wide(V=4, G=4, ROWS=32, GROUPS=4, UNROLL=8, IN_WINDOW=False, threads=128),
    (1000, 2): Wide(V=8, G=8, ROWS=16, GROUPS=8, UNROLL=4, IN_WINDOW=False, threads=128),
    (1001, 2): Wide(V=8, G=8, ROWS=16, GROUPS=8, UNROLL=4, IN_WINDOW=True, threads=128),
    (32_000, 2): Wide(V=8, G=128, ROWS=1, GROUPS=1, UNROLL=4, IN_WINDOW=False, threads=128),
    (50_257, 2): Wide(V=8, G=128, ROWS=1, GROUPS=1, UNROLL=4, IN_WINDOW=True, threads=128),
    (131_072, 2): Wide(V=8, G=256, ROWS=1, GROUPS=1, UNROLL=4, IN_WINDOW=False, threads=256),
}


@pytest.mark.parametrize(("n_classes", "itemsize"), CONFIGURATIONS)
def test_common_pools_keep_their_configurations(n_classes, itemsize):
    """Contiguous logits; a change here is to be deliberate, and measured."""
    matrix = Matrix(n_classes, itemsize, pitch=n_classes, stride_c=1, alignment=256)
    assert configuration(matrix) == CONFIGURATIONS[n_classes, itemsize]


@needs_triton
@pytest.mark.full
def test_a_launch_compiles_once():
    """Other rows, a shorter last chunk and, if possible, unaligned rows need no recompilation."""
    script = [sys.executable, "-m", "tests.support.launches"]
    done = subprocess.run(script, env=compiling(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    compiled = json.loads(done.stdout)
    want = {f"{n} classes": 1 for n in (2, 10, 1001)}
    want |= {f"{n} classes, selecting": 1 for n in (2, 10, 1001)}
    # Any strides, alignment, number of draws and temperature.
    want |= {f"draws of {n} classes": 1 for n in (10, 1500)}
    # Rows of two bfloat16 begin at any 4 bytes: one more kernel, with narrower loads.
    assert compiled == want | {"": 1, "parts": 3}
