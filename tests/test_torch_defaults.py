"""torch's defaults, which are the caller's: a default device or dtype changes nothing in fastal."""

import ast

import numpy as np
import pytest
import torch

import fastal
from fastal import diversity
from tests.support.modules import modules

X = np.random.default_rng(0).normal(size=(300, 10)).astype(np.float32)
LABELS = (np.arange(300) % 4).tolist()


def streamed(selector):
    """Picks of a selector that was saved, restored and merged on its way."""
    first, restored, second = selector(), selector(), selector()
    first.update(X[:100])
    restored.load_state_dict(first.state_dict())
    second.update(X[100:], 100)
    restored.merge(second)
    return restored.result()


def restored(reducer):
    """What a reducer of several passes ends in, saved and restored before every chunk."""
    going = reducer()
    while True:
        for start in (0, 150):
            state, going = going.state_dict(), reducer()
            going.load_state_dict(state)
            going.update(X[start : start + 150], start)
        if not going.next_pass():
            return going.result()


CALLS = {
    "score": lambda name: fastal.score(X, backend=name),
    "score probs": lambda name: fastal.score(
        np.full((50, 40), 1 / 40, np.float32), kind="probs", backend=name
    ),
    "select": lambda name: fastal.select(X, 5, backend=name),
    "noise": lambda name: fastal.select(X, 5, noise="softrank", backend=name),
    "power": lambda name: fastal.select(X, 5, noise="power", backend=name),
    "quotas": lambda name: fastal.select(X, per_group=2, groups=LABELS, backend=name),
    "predicted": lambda name: fastal.select(X, per_group=2, groups="predicted", backend=name),
    "callable": lambda _: fastal.select(X, 5, lambda x: x.amax(1)),
    "streamed": lambda name: streamed(lambda: fastal.Selector(5, backend=name)),
    "model_outliers": lambda name: diversity.model_outliers(X, X[:9], 4, backend=name),
}
EMBEDDINGS = {
    "nearest_centroid": lambda: diversity.nearest_centroid(X, X[:3]),
    "similarities": lambda: diversity.similarities(X, X[:3]),
    "cluster_outliers": lambda: diversity.cluster_outliers(X, X[:3], 4),
    "fit": lambda: diversity.CosineClusters(3).fit(X).centroids,
    "fit and refine": lambda: diversity.CosineClusters(9, max_iter=1, refine=2).fit(X).centroids,
    "fit in batches": lambda: diversity.CosineClusters(3, batch_size=7).fit(X).centroids,
    "fit restored": lambda: restored(
        lambda: diversity.CosineClusters(3).reducer()
    ).centroids.numpy(),
    "assign": lambda: diversity.CosineClusters(centroids=X[:3]).assign(X),
    "sample": lambda: diversity.CosineClusters(centroids=X[:3]).sample(X),
    "k_center": lambda: diversity.k_center(X, 3),
    "k_center labelled": lambda: diversity.k_center(X, 3, labelled=X[:2], metric="euclidean"),
    "k_center restored": lambda: restored(lambda: diversity.CoreSet(3)),
    "deduplicate": lambda: diversity.deduplicate(X, X[:2], 0.5),
    "deduplicate restored": lambda: restored(lambda: diversity.Deduplicator(X[:2], 0.5)),
    "badge": lambda: diversity.badge(X, X, 4),
    "typiclust": lambda: diversity.typiclust(X, 4, labelled=X[:2]),
    "representative": lambda: diversity.representative(X, X[:5], 3),
    "representative of none": lambda: diversity.representative(X, X[:0], 3),
    "adaptive": lambda: diversity.adaptive_representative(X, X[:5], 3),
}
DEFAULTS = [("meta", torch.float32), ("cpu", torch.float64), ("cpu", torch.float16)]


def assert_same(call, device, dtype):
    want = repr(call())
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            assert repr(call()) == want
    finally:
        torch.set_default_dtype(before)


@pytest.mark.parametrize(("device", "dtype"), DEFAULTS)
@pytest.mark.parametrize("name", CALLS)
def test_scores_and_selections_do_not_depend_on_torch_defaults(backend, name, device, dtype):
    assert_same(lambda: CALLS[name](backend[0]), device, dtype)


@pytest.mark.parametrize(("device", "dtype"), DEFAULTS)
@pytest.mark.parametrize("name", EMBEDDINGS)
def test_diversity_does_not_depend_on_torch_defaults(name, device, dtype):
    assert_same(EMBEDDINGS[name], device, dtype)


@pytest.mark.parametrize("suffix", [".npy", ".pt", ".parquet"])
def test_files_and_checkpoints_do_not_depend_on_torch_defaults(tmp_path, suffix):
    path = tmp_path / f"pool{suffix}"
    if suffix == ".npy":
        np.save(path, X)
    elif suffix == ".pt":
        torch.save(torch.from_numpy(X).bfloat16(), path)
    else:
        pq = pytest.importorskip("pyarrow.parquet")
        pa = pytest.importorskip("pyarrow")
        pq.write_table(pa.table({"x": list(X)}), path)
    for device, dtype in DEFAULTS:
        folder = tmp_path / f"{device} {dtype}"
        assert_same(lambda to=folder: fastal.select(path, 5, checkpoint=to), device, dtype)


MAKERS = {
    "arange", "as_tensor", "asarray", "empty", "eye", "full", "linspace", "logspace", "ones",
    "rand", "randint", "randn", "randperm", "scalar_tensor", "tensor", "tril_indices",
    "triu_indices", "zeros", "Linear",
}  # fmt: skip


def made_without(code, names):
    """The calls that make a tensor without naming its device and its dtype."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in names:
            named = {keyword.arg for keyword in node.keywords}
            if not named >= {"device", "dtype"}:
                yield ast.unparse(node)


def test_every_tensor_is_made_on_a_device_and_of_a_dtype_that_are_named():
    names = {f"{of}.{maker}" for maker in MAKERS for of in ("torch", "nn")}
    for name, path in modules().items():
        assert not list(made_without(path.read_text(), names)), name
    planted = "def f():\n    return torch.zeros(3, device=d), nn.Linear(3, 4, dtype=t, device=d)"
    assert list(made_without(planted, names)) == ["torch.zeros(3, device=d)"]
