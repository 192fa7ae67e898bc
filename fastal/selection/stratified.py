"""Selection with quotas: the rows most worth labelling, of every group its share."""

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from fastal.base.argument_values import LABEL_KINDS
from fastal.base.checks import MAX_ROW, checked_count
from fastal.base.groups import Groups, as_groups
from fastal.base.reducer import Pending, RowStart
from fastal.base.row_filter import row_filter_of
from fastal.base.row_numbers import RowNumbers
from fastal.picks.picks import Picks
from fastal.scoring.measure import FusedSelection
from fastal.scoring.measure_for import By, measure_for
from fastal.scoring.model_output import ModelOutput
from fastal.scoring.rows import Rows
from fastal.scoring.scoring_options import ScoringOptions
from fastal.scoring.scoring_reducer import ScoringReducer
from fastal.selection.grouped_topk import GroupedTopK
from fastal.selection.noise import Noise, check_noise
from fastal.selection.pick_warnings import log_ties
from fastal.selection.ties import TieOrder

_log = logging.getLogger("fastal")
_NAMED_GROUPS = 5  # how many groups a warning names at most


class StratifiedSelector(ScoringReducer[Picks]):
    """Streaming selection of the most uncertain rows with at most `per_group` rows of each group.

    Exact and deterministic: any chunking, any order of chunks and any number of merged selectors
    give bit for bit the same picks for the same scores and groups, if no row is given twice. Memory
    is O(per_group · groups + chunk). Only one thread at a time may use a selector.

    Args:
        per_group: how many rows to pick of each group, at least 1. A group with fewer valid rows
            gives all of them.
        by: as for `fastal.Selector`.
        k: None picks `per_group` rows of every group. A number picks so many rows in all: the best
            of the pool, one by one, passing over groups that have given `per_group` rows.
        predicted: whether the group of a row is its predicted class: the position of the largest
            value, the first of equals. Every class is then a group, even without rows. Items of
            several rows, and draws, have no predicted class.
        kind: as for `fastal.Selector`.
        temperature: as for `fastal.Selector`.
        class_axis: as for `fastal.Selector`.
        draws_axis: as for `fastal.Selector`.
        aggregate: as for `fastal.Selector`. A group is then that of an item.
        on_invalid: as for `fastal.Selector`.
        backend: as for `fastal.Selector`.
        noise: as for `fastal.Selector`; quotas then pick the rows with the largest keys. "softrank"
            is refused: its ranks are over the whole pool.
        seed: as for `fastal.Selector`.
        beta: as for `fastal.Selector`.
        exclude: as for `fastal.Selector`. These rows count in no quota.
        among: as for `fastal.Selector`.
        ties: as for `fastal.Selector`.

    Attributes:
        layout: as for `fastal.Selector`.

    Raises:
        ValueError, TypeError: a bad argument; the message names it, what came and what was wanted.

    Source: Munro, Human-in-the-Loop Machine Learning, section 4.5, on stratified sampling.

    Example:
        >>> import fastal, numpy as np
        >>> selector = fastal.StratifiedSelector(per_group=1, by="margin")
        >>> logits = np.array([[9.0, 0.0], [0.1, 0.0], [0.0, 0.5]])
        >>> selector.update(logits, groups=["de", "fr", "fr"])
        >>> selector.result().groups
        array(['fr', 'de'], dtype=object)
        >>> selector = fastal.StratifiedSelector(per_group=1, by="bald")
        >>> draws = np.array([[[9.0, 0.0], [0.0, 9.0]], [[0.1, 0.0], [0.0, 0.1]]])
        >>> selector.update(draws, groups=["de", "de"])
        >>> selector.result().rows
        array([0])
    """

    def __init__(
        self,
        per_group: int,
        by: By = "margin",
        *,
        k: int | None = None,
        predicted: bool = False,
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
        if predicted and kind in LABEL_KINDS:
            raise ValueError(f"predicted: with kind={kind!r}, a row has several labels")
        super().__init__(measure_for(by, output, seed), ScoringOptions(on_invalid, backend))
        self._per_group = checked_count("per_group", per_group)
        self._k = None if k is None else checked_count("k", k)
        self._predicted = bool(predicted)
        if self._predicted and not self._scorer.measure.of_classes:
            raise ValueError(
                "groups: 'predicted' wanted rows of predictions, got rows of "
                f"{self._scorer.measure.kind}"
            )
        self.takes_groups = not self._predicted
        self._noise = Noise(noise, seed, beta)
        if noise == "softrank":
            raise ValueError(
                "noise: 'softrank' ranks the whole pool, so it cannot be used with per_group; "
                "wanted power, softmax or None"
            )
        self._order = TieOrder(ties, seed)
        self.row_filter = row_filter_of(exclude, among)
        self._top = self._new_top()

    def update(self, chunk: Any, start: RowStart = None, groups: Any = None) -> None:  # type: ignore[override]
        """Reads rows start, start + 1, ... of the pool and adds them to the state.

        Args:
            chunk: as for `fastal.Selector`; [n, C] with predicted=True.
            start: as for `fastal.Selector`.
            groups: the groups of the rows: [n] integers, bools, strings or None, as an array or a
                list, or `fastal.base.groups.Groups`. Not to be given with predicted=True.

        Raises:
            InvalidRows: with on_invalid="raise".
            ValueError, TypeError: the chunk is no such array, its number of classes has changed,
                noise "power" found a score below 0, or there is not one group for each row.
        """
        super().update(chunk, start, groups=groups)

    def look(self, chunk: Any, start: RowStart = None, groups: Any = None) -> Pending:
        """Reads and scores rows; see `Reducer.look`."""
        rows = self._prepare(chunk, start)
        of_rows = self._groups_of(rows, groups)
        fused = self._scorer.measure.fused
        is_plain = self._noise.name is None and rows.backend == "native" and rows.kept is None
        if fused is not None and is_plain and (least := self._top.least(of_rows)) > 0:
            return self._look_above(rows, of_rows, fused, least)
        (scores,), n_invalid = self._scorer.scores(rows)
        found = self._noise.keys(scores, rows.numbers).cpu().numpy(), scores.cpu().numpy()
        numbers = rows.numbers
        if rows.kept is not None:  # the groups of other rows are not groups of the pool
            places = np.flatnonzero(rows.kept)
            numbers = RowNumbers(len(places), numbers.start, numbers.at(places))
            found = found[0][places], found[1][places]
            of_rows = as_groups(
                of_rows._replace(codes=of_rows.codes[places]), len(places), "groups"
            )

        def commit() -> None:
            self._scorer.record(rows, n_invalid, lambda: scores)
            self._top.update(found[0], numbers, found[1], of_rows)

        return Pending(commit)

    def _look_above(
        self, rows: Rows, groups: Groups, fused: FusedSelection, least: float
    ) -> Pending:
        """Reads rows that the kernel compares with the lowest threshold of their groups."""
        # All rows that tie pass: those that lose are counted for their groups.
        found, above, n_invalid, _ = fused.above(rows.x, 0, (least, MAX_ROW))
        order = above.argsort()
        scores, places = found[order].numpy(), above[order].numpy()
        numbers = RowNumbers(len(places), rows.start, rows.numbers.at(places))

        def commit() -> None:
            # The rows are scored again only if invalid ones have to be named.
            self._scorer.record(rows, n_invalid, lambda: self._scorer.scores(rows)[0][0])
            self._top.update(scores, numbers, scores, groups._replace(codes=groups.codes[places]))

        return Pending(commit)

    def _groups_of(self, rows: Rows, groups: Any) -> Groups:
        if not self._predicted:
            if groups is None:
                raise ValueError("groups: wanted a label for each row, got None")
            return as_groups(groups, len(rows.numbers), "groups")
        if groups is not None:
            raise ValueError("groups: with predicted=True they are the classes; wanted None")
        if rows.items is not None or rows.x.ndim != 2 or rows.x.shape[1] == 0:
            shape = tuple(rows.x.shape)
            raise ValueError(f"groups: predicted=True wanted rows of classes, got shape {shape}")
        return Groups(rows.x.argmax(1).cpu().numpy(), range(rows.x.shape[1]))

    def part(self) -> "StratifiedSelector":
        """A selector with the same arguments that has read no rows; see `merge`."""
        part = self._unread()
        part._top = self._new_top()
        return part

    def merge(self, other: "StratifiedSelector") -> None:
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
        self._scorer.merge(other._scorer)
        self._top.merge(other._top)

    def result(self) -> Picks:
        """The picks among the rows so far, best first over all groups.

        Rows and scores are arrays of the kind of the last chunk, else NumPy; `groups` is NumPy,
        int64 where all groups are integers, else objects. Groups with too few rows are logged.
        """
        self._warn_of_short_groups()
        n_groups, n_tied, n_taken = self._top.tied()
        if n_groups and self._noise.name is None and self._scorer.measure.ties_matter:
            of_groups = n_groups if self._k is None else None
            log_ties(n_tied, n_taken, self._order, of_groups)
        rows, scores, groups = self._top.best()
        rows, scores = (self._scorer.to_caller_kind(torch.from_numpy(a)) for a in (rows, scores))
        return Picks(rows, scores, None, self.invalid, groups)

    def _warn_of_short_groups(self) -> None:
        short = self.short
        if short:
            named = ", ".join(f"{value!r} ({count})" for value, count in short[:_NAMED_GROUPS])
            _log.warning(
                "%d of %d groups have fewer than %d valid rows: %s%s", len(short),
                len(self._top.values), self._per_group, named,
                ", ..." if len(short) > _NAMED_GROUPS else "",
            )  # fmt: skip

    def identity(self) -> dict[str, Any]:
        """The quotas, the measure, what the rows are, the noise and the order of ties.

        Of a callable `by`, the name.
        """
        quotas = {"k": self._k, "per_group": self._per_group, "predicted": self._predicted}
        random = {**self._noise.identity(), **self._order.identity()}
        return {**quotas, **super().identity(), **random}

    def _state(self) -> dict[str, Any]:
        return {**super()._state(), "top": self._top.state_dict()}

    def _restore(self, state: Mapping[str, Any]) -> None:
        restored = self._new_top()
        restored.load_state_dict(state["top"])
        super()._restore(state)
        self._top = restored

    def _new_top(self) -> GroupedTopK:
        return GroupedTopK(self._per_group, self._k, self._order)

    @property
    def wanted(self) -> int:
        """How many rows to pick; 0 if the quotas alone say it."""
        return self._k or 0

    @property
    def short(self) -> list[tuple[Any, int]]:
        """The groups with fewer than `per_group` valid rows so far, and how many each has.

        The group with the fewest comes first. With k given there are none, since quotas are then
        no promise.
        """
        return self._top.short() if self._k is None else []
