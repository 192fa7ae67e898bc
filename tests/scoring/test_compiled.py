"""fastal inside compiled models."""

import pytest
import torch

import fastal
from fastal.scoring import compiled
from tests.support.oracle import assert_scores, definitions

# Parts of torch 2.11 use a function of torch that is deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is:DeprecationWarning")


def logits(n_rows=6, n_classes=5):
    return torch.randn(n_rows, n_classes, generator=torch.Generator().manual_seed(0))


class Model(torch.nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.head = torch.nn.Linear(4, 5)
        self.options = options

    def forward(self, x):
        scores = fastal.score(self.head(x), **self.options)
        return scores.entropy + 0 * scores.margin


@pytest.mark.full
@pytest.mark.parametrize("options", [{}, {"on_invalid": "skip"}])
@pytest.mark.parametrize("dynamic", [False, True])
def test_a_compiled_model_may_score(backend, options, dynamic):
    name, device = backend
    torch._dynamo.reset()
    model = Model(backend=name, **options).to(device).eval()
    compiled = torch.compile(model, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    for n_rows in (3, 8):
        x = torch.randn(n_rows, 4, device=device)
        torch.testing.assert_close(compiled(x), model(x).detach(), rtol=1e-6, atol=0)


def test_a_compiled_model_refuses_invalid_rows():
    torch._dynamo.reset()
    compiled = torch.compile(fastal.score, fullgraph=True, backend="aot_eager")
    x = logits()
    assert_scores(compiled(x), definitions(x))
    x[4, 1] = torch.nan
    with pytest.raises(fastal.InvalidRows, match="row 4"):
        compiled(x)


@pytest.mark.parametrize("kind", ["logits", "probs"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_operator_is_one(kind, dtype):
    x = torch.softmax(logits(), 1) if kind == "probs" else logits()
    torch.library.opcheck(compiled.score, (x.to(dtype), kind, "skip", "auto"))


def test_a_wrong_fake_is_caught():
    @torch.library.custom_op("fastal_test::score", mutates_args=())
    def score(x: torch.Tensor) -> torch.Tensor:
        return torch.stack(fastal.score(x))

    score.register_fake(lambda x: x.new_empty(x.shape[0], 4))
    with pytest.raises(Exception, match="Shapes"):
        torch.library.opcheck(score, (logits(),))


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_a_traced_model_scores_what_it_is_given():
    model = Model().eval()
    traced = torch.jit.trace(model, (torch.randn(6, 4),))
    x = torch.randn(9, 4)
    torch.testing.assert_close(traced(x), model(x).detach(), rtol=1e-6, atol=0)
    with pytest.raises(TypeError, match="as a constant"):
        torch.jit.trace(lambda x: fastal.select(x, 3).scores, (x,))
