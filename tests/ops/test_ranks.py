"""Mean ranks among validation values, in every backend, against their definition."""

import inspect
import math
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastal import ops
from fastal.ops import reference
from fastal_kernels import native
from tests.support.marks import needs_triton
from tests.support.matrices import (
    BACKENDS,
    DTYPES,
    HAS_TRITON,
    INVALID,
    KERNEL_DTYPES,
    layouts,
)
from tests.support.memory import PAGE, Guarded

# The rounding of a float32 in [0, 1] and the error of the fractions, for the least exact backend.
TOLERANCE = 2.3e-7


def dtypes_of(name):
    return KERNEL_DTYPES if name == "triton" else DTYPES


def mean_ranks(x, table, backend):
    name, device = backend
    return ops.mean_ranks(x.to(device), table.to(device), backend=name).cpu()


def rank(a, column):
    """The rank by its definition, without a search: loops over pairs of neighbouring values.

    Python's floats hold all differences of float32 values. Only -inf needs a case of its own.
    """
    if a < column[0]:
        return 0.0
    for i, (low, high) in enumerate(pairwise(column)):
        if low <= a < high:
            return (i + (1 if low == -math.inf else (a - low) / (high - low))) / len(column)
    return 1.0


def definition(x, table, rank=rank):
    """Mean ranks in float64, by their definition."""
    x, table = x.double().cpu().tolist(), table.double().cpu().tolist()
    means = []
    for row in x:
        is_valid = all(a < math.inf for a in row) and max(row) > -math.inf
        of_columns = [rank(a, column) for a, column in zip(row, table, strict=True)]
        means.append(math.fsum(of_columns) / len(row) if is_valid else math.nan)
    return np.array(means)


def assert_ranks(got, x, table):
    assert got.dtype == torch.float32
    np.testing.assert_allclose(got.double(), definition(x, table), rtol=0, atol=TOLERANCE)


def case(n_rows, n_columns, n_values, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n_rows, n_columns, generator=generator).to(dtype)
    table = torch.randn(n_columns, n_values, generator=generator).sort(1).values
    return x, table


def as_bits(means):
    return means.view(torch.int32)


def test_twins_share_name_and_signature():
    twins = [native.mean_ranks]
    if HAS_TRITON:
        from fastal_kernels import ranks

        twins.append(ranks.mean_ranks)
    for twin in twins:
        assert twin.__name__ == "mean_ranks"
        assert inspect.signature(twin) == inspect.signature(reference.mean_ranks)


# --- the definition

# Columns: one; a part of a sector; a part of a line; several of both. Values: near powers of two.
SHAPES = [
    (0, 3, 4), (1, 1, 1), (3, 1, 2), (7, 2, 3), (5, 10, 4), (20, 3, 5), (4, 17, 7), (70, 2, 8),
    (3, 33, 9), (2, 130, 16), (130, 3, 17), (5, 4, 1000),
]  # fmt: skip


@pytest.mark.parametrize(("n_rows", "n_columns", "n_values"), SHAPES)
def test_the_definition(backend, n_rows, n_columns, n_values):
    for dtype in dtypes_of(backend[0]):
        x, table = case(n_rows, n_columns, n_values, dtype)
        assert_ranks(mean_ranks(x, table, backend), x, table)


def test_any_layout(backend):
    for dtype in dtypes_of(backend[0]):
        x, table = case(9, 11, 6, dtype)
        for layout, same in layouts(x).items():
            got = mean_ranks(same, table, backend)
            np.testing.assert_allclose(
                got, definition(same, table), rtol=0, atol=TOLERANCE, err_msg=layout
            )
    room = torch.full((11, 13), math.nan)
    room[:, ::2] = case(0, 11, 7)[1]
    assert_ranks(mean_ranks(x, room[:, ::2], backend), x, room[:, ::2])


def test_values_of_the_table(backend):
    """Ties, duplicates and constant columns: values of the table that equal the value count."""
    table = torch.tensor([[-1.0, 0, 0, 0, 2, 2, 5], [3.0] * 7, [0.0, 1, 2, 3, 4, 5, 6]])
    values = torch.tensor([-2.0, -1, -0.5, -0.0, 0, 1, 2, 2.5, 3, 4, 5, 6, 7])
    x = torch.cartesian_prod(values, values[::3], values[::4])
    for dtype in dtypes_of(backend[0]):
        assert_ranks(mean_ranks(x.to(dtype), table, backend), x, table)
    below, at, above = mean_ranks(torch.tensor([[2.5], [3.0], [3.5]]), table[1:2], backend).tolist()
    assert (below, at, above) == (0, 1, 1)


def test_infinite_values(backend):
    inf = math.inf
    table = torch.tensor([[-inf, -inf, 0.0, 1.0], [-inf] * 4, [-1.0, 0.0, 1.0, inf]])
    values = torch.tensor([-inf, -3e38, -0.5, 0.0, 0.5, 3e38])
    x = torch.cartesian_prod(values, values, values)
    assert_ranks(mean_ranks(x, table, backend), x, table)
    for dtype in dtypes_of(backend[0]):
        x = torch.tensor(list(INVALID.values()), dtype=dtype)
        x = torch.cat([x, torch.tensor([[-inf, -inf, -inf, 0.0]], dtype=dtype)])
        for n_columns in (4, 1, 37):
            wide = x[:, -1:].repeat(1, n_columns)
            wide[:, : x.shape[1]] = x[:, :n_columns]
            table = case(0, n_columns, 5)[1]
            got = mean_ranks(wide, table, backend)
            assert_ranks(got, wide, table)
            assert n_columns == 1 or got.isnan().tolist() == [True] * len(INVALID) + [False]


def test_huge_and_subnormal_values(backend):
    largest, least = torch.finfo(torch.float32).max, 2.0**-149
    table = torch.tensor(
        [[-largest, -1e38, 1e38, largest], [-1e38, 0, 2 * least, 1], [0, 2 * least, 4 * least, 1]]
    )
    values = [-largest, -3e38, -1e38, -1, -least, 0, least, 2 * least, 3 * least, 1, 1e38, largest]
    x = torch.tensor(values)[:, None].expand(-1, 3)
    assert_ranks(mean_ranks(x, table, backend), x, table)
    if backend[0] != "triton":
        x = torch.cat([x.double(), x.double() * 1e10 - 1e40, x.double() * 1e-6])
        assert_ranks(mean_ranks(x, table, backend), x, table)


def test_doubles_are_compared_as_doubles(backend):
    if backend[0] == "triton":
        pytest.skip("takes no float64")
    values = [1 - 2.0**-53, 1, 1 + 2.0**-30, 1 + 2.0**-23 - 2.0**-52, 2]
    x = torch.tensor(values, dtype=torch.float64)[:, None]
    for table in ([[0.0, 1.0, 1.0 + 2.0**-23]], [[1.0] * 3]):  # ranks jump at equal values
        assert_ranks(mean_ranks(x, torch.tensor(table), backend), x, torch.tensor(table))


finite = st.floats(width=16, allow_nan=False)


@settings(deadline=None, max_examples=40)
@given(data=st.data(), n_columns=st.integers(1, 5), n_values=st.integers(1, 9))
def test_any_values(data, n_columns, n_values):
    numbers = st.lists(finite | st.sampled_from([0.0, 1.0, 2.0]), min_size=5, max_size=60)
    few = data.draw(numbers)  # few numbers, so that many values are equal
    several = st.lists(st.sampled_from(few), min_size=n_columns, max_size=n_columns)
    x = torch.tensor(data.draw(st.lists(several, min_size=1, max_size=6)), dtype=torch.float32)
    columns = st.lists(st.sampled_from(few), min_size=n_values, max_size=n_values)
    table = torch.tensor([data.draw(columns) for _ in range(n_columns)]).sort(1).values
    for backend in BACKENDS:
        assert_ranks(mean_ranks(x, table, backend), x, table)


def test_wrong_formulas_are_caught():
    """The most likely mistakes: a search from the other side, and no interpolation."""

    def left_sided(a, column):
        i = sum(r < a for r in column)
        if i in (0, len(column)):
            return float(i > 0)
        return (i - 1 + (a - column[i - 1]) / (column[i] - column[i - 1])) / len(column)

    def not_interpolated(a, column):
        return sum(r <= a for r in column) / len(column)

    table = torch.tensor([[-1.0, 0, 0, 2, 2, 5]])
    x = torch.tensor([[-1.0], [0], [1], [2], [5]])
    right = definition(x, table)
    for wrong in (left_sided, not_interpolated):
        assert (abs(definition(x, table, wrong) - right) > 1e-2).any()


# --- what a row's bits depend on


def test_bits_depend_on_the_row_alone(backend):
    for dtype in dtypes_of(backend[0]):
        x, table = case(150, 19, 6, dtype)
        want = as_bits(mean_ranks(x, table, backend))
        for rows in (slice(0, 1), slice(3, 70), slice(149, 150)):
            assert torch.equal(as_bits(mean_ranks(x[rows], table, backend)), want[rows])
        for same in (x.t().contiguous().t(), torch.cat([x, x], 1)[:, 19:], x.flip(0).flip(0)):
            assert torch.equal(as_bits(mean_ranks(same, table, backend)), want)
        assert torch.equal(as_bits(mean_ranks(x.flip(0), table, backend)).flip(0), want)


def test_bits_do_not_depend_on_blocks(monkeypatch):
    x, table = case(5000, 40, 100)
    want = as_bits(reference.mean_ranks(x, table))
    monkeypatch.setattr(reference.ranks, "_BLOCK", 1000)
    monkeypatch.setattr(reference.ranks, "_FEWEST_ROWS", 77)
    assert torch.equal(as_bits(reference.mean_ranks(x, table)), want)


@pytest.mark.parametrize("variant", native.variants())
def test_native_bits_do_not_depend_on_threads(variant, monkeypatch):
    monkeypatch.setenv(native.VARIABLE, variant)
    monkeypatch.setattr(native, "LEAST_SHARE", 1)
    x, table = case(5000, 40, 100)
    want = as_bits(native.mean_ranks(x, table))
    for n_threads in (1, 2, 3, 7):
        monkeypatch.setattr(torch, "get_num_threads", lambda n=n_threads: n)
        assert torch.equal(as_bits(native.mean_ranks(x, table)), want)


@needs_triton
def test_a_table_in_parts_gives_the_same_bits(monkeypatch):
    """A part may hold no finite value of a row, only its infinite values, or all of it."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    x, table = case(40, 7, 9)
    x[0, :6], x[1, 1:], x[2], x[3, 5], x[4, 2] = -math.inf, -math.inf, -math.inf, math.inf, math.nan
    table[:, 0] = -math.inf
    want = as_bits(mean_ranks(x, table, ("triton", device)))
    assert torch.tensor([2, 3, 4]).equal(want.view(torch.float32).isnan().nonzero()[:, 0])
    for n_columns in (1, 3, 6):
        monkeypatch.setattr(ops.embeddings, "_GPU_TABLE_BYTES", n_columns * 9 * 4)
        for where in {device, "cpu"}:
            got = ops.mean_ranks(x.to(where), table, backend="triton").cpu()
            assert torch.equal(as_bits(got), want)


# --- memory


@pytest.mark.parametrize("n_rows", [1, 63, 65])
def test_nothing_but_the_outputs_is_written(backend, monkeypatch, n_rows):
    buffers, empty = [], torch.empty

    def guarded_empty(*shape, **options):
        if options.get("dtype") != torch.float32 or shape not in ((n_rows,), ((n_rows,),)):
            return empty(*shape, **options)
        buffers.append(torch.full((n_rows + 512,), 77.0, device=options["device"]))
        return buffers[-1][256 : 256 + n_rows]

    monkeypatch.setattr(torch, "empty", guarded_empty)
    x, table = case(n_rows, 5, 4)
    before = x.clone(), table.clone()
    got = mean_ranks(x, table, backend)
    assert torch.equal(x, before[0])
    assert torch.equal(table, before[1])
    assert_ranks(got, x, table)
    (buffer,) = buffers
    assert (buffer[:256] == 77).all()
    assert (buffer[256 + n_rows :] == 77).all()


def test_nothing_but_the_rows_is_read(backend):
    """NaN surrounds the rows: if an element beyond a row counted, the row would be invalid."""
    for dtype in dtypes_of(backend[0]):
        for n_columns in (1, 3, 8, 33):
            x, table = case(21, n_columns, 5, dtype)
            amid = torch.full((23, n_columns + 2), math.nan, dtype=dtype, device=backend[1])
            amid[1:-1, 1:-1] = x
            assert_ranks(mean_ranks(amid[1:-1, 1:-1], table, backend), x, table)


@pytest.mark.skipif(sys.platform != "linux" or bool(native.reasons()), reason="protects pages")
@pytest.mark.parametrize("variant", native.variants())
def test_native_reads_nothing_beside_the_matrix_and_the_table(variant, monkeypatch):
    """Both are next to protected pages: a read beyond them would end the process."""
    monkeypatch.setenv(native.VARIABLE, variant)
    of_x, of_table = (Guarded(n_pages=-(-(130 * 65 * 8) // PAGE)) for _ in range(2))
    for dtype in DTYPES:
        for n_rows, n_columns, n_values in [(1, 1, 1), (2, 3, 7), (65, 10, 9), (130, 65, 33)]:
            x, table = case(n_rows, n_columns, n_values, dtype)
            x[-1] = 9  # above all values of the table
            want = as_bits(native.mean_ranks(x, table))
            for place in ("at_the_start", "at_the_end"):
                inside = getattr(of_x, place)(x), getattr(of_table, place)(table)
                assert torch.equal(as_bits(native.mean_ranks(*inside)), want)


# --- what is compiled for GPUs


@needs_triton
def test_the_budgets_of_the_kernel(kernels):
    reports = [k for k in kernels if (k["kernel"], k["target"]) == ("ranks_kernel", "sm_90")]
    assert len(reports) == 9
    for found in reports:
        n_columns, dtype = found["case"]["n_columns"], found["case"]["dtype"]
        itemsize = 2 if dtype == "bf16" else 4
        assert found["step_instructions"] <= 8
        assert found["instructions_per_value"] <= 8 * found["gathers_per_value"] + 40
        assert found["resources"]["registers"] <= 80
        assert "shuffle" not in found["loop_kinds"]
        assert "barrier" not in found["loop_kinds"]
        widths = {int(width) for width in found["loads_of_x"]}
        assert widths == {2 * itemsize if n_columns == 10 else 16}
        loaded = sum(int(width) * n for width, n in found["loads_of_x"].items())
        assert loaded == 8 * itemsize  # a thread loads each of its 8 values once
