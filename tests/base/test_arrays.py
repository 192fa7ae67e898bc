"""Tensors without memory behind them are refused: the native backend is given addresses."""

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.masked import masked_tensor

import fastal
from fastal import diversity


def of_size(n_bytes, columns=slice(None)):
    x = torch.randn(200_000, 10)
    view = x[:, columns]
    x.untyped_storage().resize_(n_bytes)
    return view


def fake():
    with FakeTensorMode():
        return torch.randn(200, 10)


def functional():
    x = torch.randn(200, 10)
    torch._enable_functionalization(reapply_views=False)
    try:
        return torch._to_functional_tensor(x)
    finally:
        torch._disable_functionalization()


def masked():
    x = torch.randn(200, 10)
    return masked_tensor(x, x > 0)


WITHOUT_MEMORY = {
    "fake": fake,
    "freed": lambda: of_size(0),
    "cut": lambda: of_size(400),
    "cut by a byte": lambda: of_size(200_000 * 10 * 4 - 1),
    "a view of one that was cut": lambda: of_size(400, slice(3, 5)),
    "functional": functional,
    "masked": masked,
    "meta": lambda: torch.empty(200, 10, device="meta"),
}
ROWS = np.ones((200, 10), np.float32)
CALLS = {
    "score": fastal.score,
    "select": lambda x: fastal.select(x, 3),
    "chunks": lambda x: fastal.select(iter([x]), 3),
    "update": lambda x: fastal.Selector(3).update(x),
    "callable": lambda x: fastal.select(x, 3, lambda rows: rows[:, 0]),
    "model outliers": lambda x: diversity.model_outliers(x, ROWS, 2),
    "validation": lambda x: diversity.model_outliers(ROWS, x, 2),
    "centroids": lambda x: diversity.nearest_centroid(ROWS, x),
    "core-set": lambda x: diversity.k_center(x, 2),
    "labelled": lambda x: diversity.k_center(ROWS, 2, labelled=x),
}


@pytest.mark.filterwarnings("ignore:The PyTorch API of MaskedTensors")
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("kind", WITHOUT_MEMORY)
def test_tensors_without_storage_are_refused(kind, call):
    x = WITHOUT_MEMORY[kind]()
    with pytest.raises(TypeError, match=r"wanted a (tensor that is in memory|dense tensor)"):
        CALLS[call](x)


def test_tensors_within_transforms_are_refused():
    def entropy(x):
        return fastal.score(x).entropy.sum()

    for transform in (torch.vmap, torch.func.grad):
        with pytest.raises(TypeError, match="wanted a tensor that is in memory"):
            transform(entropy)(torch.randn(2, 3, 4))


def test_views_of_any_layout_are_taken():
    x = torch.randn(200, 10)
    for view in (x[::2, ::3], x[5:], x[:1].expand(50, 10), x.T, x[:0], x[100:, 9:].expand(-1, 4),
                 x.as_strided((190, 10), (1, 10), 5), torch.nn.Parameter(x)):  # fmt: skip
        copy = view.detach().clone()
        for got, want in zip(fastal.score(view), fastal.score(copy), strict=True):
            torch.testing.assert_close(got, want, rtol=1e-6, atol=0)
