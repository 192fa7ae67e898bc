"""A model's predictions as a pool, computed batch by batch and never stored."""

import inspect
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.dropout import _DropoutNd

from fastal.base.arrays import as_tensor
from fastal.base.checks import checked_count
from fastal.sources.iterable import logits_of
from fastal.sources.order import check_order

_log = logging.getLogger("fastal")


def predictions(model: Any, loader: Iterable[Any], *, draws: int | None = None) -> Iterator[Any]:
    """The predictions of a model for each batch of a loader: a pool for `fastal.select`.

    The model runs in evaluation mode, without gradients, on the device where its parameters are.
    Between batches, it is back in the mode that it was in. With `draws`, its dropout layers are in
    training mode, so that each pass drops others (Monte Carlo dropout). Dropout that is no layer of
    its own, such as `torch.nn.functional.dropout` or that of `torch.nn.LSTM`, stays off.

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
        draws: how many passes to make for each batch, at least 1; None: one, without dropout. The
            random numbers are those of torch: `torch.manual_seed` fixes them.

    Yields:
        Arrays [n, C], or [n, draws, C]: the model's output, if that is an array; its `logits`,
        attribute or key, if it has them; of another tuple, such as (logits, embedding), the first
        item.

    Raises:
        ValueError: the loader shuffles or leaves out items, or the model has no dropout layer to
            draw with. This is raised before the first batch.
        TypeError: the model cannot be called with such a batch, or its output has no predictions.

    Example:
        >>> import torch, fastal
        >>> model = torch.nn.Identity()
        >>> loader = torch.tensor([[2.0, 0.0], [0.5, 0.4], [0.0, 3.0]]).split(2)
        >>> fastal.select(fastal.predictions(model, loader), k=1).rows
        tensor([1])
        >>> model = torch.nn.Dropout(0.5)
        >>> next(fastal.predictions(model, loader, draws=20)).shape
        torch.Size([2, 20, 2])
    """
    check_order(loader, "loader")
    if draws is not None:
        checked_count("draws", draws)
        if not _dropout_layers(model):
            raise ValueError(
                "draws: the model has no dropout layer with p > 0, so all draws would be equal; "
                "for an ensemble, give fastal.draws a list with the predictions of each model"
            )
    return _predictions(model, loader, draws)


def _predictions(model: Any, loader: Iterable[Any], draws: int | None) -> Iterator[Any]:
    dropping = [] if draws is None else _dropout_layers(model)
    for number, batch in enumerate(loader):
        if not number:
            _warn_of_unused_items(model, batch)
        found = []
        with torch.inference_mode(), _evaluating(model, dropping):
            for _ in range(draws or 1):
                output = logits_of(_called(model, batch), "model: what it returned")
                found.append(output)
        yield (
            found[0]
            if draws is None
            else torch.stack([as_tensor(x, "model: what it returned") for x in found], 1)
        )


def _dropout_layers(model: Any) -> list[torch.nn.Module]:
    """The layers of a model that drop values at random when they train."""
    layers = model.modules() if isinstance(model, torch.nn.Module) else ()
    return [layer for layer in layers if isinstance(layer, _DropoutNd) and layer.p > 0]


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
def _evaluating(model: Any, dropping: Sequence[torch.nn.Module] = ()) -> Iterator[None]:
    """Has the model in evaluation mode for the block, and some of its layers in training mode."""
    modules = list(model.modules()) if isinstance(model, torch.nn.Module) else []
    before = [(module, module.training) for module in modules]
    for module in modules:
        module.training = False
    for module in dropping:
        module.training = True
    try:
        yield
    finally:
        for module, was_training in before:
            module.training = was_training
