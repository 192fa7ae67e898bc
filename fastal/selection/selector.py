"""Selection as a reducer: scores in, the k rows most worth labelling out."""

from collections.abc import Mapping
from typing import Any

import torch

from fastal import ops
from fastal.base.checks import MAX_ROW, checked_count
from fastal.base.reducer import Pending, RowStart
from fastal.base.row_filter import row_filter_of
from fastal.picks.picks import Picks
from fastal.scoring.measure_for import By, measure_for
from fastal.scoring.model_output import ModelOutput
from fastal.scoring.rows import Rows
from fastal.scoring.scoring_options import ScoringOptions
from fastal.scoring.scoring_reducer import ScoringReducer
from fastal.selection.fused_topk import FusedTopK
from fastal.selection.noise import Noise, check_noise
from fastal.selection.pick_warnings import log_ties
from fastal.selection.ties import TieOrder
from fastal.selection.topk import TopK


class Selector(ScoringReducer[Picks]):
    """Streaming selection of the k most uncertain rows: exact, deterministic, O(k + chunk) memory.

    Any chunking, any order of chunks and any number of merged selectors give bit for bit the same
    picks for the same scores, if no row is given twice. Only one thread at a time may use a
    selector.

    Args:
        k: how many rows to pick, at least 1.
        by: a name of `fastal.select`, such as "margin"; a measure, such as `fastal.Head` or
            those of `fastal.diversity`; or a callable from a chunk, given as a torch tensor, to [n]
            scores (larger = more worth labelling, NaN = invalid), which are rounded to float32.
        kind: what the chunks hold, see `fastal.select`. It is never guessed.
        temperature: see `fastal.select`.
        class_axis: see `fastal.select`.
        draws_axis: see `fastal.select`.
        aggregate: see `fastal.select`. Chunks are then items of several rows: arrays [n, T, C],
            whose T may differ between chunks, [n, C, H, W] with class_axis=1, or `fastal.items`.
        on_invalid: "raise" stops at the first chunk with an invalid row and leaves the state as it
            was before the chunk. "skip" leaves such rows out and counts them. `fastal.score` says
            which rows are invalid.
        backend: "auto", "triton", "native" or "torch"; see `fastal.backend_reasons`.
        noise: None picks the k best rows. "power", "softmax" and "softrank" draw k rows, better
            rows more likely, which makes batches more varied (see `fastal.selection.noise`). The
            picks keep their scores and come in the order of the draws. "softrank" keeps all valid
            rows until the end, up to 24 bytes per row. "power" raises a ValueError for a chunk with
            a score below 0 and leaves the state as it was before the chunk.
        seed: of the noise, by="random" and ties="random", from 0 to 2^64 - 1. The same seed draws
            the same rows.
        beta: the weight of the scores against the noise, above 0: larger = less random.
        exclude: rows that must not be picked, such as those that are labelled: row numbers, a mask
            [N] of the pool, or picks.
        among: the only rows that may be picked, in the same forms; None: all.
        ties: of rows with equal scores, "first" picks the lowest row numbers, and "random" draws by
            `seed`. Neither depends on the chunks. If more rows have the score of the last pick than
            fit, `result` logs how many.

    Attributes:
        order: the order of rows with equal scores.
        reports_ties: whether `result` logs how many rows have the score of the last pick.
        layout: the number of rows and a digest of the files of the pool whose shards were read, see
            `fastal.read_shard`; None: unknown, as of rows that were fed by `update`.

    Raises:
        ValueError, TypeError: a bad argument; the message names it, what came and what was wanted.

    Source: the noise is from Kirsch et al., Stochastic Batch Acquisition (TMLR, 2023).

    Example:
        >>> import fastal, numpy as np
        >>> selector = fastal.Selector(k=2, by="margin")
        >>> for batch in (np.array([[9.0, 0.0], [0.1, 0.0]]), np.array([[0.0, 0.5]])):
        ...     selector.update(batch)
        >>> selector.result().rows
        array([1, 2])
        >>> selector = fastal.Selector(k=1, aggregate="max")
        >>> for length in (3, 2):  # two sentences each, of so many tokens
        ...     tokens = np.arange(2 * length * 2.0).reshape(2, length, 2) ** 2
        ...     selector.update(fastal.items(tokens, mask=tokens[..., 0] < 50))
        >>> selector.result().rows
        array([0])
    """

    reports_ties = True

    def __init__(
        self,
        k: int,
        by: By = "margin",
        *,
        kind: str = "logits",
        temperature: float = 1.0,
        class_axis: int = -1,
        draws_axis: int | None = None,
        aggregate: str | None = None,
        on_invalid: str = "raise",
        backend: str = "auto",
        noise: str | None = None,
        seed: int = 0,
        beta: float = 1.0,
        exclude: Any = None,
        among: Any = None,
        ties: str = "first",
    ) -> None:
        check_noise(noise, by)
        output = ModelOutput(kind, temperature, class_axis, draws_axis, aggregate)
        super().__init__(measure_for(by, output, seed), ScoringOptions(on_invalid, backend))
        self._k = checked_count("k", k)
        self._noise = Noise(noise, seed, beta)
        self.order = TieOrder(ties, seed)
        self.row_filter = row_filter_of(exclude, among)
        self._top = self._new_top()
        self._fused = FusedTopK(self._top, self.order)

    def __getstate__(self) -> dict[str, Any]:
        """Without the candidates of a GPU: the best of them are moved to the host."""
        self._fused.flush()
        return vars(self)

    def look(self, chunk: Any, start: RowStart = None) -> Pending:
        """Reads rows and selects among them; see `Reducer.look`."""
        rows = self._prepare(chunk, start)
        fused = self._scorer.measure.fused
        if fused is not None and self._noise.name is None and self._fused.accepts(rows):
            n_invalid, selected = self._fused.look(rows, fused)
            if n_invalid and rows.kept is not None:  # some of them may be left out
                n_invalid = self._scorer.scores(rows)[1]

            def commit() -> None:
                try:  # the rows are scored again only if invalid ones have to be named
                    self._scorer.record(rows, n_invalid, lambda: self._scorer.scores(rows)[0][0])
                except BaseException:
                    selected.discard()
                    raise
                selected.commit()

            return Pending(commit, selected.discard)
        return self._look_at_scores(rows)

    def _look_at_scores(self, rows: Rows) -> Pending:
        (scores,), n_invalid = self._scorer.scores(rows)
        keys = self._noise.keys(scores, rows.numbers)

        def commit() -> None:
            self._scorer.record(rows, n_invalid, lambda: scores)
            self._top.update(keys, rows.numbers, *([scores] if self._noise.on_rows else []))

        return Pending(commit)

    def part(self) -> "Selector":
        """A selector with the same arguments that has read no rows; see `merge`."""
        part = self._unread()
        part._top = part._new_top()
        part._fused = FusedTopK(part._top, part.order)
        return part

    def merge(self, other: "Selector") -> None:
        """Adds a selector with the same arguments that saw other rows.

        The next row is the one after the last row that either saw. A row that both saw is counted
        twice: this is not checked.

        Raises:
            TypeError: the other is of another class, or is this selector.
            ValueError: the other has other arguments, rows of another shape, or shards of another
                pool (see `layout`).
        """
        self._check_mergeable(other)
        self.join_layout(other.layout, "merge: the other has read shards of a pool with")
        self._fused.flush()
        other._fused.flush()
        self._scorer.merge(other._scorer)
        self._top.merge(other._top)

    def context_for(self, start: int, stop: int) -> tuple[float, int] | None:  # noqa: ARG002
        """See `Mergeable.context_for`: the score, or with noise the key, and the rank to beat.

        The state of the part then leaves out rows that do not beat it.
        """
        return self._top.threshold

    def set_context(self, context: tuple[float, int]) -> None:
        """See `Mergeable.set_context`."""
        self._top.threshold = context

    def result(self) -> Picks:
        """The picks among the rows so far, as arrays of the kind of the last chunk, else NumPy."""
        self._fused.flush()
        n_tied, n_taken = self._top.tied()
        matter = self.reports_ties and self._scorer.measure.ties_matter
        if n_tied > n_taken and self._noise.name is None and matter:
            log_ties(n_tied, n_taken, self.order)
        rows, *_, scores = self._top.best()
        if self._noise.name == "softrank":
            drawn = self._noise.ranks(self._k, len(rows)) - 1
            rows, scores = rows[drawn], scores[drawn]
        rows, scores = (self._scorer.to_caller_kind(torch.from_numpy(a)) for a in (rows, scores))
        return Picks(rows, scores, None, self.invalid)

    def identity(self) -> dict[str, Any]:
        """k, the measure, what the rows are, the noise and the order of ties.

        Of a callable `by`, the name.
        """
        random = {**self._noise.identity(), **self.order.identity()}
        return {"k": self._k, **super().identity(), **random}

    def _state(self) -> dict[str, Any]:
        self._fused.flush()
        return {**super()._state(), "top": self._top.state_dict()}

    def _restore(self, state: Mapping[str, Any]) -> None:
        restored = self._new_top()
        restored.load_state_dict(state["top"])
        super()._restore(state)
        self._top, self._fused = restored, FusedTopK(restored, self.order)

    def _new_top(self) -> TopK:
        # softrank draws by the number of valid rows, so all of them are kept until the end.
        k = MAX_ROW if self._noise.name == "softrank" else self._k
        return TopK(k, self.order, payload=self._noise.on_rows)

    @property
    def keeps_only_the_best(self) -> bool:  # type: ignore[override]
        """Whether the native kernel selects; see `Reducer`."""
        is_fused = self._scorer.measure.fused is not None and self._noise.name is None
        is_plain = is_fused and self.row_filter is None and not self.order.is_random
        may_be_native = self.options.backend in ("auto", "native")
        return is_plain and may_be_native and ops.instruction_set() is not None

    @property
    def wanted(self) -> int:
        """How many rows to pick."""
        return self._k

    @property
    def kth_name(self) -> str:  # type: ignore[override]
        """What `kth_score` is: "score", with noise "key"."""
        return "score" if self._noise.name is None else "key"

    @property
    def kth_score(self) -> float | None:
        """The k-th best score so far, with noise the k-th best key; None before there are k.

        On a GPU it is the threshold of the last selection there, which may be lower. With softrank,
        which draws at the end, it is None.
        """
        return self._fused.kth()
