"""A model's predictions as a pool: batches go through it and are scored; nothing is stored."""

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
    """The logits of a model for every batch, one at a time: a pool for `fastal.select`.

        picks = fastal.select(fastal.predictions(model, loader), k=1000)

    The model runs in evaluation mode and without gradients, on the device that it is on; the mode
    that it was in is restored between batches.

    Args:
        model: a `torch.nn.Module` or any callable.
        loader: batches. Row numbers count the items of a `torch.utils.data.DataLoader`, which
            therefore must not shuffle or leave out items; that cannot be seen of other iterables,
            nor of samplers of your own. Of a tuple or list, the model gets the first item (labels
            may follow). A mapping, or a first item that is one, is given as keyword arguments, as
            Hugging Face's models take them: make batches of (ids, mask) such by `collate_fn`, or by
            ({"input_ids": ids, "attention_mask": mask} for ids, mask in loader).

    Yields:
        [n, C] arrays: what the model returns; of an output with `logits`, attribute or key, these;
        of another tuple, such as (logits, embedding), its first.

    Raises:
        ValueError: the loader shuffles or leaves out items; said before the first batch.
        TypeError: the model cannot be called with such a batch, or returned something else.
    """
    check_order(loader, "loader")
    return _predictions(model, loader)


def _predictions(model: Any, loader: Iterable[Any]) -> Iterator[Any]:
    for number, batch in enumerate(loader):
        if not number:
            _tell_what_is_left(model, batch)
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
            how = f"the batch's {names} as keyword arguments: leave out what it does not take"
        elif given is not batch:
            how = (
                f"the first of the {len(batch)} items of a batch: if it takes more of them, "
                "give batches that are mappings of its arguments by name"
            )
        else:
            raise
        raise TypeError(f"model: {error}; it was called with {how}") from error


def _tell_what_is_left(model: Any, batch: Any) -> None:
    """Warns of items of a batch that the model may be meant to get."""
    if not isinstance(batch, (tuple, list)) or len(batch) < 2 or isinstance(batch[0], Mapping):
        return
    try:
        takes = list(inspect.signature(getattr(model, "forward", model)).parameters.values())
    except (TypeError, ValueError):  # of a callable in C
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
