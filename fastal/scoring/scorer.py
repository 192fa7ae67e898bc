"""Scores chunks: what every reducer over uncertainty does first, in one place."""

import logging
import operator
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from functools import wraps
from typing import Any, NamedTuple, TypeVar, cast

import torch
from torch import Tensor

from fastal import ops
from fastal.base.arrays import as_tensor, is_array, memory_of
from fastal.base.errors import NAMED_ROWS, InvalidRows, check_same
from fastal.ops.formulas import KINDS, UNCERTAINTY_SCORES
from fastal.scoring.kind_hints import LOOKED_AT, are_probabilities, looks_of
from fastal.scoring.measure import Blank, Measure

_log = logging.getLogger("fastal")
ByCallable = Callable[[Tensor], Any]
By = str | ByCallable | Measure
# Called when a chunk has been looked at and none of it is taken: what it raises leaves it at that.
Confirm = Callable[[], None]

_Update = TypeVar("_Update", bound=Callable[..., Any])
_MAX_ROW = 2**63 - 1
_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
# Of rows whose values are all equal, by each named measure: 1 within rounding.
_EQUAL = Blank(1 - 5e-7, 1.0, None)
_INVALID = {
    "logits": "has NaN, +inf or no finite logit",
    "log_probs": "has NaN, +inf or no finite log-probability",
    "probs": "has NaN, a negative value or a sum other than 1",
}


def watching(update: _Update) -> _Update:
    """An `update` under which a chunk's memory may vanish: a mapped file that is cut short.

    It calls `confirm` when all of the chunk has been looked at. Whoever gives it a `confirm` of his
    own watches already.
    """

    @wraps(update)
    def watched(
        self: Any, chunk: Any, *args: Any, confirm: Confirm | None = None, **kw: Any
    ) -> Any:
        if confirm is not None:
            return update(self, chunk, *args, confirm=confirm, **kw)
        with ExitStack() as stack:
            guards = []
            for x in filter(is_array, (chunk, *args, *kw.values())):
                with suppress(TypeError):  # `update` says it with its own name for it
                    guards.append(stack.enter_context(ops.guarded(memory_of(x, "chunk"))))

            def stands() -> None:
                if any(guard.broken for guard in guards):
                    raise OSError("the rows vanished: a mapped file that was cut short?")

            try:
                result = update(self, chunk, *args, confirm=stands, **kw)
            except (TypeError, ValueError):
                stands()
                raise
            stands()  # k-means draws its sample after it has confirmed
            return result

    return cast("_Update", watched)


class Chunk(NamedTuple):
    """Rows to score, the number of the first, their columns (None: a callable's), the backend."""

    x: Tensor
    start: int
    width: int | None
    backend: str


class Scorer:
    """Turns chunks of a pool into scores; checks them, and counts the invalid rows.

    Args:
        by: a measure's name, or a tuple of them; a `Measure`; or a callable from a chunk (a tensor,
            whatever the pool is) to [n] scores, NaN for an invalid row.
        kind: "logits", "probs" or "log_probs"; a `Measure` says itself what it is of, callables see
            the chunk as it is.
        on_invalid: "raise" or "skip" (the score is NaN).
        backend: "auto", "triton", "native" or "torch".

    Attributes:
        names: the measures that are named; none with a `Measure` or a callable.
        invalid: how many rows were invalid so far.
        width: columns of the chunks so far; None before the first, and with a callable.
        next_row: the row after the last chunk.
        backend_used: the backend that scored the last chunk, "callable" for a callable.
    """

    def __init__(
        self, by: By | tuple[str, ...], *, kind: str = "logits", on_invalid: str, backend: str
    ) -> None:
        self.names: tuple[str, ...] = ()
        if not callable(by) and not isinstance(by, Measure):
            self.names = by if isinstance(by, tuple) else (by,)
        for name in self.names:
            check_choice("by", name, UNCERTAINTY_SCORES, " or a callable")
        check_choice("kind", kind, KINDS)
        check_choice("on_invalid", on_invalid, ("raise", "skip"))
        check_choice("backend", backend, ops.BACKENDS)
        self.by = by
        self.kind = by.kind if isinstance(by, Measure) else kind
        self.on_invalid = on_invalid
        self.backend = backend
        self.invalid = 0
        self.backend_used: str | None = None
        self.width: int | None = by.width if isinstance(by, Measure) else None
        self.next_row = 0
        self._has_looked = False

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
        self._check_columns(x, start)
        offers = [self.by.offers] if isinstance(self.by, Measure) else []
        return Chunk(x, start, x.shape[1], ops.choose(self.backend, x, *offers))

    def scores(self, chunk: Chunk) -> tuple[list[Tensor], int]:
        """The scores of the chunk's rows, and how many rows are invalid.

        Scores are [n] float32 for each measure, in order, NaN for invalid rows.
        """
        if callable(self.by):
            scores = _call(self.by, chunk.x, chunk.start)
            return [scores], int(scores.isnan().sum())
        if isinstance(self.by, Measure):
            scores = self.by.scores(chunk.x, chunk.backend)
            return [scores], int(scores.isnan().sum())
        return ops.scores_and_invalid(chunk.x, self.names, self.kind, backend=chunk.backend)

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
            invalid = scores().isnan().nonzero()[:, 0]
            rows = (invalid[:NAMED_ROWS] + chunk.start).tolist()
            span = chunk.start, chunk.start + len(chunk.x)
            looks = self._looks_of(chunk, invalid)
            raise InvalidRows(rows, n_invalid, span, self._invalid, looks=looks)
        if self.names and not self._has_looked and chunk.start == 0 and len(chunk.x):
            self._look(chunk, n_invalid, scores)
        self.invalid += n_invalid
        self.backend_used = chunk.backend
        self.width = chunk.width
        self.next_row = chunk.start + len(chunk.x)

    @watching
    def __call__(
        self, chunk: Any, start: int | None, *, confirm: Confirm | None = None
    ) -> tuple[int, list[Tensor]]:
        """The number of the chunk's first row, and its scores, counted; see the three above."""
        checked = self.checked(chunk, start)
        scores, n_invalid = self.scores(checked)
        self.count(checked, n_invalid, lambda: scores[0], confirm)
        return checked.start, scores

    def _look(self, chunk: Chunk, n_invalid: int, scores: Callable[[], Tensor]) -> None:
        """Warns where the first rows are seen not to be what they were said to be."""
        self._has_looked = True
        if n_invalid == len(chunk.x):
            looks = self._looks_of(chunk, scores().isnan().nonzero()[:, 0])
            _log.warning(
                "the first %d rows are all invalid and left out: each %s%s",
                n_invalid, self._invalid, looks and f"; {looks}",
            )  # fmt: skip
        elif self.kind == "logits" and are_probabilities(chunk.x[:LOOKED_AT]):
            _log.warning(
                "logits: the first rows have values from 0 to 1 that sum to 1, as probabilities "
                "have (kind='probs')"
            )

    def _looks_of(self, chunk: Chunk, invalid: Tensor) -> str:
        """What the invalid rows look like, if they are most of the chunk."""
        if not self.names or 2 * len(invalid) <= len(chunk.x):
            return ""
        return looks_of(chunk.x[invalid[:LOOKED_AT].to(chunk.x.device)], self.kind)

    @property
    def blank(self) -> Blank | None:
        """The scores of rows that hold nothing; None where these have no score of their own."""
        if self.names:
            return _EQUAL
        return getattr(self.by, "blank", None)

    @property
    def _invalid(self) -> str:
        """What is wrong with a row of score NaN."""
        if callable(self.by):
            return "has score NaN"
        return self.by.invalid if isinstance(self.by, Measure) else _INVALID[self.kind]

    def _check_columns(self, x: Tensor, start: int) -> None:
        columns, least = ("classes", 2) if self.names else ("columns", 1)
        if x.ndim != 2:
            raise ValueError(f"{self.kind}: wanted [rows, {columns}], got shape {tuple(x.shape)}")
        check_dtype(x, self.kind)
        if x.shape[1] < least:
            shape = tuple(x.shape)
            raise ValueError(f"{self.kind}: wanted at least {least} {columns}, got shape {shape}")
        if self.width not in (None, x.shape[1]):
            others = "those before them" if self.names else "wanted"
            raise ValueError(
                f"{self.kind}: rows from {start} on have {x.shape[1]} {columns}, "
                f"{others} {self.width}"
            )

    def merge(self, other: "Scorer") -> None:
        """Takes in the counts of a scorer with the same arguments."""
        if callable(self.by) and not has_own_name(self.by) and self.by is not other.by:
            raise ValueError("merge: by is a different callable there; give it a name with def")
        self._check_same(other.state_dict(), "merge: the other")
        self.width = self.width or other.width
        self.invalid += other.invalid
        self.next_row = max(self.next_row, other.next_row)

    def state_dict(self) -> dict[str, Any]:
        """The counts, and the arguments that they are bound to; of a callable, its name."""
        return {
            "by": described(self.names or self.by),
            "kind": self.kind,
            "width": self.width,
            "invalid": self.invalid,
            "next_row": self.next_row,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` gave; ValueError where the arguments differ."""
        self._check_same(state, "the state")
        self.width, self.invalid = state["width"], state["invalid"]
        self.next_row = state["next_row"]

    def _check_same(self, theirs: dict[str, Any], what: str) -> None:
        ours = self.state_dict()
        if None in (ours["width"], theirs["width"]):  # one of them has seen no row yet
            ours["width"] = theirs["width"]
        check_same({key: ours[key] for key in ("by", "kind", "width")}, theirs, what)


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


def check_dtype(x: Tensor, name: str) -> None:
    """TypeError where rows, of the argument `name`, are no floating-point numbers."""
    if x.dtype in _DTYPES:
        return
    # What whole numbers stand for, a scale and a zero of their own say.
    remedy = "" if x.is_complex() else "; convert it to float first"
    raise TypeError(f"{name}: wanted float16, bfloat16, float32 or float64, got {x.dtype}{remedy}")


def has_own_name(by: ByCallable) -> bool:
    """Whether its name tells a callable from others: not that of a lambda, a closure, an object."""
    return hasattr(by, "__qualname__") and "<" not in by.__qualname__


def described(by: By | tuple[str, ...]) -> Any:
    """What it is known by in a state that is saved, as plain values."""
    if isinstance(by, Measure):
        return by.arguments()
    if not callable(by):
        return list(by) if isinstance(by, tuple) else by
    named = by if hasattr(by, "__qualname__") else type(by)
    return f"{named.__module__}.{named.__qualname__}"


def check_choice(name: str, value: object, choices: Sequence[str], more: str = "") -> None:
    """ValueError where `value`, of the argument `name`, is none of the choices."""
    if value not in choices:
        raise ValueError(f"{name}: wanted one of {', '.join(choices)}{more}, got {value!r}")
