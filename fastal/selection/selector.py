"""Selection as a reducer: scores in, the k rows most worth labelling out."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from fastal.base.arrays import converter_for
from fastal.base.errors import check_another, check_same, restoring
from fastal.scoring.measure import Blank
from fastal.scoring.scorer import By, Chunk, Confirm, Scorer, watching
from fastal.selection.fused_topk import FusedTopK
from fastal.selection.noise import Noise
from fastal.selection.picks import Picks
from fastal.selection.topk import TopK, checked_count

_ALL = 2**63 - 1


class Selector:
    """Streaming selection of the k most uncertain rows: exact, deterministic, O(k + chunk) memory.

    Any chunking, any order of chunks and any number of merged selectors give bit for bit the same
    picks for the same scores, as long as no row is given twice. One thread at a time may use it.

        selector = fastal.Selector(k=1000, by="margin")
        for batch in loader:
            selector.update(model(batch))
        picks = selector.result()

    Args:
        k: how many rows to pick, at least 1.
        by: "least_confidence", "margin", "ratio" or "entropy"; a measure of `fastal.diversity`; or
            a callable from a chunk, given as a torch tensor, to [n] scores (larger = more worth
            labelling, NaN = invalid), which are rounded to float32 and ranked as such.
        kind: what the chunks hold: "logits", "probs" or "log_probs". Never guessed.
        on_invalid: "raise" stops at the first chunk with an invalid row, with the state as it was
            before the chunk; "skip" leaves such rows out and counts them. Invalid are rows with
            NaN, +inf or no finite value, and probabilities below 0 or not summing to 1 (within
            rounding, see `score`).
        backend: "auto", "triton", "native" or "torch"; see `fastal.backend_reasons`.
        noise: None picks the k best. "power", "softmax" and "softrank" draw k rows, better ones
            more likely, so that a batch is less of one sort (see `fastal.selection.noise`). The
            picks have the scores themselves, and come in the order of the draws. "softrank" keeps
            all valid rows until the end, at up to 24 bytes a row. "power" refuses a chunk with a
            score below 0 by a ValueError, with the state as it was before the chunk.
        seed: of the noise, from 0 to 2^64 - 1; the same seed draws the same rows.
        beta: how much the scores weigh against the noise, above 0: the larger, the nearer to None.

    Raises:
        ValueError, TypeError: a bad argument, named, with what came and what was wanted.

    Source: of the noise, Kirsch et al., Stochastic Batch Acquisition (TMLR, 2023).
    """

    def __init__(
        self,
        k: int,
        by: By = "entropy",
        *,
        kind: str = "logits",
        on_invalid: str = "raise",
        backend: str = "auto",
        noise: str | None = None,
        seed: int = 0,
        beta: float = 1.0,
    ) -> None:
        self._k = checked_count("k", k)
        self._noise = Noise(noise, seed, beta)
        self._top = self._new_top()
        self._fused = FusedTopK(self._top)
        self._scorer = Scorer(by, kind=kind, on_invalid=on_invalid, backend=backend)
        self._to_caller_kind: Callable[[torch.Tensor], Any] | None = None

    @watching
    def update(
        self, chunk: Any, start: int | None = None, *, confirm: Confirm | None = None
    ) -> None:
        """Takes rows start, start + 1, ... (None: where the last chunk ended).

        Args:
            chunk: [n, C] array of logits (or what `kind` says), float16, bfloat16, float32 or
                float64, any strides, n >= 0, on any device. Any shape [n, ...] for a callable.
            start: the row number of the chunk's first row, at least 0.
            confirm: called when all of the chunk has been looked at and none of it is taken; what
                it raises leaves the state as it was.

        Raises:
            InvalidRows: with on_invalid="raise".
            ValueError, TypeError: the chunk is no such array, or its class count has changed.
        """
        rows = self._scorer.checked(chunk, start)
        if self._fuses(rows):
            self._update_fused(rows, confirm)
        else:
            (scores,), n_invalid = self._scorer.scores(rows)
            keys = self._noise.keys(scores, rows.start)
            self._scorer.count(rows, n_invalid, lambda: scores, confirm)
            self._top.update(keys, rows.start, *([scores] if self._noise.on_rows else []))
        self._to_caller_kind = converter_for(chunk)

    def _fuses(self, rows: Chunk) -> bool:
        """Whether scoring and selecting are one step: of uncertainty, without noise."""
        return (
            bool(self._scorer.names)
            and self._noise.name is None
            and self._fused.takes(rows.x, rows.start, rows.backend)
        )

    def _update_fused(self, rows: Chunk, confirm: Confirm | None) -> None:
        (measure,) = self._scorer.names
        update = self._fused.update(rows.x, measure, self._scorer.kind, rows.start, rows.backend)
        with update as n_invalid:
            # A second look at the chunk, only where rows have to be named.
            self._scorer.count(rows, n_invalid, lambda: self._scorer.scores(rows)[0][0], confirm)

    def merge(self, other: "Selector") -> None:
        """Takes in a selector with the same arguments that saw other rows.

        Rows are counted on from the last row that either saw.

        Raises:
            ValueError, TypeError: no selector of other rows with the same k, by, kind and noise.
        """
        check_another(Selector, self, other)
        check_same(self._arguments(), other._arguments(), "merge: the other")
        self._fused.flush()
        other._fused.flush()
        self._scorer.merge(other._scorer)
        self._top.merge(other._top)
        self._to_caller_kind = self._to_caller_kind or other._to_caller_kind

    def state_dict(self) -> dict[str, Any]:
        """The state as plain values and NumPy arrays, O(k); of a callable `by`, its name.

        With softrank it holds all valid rows.
        """
        self._fused.flush()
        state = {"scorer": self._scorer.state_dict(), "top": self._top.state_dict()}
        return {**state, "arguments": self._arguments()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores exactly what `state_dict` gave.

        Raises:
            ValueError: the state is of a selector with another k, by, kind or noise, or no such
                state; the selector is then as it was.
        """
        with restoring():
            top, scorer = state["top"], state["scorer"]
            check_same(self._arguments(), state["arguments"], "the state")
            restored = self._new_top()
            restored.load_state_dict(top)
            self._scorer.load_state_dict(scorer)
        self._top, self._fused = restored, FusedTopK(restored)

    def result(self) -> Picks:
        """The picks among the rows so far, as arrays of the kind of the last chunk, else NumPy."""
        self._fused.flush()
        as_given = self._to_caller_kind or converter_for(np.empty(0))
        rows, *_, scores = self._top.best()
        if self._noise.name == "softrank":
            drawn = self._noise.ranks(self._k, len(rows)) - 1
            rows, scores = rows[drawn], scores[drawn]
        rows, scores = (as_given(torch.from_numpy(a)) for a in (rows, scores))
        return Picks(rows, scores, None, self._scorer.invalid)

    def _arguments(self) -> dict[str, Any]:
        return {"k": self._k, **self._noise.arguments()}

    def _new_top(self) -> TopK:
        # What softrank draws depends on how many valid rows there are: none may be left out.
        k = _ALL if self._noise.name == "softrank" else self._k
        return TopK(k, payload=self._noise.on_rows)

    @property
    def bar(self) -> float | None:
        """The k-th best score so far, with noise the k-th best key; None before there are k.

        On a GPU it is that of the last selection there, which is lower if anything. With softrank,
        which draws at the end, it is None.
        """
        return self._fused.kth()

    @property
    def blank(self) -> Blank | None:
        """The scores of rows that hold nothing."""
        return self._scorer.blank

    @property
    def backend_used(self) -> str | None:
        """The backend that scored the last chunk."""
        return self._scorer.backend_used
