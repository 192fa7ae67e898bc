"""Adaptive representative sampling, as a reducer of few passes: guesses are checked in batches.

A pick changes what the next pick is. So the next picks are guessed, among the rows that scored best
in the last pass. One pass then finds the best row for each guessed state of the training data. As
long as these are the guesses, they are the picks. The first best row that differs from its guess is
a pick too. The picks after it are guessed again. So no pick depends on a guess.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastal import ops
from fastal.base.checks import check_same
from fastal.base.reducer import Pending, RowStart
from fastal.diversity.candidates import Candidates
from fastal.diversity.greedy_picks import expected_passes
from fastal.diversity.mean_direction import of_one_width
from fastal.diversity.metrics import Cosine, Doubles, similarity_error
from fastal.ops.reference import dtype_for, in_one_thread, unit_rows, unit_sums
from fastal.picks.picks import Picks
from fastal.scoring.measure import Measure
from fastal.scoring.rows import Rows
from fastal.scoring.scorer import Scorer
from fastal.scoring.scoring_options import ScoringOptions
from fastal.scoring.scoring_reducer import ScoringReducer
from fastal.selection.ties import Best

MEMORY_BYTES = 1 << 26  # of the rows that are guessed among
# So many picks are guessed at once: some, and some for each guess that held, up to a limit.
_GUESSES, _FOR_EACH, _MOST_GUESSES = 8, 2, 256
# If not even the first guess holds, so many passes follow without guesses; each time twice as many.
_FIRST_PAUSE, _LONGEST_PAUSE = 4, 64
_BLOCK_BYTES = 1 << 25  # of similarities
_PAIR_BYTES = 1 << 24
_MANY_PAIRS = 1 << 12  # so many rows are likely to be equal rows


class Guess(NamedTuple):
    """A row that is guessed to be a pick.

    Attributes:
        row: its number.
        score: about what it scores.
        sums: [1, D] int64, its `unit_sums`.
    """

    row: int
    score: float
    sums: Tensor


class Adaptive(ScoringReducer[Picks]):
    """Picks k rows, each the most representative. Each is training data for the next.

    A score is computed in float64 from the row and the two directions alone, and rounded to
    float32. So chunks, their order, merging and the backend change no pick.

    Args:
        k: how many rows to pick, at least 1.
        of_pool: [1, D] int64, `unit_sums` of the pool.
        of_training: [1, D] int64, `unit_sums` of the training data.
        measure: makes a measure from the two sums.
        options: how the measure is applied.
        fast: as for `adaptive_representative`.
        memory_bytes: memory for the rows to guess among.
    """

    def __init__(
        self,
        k: int,
        of_pool: Tensor,
        of_training: Tensor,
        measure: Callable[[Tensor, Tensor], Measure],
        options: ScoringOptions,
        *,
        fast: bool = False,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        # Of the first state: later ones depend on the picks, which are part of the reducer's state.
        self._measure = measure(of_pool, of_training)
        super().__init__(self._measure, options)
        self._k = k
        self.max_passes = expected_passes(k, 0, 0)
        self._identity = {"k": k, **super().identity()}
        self._fast = fast
        self._memory_bytes = memory_bytes
        of_pool, self._of_training = of_one_width(of_pool, of_training)
        self._to_pool: Doubles = unit_rows(of_pool).numpy()
        self._rows: list[int] = []
        self._scores: list[float] = []
        self._n_passes = 0
        self._pause = self._n_without = 0
        self._begin([])

    def _begin(self, guesses: Sequence[Guess]) -> None:
        """Starts a pass that checks guesses."""
        self._guesses = list(guesses)
        sums = [self._of_training]
        for guess in guesses[:-1]:
            sums.append(sums[-1] + guess.sums)
        self._to_training: Doubles = unit_rows(torch.cat(sums)).numpy()
        self._best: list[Best | None] = [None] * len(sums)  # for each state; payloads are [1, D]
        self._scorer = Scorer(self._measure, self.options)
        self._candidates = Candidates(self._memory_bytes)

    def look(self, chunk: Any, start: RowStart = None) -> Pending:
        """Finds the best rows of a chunk for each state; see `Reducer.look`."""
        rows = self._prepare(chunk, start)
        best, candidates = list(self._best), self._candidates.empty()
        size = max(1, _BLOCK_BYTES // (4 * (1 + len(best))))
        invalid: list[Tensor] = []
        for first in range(0, len(rows.numbers), size):
            part = rows.part(first, first + size)
            scores = self._rough_scores(part)
            invalid.append(scores[:, 0])
            examine = partial(self._examine, part, scores, best, candidates)
            # In one thread: torch's own threads would wait for one another at each of the steps.
            best = examine() if scores.is_cuda else in_one_thread(examine)
        of_rows = torch.cat(invalid) if invalid else _floats([], rows.x.device)
        n_invalid = int(rows.invalid(of_rows).count_nonzero())

        def commit() -> None:
            self._scorer.record(rows, n_invalid, lambda: of_rows)
            self._best = [
                found.or_better(before) if found else before
                for found, before in zip(best, self._best, strict=True)
            ]
            self._candidates.merge(candidates)

        return Pending(commit)

    def _rough_scores(self, rows: Rows) -> Tensor:
        """The scores of rows for each state, [n, T] within `_error`; NaN for invalid rows."""
        units = torch.from_numpy(np.concatenate((self._to_pool, self._to_training))).float()
        found = ops.similarities(rows.x, units.to(rows.x.device), self._fast, backend=rows.backend)
        return found[:, :1] - found[:, 1:]

    def _examine(
        self, rows: Rows, scores: Tensor, best: list[Best | None], candidates: Candidates
    ) -> list[Best | None]:
        """Adds rows to the candidates. Returns the best row for each state, see `_better`."""
        scores = self._without_picks(rows, scores)
        scored = _floats([g.score for g in self._guesses] or [0.0], scores.device)
        if not self._n_without:
            candidates.add((scores - scored).amax(1), rows.numbers, scores[:, 0], rows.x)
        return self._better(rows, scores, best)

    def _without_picks(self, rows: Rows, scores: Tensor) -> Tensor:
        """The scores, -inf where a row must not be picked."""
        found = rows.without_left_out(scores[:, 0], -torch.inf).nan_to_num(
            nan=-torch.inf, neginf=-torch.inf
        )
        scores = scores.masked_fill((found == -torch.inf)[:, None], -torch.inf)
        picked = np.array(sorted(self._rows), np.int64)
        scores[torch.from_numpy(rows.numbers.found(picked)[1])] = -torch.inf
        for step, guess in enumerate(self._guesses):
            _, here = rows.numbers.found(np.array([guess.row]))
            scores[torch.from_numpy(here), step + 1 :] = -torch.inf
        return scores

    def _better(self, rows: Rows, scores: Tensor, best: list[Best | None]) -> list[Best | None]:
        """The best row for each state, of these and those before."""
        error = 2 * similarity_error(rows, fast=self._fast)
        least = _floats([b.score if b else -np.inf for b in best], scores.device)
        least = torch.maximum(least, scores.amax(0) - error) - error
        places, steps = (
            column.cpu().numpy()
            for column in ((scores >= least) & (scores > -torch.inf)).nonzero(as_tuple=True)
        )
        if not len(places):
            return best
        taken, at = np.unique(places, return_inverse=True)
        x = rows.x[torch.from_numpy(taken).to(rows.x.device)].to("cpu", dtype_for(rows.x))
        if len(places) > _MANY_PAIRS:  # of equal rows, the first
            pairs = _first_equal(x.numpy())[at] * len(best) + steps
            _, kept = np.unique(pairs, return_index=True)
            places, steps, at = places[kept], steps[kept], at[kept]
        found = self._exact_scores(x, at, steps)
        numbers = rows.numbers.at(places)
        order = np.lexsort((numbers, -found, steps))
        firsts = order[np.unique(steps[order], return_index=True)[1]]
        best = list(best)
        for pair in firsts.tolist():
            embedding = x[at[pair] : at[pair] + 1].clone()
            one = Best(float(found[pair]), int(numbers[pair]), embedding)
            best[steps[pair]] = one.or_better(best[steps[pair]])
        return best

    def _exact_scores(
        self, x: Tensor, places: NDArray[np.int64], steps: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """The scores of pairs of a row of x and a state, added up in a fixed order."""
        points = Cosine().points(x)
        to_pool = np.add.reduce(points * self._to_pool, axis=1)
        found = np.empty(len(places), np.float32)
        size = max(1, _PAIR_BYTES // (8 * x.shape[1]))
        for first in range(0, len(places), size):
            part = slice(first, first + size)
            products = points[places[part]] * self._to_training[steps[part]]
            found[part] = to_pool[places[part]] - np.add.reduce(products, axis=1)
        return found

    def next_pass(self) -> bool:
        """Picks the best rows as far as the guesses hold; returns whether there is another pass."""
        self._n_passes += 1
        n_picks = len(self._rows)
        for step, best in enumerate(self._best):
            if best is None:
                return self._ends()
            score, row, x = best
            self._rows.append(row)
            self._scores.append(score)
            self._of_training = self._of_training + _sums_of(x)
            if len(self._rows) == self._k:
                return self._ends()
            if step >= len(self._guesses) or row != self._guesses[step].row:
                break
        left, n_new = self._k - len(self._rows), len(self._rows) - n_picks
        if self._guesses:
            longer = min(max(_FIRST_PAUSE, 2 * self._pause), _LONGEST_PAUSE)
            self._pause = self._n_without = longer if n_new == 1 else 0
        elif self._n_without:
            self._n_without -= 1
        n_guesses = min(left, _GUESSES + _FOR_EACH * n_new, _MOST_GUESSES)
        # In one thread, since torch would divide each of the many small steps.
        self._begin(in_one_thread(lambda: self._guessed(n_guesses)))
        self.max_passes = expected_passes(self._k, len(self._rows), self._n_passes)
        return True

    def _ends(self) -> bool:
        self.max_passes = self._n_passes
        return False

    def _guessed(self, n: int) -> list[Guess]:
        """The next picks, if they were among the candidates; up to n of them."""
        rows, _, x = self._candidates.best()
        by_row = np.argsort(rows)
        rows, x = rows[by_row], x[torch.from_numpy(by_row)]
        is_left = ~np.isin(rows, self._rows)
        rows, x = rows[is_left], x[torch.from_numpy(is_left)]
        if not len(rows):
            return []
        units = Cosine().prepared(x)[0]
        to_pool = torch.mv(units, torch.from_numpy(self._to_pool[0]).float())
        of_training = self._of_training
        along = torch.mv(units, of_training[0].float())
        guesses: list[Guess] = []
        for _ in range(min(n, len(rows))):
            length = float(torch.linalg.vector_norm(of_training.double())) or 1.0
            scores = to_pool - along / length
            place = int(scores.argmax())
            sums = _sums_of(x[place : place + 1])
            guesses.append(Guess(int(rows[place]), float(scores[place]), sums))
            of_training = of_training + sums
            along += torch.mv(units, sums[0].float())
            to_pool[place] = -torch.inf
        return guesses

    def part(self) -> "Adaptive":
        """A reducer with the same picks that has read no rows of this pass; see `merge`."""
        part = self._unread()
        part._best = [None] * len(self._best)
        part._candidates = Candidates(self._memory_bytes)
        return part

    def merge(self, other: "Adaptive") -> None:
        """Adds the same pass over other rows.

        Raises:
            ValueError: the other has other arguments or picks.
            TypeError: the other is not an `Adaptive`, or is this very reducer.
        """
        self._check_mergeable(other)
        check_same({"picks": self._rows}, {"picks": other._rows}, "merge: the other")
        self._scorer.merge(other._scorer)
        self._best = [
            theirs.or_better(ours) if theirs else ours
            for theirs, ours in zip(other._best, self._best, strict=True)
        ]
        self._candidates.merge(other._candidates)

    def result(self) -> Picks:
        """The picks so far, in the order of picking.

        The arrays are of the kind of the last chunk, or NumPy if there was none.
        """
        to_caller_kind = self._scorer.to_caller_kind
        rows = to_caller_kind(torch.tensor(self._rows, dtype=torch.int64, device="cpu"))
        scores = to_caller_kind(torch.tensor(self._scores, dtype=torch.float32, device="cpu"))
        return Picks(rows, scores, None, self.invalid)

    @property
    def wanted(self) -> int:
        """How many rows to pick."""
        return self._k

    @property
    def strategy(self) -> str:
        """Its name."""
        return "adaptive_representative"

    @property
    def kth_score(self) -> float | None:
        """The score of the last pick; None before the first."""
        return self._scores[-1] if self._scores else None

    def identity(self) -> dict[str, Any]:
        """k, and the directions of the pool and of the training data before the first pick."""
        return self._identity

    def _state(self) -> dict[str, Any]:
        best = [b and [b.score, b.row, b.payload.numpy().copy()] for b in self._best]
        return {
            **super()._state(),
            "training": self._of_training.numpy().copy(),
            "rows": list(self._rows),
            "scores": list(self._scores),
            "guesses": [[g.row, g.score, g.sums.numpy().copy()] for g in self._guesses],
            "best": best,
            "candidates": self._candidates.state_dict(),
            "passes": [self._n_passes, self._pause, self._n_without],
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        self._of_training = torch.from_numpy(state["training"])
        self._rows, self._scores = list(state["rows"]), list(state["scores"])
        self._begin([Guess(row, score, torch.from_numpy(s)) for row, score, s in state["guesses"]])
        super()._restore(state)
        self._best = [
            found and Best(found[0], found[1], torch.from_numpy(found[2]))
            for found in state["best"]
        ]
        self._candidates.load_state_dict(state["candidates"])
        self._n_passes, self._pause, self._n_without = state["passes"]
        self.max_passes = expected_passes(self._k, len(self._rows), self._n_passes)


def _first_equal(x: NDArray[Any]) -> NDArray[np.int64]:
    """For each row [n, D], a row that is equal, mostly the first of them: [n] int64.

    Rows are found by hashes, and then compared.
    """
    words = np.ascontiguousarray(x).view(np.uint32)
    factors = np.random.default_rng(0).integers(0, 1 << 32, words.shape[1], np.uint32)
    hashes = (words * factors).sum(1, dtype=np.uint64)
    _, first, group = np.unique(hashes, return_index=True, return_inverse=True)
    found: NDArray[np.int64] = first[group]
    differs = (words != words[found]).any(1)
    found[differs] = np.flatnonzero(differs)
    return found


def _sums_of(x: Tensor) -> Tensor:
    """The `unit_sums` of one row [1, D]."""
    return unit_sums(x, torch.zeros(1, dtype=torch.int64, device="cpu"), 1)


def _floats(values: list[float], device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=device)
