"""Whether a loader's batches come in the order of its items, which is what row numbers count."""

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
    """Refuses a `DataLoader` that is seen to shuffle, to repeat, or to leave out items.

    Other iterables, and samplers of the caller's own, are taken as they are.

    Raises:
        ValueError: row numbers would mean nothing; the message names `name`, and what to do.
    """
    loader = getattr(loader, "iterable", loader)  # what tqdm shows the progress of
    if not isinstance(loader, DataLoader):
        return
    for sampler in _samplers(loader):
        kind = type(sampler).__name__
        if isinstance(sampler, _RANDOM) or getattr(sampler, "shuffle", False) is True:
            raise ValueError(
                f"{name}: its {kind} shuffles, so that row numbers mean nothing; wanted "
                "shuffle=False and no such sampler"
            )
        if isinstance(sampler, (list, tuple, range)) and not _counts(sampler):
            raise ValueError(
                f"{name}: its {kind} of items is not 0, 1, 2, ..., so that row numbers are none of "
                "theirs; wanted a Subset of these items, whose places in it the rows then count"
            )
        if isinstance(sampler, DistributedSampler) and sampler.num_replicas > 1:
            raise ValueError(
                f"{name}: its {kind} gives each rank items from all over the data, so that row "
                "numbers mean nothing; wanted a Subset of consecutive items for each rank, and a "
                "Selector that is told the row each batch starts at, to be merged with the others"
            )
    if getattr(loader.dataset, "shuffle", False) is True:
        kind = type(loader.dataset).__name__
        raise ValueError(f"{name}: its {kind} shuffles: row numbers mean nothing; shuffle=False")
    if not getattr(loader, "in_order", True):
        raise ValueError(f"{name}: with in_order=False, row numbers mean nothing; wanted True")
    if isinstance(loader.dataset, IterableDataset) and loader.num_workers > 1:
        raise ValueError(
            f"{name}: {loader.num_workers} workers iterate over one IterableDataset, each over all "
            "of it or in turns, so that row numbers mean nothing; wanted num_workers of 0 or 1"
        )
    if any(map(_drops, (loader, loader.batch_sampler))):
        raise ValueError(f"{name}: drop_last=True leaves out rows; wanted drop_last=False")


def _drops(batches: Any) -> bool:
    """Whether the last items are left out, as far as it is known."""
    if not getattr(batches, "drop_last", False):
        return False
    try:
        return bool(len(batches.sampler) % batches.batch_size)
    except TypeError:  # of no known length
        return True


def _counts(items: Sequence[Any]) -> bool:
    """Whether items, or batches of them, are 0, 1, 2, ..."""
    if isinstance(items, range):
        return items == range(len(items))
    is_batches = all(isinstance(item, (list, tuple, range)) for item in items)
    flat = chain.from_iterable(items) if is_batches else items
    return all(item == place for place, item in enumerate(flat))


def _samplers(loader: Any) -> Iterator[Any]:
    """The samplers of a loader, those that others are made of after them."""
    left, seen = [loader], [loader]
    while left:
        of = left.pop()
        for inner in (getattr(of, "batch_sampler", None), getattr(of, "sampler", None)):
            if inner is not None and not any(inner is other for other in seen):
                seen.append(inner)
                left.append(inner)
                yield inner
