"""Times the selection of k = 1000 rows on CPUs: rows that cannot be among them are read once.

    .venv/bin/python -m benchmarks.cpu -k selection

Beside it, the same score of all rows, which are all read twice. How many rows can be skipped
depends on the logits. So there are two kinds: those of a model, whose right class is 6 +- 3 above
normal noise, and noise of standard deviation 3. A matrix has 2 GB, since a selection begins
without a threshold.
"""

import pytest
import torch

import fastal
from benchmarks.test_uncertainty import read_bandwidth
from fastal.ops import instruction_set, uncertainty

K = 1000
ELEMENTS = 1 << 29  # of a matrix
CASES = [(n_classes, kind) for n_classes in (10, 100, 1000) for kind in ("model", "noise")]
MEASURES = ["margin", "least_confidence", "entropy"]

pytestmark = pytest.mark.skipif(not instruction_set(), reason="not compiled here")


def case_name(case):
    n_classes, kind = case
    return f"{kind}, {n_classes} classes"


def logits_of(n_classes, kind):
    generator = torch.Generator().manual_seed(0)
    n_rows = ELEMENTS // n_classes
    x = torch.randn(n_rows, n_classes, generator=generator)
    if kind == "noise":
        return x.mul_(3)
    right = torch.randint(n_classes, (n_rows,), generator=generator)
    x[torch.arange(n_rows), right] = 6 + 3 * torch.randn(n_rows, generator=generator)
    return x


@pytest.fixture(scope="module", params=CASES, ids=case_name)
def case(request):
    x = logits_of(*request.param)
    found = {"case": case_name(request.param), "bytes": x.nbytes, "elements": x.numel()}
    found["bandwidth"] = read_bandwidth(x)
    yield found, x
    found["bandwidth"] = max(found["bandwidth"], read_bandwidth(x))


@pytest.mark.parametrize("by", MEASURES)
@pytest.mark.parametrize("what", ["all rows", f"select {K}"])
def test_selection(benchmark, case, by, what):
    found, x = case
    (scores,) = uncertainty(x, [by], backend="native")
    want = torch.sort(scores, descending=True, stable=True).indices[:K]
    assert torch.equal(fastal.select(x, K, by, backend="native").rows, want)

    def work():
        if what == "all rows":
            return uncertainty(x, [by], backend="native")
        return fastal.select(x, K, by, backend="native")

    benchmark.extra_info = {"found": found, "provider": f"{by}, {what}"}
    benchmark.pedantic(work, rounds=15, warmup_rounds=1)
