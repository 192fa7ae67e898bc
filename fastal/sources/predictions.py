"""A model's predictions as a pool, computed batch by batch and never stored."""

import inspect
import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from fastal.sources.iterable import logits_of
from fastal.sources.order import check_order

_log = logging.getLogger("fastal")


def predictions(model: Any, loader: Iterable[Any]) -> Iterator[Any]:
    """The predictions of a model for each batch of a loader: a pool for `fastal.select`.

    The model runs in evaluation mode, without gradients, on the device where its parameters are.
    Between batches, it is back in the mode that it was in.

    Args:
        model: a `torch.nn.Module` or any callable.
        loader: an iterable of batches, each one of

            - a tensor, which the model is called with;
            - a tuple or list: the model is called with its first item (labels may follow);
            - a mapping, or a tuple or list that begins with one: the model is called with its items
              as keyword arguments, as models of Hugging Face are. If your batches are pairs (ids,
              mask), make mappings of them with `collate_fn`, or pass
              ({"input_ids": ids, "attention_mask": mask} for ids, mask in loader).

            Row numbers count the items of a `torch.utils.data.DataLoader`. It must therefore not
            shuffle or leave out items. Other iterables, and samplers that you wrote, cannot be
            checked for this.

    Yields:
        Arrays [n, C]: the model's output, if that is an array; its `logits`, attribute or key, if
        it has them; of another tuple, such as (logits, embedding), the first item.

    Raises:
        ValueError: the loader shuffles or leaves out items. This is raised before the first batch.
        TypeError: the model cannot be called with such a batch, or its output has no predictions.

    Example:
        >>> import torch, fastal
        >>> model = torch.nn.Identity()
        >>> loader = torch.tensor([[2.0, 0.0], [0.5, 0.4], [0.0, 3.0]]).split(2)
        >>> fastal.select(fastal.predictions(model, loader), k=1).rows
        tensor([1])
    """
    check_order(loader, "loader")
    return _predictions(model, loader)


def _predictions(model: Any, loader: Iterable[Any]) -> Iterator[Any]:
    for number, batch in enumerate(loader):
        if not number:
            _warn_of_unused_items(model, batch)
        with torch.inference_mode(), _evaluating(model):
            found = _called(model, batch)
        yield logits_of(found, "model: what it returned")


def _called(model: Any, batch: Any) -> Any:
    parameters = model.parameters() if isinstance(model, torch.nn.Module) else iter(())
    first = next(parameters, None)
    device = None if first is None else first.device

    def moved(x: Any) -> Any:
        return x.to(device, non_blocking=True) if isinstance(x, Tensor) and device else x

    given = batch[0] if isinstance(batch, (tuple, list)) and batch else batch
    try:
        if isinstance(given, Mapping):
            return model(**{name: moved(x) for name, x in given.items()})
        return model(moved(given))
    except TypeError as error:
        if isinstance(given, Mapping):
            names = ", ".join(map(str, given))
            how = f"the batch's {names} as keyword arguments: leave out those that it does not take"
        elif given is not batch:
            how = (
                f"the first of the {len(batch)} items of a batch: if it takes more of them, "
                "give batches that are mappings of its arguments by name"
            )
        else:
            raise
        raise TypeError(f"model: {error}; it was called with {how}") from error


def _warn_of_unused_items(model: Any, batch: Any) -> None:
    """Logs a warning if the model takes more arguments and the batch has more items than one."""
    if not isinstance(batch, (tuple, list)) or len(batch) < 2 or isinstance(batch[0], Mapping):
        return
    try:
        takes = list(inspect.signature(getattr(model, "forward", model)).parameters.values())
    except (TypeError, ValueError):  # a callable in C may have no signature
        return
    named = [p.name for p in takes if p.kind == p.POSITIONAL_OR_KEYWORD]
    if len(named) > 1:
        _log.warning(
            "the model gets the first of the %d items of each batch, as its %r; if %r is to come "
            "from them too, give batches that are mappings of its arguments by name",
            len(batch), named[0], named[1],
        )  # fmt: skip


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    """Has the model in evaluation mode for the block."""
    training = (
        [m for m in model.modules() if m.training] if isinstance(model, torch.nn.Module) else []
    )
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True
