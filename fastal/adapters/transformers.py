"""Scores and picks for the Trainer of Hugging Face transformers, instead of the logits."""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

from torch import Tensor
from torch.utils.data import IterableDataset, SequentialSampler
from transformers import TrainerCallback

import fastal

IGNORED = -100  # the label of tokens that do not count, as Trainer pads labels with


@dataclass(frozen=True)
class ScoresOfLogits:
    """Turns the logits of each batch into uncertainty scores, for `preprocess_logits_for_metrics`.

    Trainer then keeps one number per row instead of the logits, and `predictions` of its output
    are the scores [N], in the order in which it evaluates the rows. This also holds with several
    processes. Rank them with `fastal.select(predictions, k, by="score")`.

    Attributes:
        by: "least_confidence", "margin", "ratio" or "entropy"; or several of these in a tuple or a
            list.
        kind: what the model puts out, see `fastal.score`.
        temperature: logits are divided by it.
        aggregate: how the scores of tokens or independent labels become one, see `fastal.score`.
            Required for logits [n, T, C] and for kinds of labels.
        next_token: the logits of a token predict the label of the token after it, as in causal
            language models. A token then counts if the label after it is not -100.
        on_invalid: "raise", or "skip" to give invalid rows NaN.

    Raises:
        ValueError, TypeError: a bad argument; the message names it.

    Example:
        >>> import torch
        >>> from fastal.adapters.transformers import ScoresOfLogits
        >>> logits = torch.tensor([[0.0, 9.0], [1.0, 1.0]])
        >>> ScoresOfLogits()(logits, None).round(decimals=3)
        tensor([0., 1.])
        >>> tokens, labels = logits.expand(2, 2, 2), torch.tensor([[1, -100], [1, 0]])
        >>> ScoresOfLogits("ratio", aggregate="mean")(tokens, labels).round(decimals=3)
        tensor([0.0000, 0.5000])
    """

    by: str | Sequence[str] = "margin"
    _: KW_ONLY
    kind: str = "logits"
    temperature: float = 1.0
    aggregate: str | None = None
    next_token: bool = False
    on_invalid: str = "raise"

    def __post_init__(self) -> None:
        names = (self.by,) if isinstance(self.by, str) else self.by
        if not isinstance(names, (tuple, list)) or not names:
            raise TypeError(f"by: wanted a name of a score, or several, got {self.by!r}")
        for name in names:
            if name not in fastal.Scores._fields:
                wanted = ", ".join(fastal.Scores._fields)
                raise ValueError(f"by: wanted one of {wanted}, got {name!r}")
            fastal.Selector(  # checks the other arguments
                1, name, kind=self.kind, temperature=self.temperature, aggregate=self.aggregate,
                on_invalid=self.on_invalid,
            )  # fmt: skip

    def __call__(self, logits: Any, labels: Any) -> Tensor | tuple[Tensor, ...]:
        """The scores of a batch, as Trainer asks for them.

        Args:
            logits: [n, C]; or [n, T, C] of tokens; or a tuple of outputs of which this is the
                first.
            labels: of tokens, [n, T] integers: a token with the label -100 does not count.
                Otherwise they are not read, and may be None.

        Returns:
            [n] float32 on the device of the logits; for several scores, a tuple of them in the
            order of `by`.

        Raises:
            InvalidRows: with on_invalid="raise"; it names rows by their place in the batch. A row
                of tokens of which none counts is invalid.
            ValueError, TypeError: logits or labels of another shape or type.
        """
        x = logits[0] if isinstance(logits, (tuple, list)) and len(logits) else logits
        if not isinstance(x, Tensor):
            raise TypeError(f"logits: wanted a tensor, or a tuple that begins with one, got {x!r}")
        if x.ndim not in self._axes:
            wanted = " or ".join(self._axes.values())
            raise ValueError(f"logits: wanted {wanted}, got shape {tuple(x.shape)}")
        scores = fastal.score(
            x if x.ndim == 2 else self._tokens(x, labels), kind=self.kind,
            temperature=self.temperature, aggregate=self.aggregate, on_invalid=self.on_invalid,
        )  # fmt: skip
        if isinstance(self.by, str):
            found: Tensor = getattr(scores, self.by)
            return found
        return tuple(getattr(scores, name) for name in self.by)  # Trainer rebuilds a plain tuple

    @property
    def _axes(self) -> dict[int, str]:
        """The shapes that logits may have, by their number of axes."""
        if self.kind.startswith("multilabel"):
            return {2: "[n, labels]"}
        rows = {} if self.next_token else {2: "[n, classes]"}
        return {**rows, 3: "[n, tokens, classes]"}

    def _tokens(self, x: Tensor, labels: Any) -> Any:
        """Tokens as items, without those that do not count."""
        shape = tuple(x.shape)
        if self.aggregate is None:
            raise ValueError(
                "aggregate: wanted mean, max, sum, least, or top and a number such as top10, since "
                f"the logits {shape} have several tokens per row; got None"
            )
        if not isinstance(labels, Tensor) or tuple(labels.shape) != shape[:2]:
            got = tuple(labels.shape) if isinstance(labels, Tensor) else type(labels).__name__
            raise ValueError(
                f"labels: wanted a tensor {shape[:2]} beside the logits {shape}, with {IGNORED} "
                f"for tokens that do not count, such as padding; got {got}. For rows that are not "
                "labelled, give any class to the tokens that count"
            )
        if self.next_token:
            x, labels = x[:, :-1], labels[:, 1:]
        return fastal.items(x, mask=labels != IGNORED)


class RunningSelection(TrainerCallback):
    """Picks rows while Trainer predicts.

    Give it to Trainer twice: as `preprocess_logits_for_metrics` and among the `callbacks`. As a
    callback it learns which loader the batches come from, and when an evaluation has ended. Each
    evaluation starts anew. Trainer gets the scores of the rows, [N], as its predictions.

    Args:
        k: how many rows to pick, at least 1.
        by: "least_confidence", "margin", "ratio" or "entropy".
        kind: see `ScoresOfLogits`.
        temperature: see `ScoresOfLogits`.
        aggregate: see `ScoresOfLogits`.
        next_token: see `ScoresOfLogits`.
        on_invalid: "raise" stops the evaluation at the first batch with an invalid row, and names
            the row. "skip" leaves such rows out and counts them.
        exclude: rows that must not be picked, see `fastal.Selector`.
        among: the only rows that may be picked, see `fastal.Selector`.
        ties: see `fastal.Selector`.
        seed: of ties="random".

    Raises:
        ValueError, TypeError: a bad argument; the message names it. While Trainer predicts: row
            numbers would not count the rows of the dataset, since there are several processes, or a
            sampler orders the rows (as with group_by_length), or rows are missing.

    Example:
        >>> import torch
        >>> from transformers import Trainer, TrainingArguments
        >>> from fastal.adapters.transformers import RunningSelection
        >>> class Model(torch.nn.Module):
        ...     def forward(self, x):
        ...         return {"logits": x}
        >>> pool = [{"x": x} for x in torch.tensor([[9.0, 0.0], [0.1, 0.0], [0.0, 0.5]])]
        >>> selection = RunningSelection(k=2)
        >>> trainer = Trainer(
        ...     Model(),
        ...     TrainingArguments(report_to="none", disable_tqdm=True, use_cpu=True),
        ...     preprocess_logits_for_metrics=selection,
        ...     callbacks=[selection],
        ... )
        >>> trainer.predict(pool).predictions.round(1)
        array([0. , 1. , 0.8], dtype=float32)
        >>> selection.result().rows
        tensor([1, 2])
    """

    def __init__(
        self,
        k: int,
        by: str = "margin",
        *,
        kind: str = "logits",
        temperature: float = 1.0,
        aggregate: str | None = None,
        next_token: bool = False,
        on_invalid: str = "raise",
        exclude: Any = None,
        among: Any = None,
        ties: str = "first",
        seed: int = 0,
    ) -> None:
        if not isinstance(by, str):
            raise TypeError(f"by: wanted the name of one score, got {by!r}")
        # The selector knows the numbers of the rows, so it is what refuses invalid ones.
        self._score = ScoresOfLogits(
            by, kind=kind, temperature=temperature, aggregate=aggregate, next_token=next_token,
            on_invalid="skip",
        )  # fmt: skip

        def new_selector() -> fastal.Selector:
            return fastal.Selector(
                k, "score", on_invalid=on_invalid, exclude=exclude, among=among, ties=ties,
                seed=seed,
            )  # fmt: skip

        self._new_selector = new_selector
        self._selector = new_selector()
        self._loader: Any = None  # of the evaluation that the selector has read so far
        self._n_rows = 0
        self._scores: Tensor | None = None  # of the batch whose loader is not known yet
        self._picks: fastal.Picks | None = None

    def __call__(self, logits: Any, labels: Any) -> Tensor:
        """The scores of a batch, see `ScoresOfLogits`. Trainer then calls `on_prediction_step`."""
        scores = self._score(logits, labels)
        assert isinstance(scores, Tensor)
        self._scores = scores
        return scores

    def on_prediction_step(self, args: Any, *_: Any, eval_dataloader: Any, **__: Any) -> None:
        """Called by Trainer after each batch: selects among its rows."""
        scores, self._scores = self._scores, None
        if scores is None:  # an evaluation of the loss alone
            return
        if eval_dataloader is not self._loader:
            _check_order(args, eval_dataloader)
            self._selector, self._loader, self._n_rows = self._new_selector(), eval_dataloader, 0
            self._picks = None
        self._selector.update(scores)
        self._n_rows += len(scores)

    def on_evaluate(self, *_: Any, eval_dataloader: Any, **__: Any) -> None:
        """Called by Trainer at the end of `evaluate`."""
        self._end(eval_dataloader)

    def on_predict(self, *_: Any, eval_dataloader: Any, **__: Any) -> None:
        """Called by Trainer at the end of `predict`."""
        self._end(eval_dataloader)

    def _end(self, loader: Any) -> None:
        read, self._loader = self._loader, None
        if read is None or read is not loader:
            return
        n_rows = len(loader.dataset) if hasattr(loader.dataset, "__len__") else self._n_rows
        if n_rows != self._n_rows:
            raise ValueError(
                f"RunningSelection: it was given {self._n_rows} rows of a dataset with {n_rows}; "
                "wanted all of them, once, so with dataloader_drop_last=False"
            )
        self._picks = self._selector.result()

    def result(self) -> fastal.Picks:
        """The picks of the last evaluation that ended, best first.

        Rows are counted in the order of the dataset. Rows and scores are torch tensors on the
        device of the logits.

        Raises:
            ValueError: no evaluation with logits has ended.
        """
        if self._picks is None:
            raise ValueError(
                "RunningSelection: no evaluation with logits has ended; wanted "
                "Trainer(preprocess_logits_for_metrics=selection, callbacks=[selection]), then "
                "predict, or evaluate with compute_metrics"
            )
        return self._picks


def _check_order(args: Any, loader: Any) -> None:
    """Refuses evaluations in which the n-th row that is seen is not row n of the dataset."""
    if args.world_size > 1:
        raise ValueError(
            f"RunningSelection: each of {args.world_size} processes sees a part of the rows, so "
            "row numbers would mean nothing; wanted one process, or ScoresOfLogits, whose scores "
            "Trainer gathers, and fastal.select(predictions, k, by='score')"
        )
    if not getattr(loader, "in_order", True):
        raise ValueError(
            "RunningSelection: with dataloader_in_order=False, row numbers would mean nothing; "
            "wanted True"
        )
    if isinstance(getattr(loader, "dataset", None), IterableDataset):
        if loader.num_workers > 1:
            raise ValueError(
                f"RunningSelection: {loader.num_workers} workers iterate over one IterableDataset, "
                "so row numbers would mean nothing; wanted dataloader_num_workers of 0 or 1"
            )
        return
    sampler = getattr(getattr(loader, "batch_sampler", None), "sampler", None)
    if not isinstance(sampler, SequentialSampler):
        raise ValueError(
            "RunningSelection: wanted a SequentialSampler, which evaluates row 0, 1, 2, ...; got "
            f"{type(sampler).__name__} (LengthGroupedSampler is that of group_by_length)"
        )
