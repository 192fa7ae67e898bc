"""Checks similarities to centroids and ranks of activations against float64 on the host."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.cases import Activations, Embeddings
from benchmarks.gpu.truth import Findings, name_of
from fastal import ops
from tests.support.matrices import KERNEL_DTYPES, layouts

RANKS_OFF = 2.3e-7
# The error from rounding centroids, by dtype: of two parts, and of one part if `fast`. For float32
# rows, `fast` rounds both factors to TF32.
_PARTS = {
    torch.bfloat16: (2.0**-17, 2.0**-8),
    torch.float16: (2.0**-23, 2.0**-11),
    torch.float32: (0.0, 2.0**-9),
}
Record = dict[str, Any]


def check_cosine(device: str, cases: Sequence[Embeddings]) -> Iterator[Record]:
    """A record for each case, one for rows of all kinds of strides, one for special rows."""
    for case in cases:
        fast = ", fast" if case.fast else ""
        what = (
            f"{case.n_columns} columns, {case.n_centroids} centroids, {name_of(case.dtype)}{fast}"
        )
        findings = Findings()
        with findings.check(what):
            x, units = _rows(case.n_rows, case.n_columns, case.dtype), _units(case)
            _check_cosine(findings, what, x, x.to(device), units, case.fast)
        yield findings.record(case=what)
    findings = Findings()
    with findings.check("layouts"):
        x, units = _rows(9, 72, torch.bfloat16), _units(Embeddings(9, 72, 5, torch.bfloat16))
        for name, view in _layouts(x, device).items():
            _check_cosine(findings, name, view.cpu(), view, units, fast=False)
    yield findings.record(case="layouts")
    findings = Findings()
    for dtype in KERNEL_DTYPES:
        with findings.check(f"strange rows, {name_of(dtype)}"):
            _check_strange(device, dtype)
    yield findings.record(case="strange rows")


def check_ranks(device: str, cases: Sequence[Activations]) -> Iterator[Record]:
    """A record for each case, and one for rows of all kinds of strides."""
    for case in cases:
        what = f"{case.n_columns} columns, {case.n_values} values, {name_of(case.dtype)}"
        findings = Findings()
        with findings.check(what):
            x = _rows(case.n_rows, case.n_columns, case.dtype)
            x[1::7, 0] = math.nan
            table = table_of(case.n_columns, case.n_values)
            _check_ranks(findings, what, x, x.to(device), table)
            _check_parts(findings, what, x.to(device), table)
        yield findings.record(case=what)
    findings = Findings()
    with findings.check("layouts"):
        table = table_of(11, 6)
        for name, view in _layouts(_rows(9, 11, torch.float32), device).items():
            _check_ranks(findings, name, view.cpu(), view, table)
    yield findings.record(case="layouts")


def _layouts(x: Tensor, device: str) -> dict[str, Tensor]:
    """Views of rows, made on the device: a copy to it would be contiguous."""
    with torch.device(device):
        return layouts(x.to(device))


def _check_cosine(findings, what, x, given, units, fast):
    want = similarities_of(x, units)
    units = units.to(given.device)
    with findings.check(f"{what}, nearest"):
        cluster, similarity = (
            found.cpu() for found in ops.nearest(given, units, fast, backend="triton")
        )
        chosen = want.gather(1, cluster[:, None])[:, 0]
        assert_near(similarity, chosen, x, fast)
        behind = float((want.amax(1) - chosen).max())
        assert behind <= 2 * _most_off(x, fast), f"a nearer centroid is passed over by {behind:.1e}"
    with findings.check(f"{what}, similarities"):
        found = ops.similarities(given, units, fast, backend="triton")
        assert_near(found, want, x, fast)


def _check_strange(device, dtype):
    """Rows are recomputed if float32 gives no accurate length."""
    largest = torch.finfo(dtype).max
    rows = [[0.0] * 4, [1, math.nan, 0, 0], [math.inf, 1, 0, 0], [largest] * 4]
    x = torch.tensor(rows, dtype=dtype, device=device)
    cluster, similarity = ops.nearest(x, torch.eye(4, device=device), backend="triton")
    assert cluster.tolist() == [0, -1, -1, 0], f"clusters {cluster.tolist()}"
    want = torch.tensor([0, math.nan, math.nan, 0.5])
    assert_near(similarity, want.double(), x)


def _check_ranks(findings, what, x, given, table):
    with findings.check(f"{what}, mean ranks"):
        assert_ranks(ops.mean_ranks(given, table, backend="triton"), ranks_of(x, table))


def _check_parts(findings, what, x, table):
    """A table that is read in parts gives the same bits."""
    from fastal_kernels import ranks

    with findings.check(f"{what}, in parts"):
        sums = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        maxima = torch.full((len(x),), -math.inf, device=x.device)
        half = -(-len(table) // 2)
        for columns, part in zip(x.split(half, 1), table.split(half), strict=True):
            ranks.add_ranks(columns, part.to(x.device), sums, maxima)
        found = ranks.means_of(sums, maxima, table.numel())
        whole = ranks.mean_ranks(x, table.to(x.device))
        assert torch.equal(found.nan_to_num(-1), whole.nan_to_num(-1)), "other ranks"


def similarities_of(x: Tensor, units: Tensor) -> Tensor:
    """Cosine similarities in float64; 0 for rows of zeros."""
    x = x.double()
    return x / x.norm(dim=1, keepdim=True).clamp_(min=1e-300) @ units.double().t()


def assert_near(found: Tensor, want: Tensor, x: Tensor, fast: bool = False) -> None:
    """Raises AssertionError if similarities of rows x exceed the documented error."""
    found, most = found.cpu().double(), _most_off(x, fast)
    assert torch.equal(found.isnan(), want.isnan()), "NaN in other rows"
    off = float((found - want).abs().nan_to_num(0).max())
    assert off <= most, f"off by {off:.1e}, {most:.1e} is allowed"


def _most_off(x: Tensor, fast: bool) -> float:
    return _PARTS[x.dtype][fast] + 2 * (x.shape[1] + 8) * 2.0**-24


def ranks_of(x: Tensor, table: Tensor) -> Tensor:
    """Mean ranks in float64, by their definition; NaN for rows that are not finite."""
    values, columns = x.double().t().contiguous(), table.double()
    last = columns.shape[1] - 1
    count = torch.searchsorted(columns, values, right=True)
    low, high = (columns.gather(1, (count - step).clamp(0, last)) for step in (1, 0))
    between = (values - low) / (high - low)
    rank = (count - 1 + between) / columns.shape[1]
    rank = torch.where(count == 0, 0, torch.where(count > last, 1, rank))
    return rank.mean(0).masked_fill(~x.isfinite().all(1), math.nan)


def assert_ranks(found: Tensor, want: Tensor) -> None:
    """Raises AssertionError if mean ranks exceed the documented error."""
    found = found.cpu().double()
    assert torch.equal(found.isnan(), want.isnan()), "NaN in other rows"
    off = float((found - want).abs().nan_to_num(0).max())
    assert off <= RANKS_OFF, f"off by {off:.1e}, {RANKS_OFF:.1e} is allowed"


def table_of(n_columns: int, n_values: int) -> Tensor:
    """The sorted values of columns, [D, V] float32 on the host."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n_columns, n_values, generator=generator).sort(1).values


def _rows(n_rows, n_columns, dtype):
    generator = torch.Generator().manual_seed(2)
    return (3 * torch.randn(n_rows, n_columns, generator=generator)).to(dtype)


def _units(case):
    generator = torch.Generator().manual_seed(3)
    units = torch.randn(case.n_centroids, case.n_columns, generator=generator)
    return torch.nn.functional.normalize(units.double(), dim=1).float()
