"""Scores of items of several draws, on any device that torch supports.

A draw is the output of one dropout pass, or of one member of an ensemble or a committee. Items are
scored in blocks. A block adds up its draws one after the other, so no temporary is [N, S, C].

All sums are float64. BALD is the difference of two entropies that may be nearly equal. float32 has
too few digits for that. Sums over classes add in a fixed order (`_class_sum`), and all other
steps are elementwise. So no score depends on how the items are cut into blocks.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fastal.base.argument_values import DRAWS_SCORES as DRAWS_SCORES
from fastal.ops.reference.uncertainty import probs_tolerance
from fastal_kernels.row_threads import in_row_threads

# Bytes of a block in each of the buffers, of which there are at most seven.
_BLOCK_BYTES, _GPU_BLOCK_BYTES = 1 << 21, 1 << 25
# Blocks of fewer classes are transposed, so that torch vectorises across items.
_TRANSPOSE_BELOW = 32
# A probability from here to 0 counts as 0: rounding may leave it where the true value is 0.
_LEAST_PROB = -1e-3
# The rounding errors of both entropies stay below this. A smaller difference is no disagreement.
_LEAST_BALD = 1e-12
# Below this, e^d is exactly 0 in float64. A logarithm is clamped to it, because 0 · −inf is NaN.
_FLOOR = -800.0


def draws(
    x: Tensor, measures: Sequence[str], kind: str = "logits", temperature: float = 1.0
) -> list[Tensor]:
    """Scores of each item from all of its draws, in the order of `measures`.

    p_s is the distribution of draw s: the softmax of its logits divided by the temperature. m is
    the mean of all p_s. A draw votes for its largest value, or for the first of several equal ones.
    v are the shares of the votes. Entropies are in nats, except `entropy`.

        bald                mean over s of KL(p_s || m), which is mean_entropy − expected_entropy
        mean_entropy        −Σ m ln m
        expected_entropy    mean over s of −Σ p_s ln p_s
        variation_ratio     1 − the share of votes of the class that has most
        vote_entropy        −Σ v ln v
        kl_to_mean          mean over s of KL(p_s || m): the same value as bald
        variance            mean over classes of the population variance of p_s over the draws
        least_confidence, margin, ratio, entropy    `fastal.ops.formulas`, of m

    Args:
        x: [N, S, C] with S >= 1 and C >= 2; float16, bfloat16, float32 or float64; any strides.
        measures: names from `DRAWS_SCORES`.
        kind: what the draws hold: "logits", "probs" or "log_probs". Log-probabilities are scored as
            logits. Each draw of probabilities is divided by its sum.
        temperature: divides logits and log-probabilities; above 0. Probabilities ignore it.

    Returns:
        A list of [N] float32 tensors, all at least 0. Larger is more uncertain. variation_ratio,
        variance and the last four are at most 1, the entropies at most ln C. Every score of an
        invalid item is NaN. An item is invalid if one of its draws is invalid. A draw is invalid if
        it has NaN, +inf or no finite value. A draw of "probs" is also invalid if it has a value
        below -1e-3, or if its sum differs from 1 by more than `probs_tolerance`. Probabilities from
        -1e-3 to 0 count as 0.

    Raises:
        KeyError: an unknown measure.

    Sources: Houlsby et al., Bayesian Active Learning for Classification and Preference Learning
    (arXiv:1112.5745): bald. Gal, Islam and Ghahramani, Deep Bayesian Active Learning with Image
    Data (ICML 2017): variation_ratio. Dagan and Engelson, Committee-Based Sampling for Training
    Probabilistic Classifiers (ICML 1995): vote_entropy. McCallum and Nigam, Employing EM and
    Pool-Based Active Learning for Text Classification (ICML 1998): kl_to_mean.

    Example:
        >>> import torch
        >>> from fastal.ops import reference
        >>> p = torch.tensor([[[0.9, 0.1], [0.9, 0.1]], [[0.9, 0.1], [0.1, 0.9]]])
        >>> (bald,) = reference.draws(p, ["bald"], kind="probs")
        >>> [round(value, 4) for value in bald.tolist()]
        [0.0, 0.3681]
    """
    formulas = [_FORMULAS[measure] for measure in measures]
    n_items, _, n_classes = x.shape
    scores = [torch.empty(n_items, dtype=torch.float32, device=x.device) for _ in measures]
    block_bytes = _BLOCK_BYTES if x.device.type == "cpu" else _GPU_BLOCK_BYTES
    block_items = max(1, block_bytes // (8 * n_classes))

    def work(claimed: Iterator[slice]) -> None:
        for items in claimed:
            sums, is_valid = _add_up(x[items], measures, kind, temperature)
            for out, formula in zip(scores, formulas, strict=True):
                out[items] = formula(sums).masked_fill_(~is_valid, math.nan)

    in_row_threads(work, x, block_items)
    return scores


@dataclass(frozen=True)
class _Sums:
    """What the scores of n items are computed from; all float64.

    Attributes:
        n_draws: the number S of draws.
        n_classes: the number C of classes.
        entropy: [n], the sum of the draws' entropies.
        tail: [n], the sum of m without its largest value, or without one of several.
        most, second: [n], the largest value of m and the second largest.
        surprise: [n], −Σ m ln m without its largest value, or without one of several.
        votes: [n, C], the votes for each class; None if no score needs them.
        variance: [n], the variance summed over classes; None if no score needs it.
    """

    n_draws: int
    n_classes: int
    entropy: Tensor
    tail: Tensor
    most: Tensor
    second: Tensor
    surprise: Tensor
    votes: Tensor | None
    variance: Tensor | None


_WITH_VOTES = {"variation_ratio", "vote_entropy"}


def _add_up(
    x: Tensor, measures: Sequence[str], kind: str, temperature: float
) -> tuple[_Sums, Tensor]:
    """The sums of a block [n, S, C] of items, and [n] which of them are valid."""
    n_items, n_draws, n_classes = x.shape
    d, e, p = _buffer(x), _buffer(x), _buffer(x)
    votes = _buffer(x) if _WITH_VOTES & set(measures) else None
    spread = _Spread(x) if "variance" in measures else None
    entropy = x.new_zeros(n_items, dtype=torch.float64)
    is_valid = torch.ones_like(entropy, dtype=torch.bool)
    for s in range(n_draws):
        most, vote = d.copy_(x[:, s]).max(1, keepdim=True)
        is_valid &= most.isfinite().squeeze(1)
        if kind == "probs":
            is_valid &= d.amin(1) >= _least_prob(x.dtype)
            torch.div(d, most, out=e).clamp_(min=0)
            torch.log(e, out=d).clamp_(min=_FLOOR)
        else:
            torch.exp(d.sub_(most).div_(temperature).clamp_(min=_FLOOR), out=e)
        moment = _class_sum(d.mul_(e))  # of the vote, d is 0
        # The vote is left out of the sum, so that 1 − p stays accurate where p is close to 1.
        tail = _class_sum(d.copy_(e).scatter_(1, vote, 0.0))
        if kind == "probs":
            total = (1 + tail) * most.squeeze(1)
            is_valid &= (total - 1).abs() <= probs_tolerance(x.dtype, n_classes)
        entropy += tail.log1p() - moment / (1 + tail)
        e.div_((1 + tail)[:, None])
        p += e
        if spread is not None:
            spread.add(e, vote, (tail / (1 + tail))[:, None])
        if votes is not None:
            votes.scatter_add_(1, vote, torch.ones_like(most))
    most, first = p.div_(n_draws).max(1, keepdim=True)
    p.scatter_(1, first, 0.0)
    logs = torch.log(d.copy_(p).clamp_(min=torch.finfo(torch.float64).tiny), out=d)
    second, surprise = p.amax(1), -_class_sum(logs.mul_(p))
    sums = _Sums(
        n_draws, n_classes, entropy, _class_sum(p), most.squeeze(1), second, surprise, votes,
        None if spread is None else spread.variance(n_draws),
    )  # fmt: skip
    return sums, is_valid


class _Spread:
    """The variance of the draws, from their differences to the first one.

    The first draw is at most √S standard deviations from the mean. So the variance is at least
    1 / (S + 1) of the mean square of the differences: few digits are lost. Equal draws give 0.

    The first draw's vote has p close to 1 in confident items. Its differences come from 1 − p.
    """

    def __init__(self, x: Tensor) -> None:
        self._first: tuple[Tensor, Tensor] | None = None
        self._sum_nC, self._squares_nC = _buffer(x), _buffer(x)

    def add(self, p_nC: Tensor, vote_n1: Tensor, rest_n1: Tensor) -> None:
        """Adds a draw, and overwrites p_nC. `rest_n1` is 1 − p of its vote."""
        vote_of_first_n1 = vote_n1 if self._first is None else self._first[1]
        # If the draw votes for another class, p of this one is at most 1/2: 1 − p loses nothing.
        other_n1 = 1 - p_nC.gather(1, vote_of_first_n1)
        rest_n1 = torch.where(vote_n1 == vote_of_first_n1, rest_n1, other_n1)
        p_nC.scatter_(1, vote_of_first_n1, -rest_n1)
        if self._first is None:
            self._first = p_nC.clone(), vote_n1
        difference_nC = p_nC.sub_(self._first[0])
        self._sum_nC += difference_nC
        self._squares_nC.addcmul_(difference_nC, difference_nC)

    def variance(self, n_draws: int) -> Tensor:
        """The population variance, summed over classes: [n]. Overwrites the sums."""
        mean_nC = self._sum_nC.div_(n_draws)
        return _class_sum(self._squares_nC.div_(n_draws).addcmul_(mean_nC, mean_nC, value=-1))


def _buffer(x: Tensor) -> Tensor:
    """Zeros [n, C] for a block x [n, S, C]."""
    n_items, _, n_classes = x.shape
    if n_classes < _TRANSPOSE_BELOW:
        return x.new_zeros(n_classes, n_items, dtype=torch.float64).t()
    return x.new_zeros(n_items, n_classes, dtype=torch.float64)


def _class_sum(x_nC: Tensor) -> Tensor:
    """The sum of each row, in pairs whose order depends on C alone. Overwrites x_nC."""
    width = x_nC.shape[1]
    while width > 1:
        half = (width + 1) // 2
        x_nC[:, : width - half].add_(x_nC[:, half:width])
        width = half
    return x_nC[:, 0].clone()


def _least_prob(dtype: torch.dtype) -> float:
    """`_LEAST_PROB`, rounded to float32 unless the probabilities have more digits."""
    if dtype == torch.float64:
        return _LEAST_PROB
    return torch.tensor(_LEAST_PROB, dtype=torch.float32, device="cpu").item()


def _mean_entropy(s: _Sums) -> Tensor:
    return s.surprise + s.most * (s.tail / s.most).log1p()


def _expected_entropy(s: _Sums) -> Tensor:
    return s.entropy / s.n_draws


def _bald(s: _Sums) -> Tensor:
    bald = _mean_entropy(s) - _expected_entropy(s)
    return bald.masked_fill_(bald < _LEAST_BALD, 0)


def _variation_ratio(s: _Sums) -> Tensor:
    assert s.votes is not None
    return (s.n_draws - s.votes.amax(1)) / s.n_draws


def _vote_entropy(s: _Sums) -> Tensor:
    assert s.votes is not None
    shares = s.votes / s.n_draws
    return 0 - _class_sum(shares * shares.clamp(min=1 / s.n_draws).log())


def _variance(s: _Sums) -> Tensor:
    assert s.variance is not None
    return s.variance / s.n_classes


def _least_confidence(s: _Sums) -> Tensor:
    return s.tail * (s.n_classes / (s.n_classes - 1))


def _margin(s: _Sums) -> Tensor:
    return s.tail + s.second


def _ratio(s: _Sums) -> Tensor:
    return s.second / s.most


def _entropy(s: _Sums) -> Tensor:
    return _mean_entropy(s) / math.log(s.n_classes)


_FORMULAS: dict[str, Callable[[_Sums], Tensor]] = {
    "bald": _bald,
    "mean_entropy": _mean_entropy,
    "expected_entropy": _expected_entropy,
    "variation_ratio": _variation_ratio,
    "vote_entropy": _vote_entropy,
    "kl_to_mean": _bald,
    "variance": _variance,
    "least_confidence": _least_confidence,
    "margin": _margin,
    "ratio": _ratio,
    "entropy": _entropy,
}
