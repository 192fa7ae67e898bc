"""Selection with quotas: the rows most worth labelling, of every group its share."""

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from fastal.base.arrays import converter_for
from fastal.base.errors import check_another, check_same, restoring
from fastal.base.groups import Groups, as_groups
from fastal.scoring.measure import Blank
from fastal.scoring.scorer import By, Chunk, Confirm, Scorer, watching
from fastal.selection.grouped_topk import GroupedTopK
from fastal.selection.noise import Noise
from fastal.selection.picks import Picks
from fastal.selection.topk import checked_count

_log = logging.getLogger("fastal")
_NAMED_GROUPS = 5  # how many groups a warning names at most


class StratifiedSelector:
    """Streaming selection of the most uncertain rows with at most `per_group` rows of each group.

    Exact and deterministic: any chunking, any order of chunks and any number of merged selectors
    give bit for bit the same picks for the same scores and groups, as long as no row is given
    twice. Memory is O(per_group · groups + chunk). One thread at a time may use it.

        selector = fastal.StratifiedSelector(50, by="margin")
        for batch, countries in loader:
            selector.update(model(batch), groups=countries)
        picks = selector.result()

    Args:
        per_group: how many rows to pick of each group, at least 1; a group that has fewer gives
            all of its valid rows.
        by: as for `fastal.Selector`.
        k: None picks `per_group` rows of every group. A number picks as many rows in all: the best
            of the pool, one by one, where a group that has given `per_group` rows is passed over.
        predicted: whether a row's group is the class predicted for it, the first of the largest
            values in the row. All classes are groups then, those that no row has too.
        kind, on_invalid, backend: as for `fastal.Selector`.
        noise, seed, beta: as for `fastal.Selector`, where quotas are of the rows with the largest
            keys; but "softrank", whose ranks are over the whole pool, does not go with quotas.

    Raises:
        ValueError, TypeError: a bad argument, named, with what came and what was wanted.

    Source: Munro, Human-in-the-Loop Machine Learning, section 4.5, on stratified sampling.
    """

    def __init__(
        self,
        per_group: int,
        by: By = "entropy",
        *,
        k: int | None = None,
        predicted: bool = False,
        kind: str = "logits",
        on_invalid: str = "raise",
        backend: str = "auto",
        noise: str | None = None,
        seed: int = 0,
        beta: float = 1.0,
    ) -> None:
        self._per_group = checked_count("per_group", per_group)
        self._k = None if k is None else checked_count("k", k)
        self._predicted = bool(predicted)
        self._noise = Noise(noise, seed, beta)
        if noise == "softrank":
            raise ValueError(
                "noise: 'softrank' ranks the whole pool, which does not go with quotas for groups; "
                "wanted power, softmax or None"
            )
        self._scorer = Scorer(by, kind=kind, on_invalid=on_invalid, backend=backend)
        self._top = GroupedTopK(self._per_group, self._k)
        self._to_caller_kind: Callable[[torch.Tensor], Any] | None = None

    @watching
    def update(
        self,
        chunk: Any,
        start: int | None = None,
        groups: Any = None,
        *,
        confirm: Confirm | None = None,
    ) -> None:
        """Takes rows start, start + 1, ... (None: where the last chunk ended).

        Args:
            chunk: as for `fastal.Selector`; [n, C] with predicted=True.
            start: the row number of the chunk's first row, at least 0.
            groups: the groups of the rows: [n] integers, bools, strings or None, as an array or a
                list, or `fastal.base.groups.Groups`. Not to be given with predicted=True.
            confirm: called when all of the chunk has been looked at and none of it is taken; what
                it raises leaves the state as it was.

        Raises:
            InvalidRows: with on_invalid="raise".
            ValueError, TypeError: the chunk is no such array, its class count has changed, noise
                "power" meets a score below 0, or the groups are not as said.
        """
        rows = self._scorer.checked(chunk, start)
        of_rows = self._groups_of(rows, groups)
        (scores,), n_invalid = self._scorer.scores(rows)
        keys = self._noise.keys(scores, rows.start)
        self._scorer.count(rows, n_invalid, lambda: scores, confirm)
        self._top.update(keys.cpu().numpy(), rows.start, scores.cpu().numpy(), of_rows)
        self._to_caller_kind = converter_for(chunk)

    def _groups_of(self, rows: Chunk, groups: Any) -> Groups:
        if not self._predicted:
            if groups is None:
                raise ValueError("groups: wanted a label a row, got None (and predicted=False)")
            return as_groups(groups, len(rows.x), "groups")
        if groups is not None:
            raise ValueError("groups: with predicted=True they are the classes; wanted None")
        if rows.x.ndim != 2 or rows.x.shape[1] == 0:
            shape = tuple(rows.x.shape)
            raise ValueError(f"groups: predicted=True wanted rows of classes, got shape {shape}")
        return Groups(rows.x.argmax(1).cpu().numpy(), range(rows.x.shape[1]))

    def merge(self, other: "StratifiedSelector") -> None:
        """Takes in a selector with the same arguments that saw other rows.

        Rows are counted on from the last row that either saw.

        Raises:
            ValueError, TypeError: no selector of other rows with the same arguments.
        """
        check_another(StratifiedSelector, self, other)
        check_same(self._arguments(), other._arguments(), "merge: the other")
        self._scorer.merge(other._scorer)
        self._top.merge(other._top)
        self._to_caller_kind = self._to_caller_kind or other._to_caller_kind

    def state_dict(self) -> dict[str, Any]:
        """The state as plain values and NumPy arrays, O(picks + groups); of a callable, its name.

        The groups' values are a list.
        """
        state = {"scorer": self._scorer.state_dict(), "top": self._top.state_dict()}
        return {**state, "arguments": self._arguments()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores exactly what `state_dict` gave.

        Raises:
            ValueError: the state is of a selector with other arguments, or no such state; the
                selector is then as it was.
        """
        with restoring():
            top, scorer = state["top"], state["scorer"]
            check_same(self._arguments(), state["arguments"], "the state")
            restored = GroupedTopK(self._per_group, self._k)
            restored.load_state_dict(top)
            self._scorer.load_state_dict(scorer)
        self._top = restored

    def result(self) -> Picks:
        """The picks among the rows so far, best first over all groups.

        Rows and scores are arrays of the kind of the last chunk, else NumPy; `groups` is NumPy,
        int64 where all groups are integers, else objects. Groups that are short are logged.
        """
        short = self.short
        if short:
            named = ", ".join(f"{value!r} ({count})" for value, count in short[:_NAMED_GROUPS])
            _log.warning(
                "%d of %d groups have fewer than %d valid rows: %s%s", len(short),
                len(self._top.values), self._per_group, named,
                ", ..." if len(short) > _NAMED_GROUPS else "",
            )  # fmt: skip
        as_given = self._to_caller_kind or converter_for(np.empty(0))
        rows, scores, groups = self._top.best()
        rows, scores = (as_given(torch.from_numpy(a)) for a in (rows, scores))
        return Picks(rows, scores, None, self._scorer.invalid, groups)

    def _arguments(self) -> dict[str, Any]:
        quotas = {"per_group": self._per_group, "k": self._k, "predicted": self._predicted}
        return {**quotas, **self._noise.arguments()}

    @property
    def short(self) -> list[tuple[Any, int]]:
        """The groups with fewer than `per_group` valid rows so far, and how many each has.

        The fewest come first. With k given, where quotas are no promise, there are none.
        """
        return self._top.short() if self._k is None else []

    @property
    def takes_groups(self) -> bool:
        """Whether `update` wants groups."""
        return not self._predicted

    @property
    def bar(self) -> None:
        """None: there is one for every group."""
        return None

    @property
    def blank(self) -> Blank | None:
        """The scores of rows that hold nothing."""
        return self._scorer.blank

    @property
    def backend_used(self) -> str | None:
        """The backend that scored the last chunk."""
        return self._scorer.backend_used
