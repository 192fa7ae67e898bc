"""Matrices that have broken code like ours."""

import itertools
import math

import torch
from torch import Tensor

KINDS = "logits", "probs", "log_probs"
DTYPES = torch.float16, torch.bfloat16, torch.float32, torch.float64

# By code path: the fewest classes; around the widths where lanes and turned blocks begin and end
# (32), where the tile is full (1024) and where it repeats; ImageNet; GPT-2's odd vocabulary.
CLASSES = 2, 3, 10, 31, 32, 33, 1000, 1023, 1024, 1025, 2049, 50257

REGIMES = (
    "zeros",
    "uniform at 0.3",
    "random",
    "random times 8",
    "one class at 1 - 1e-12",
    "one class at 1 - 1e-12, reversed",
    "the two largest are equal",
    "the two largest are neighbouring numbers",
    "all but one are -inf",
    "all but two are -inf",
    "one at the largest number, the others at the smallest",
    "all at the largest number",
    "all at the smallest number",
    "ascending",
    "descending",
    "from 0 down to -20",
    "random around 1000",
)
"""The names of the rows that `regimes` returns, in their order."""


def regimes(n_classes: int, dtype: torch.dtype, kind: str = "logits") -> Tensor:
    """A valid row for each regime of the accuracy contract.

    Args:
        n_classes: at least 2. It also seeds the random rows.
        dtype: float16, bfloat16, float32 or float64.
        kind: "logits"; or "probs" or "log_probs" for the softmax of the logits between -1e4 and
            1e4, rounded to the dtype.

    Returns:
        [R, n_classes] on torch's default device. Row i is named by `REGIMES[i]`.

    Raises:
        ValueError: another kind.

    Example:
        >>> import torch
        >>> from fastal.testing import REGIMES, regimes
        >>> rows = regimes(4, torch.float32)
        >>> rows[REGIMES.index("all but two are -inf")]
        tensor([0.5000,   -inf,   -inf, 0.2500])
    """
    check_kind(kind)
    if kind != "logits":
        log_p = torch.log_softmax(regimes(n_classes, torch.float64).clamp(-1e4, 1e4), 1)
        return (log_p.exp() if kind == "probs" else log_p).to(dtype)
    n, largest = n_classes, torch.finfo(dtype).max
    generator = torch.Generator().manual_seed(n)
    random = torch.randn(n, generator=generator, dtype=torch.float64, device="cpu")
    confident = torch.zeros(n, dtype=torch.float64, device="cpu")
    confident[n // 2] = 12 * math.log(10) + math.log(n - 1)  # p1 = 1 − 1e-12
    tied = random.clone()
    tied[[0, -1]] = 5.0
    neighbours = random.clone()
    neighbours[0], neighbours[-1] = 5.0, 5.0 - 4 * torch.finfo(dtype).eps  # spaced so from 4 to 8
    one_left, two_left = torch.full((2, n), -math.inf, dtype=torch.float64, device="cpu")
    one_left[-1] = 1.0
    two_left[[0, n - 1]] = torch.tensor([0.5, 0.25], dtype=torch.float64, device="cpu")
    extremes = torch.full((n,), -largest, dtype=torch.float64, device="cpu")
    extremes[1] = largest
    rows = [
        torch.zeros(n, dtype=torch.float64, device="cpu"),
        torch.full((n,), 0.3, dtype=torch.float64, device="cpu"),
        random,
        8 * random,
        confident,
        confident.flip(0),
        tied,
        neighbours,
        one_left,
        two_left,
        extremes,
        torch.full((n,), largest, dtype=torch.float64, device="cpu"),
        torch.full((n,), -largest, dtype=torch.float64, device="cpu"),
        random.sort().values,  # the maximum moves at every step
        random.sort(descending=True).values,
        torch.linspace(0, -20, n, dtype=torch.float64, device="cpu"),
        1000 + random,
    ]
    return torch.stack(rows).to(dtype)


def far_apart(n_classes: int, dtype: torch.dtype, kind: str = "logits") -> Tensor:
    """Rows with a maximum 80 to 104 above all else: terms are subnormal, the scores mostly not.

    Args:
        n_classes: as in `regimes`.
        dtype: as in `regimes`; float16 holds no such probabilities.
        kind: "logits", "probs" or "log_probs". As probabilities, the values are exp(logits).

    Returns:
        [R, n_classes]: 25 rows; 9 from 100 classes on, 2 from 10,000 classes on.

    Raises:
        ValueError: another kind.

    Example:
        >>> import torch
        >>> from fastal.testing import far_apart
        >>> far_apart(3, torch.float32)[0]
        tensor([-80.,   0., -80.])
    """
    check_kind(kind)
    generator = torch.Generator().manual_seed(n_classes)
    distances = [98, 90] if n_classes >= 10_000 else [*range(80, 105, 1 if n_classes < 100 else 3)]
    gaps = torch.tensor(distances, dtype=torch.float64, device="cpu")
    below = torch.rand(len(gaps), 12, generator=generator, dtype=torch.float64, device="cpu")
    # A third of the rows tie except for the maximum.
    below *= torch.arange(len(gaps), dtype=torch.int64, device="cpu")[:, None] % 3
    size = (n_classes,)
    places = torch.randint(12, size, generator=generator, dtype=torch.int64, device="cpu")
    x = -gaps[:, None] - below[:, places]
    x[:, n_classes // 2] = 0
    return (x.exp() if kind == "probs" else x).to(dtype)


def layouts(matrix: Tensor) -> dict[str, Tensor]:
    """The same matrix under every kind of stride, by name.

    Two of them repeat its first row or column, so they hold other values. Memory between the
    elements is NaN. They are on the device of the matrix.

    Args:
        matrix: [N, C].

    Example:
        >>> import torch
        >>> from fastal.testing import layouts
        >>> views = layouts(torch.arange(6.0).view(2, 3))
        >>> views["transposed"].stride(), views["equal rows"].tolist()
        ((1, 2), [[0.0, 1.0, 2.0], [0.0, 1.0, 2.0]])
    """
    n_rows, n_classes = matrix.shape
    wide = torch.full(
        (n_rows + 2, n_classes + 7), math.nan, dtype=matrix.dtype, device=matrix.device
    )
    wide[2:, 3 : 3 + n_classes] = matrix
    stepped = torch.full(
        (2 * n_rows, 3 * n_classes), math.nan, dtype=matrix.dtype, device=matrix.device
    )
    stepped[::2, ::3] = matrix
    # No two elements share a place: multiples of the width below `step` of them are none of it.
    step = next(step for step in itertools.count(2) if math.gcd(step, n_classes) == 1)
    room = torch.full(
        ((n_rows + step) * n_classes,), math.nan, dtype=matrix.dtype, device=matrix.device
    )
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


_INVALID = {
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
_INVALID_PROBS = {
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


def invalid_rows(kind: str = "logits") -> dict[str, list[float]]:
    """Rows of four classes that cannot be scored, by name.

    More classes of logits at -inf, or of probabilities at 0, leave them invalid.

    Args:
        kind: "logits", "probs" or "log_probs".

    Raises:
        ValueError: another kind.

    Example:
        >>> from fastal.testing import invalid_rows
        >>> invalid_rows("probs")["sums to 0.9"]
        [0.5, 0.2, 0.1, 0.1]
    """
    check_kind(kind)
    rows = _INVALID_PROBS if kind == "probs" else _INVALID
    return {name: [*values] for name, values in rows.items()}


def check_kind(kind: str) -> None:
    """ValueError unless it is a kind of predictions over classes."""
    if kind not in KINDS:
        raise ValueError(f"kind: wanted one of {', '.join(KINDS)}, got {kind!r}")
