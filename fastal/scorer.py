"""Scores chunks: what every reducer over uncertainty does first, in one place."""

import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastal import backend as backends
from fastal.arrays import as_tensor
from fastal.errors import NAMED_ROWS, InvalidRows, check_same
from fastal.scores import KINDS, MEASURES

ByCallable = Callable[[Tensor], Any]
By = str | ByCallable
# Called when a chunk has been looked at and none of it is taken: what it raises leaves it at that.
Confirm = Callable[[], None]

_MAX_ROW = 2**63 - 1
_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_INVALID = {
    "logits": "has NaN, +inf or no finite logit",
    "log_probs": "has NaN, +inf or no finite log-probability",
    "probs": "has NaN, a negative value or a sum other than 1",
}


class Chunk(NamedTuple):
    """Rows to score, the number of the first, their classes (None: a callable's), the backend."""

    x: Tensor
    start: int
    n_classes: int | None
    backend: str


class Scorer:
    """Turns chunks of a pool into scores; checks them, and counts the invalid rows.

    Args:
        by: names of measures, or a callable from a chunk (a tensor, whatever the pool is) to [n]
            scores, NaN for an invalid row.
        kind: "logits", "probs" or "log_probs"; callables see the chunk as it is.
        on_invalid: "raise" or "skip" (the score is NaN).
        backend: "auto", "triton", "native" or "torch".

    Attributes:
        invalid: how many rows were invalid so far.
        n_classes: of the chunks so far; None before the first, and with a callable.
        next_row: the row after the last chunk.
        backend_used: the backend that scored the last chunk, "callable" for a callable.
    """

    def __init__(
        self, by: Sequence[str] | ByCallable, *, kind: str, on_invalid: str, backend: str
    ) -> None:
        for name in () if callable(by) else by:
            check_choice("by", name, MEASURES, " or a callable")
        check_choice("kind", kind, KINDS)
        check_choice("on_invalid", on_invalid, ("raise", "skip"))
        check_choice("backend", backend, backends.BACKENDS)
        self.by = by
        self.kind = kind
        self.on_invalid = on_invalid
        self.backend = backend
        self.invalid = 0
        self.backend_used: str | None = None
        self.n_classes: int | None = None
        self.next_row = 0

    def checked(self, chunk: Any, start: int | None) -> Chunk:
        """A chunk as rows to score.

        Args:
            chunk: [n, C] array, or [n, ...] for a callable.
            start: the number of its first row; None: where the last chunk ended.

        Raises:
            TypeError, ValueError: not such a matrix as was asked for, or other than the last one.
        """
        start = self.next_row if start is None else _row_number(start)
        x = as_tensor(chunk, self.kind)
        if x.ndim == 0:
            raise ValueError(f"{self.kind}: wanted rows, got a single number")
        if not 0 <= start <= _MAX_ROW - len(x):
            raise ValueError(f"start: wanted a row number from 0 to 2^63 - 1, got {start}")
        if callable(self.by):
            return Chunk(x, start, None, "callable")
        return Chunk(x, start, self._checked_classes(x, start), backends.choose(self.backend, x))

    def scores(self, chunk: Chunk) -> tuple[list[Tensor], int]:
        """The scores of the chunk's rows, and how many rows are invalid.

        Scores are [n] float32 for each measure, in order, NaN for invalid rows.
        """
        if callable(self.by):
            scores = _call(self.by, chunk.x, chunk.start)
            return [scores], int(scores.isnan().sum())
        return backends.counted(chunk.x, self.by, self.kind, backend=chunk.backend)

    def count(
        self,
        chunk: Chunk,
        n_invalid: int,
        scores: Callable[[], Tensor],
        confirm: Confirm | None = None,
    ) -> None:
        """Counts a chunk's rows, n_invalid of which have NaN for scores(); `confirm` comes first.

        Raises:
            InvalidRows: with on_invalid="raise"; nothing is counted then.
        """
        if confirm is not None:
            confirm()
        if n_invalid and self.on_invalid == "raise":
            rows = (scores().isnan().nonzero()[:NAMED_ROWS, 0] + chunk.start).tolist()
            reason = "has score NaN" if callable(self.by) else _INVALID[self.kind]
            raise InvalidRows(rows, n_invalid, (chunk.start, chunk.start + len(chunk.x)), reason)
        self.invalid += n_invalid
        self.backend_used = chunk.backend
        self.n_classes = chunk.n_classes
        self.next_row = chunk.start + len(chunk.x)

    def __call__(
        self, chunk: Any, start: int | None, confirm: Confirm | None = None
    ) -> tuple[int, list[Tensor]]:
        """The number of the chunk's first row, and its scores, counted; see the three above."""
        checked = self.checked(chunk, start)
        scores, n_invalid = self.scores(checked)
        self.count(checked, n_invalid, lambda: scores[0], confirm)
        return checked.start, scores

    def _checked_classes(self, x: Tensor, start: int) -> int:
        if x.ndim != 2:
            raise ValueError(f"{self.kind}: wanted [rows, classes], got shape {tuple(x.shape)}")
        if x.dtype not in _DTYPES:
            raise TypeError(
                f"{self.kind}: wanted float16, bfloat16, float32 or float64, got {x.dtype}"
            )
        n_classes = x.shape[1]
        if n_classes < 2:
            raise ValueError(f"{self.kind}: wanted at least 2 classes, got shape {tuple(x.shape)}")
        if self.n_classes not in (None, n_classes):
            raise ValueError(
                f"{self.kind}: rows from {start} on have {n_classes} classes, "
                f"those before them {self.n_classes}"
            )
        return n_classes

    def merge(self, other: "Scorer") -> None:
        """Takes in the counts of a scorer with the same arguments."""
        if callable(self.by) and not has_own_name(self.by) and self.by is not other.by:
            raise ValueError("merge: by is a different callable there; give it a name with def")
        self._check_same(other.state_dict(), "merge: the other")
        self.n_classes = self.n_classes or other.n_classes
        self.invalid += other.invalid
        self.next_row = max(self.next_row, other.next_row)

    def state_dict(self) -> dict[str, Any]:
        """The counts, and the arguments that they are bound to; of a callable, its name."""
        return {
            "by": name_of(self.by) if callable(self.by) else list(self.by),
            "kind": self.kind,
            "n_classes": self.n_classes,
            "invalid": self.invalid,
            "next_row": self.next_row,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` gave; ValueError where the arguments differ."""
        self._check_same(state, "the state")
        self.n_classes, self.invalid = state["n_classes"], state["invalid"]
        self.next_row = state["next_row"]

    def _check_same(self, theirs: dict[str, Any], what: str) -> None:
        ours = self.state_dict()
        if None in (ours["n_classes"], theirs["n_classes"]):  # one of them has seen no row yet
            ours["n_classes"] = theirs["n_classes"]
        check_same({key: ours[key] for key in ("by", "kind", "n_classes")}, theirs, what)


def _row_number(start: Any) -> int:
    """`start` as a plain int; TypeError where it is no integer."""
    try:
        return operator.index(start)
    except TypeError:
        raise TypeError(f"start: wanted a row number, got {start!r}") from None


def _call(by: ByCallable, x: Tensor, start: int) -> Tensor:
    try:
        # A copy: the chunk may be memory that a callable working in place must not write to.
        scores = as_tensor(by(x.clone()), "by: the callable's result")
    except InvalidRows as error:  # its row numbers are the chunk's, not the pool's
        raise ValueError(
            f"by: the callable, of rows {start} to {start + len(x) - 1}: {error}"
        ) from error
    if scores.shape != x.shape[:1]:
        raise ValueError(
            f"by: the callable gave shape {tuple(scores.shape)} for a chunk of shape "
            f"{tuple(x.shape)}; wanted one score a row"
        )
    if scores.is_complex():
        raise TypeError(f"by: the callable gave {scores.dtype}, wanted real numbers")
    return scores.to(torch.float32)


def has_own_name(by: ByCallable) -> bool:
    """Whether its name tells a callable from others: not that of a lambda, a closure, an object."""
    return hasattr(by, "__qualname__") and "<" not in by.__qualname__


def name_of(by: ByCallable) -> str:
    """What a callable is known by in a state that is saved."""
    named = by if hasattr(by, "__qualname__") else type(by)
    return f"{named.__module__}.{named.__qualname__}"


def check_choice(name: str, value: object, choices: Sequence[str], more: str = "") -> None:
    """ValueError where `value`, of the argument `name`, is none of the choices."""
    if value not in choices:
        raise ValueError(f"{name}: wanted one of {', '.join(choices)}{more}, got {value!r}")
