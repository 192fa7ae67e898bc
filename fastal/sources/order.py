"""Whether a loader's batches come in the order of its items, since row numbers count these."""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

from torch.utils.data import (
    DataLoader,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

_RANDOM = (RandomSampler, SubsetRandomSampler, WeightedRandomSampler)


def check_order(loader: Any, name: str) -> None:
    """Refuses a `DataLoader` that shuffles, repeats or leaves out items.

    Other iterables, and samplers that the caller wrote, are not checked.

    Raises:
        ValueError: row numbers would mean nothing; the message begins with `name`, and says what
            to change.
    """
    loader = getattr(loader, "iterable", loader)  # a loader may be wrapped by tqdm
    if not isinstance(loader, DataLoader):
        return
    for sampler in _samplers(loader):
        kind = type(sampler).__name__
        if isinstance(sampler, _RANDOM) or getattr(sampler, "shuffle", False) is True:
            raise ValueError(
                f"{name}: its {kind} shuffles, so row numbers would mean nothing; wanted "
                "shuffle=False and no such sampler"
            )
        if isinstance(sampler, (list, tuple, range)) and not _counts(sampler):
            raise ValueError(
                f"{name}: its {kind} of items is not 0, 1, 2, ..., so row numbers would not be "
                "theirs; wanted a Subset of these items: row numbers then count within the Subset"
            )
        if isinstance(sampler, DistributedSampler) and sampler.num_replicas > 1:
            raise ValueError(
                f"{name}: its {kind} gives each rank items from all over the data, so row numbers "
                "would mean nothing; wanted a Subset of consecutive items for each rank, and one "
                "Selector per rank, updated with each batch's first row and merged at the end"
            )
    if getattr(loader.dataset, "shuffle", False) is True:
        kind = type(loader.dataset).__name__
        raise ValueError(
            f"{name}: its {kind} shuffles, so row numbers would mean nothing; wanted shuffle=False"
        )
    if not getattr(loader, "in_order", True):
        raise ValueError(
            f"{name}: with in_order=False, row numbers would mean nothing; wanted in_order=True"
        )
    if isinstance(loader.dataset, IterableDataset) and loader.num_workers > 1:
        raise ValueError(
            f"{name}: {loader.num_workers} workers iterate over one IterableDataset, each over all "
            "of it or in turns, so row numbers would mean nothing; wanted num_workers of 0 or 1"
        )
    if any(map(_drops_rows, (loader, loader.batch_sampler))):
        raise ValueError(f"{name}: drop_last=True leaves out rows; wanted drop_last=False")


def _drops_rows(batches: Any) -> bool:
    """Whether the last items are left out; True also if their number is not known."""
    if not getattr(batches, "drop_last", False):
        return False
    try:
        return bool(len(batches.sampler) % batches.batch_size)
    except TypeError:  # a sampler without a length
        return True


def _counts(items: Sequence[Any]) -> bool:
    """Whether items, or batches of them, are 0, 1, 2, ..."""
    if isinstance(items, range):
        return items == range(len(items))
    is_batches = all(isinstance(item, (list, tuple, range)) for item in items)
    flat = chain.from_iterable(items) if is_batches else items
    return all(item == place for place, item in enumerate(flat))


def _samplers(loader: Any) -> Iterator[Any]:
    """The samplers of a loader, each followed by those that it is made of."""
    left, seen = [loader], [loader]
    while left:
        of = left.pop()
        for inner in (getattr(of, "batch_sampler", None), getattr(of, "sampler", None)):
            if inner is not None and not any(inner is other for other in seen):
                seen.append(inner)
                left.append(inner)
                yield inner
