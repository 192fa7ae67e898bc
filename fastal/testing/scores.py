"""Checks a backend of the four scores."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastal import InvalidRows, Scores
from fastal.testing import cases
from fastal.testing.arrays import as_floats
from fastal.testing.cases import CLASSES, DTYPES, KINDS
from fastal.testing.compare import assert_scores, by_name, checking
from fastal.testing.definitions import definitions
from fastal.testing.options import check_invalid_option, choices, widths
from fastal.testing.refusal import check_refused

Score = Callable[[Tensor, str], Scores | Mapping[str, Any]]


def check_scores(
    score: Score,
    *,
    names: Sequence[str] = Scores._fields,
    kinds: Sequence[str] = KINDS,
    dtypes: Sequence[torch.dtype] = DTYPES,
    n_classes: Sequence[int] = CLASSES,
    on_invalid: str | None = "raise",
    same_bits: bool = True,
) -> None:
    """Raises unless a function computes the uncertainty scores as fastal promises them.

    It checks every regime of `regimes` and the rows of `far_apart` against `definitions`, all
    `layouts`, matrices of 0 to 1025 rows, invalid rows among up to 2051 rows, that the input is not
    written to, and that a row has the same bits among any other rows. It takes a few seconds for a
    backend on a CPU.

    Args:
        score: called as score(x, kind) with a tensor x [N, C] on the CPU, of one of the dtypes and
            any strides, and one of the kinds. It returns the scores of the rows, each [N] float32
            or float64 in [0, 1]: `fastal.Scores`, a mapping by name, or one array for each name in
            their order. Arrays are tensors on any device, or what NumPy converts.
        names: the scores to check.
        kinds: what the matrices hold: any of "logits", "probs" and "log_probs".
        dtypes: any of float16, bfloat16, float32 and float64.
        n_classes: numbers of classes, each at least 2; every matrix has one of these. Rows of
            `invalid_rows` need at least 4; they have the fewest classes, the middle number, and the
            most up to 4096. The numbers decide how long the check takes.
        on_invalid: what `score` does with rows of `invalid_rows`: "raise" for an `InvalidRows` that
            names the row, "skip" for NaN; None: they are not checked.
        same_bits: whether a row's scores must have the same bits among any other rows. Selection
            that does not depend on chunks needs this.

    Raises:
        AssertionError: the function is wrong, or raised an error. The message names the case, the
            shape, the seed, the worst row, what came and what was wanted.
        ValueError: a bad argument; the message names it.

    Example:
        >>> import fastal
        >>> from fastal.testing import check_scores
        >>> def mine(x, kind):
        ...     return fastal.score(x, kind=kind, backend="torch")
        >>> check_scores(mine, n_classes=[2, 1000])
        >>> def wrong(x, kind):  # in nats
        ...     return {"entropy": mine(x, kind).entropy.mul(1.0986)}
        >>> check_scores(wrong, names=["entropy"], n_classes=[3])  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        AssertionError: check_scores: float16 logits [17, 3], seed 3: entropy: row ...: got ...,
        wanted ...; the relative error is 0.099, allowed is 1e-05...; 15 of 17 rows are wrong
    """
    names = choices("names", names, Scores._fields)
    kinds = choices("kinds", kinds, KINDS)
    dtypes = choices("dtypes", dtypes, DTYPES)
    n_classes = widths(n_classes)
    check_invalid_option(on_invalid)
    for kind in kinds:
        for dtype in dtypes:
            check = _Check(score, names, kind, dtype, n_classes)
            for n in n_classes:
                check.regimes(n)
            for n in sorted({min(n_classes), *(n for n in n_classes if n <= 100)}):
                check.layouts(n)
            check.numbers_of_rows()
            if same_bits:
                check.company()
            if on_invalid is not None:
                check.invalid(on_invalid)


class _Check:
    """The checks of one kind and dtype."""

    def __init__(
        self, score: Score, names: Sequence[str], kind: str, dtype: torch.dtype,
        n_classes: Sequence[int],
    ) -> None:  # fmt: skip
        self._score, self._names, self._kind, self._dtype = score, names, kind, dtype
        self._n_classes = sorted(n_classes)

    def regimes(self, n_classes: int) -> None:
        """The regimes of accuracy."""
        x = cases.regimes(n_classes, self._dtype, self._kind)
        rows = [f"row {place} ({name})" for place, name in enumerate(cases.REGIMES)]
        self._compare(x, f", seed {n_classes}", rows)
        if self._dtype != torch.float16 or self._kind != "probs":  # the smallest float16 is 6e-8
            x = cases.far_apart(n_classes, self._dtype, self._kind)
            self._compare(x, f", far apart, seed {n_classes}")
        if self._kind == "logits":  # far from 0, too, where a logit times log2(e) loses digits
            x = (x.double() + (40_000 if self._dtype == torch.float16 else 1.5 * 2**19)).to(x.dtype)
            self._compare(x, f", far apart and huge, seed {n_classes}")

    def layouts(self, n_classes: int) -> None:
        """The same values under other strides."""
        x = cases.regimes(n_classes, self._dtype, self._kind)
        for name, view in cases.layouts(x).items():
            if name == "equal columns" and self._kind == "probs":  # they do not sum to 1
                continue
            self._compare(view, f", {name}")

    def numbers_of_rows(self) -> None:
        """Matrices of none to many rows."""
        for n_rows in (0, 1, 37, 340, 341, 342, 1024, 1025):
            self._compare(self._random(n_rows), ", seed 1")

    def company(self) -> None:
        """A row among all other rows, among a few, and alone."""
        x = self._random(301)
        whole = self._called(x)
        for start, stop in ((0, 1), (1, 9), (9, 300), (300, 301)):
            part = self._called(x[start:stop])
            for name in self._names:
                same = as_floats(whole[name])[start:stop] == as_floats(part[name])
                if not same.all():
                    row = start + int(np.argmin(same))
                    raise AssertionError(
                        f"{self._case(x)}, seed 1: {name}: row {row} has other bits among rows "
                        f"{start} to {stop - 1} alone"
                    )

    def invalid(self, on_invalid: str) -> None:
        """Rows that cannot be scored, of few and of many classes, among few and many rows."""
        good = [0.1, 0.2, 0.3, 0.4]
        fill = 0.0 if self._kind == "probs" else -math.inf
        if self._kind == "log_probs":
            good = np.log(good).tolist()
        able = [n for n in self._n_classes if n >= len(good)]  # the others hold no such rows
        if not able:
            return
        most = max([n for n in able if n <= 4096], default=able[0])
        sizes = {(5, width) for width in (able[0], able[len(able) // 2], most)}
        for name, row in cases.invalid_rows(self._kind).items():
            many = {(2051, able[0])} if name == "nan" else set()
            for n_rows, width in sorted(sizes | many):
                bad = [n_rows - 3, n_rows - 1]  # of 2051, they are beyond chunks of 2048 rows
                x = torch.full((n_rows, width), fill, dtype=self._dtype, device="cpu")
                x[:, :4] = torch.tensor(good, dtype=self._dtype, device="cpu")
                x[bad] = fill
                x[bad[0], -4:] = x[bad[1], :4] = torch.tensor(row, dtype=self._dtype, device="cpu")
                case = f"{self._case(x)}, rows {bad[0]} and {bad[1]} are invalid ({name})"
                if on_invalid == "skip":
                    self._skipped(x, bad, case)
                else:
                    with checking(case):
                        check_refused(partial(self._scored, x), bad, InvalidRows)

    def _skipped(self, x: Tensor, bad: list[int], case: str) -> None:
        found = self._called(x, case)
        is_bad = np.isin(np.arange(len(x)), bad)
        for name in self._names:
            is_nan = np.isnan(as_floats(found[name]))
            if not np.array_equal(is_nan, is_bad):
                raise AssertionError(f"{case}: {name}: wanted NaN there alone, got {found[name]}")
        good = {name: as_floats(found[name])[~is_bad] for name in self._names}
        wanted = definitions(x[torch.from_numpy(~is_bad)], self._kind)
        assert_scores(good, wanted, names=self._names, case=case)

    def _random(self, n_rows: int) -> Tensor:
        generator = torch.Generator().manual_seed(1)
        n_classes = min(self._n_classes, key=lambda n: abs(n - 10))  # few: there are many rows
        x = 3 * torch.randn(
            n_rows, n_classes, generator=generator, dtype=torch.float64, device="cpu"
        )
        if self._kind != "logits":
            x = torch.log_softmax(x, 1)
        return (x.exp() if self._kind == "probs" else x).to(self._dtype)

    def _compare(self, x: Tensor, what: str, rows: Sequence[str] = ()) -> None:
        case = f"{self._case(x)}{what}"
        found, wanted = self._called(x, case), definitions(x, self._kind)
        assert_scores(found, wanted, names=self._names, case=case, rows=rows)

    def _called(self, x: Tensor, case: str = "") -> Mapping[str, Any]:
        with checking(case or self._case(x)):
            return by_name(self._scored(x), self._names)

    def _scored(self, x: Tensor) -> Any:
        """What the function returns for a matrix, which it must leave as it is."""
        before = x.clone()
        try:
            return self._score(x, self._kind)
        finally:
            if not torch.isclose(x, before, rtol=0, atol=0, equal_nan=True).all():
                raise AssertionError("the input was written to")

    def _case(self, x: Tensor) -> str:
        dtype = str(self._dtype).removeprefix("torch.")
        return f"check_scores: {dtype} {self._kind} {list(x.shape)}"
