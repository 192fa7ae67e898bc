"""Backends to test, and matrices that have broken code like ours.

`scripts/gpu-check` imports this module on machines that have torch, Triton and NumPy alone.
"""

import itertools
import math
from importlib.util import find_spec

import torch

from fastal_kernels import native

ON_GPU = torch.cuda.is_available()
DEVICE = "cuda" if ON_GPU else "cpu"  # on which the Triton kernels run
HAS_TRITON = find_spec("triton") is not None  # Triton is a dependency on Linux alone
BACKENDS = [("torch", "cpu")]
if HAS_TRITON:
    BACKENDS.append(("triton", DEVICE))
if ON_GPU:
    BACKENDS.append(("torch", "cuda"))
AUTO_ON_CPU = "torch"
if not native.reasons():  # it was compiled
    BACKENDS.append(("native", "cpu"))
    AUTO_ON_CPU = "native"

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
KERNEL_DTYPES = DTYPES[:3]

# By code path: the fewest classes; around the widths where lanes and turned blocks begin and end
# (32), where the tile is full (1024) and where it repeats; ImageNet; GPT-2's odd vocabulary.
CLASSES = [2, 3, 10, 31, 32, 33, 1000, 1023, 1024, 1025, 2049, 50257]


def regimes(n_classes, dtype):
    """A valid row of logits for each regime of the accuracy contract."""
    n, largest = n_classes, torch.finfo(dtype).max
    generator = torch.Generator().manual_seed(n)
    random = torch.randn(n, generator=generator, dtype=torch.float64)
    confident = torch.zeros(n, dtype=torch.float64)
    confident[n // 2] = 12 * math.log(10) + math.log(n - 1)  # p1 = 1 − 1e-12
    tied = random.clone()
    tied[[0, -1]] = 5.0
    near_tie = random.clone()
    near_tie[0], near_tie[-1] = 5.0, 5.0 - 2 * torch.finfo(dtype).eps
    one_left, two_left = torch.full((2, n), -math.inf, dtype=torch.float64)
    one_left[-1] = 1.0
    two_left[[0, n - 1]] = torch.tensor([0.5, 0.25], dtype=torch.float64)
    extremes = torch.full((n,), -largest, dtype=torch.float64)
    extremes[1] = largest
    rows = [
        torch.zeros(n, dtype=torch.float64),
        torch.full((n,), 0.3, dtype=torch.float64),
        random,
        8 * random,
        confident,
        confident.flip(0),
        tied,
        near_tie,
        one_left,
        two_left,
        extremes,
        torch.full((n,), largest, dtype=torch.float64),
        torch.full((n,), -largest, dtype=torch.float64),
        random.sort().values,  # the maximum moves at every step
        random.sort(descending=True).values,
        torch.linspace(0, -20, n, dtype=torch.float64),
        1000 + random,
    ]
    return torch.stack(rows).to(dtype)


def far_apart(n_classes, dtype, kind="logits"):
    """Rows with a maximum 80 to 104 above all else: terms are subnormal, the scores mostly not."""
    generator = torch.Generator().manual_seed(n_classes)
    gaps = torch.arange(80, 105, 1 if n_classes < 100 else 3) if n_classes < 10_000 else [98, 90]
    gaps = torch.as_tensor(gaps, dtype=torch.float64)
    below = torch.rand(len(gaps), 12, generator=generator, dtype=torch.float64)
    below *= torch.arange(len(gaps))[:, None] % 3  # a third of the rows tie but for the maximum
    x = -gaps[:, None] - below[:, torch.randint(12, (n_classes,), generator=generator)]
    x[:, n_classes // 2] = 0
    return (x.exp() if kind == "probs" else x).to(dtype)


def layouts(matrix):
    """The same matrix under every kind of stride, by name."""
    n_rows, n_classes = matrix.shape
    wide = torch.full((n_rows + 2, n_classes + 7), math.nan, dtype=matrix.dtype)
    wide[2:, 3 : 3 + n_classes] = matrix
    stepped = torch.full((2 * n_rows, 3 * n_classes), math.nan, dtype=matrix.dtype)
    stepped[::2, ::3] = matrix
    # No two elements share a place: multiples of the width below `step` of them are none of it.
    step = next(step for step in itertools.count(2) if math.gcd(step, n_classes) == 1)
    room = torch.full(((n_rows + step) * n_classes,), math.nan, dtype=matrix.dtype)
    apart = room.as_strided(matrix.shape, (n_classes, step)).copy_(matrix)
    return {
        "contiguous": matrix,
        "transposed": matrix.t().contiguous().t(),
        "column slice": wide[2:, 3 : 3 + n_classes],
        "stepped": stepped[::2, ::3],
        "rows a width apart, columns apart": apart,
        "equal rows": matrix[:1].expand(n_rows, n_classes),
        "equal columns": matrix[:, :1].nan_to_num(neginf=0.0).expand(n_rows, n_classes),
    }


INVALID = {
    "nan": [0.0, math.nan, 1.0, 2.0],
    "nan first": [math.nan, 0.0, 1.0, 2.0],
    "negative nan": [0.0, 1.0, 2.0, -math.nan],
    "all nan": [math.nan] * 4,
    "+inf": [0.0, 1.0, math.inf, 2.0],
    "all +inf": [math.inf] * 4,
    "+inf and -inf": [-math.inf, math.inf, 0.0, 0.0],
    "nan and -inf": [-math.inf, -math.inf, -math.inf, math.nan],
    "all -inf": [-math.inf] * 4,
}
INVALID_PROBS = {
    "nan": [0.5, math.nan, 0.5, 0.0],
    "negative": [-0.1, 0.6, 0.5, 0.0],
    "negative, beyond rounding": [-2e-3, 0.502, 0.5, 0.0],
    "negative, the others sum to 1": [-0.1, 1.0, 0.0, 0.0],
    "sums to 0": [0.0] * 4,
    "sums to 0.9": [0.5, 0.2, 0.1, 0.1],
    "sums to 1.1": [0.5, 0.2, 0.2, 0.2],
    "logits": [2.0, -1.0, 0.5, 0.1],
    "inf": [math.inf, 0.0, 0.0, 0.0],
    "-inf": [-math.inf, 0.5, 0.5, 0.0],
}
