"""A model's predictions as a pool: batches go through it and are scored; nothing is stored."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


def predictions(model: Any, loader: Iterable[Any]) -> Iterator[Tensor]:
    """The logits of a model for every batch, one at a time: a pool for `fastal.select`.

        picks = fastal.select(fastal.predictions(model, loader), k=1000)

    The model runs in evaluation mode and without gradients, on the device that it is on; the mode
    that it was in is restored between batches.

    Args:
        model: a `torch.nn.Module` or any callable.
        loader: batches, of a `torch.utils.data.DataLoader` that does not shuffle: row numbers count
            its items. Of a tuple or list, the model gets the first item (labels may follow); a
            mapping is given as keyword arguments, as Hugging Face's models take them.

    Yields:
        [n, C] tensors: what the model returns, or its `logits` where it has such.

    Raises:
        TypeError: the model returned something else.
    """
    for batch in loader:
        with torch.inference_mode(), _evaluating(model):
            found = _called(model, batch)
        logits = getattr(found, "logits", found)
        if not isinstance(logits, Tensor):
            raise TypeError(f"model: wanted a tensor of logits, got {type(found).__name__}")
        yield logits


def _called(model: Any, batch: Any) -> Any:
    parameters = model.parameters() if isinstance(model, torch.nn.Module) else iter(())
    first = next(parameters, None)
    device = None if first is None else first.device

    def moved(x: Any) -> Any:
        return x.to(device, non_blocking=True) if isinstance(x, Tensor) and device else x

    if isinstance(batch, Mapping):
        return model(**{name: moved(x) for name, x in batch.items()})
    return model(moved(batch[0] if isinstance(batch, (tuple, list)) else batch))


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
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
