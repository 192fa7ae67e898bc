"""Picks while the Trainer of Lightning predicts, in one process or in several."""

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch
from lightning.pytorch.callbacks import BasePredictionWriter
from numpy.typing import NDArray
from torch.utils.data import DistributedSampler, IterableDataset

import fastal

__all__ = ["RunningSelection"]

_log = logging.getLogger("fastal")

Part: TypeAlias = str | int | Callable[[Any], Any] | None


class RunningSelection(BasePredictionWriter):
    """Picks rows while `Trainer.predict` runs, without keeping the predictions.

    It is a callback of Trainer. Row numbers are those of the dataset, in whatever order the loader
    reads it. If several processes predict, each selects among its own rows, and all of them end
    with the picks that one process would have made. Every `predict` starts anew.

    Memory is O(k), and 1 byte per row of the dataset for the rows that were read.

    Args:
        k: how many rows to pick, at least 1.
        by: see `fastal.Selector`. "score" ranks scores that `predict_step` returns.
        logits: the part of what `predict_step` returns that is scored: a key, the place in a tuple,
            or a callable from the prediction to an array or to `fastal.items`. None: the prediction
            is the array. The array has a row for each row of the batch.
        options: the other arguments of `fastal.Selector`, such as `kind`, `exclude` and
            `on_invalid`.

    Raises:
        ValueError, TypeError: a bad argument; the message names it. During `predict`: the row
            numbers cannot be known, the predictions are not one for each row, several processes
            read the same row, or rows that the sampler has were not read.
        InvalidRows: during `predict`, with on_invalid="raise".

    Example:
        >>> import torch
        >>> from lightning.pytorch import LightningModule, Trainer
        >>> from torch.utils.data import DataLoader
        >>> from fastal.adapters.lightning import RunningSelection
        >>> class Model(LightningModule):
        ...     def predict_step(self, batch):
        ...         return {"logits": batch}
        >>> pool = torch.tensor([[9.0, 0.0], [0.1, 0.0], [0.0, 0.5]])
        >>> selection = RunningSelection(k=2, by="margin", logits="logits")
        >>> trainer = Trainer(
        ...     accelerator="cpu",
        ...     callbacks=[selection],
        ...     logger=False,
        ...     enable_progress_bar=False,
        ...     enable_model_summary=False,
        ... )
        >>> trainer.predict(Model(), DataLoader(pool, batch_size=2), return_predictions=False)
        >>> selection.result().rows
        tensor([1, 2])
    """

    def __init__(self, k: int, by: Any = "margin", *, logits: Part = None, **options: Any) -> None:
        super().__init__("batch")
        self._new_selector = partial(fastal.Selector, k, by, **options)
        self._new_selector()  # checks the arguments
        if not (logits is None or isinstance(logits, (str, int)) or callable(logits)):
            raise TypeError(
                f"logits: wanted a key, a place in a tuple or a callable, got {logits!r}"
            )
        self._part = logits
        self._picks: fastal.Picks | None = None
        self._selector: fastal.Selector
        self._n_given: int  # rows of the dataset that this process was given, with repeated ones
        self._read: NDArray[np.bool_]  # which rows of the dataset it has read
        self._start()

    def result(self) -> fastal.Picks:
        """The picks of the last `predict` that ended in this process, best first.

        Rows and scores are arrays of the kind and on the device of the predictions. After several
        processes, each process has all the picks.

        Raises:
            ValueError: no `predict` has ended.
        """
        if self._picks is None:
            raise ValueError(
                "RunningSelection: no predict with rows has ended in this process; wanted "
                "Trainer(callbacks=[selection]).predict(...). The processes of ddp_spawn and "
                "ddp_fork end with predict, so call result in on_predict_end of a callback there"
            )
        return self._picks

    def on_predict_start(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
        """Called by Trainer before the first batch."""
        self._picks = None
        self._start()

    def write_on_batch_end(
        self,
        trainer: Any,
        pl_module: Any,  # noqa: ARG002
        prediction: Any,
        batch_indices: Any,  # noqa: ARG002
        batch: Any,  # noqa: ARG002
        batch_idx: int,
        dataloader_idx: int,  # noqa: ARG002
    ) -> None:
        """Called by Trainer after each batch: selects among its rows."""
        loader = _only_loader(trainer.predict_dataloaders)
        x = _part_of(prediction, self._part)
        n = len(x)
        if isinstance(getattr(loader, "dataset", None), IterableDataset):
            _check_stream(loader, trainer.world_size)
            self._selector.update(x)
            return
        # `batch_indices` is not read: of a loader whose rows Trainer does not know, it holds those
        # of the last batch of another loader.
        rows = _rows_of(loader, batch_idx)
        if len(rows) != n:
            raise ValueError(
                f"logits: wanted a row for each of the {len(rows)} rows of batch {batch_idx}, got "
                f"{n} rows"
            )
        is_padding = _is_padding(loader, self._n_given + np.arange(n))
        self._n_given += n
        self._read = _with_room(self._read, 1 + int(rows.max(initial=-1)))
        rows, places = np.unique(rows, return_index=True)  # ascending; the first of equal ones
        is_new = ~(self._read[rows] | is_padding[places])
        rows, places = rows[is_new], places[is_new]
        self._selector.update(_taken(x, places), rows)
        self._read[rows] = True

    def on_predict_end(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
        """Called by Trainer after the last batch: joins the picks of all processes."""
        loader = _only_loader(trainer.predict_dataloaders)
        if trainer.world_size > 1:
            own = self._read, self._n_given, self._selector.state_dict()
            n_given, states = _gathered(own, trainer.global_rank)
        else:
            n_given, states = self._n_given, []
        limit = trainer.limit_predict_batches
        if isinstance(limit, float) and limit == 1:  # of an integer, 1 is one batch
            _check_complete(loader, n_given)
        for state in states:
            other = self._new_selector()
            other.load_state_dict(state)
            self._selector.merge(other)
        self._picks = self._selector.result()
        if not len(self._picks) and trainer.is_global_zero:
            _log.warning(
                "RunningSelection: nothing was picked; %d rows are invalid", self._picks.invalid
            )

    def _start(self) -> None:
        self._selector = self._new_selector()
        self._n_given = 0
        self._read = np.zeros(0, bool)


def _only_loader(loaders: Any) -> Any:
    """The loader, if there is one."""
    if isinstance(loaders, Mapping):
        loaders = list(loaders.values())
    if not isinstance(loaders, (list, tuple)):
        return loaders
    if len(loaders) != 1:
        raise ValueError(
            f"RunningSelection: wanted one predict_dataloader, got {len(loaders)}, so row numbers "
            "would mean nothing; torch.utils.data.ConcatDataset makes one dataset of several"
        )
    return loaders[0]


def _part_of(prediction: Any, part: Part) -> Any:
    """The array, or the items, that are scored."""
    found = prediction
    if callable(part):
        found = part(prediction)
    elif part is not None:
        try:
            found = prediction[part]
        except (KeyError, IndexError, TypeError):
            raise ValueError(
                f"logits: predict_step returned a {type(prediction).__name__}{_keys(prediction)}, "
                f"which has no part {part!r}"
            ) from None
    if not hasattr(found, "shape") or not len(found.shape):
        raise TypeError(
            f"logits: wanted an array with a row for each row of the batch, got a "
            f"{type(found).__name__}{_keys(found)}; logits= says which part of the prediction it is"
        )
    return found


def _keys(x: Any) -> str:
    return f" with {', '.join(map(repr, x))}" if isinstance(x, Mapping) else ""


def _check_stream(loader: Any, world_size: int) -> None:
    """Refuses streams of which the n-th row that is read need not be row n."""
    if world_size > 1:
        raise ValueError(
            f"RunningSelection: {world_size} processes read an IterableDataset, so row numbers "
            "would mean nothing; wanted one process, or a dataset with row numbers"
        )
    if loader.num_workers > 1:
        raise ValueError(
            f"RunningSelection: {loader.num_workers} workers read an IterableDataset, so row "
            "numbers would mean nothing; wanted num_workers of 0 or 1"
        )


def _rows_of(loader: Any, batch_idx: int) -> NDArray[np.int64]:
    """The row numbers of a batch, as Trainer saw the sampler yield them, [n]."""
    sampler = getattr(loader, "batch_sampler", None)
    seen = getattr(sampler, "seen_batch_indices", None)
    if seen is None or batch_idx >= len(seen):
        raise ValueError(
            "RunningSelection: the row numbers are not known, since Trainer could not follow the "
            f"sampler of the {type(loader).__name__}; wanted a torch DataLoader with batch_size "
            "or batch_sampler"
        )
    if loader.num_workers and not getattr(loader, "in_order", True):
        raise ValueError(
            "RunningSelection: with in_order=False, workers return batches in another order than "
            "that of the row numbers; wanted a DataLoader with in_order=True"
        )
    rows = np.array(seen[batch_idx])
    if rows.shape == (0,):
        rows = rows.astype(np.int64)
    if rows.ndim != 1 or rows.dtype.kind not in "iu":
        raise ValueError(
            f"RunningSelection: wanted row numbers [n] from the sampler, got {seen[batch_idx]!r}"
        )
    if len(rows) and rows.min() < 0:
        raise ValueError(f"RunningSelection: wanted row numbers from 0 on, got {rows.min()}")
    return rows.astype(np.int64)


def _is_padding(loader: Any, places: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which rows repeat others, so that all processes have equally many, [n].

    The rows are those at these places of the process's sampler, [n]. Source: DistributedSampler of
    torch, which appends the first rows after the last.
    """
    sampler = _sampler_of(loader)
    if not isinstance(sampler, DistributedSampler):
        return np.zeros(len(places), bool)
    n_rows = len(sampler.dataset)  # type: ignore[arg-type]
    return np.asarray(sampler.rank + places * sampler.num_replicas >= n_rows)


def _sampler_of(loader: Any) -> Any:
    return getattr(getattr(loader, "batch_sampler", None), "sampler", None)


def _with_room(read: NDArray[np.bool_], n: int) -> NDArray[np.bool_]:
    """The mask with at least n values."""
    if n <= len(read):
        return read
    grown = np.zeros(max(n, 2 * len(read)), bool)
    grown[: len(read)] = read
    return grown


def _taken(x: Any, places: NDArray[np.int64]) -> Any:
    """The rows at these places of an array or of items."""
    if len(places) == len(x) and (places[:-1] < places[1:]).all():
        return x
    if hasattr(x, "taken"):  # what fastal.items made
        return x.taken(places)
    return x[torch.from_numpy(places).to(x.device) if isinstance(x, torch.Tensor) else places]


def _gathered(
    own: tuple[NDArray[np.bool_], int, dict[str, Any]], rank: int
) -> tuple[int, list[dict[str, Any]]]:
    """How many rows all processes were given, and the states of the others.

    Args:
        own: of this process: which rows it has read, how many it was given, and its state.
        rank: the number of this process.

    Raises:
        ValueError: two processes have read the same row, or cannot reach one another.
    """
    if not torch.distributed.is_initialized():
        raise ValueError(
            "RunningSelection: wanted a strategy of torch.distributed, such as ddp, for several "
            "processes"
        )
    read, n_given, state = own
    found: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(found, (np.packbits(read), len(read), n_given, state))
    everywhere = np.zeros(max(n for _, n, _, _ in found), bool)
    for packed, n, _, _ in found:
        part = np.unpackbits(packed, count=n).view(bool)
        repeated = np.flatnonzero(everywhere[:n] & part)
        if len(repeated):
            raise ValueError(
                f"RunningSelection: {len(repeated):,} rows were read by several processes, the "
                f"first of them row {repeated[0]}; wanted a sampler that gives each row to one "
                "process. Loaders that shuffle do so in each process on its own: wanted "
                "shuffle=False"
            )
        everywhere[:n] |= part
    states = [state for *_, state in found]
    return sum(n for _, _, n, _ in found), states[:rank] + states[rank + 1 :]


def _check_complete(loader: Any, n_given: int) -> None:
    """ValueError if the processes were given fewer rows than the sampler has."""
    sampler = _sampler_of(loader)
    source = sampler.dataset if isinstance(sampler, DistributedSampler) else sampler
    if hasattr(source, "__len__") and n_given < len(source):
        raise ValueError(
            f"RunningSelection: {n_given:,} of {len(source):,} rows were read; wanted all of them, "
            "so drop_last=False"
        )
