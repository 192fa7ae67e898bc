"""Times uncertainty scores of a matrix in memory on CPUs: fastal against other libraries.

    .venv/bin/python -m benchmarks.cpu

The scores of each provider are compared with those of fastal in float64 before they are timed.
"""

import shutil
import time

import pytest
import torch

import fastal
from benchmarks.providers import NAIVE, PROVIDERS
from fastal.ops import instruction_set, uncertainty

ELEMENTS = 64_000_000  # of each matrix: larger than the caches in any dtype
CLASSES = [2, 10, 100, 1000, 32_000, 131_072]
ROUNDS = {NAIVE: 2, "NumPy, as scikit-activeml": 2, "SciPy, as modAL": 2, "fastal native": 15}
OURS = ["fastal torch", "fastal native"]
FULL = torch.get_num_threads()

CASES = [(torch.float32, n_classes, FULL, list(PROVIDERS)) for n_classes in CLASSES]
CASES += [(torch.float32, n_classes, 1, [NAIVE, *OURS]) for n_classes in CLASSES]
CASES += [
    (dtype, n_classes, FULL, [NAIVE, *OURS])
    for dtype in (torch.bfloat16, torch.float16, torch.float64)
    for n_classes in CLASSES
]


def missing(provider):
    if provider.startswith("torch.compile") and not shutil.which("g++"):
        return "torch.compile needs a C++ compiler"
    return "not compiled here" if "native" in provider and not instruction_set() else ""


def case_name(case):
    dtype, n_classes, n_threads, _ = case
    return f"{str(dtype).removeprefix('torch.')} {n_classes} classes {n_threads} threads"


@pytest.fixture(scope="module", params=CASES, ids=case_name)
def case(request):
    dtype, n_classes, n_threads, providers = request.param
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(ELEMENTS // n_classes, n_classes, generator=generator).to(dtype)
    torch.set_num_threads(n_threads)
    found = {"case": case_name(request.param), "bytes": logits.nbytes, "elements": logits.numel()}
    # The load of the machine varies: the larger of the bandwidths before and after counts.
    found["bandwidth"] = read_bandwidth(logits)
    yield found, logits, providers
    found["bandwidth"] = max(found["bandwidth"], read_bandwidth(logits))
    torch.set_num_threads(FULL)


def read_bandwidth(x, rounds=5):
    """The bytes a second at which torch's threads read a matrix: the best of three reductions."""
    flat = x.view(-1).view(torch.float32)
    best = float("inf")
    for reduce in (torch.sum, torch.amax, lambda x: torch.dot(x, x)):
        for _ in range(rounds):
            begin = time.perf_counter()
            reduce(flat)
            best = min(best, time.perf_counter() - begin)
    return x.nbytes / best


@pytest.mark.parametrize("provider", PROVIDERS)
def test_scores(benchmark, case, provider):
    found, logits, providers = case
    if provider not in providers or missing(provider):
        pytest.skip(missing(provider))
    score, takes_probs = PROVIDERS[provider]
    x = torch.softmax(logits, 1).numpy() if takes_probs else logits
    of_all = score(x)  # also warms up
    for got, want in zip(of_all, fastal.score(logits[:500].double()), strict=True):
        # Others subtract probabilities: an absolute tolerance, and no comparison in 16 bits.
        if got is not None and (provider in OURS or logits.dtype.itemsize > 2):
            got = torch.as_tensor(got[:500]).float()
            torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)
    benchmark.extra_info = {"found": found, "provider": provider}
    benchmark.pedantic(score, (x,), rounds=ROUNDS.get(provider, 5))


@pytest.mark.parametrize("what", ["one score", "select 1000"])
def test_selection(benchmark, case, what):
    """Times the selection of k = 1000 by one score, and that score without the selection."""
    found, logits, providers = case
    if providers != list(PROVIDERS) or missing("native"):
        pytest.skip("another case")
    if what == "one score":

        def work():
            return uncertainty(logits, ["entropy"], backend="native")
    else:
        scores = fastal.score(logits).entropy
        want = torch.sort(scores, descending=True, stable=True).indices[:1000]
        assert torch.equal(fastal.select(logits, 1000, "entropy").rows, want)

        def work():
            return fastal.select(logits, 1000, "entropy")

    benchmark.extra_info = {"found": found, "provider": f"fastal native, {what}"}
    benchmark.pedantic(work, rounds=15, warmup_rounds=1)
