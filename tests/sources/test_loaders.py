"""A model's predictions as a pool: loaders must keep the order, outputs may have any form."""

from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

import fastal
from fastal import diversity

X = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
DATA = TensorDataset(X, torch.arange(50))
MODEL = torch.nn.Linear(4, 3)
WANT = fastal.select(MODEL(X).detach(), 5, "margin").rows.tolist()


class Stream(IterableDataset):
    def __iter__(self):
        return iter([(x, 0) for x in X])


class Shuffled(torch.utils.data.Dataset):
    shuffle = True

    def __len__(self):
        return 50

    def __getitem__(self, item):
        return X[item]


class OwnSampler(RandomSampler):
    """A sampler as a library would derive it."""


def ranks(rank, n_ranks, *, shuffle):
    return DistributedSampler(DATA, n_ranks, rank, shuffle=shuffle)


class Shown:
    """Wraps a loader as tqdm does."""

    def __init__(self, iterable):
        self.iterable = iterable

    def __iter__(self):
        return iter(self.iterable)


def picked(loader, model=MODEL, k=5):
    return fastal.select(fastal.predictions(model, loader), k, "margin").rows.tolist()


REFUSED = {
    "shuffle": ({"shuffle": True}, "RandomSampler shuffles.* shuffle=False"),
    "random": ({"sampler": RandomSampler(DATA)}, "RandomSampler shuffles"),
    "derived": ({"sampler": OwnSampler(DATA)}, "OwnSampler shuffles"),
    "weighted": ({"sampler": WeightedRandomSampler([1.0] * 50, 50)}, "WeightedRandomSampler"),
    "subset": ({"sampler": SubsetRandomSampler(range(50))}, "SubsetRandomSampler shuffles"),
    "ranks": ({"sampler": ranks(0, 2, shuffle=False)}, "DistributedSampler gives each rank"),
    "shuffled ranks": ({"sampler": ranks(0, 1, shuffle=True)}, "DistributedSampler shuffles"),
    "in batches": (
        {"batch_sampler": BatchSampler(RandomSampler(DATA), 7, drop_last=False)},
        "RandomSampler shuffles",
    ),
    "drop_last": ({"batch_size": 7, "drop_last": True}, "drop_last=True leaves out rows"),
    "drop_last of a sampler": (
        {"batch_sampler": BatchSampler(SequentialSampler(DATA), 7, drop_last=True)},
        "drop_last=True leaves out rows",
    ),
    "in_order": ({"num_workers": 2, "in_order": False}, "in_order=False"),
    "shuffling data": ({"dataset": Shuffled()}, "Shuffled shuffles"),
    "a stream by two": ({"dataset": Stream(), "num_workers": 2}, "2 workers"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("shown", [Shown, lambda loader: loader])
def test_loaders_with_another_order_are_refused(name, shown):
    options, says = REFUSED[name]
    loader = shown(DataLoader(**{"dataset": DATA, **options}))
    with pytest.raises(ValueError, match=f"^loader: .*{says}"):
        fastal.predictions(MODEL, loader)  # raised before the first batch
    with pytest.raises(ValueError, match=f"^pool: .*{says}"):
        fastal.open_pool(loader)


def test_loaders_in_order_are_accepted():
    for loader in (
        DataLoader(DATA, 7), DataLoader(DATA, 7, sampler=SequentialSampler(DATA)),
        DataLoader(DATA, 7, sampler=ranks(0, 1, shuffle=False)), DataLoader(DATA, None),
        DataLoader(Subset(DATA, range(50)), 7), DataLoader(Stream(), 7), Shown(DataLoader(DATA, 7)),
        DataLoader(DATA, batch_sampler=BatchSampler(range(50), 7, drop_last=False)),
        DataLoader(DATA, 7, sampler=list(range(50))), DataLoader(DATA, 7, sampler=range(50)),
        DataLoader(DATA, 10, drop_last=True), [(X[:20],), (X[20:],)], [X],
    ):  # fmt: skip
        flat = (
            (lambda x: MODEL(x).reshape(-1, 3)) if getattr(loader, "batch_size", 1) is None else 0
        )
        assert picked(loader, flat or MODEL) == WANT


class Output(NamedTuple):
    loss: torch.Tensor
    logits: torch.Tensor


OUTPUTS = {
    "tensor": lambda x: x,
    "NumPy": lambda x: x.numpy(),
    "key": lambda x: {"loss": torch.zeros(()), "logits": x},
    "attribute": lambda x: SimpleNamespace(logits=x),
    "named tuple": lambda x: Output(torch.zeros(()), x),
    "tuple": lambda x: (x, torch.zeros(len(x), 8)),
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_model_outputs_of_every_kind(name):
    loader = DataLoader(DATA, 7)
    assert picked(loader, lambda x: OUTPUTS[name](MODEL(x))) == WANT
    chunks = [OUTPUTS[name](MODEL(x).detach()) for x, _ in loader]
    assert fastal.select(chunks, 5, "margin").rows.tolist() == WANT
    assert fastal.select(iter(chunks), 5, "margin").rows.tolist() == WANT


@pytest.mark.parametrize(
    ("output", "says"),
    [
        ({"hidden": X}, "is a dict with 'hidden', wanted an array"),
        ({}, "is a dict, wanted an array"),
        (((X,), X), "is a tuple, wanted an array"),
        ((), "is a tuple"),
        (None, "is a NoneType"),
        (["a"], "is a list"),
    ],
)
def test_model_outputs_without_logits_are_refused(output, says):
    with pytest.raises(TypeError, match=f"^model: what it returned {says}"):
        picked(DataLoader(DATA, 7), lambda _: output)
    with pytest.raises(TypeError, match=f"^pool: chunk 0 {says}"):
        fastal.select(iter([output]), 5)


class Masked(torch.nn.Module):
    def forward(self, ids, mask):
        return MODEL(ids * mask)


class MaybeMasked(torch.nn.Module):
    def forward(self, ids, mask=None):
        return MODEL(ids if mask is None else ids * mask)


def test_batches_of_ids_and_masks(caplog):
    mask = torch.ones_like(X)
    pairs = DataLoader(TensorDataset(X, mask), 7)
    named = [{"ids": ids, "mask": mask} for ids, mask in pairs]
    for model in (Masked(), MaybeMasked()):
        assert picked(named, model) == picked([(batch, 0) for batch in named], model) == WANT
    assert not caplog.records
    with pytest.raises(TypeError, match=r"model: .*mask.*the first of the 2 items.* mappings"):
        picked(pairs, Masked())
    caplog.clear()
    assert picked(pairs, MaybeMasked()) == WANT
    (record,) = caplog.records
    assert "first of the 2 items of each batch, as its 'ids'; if 'mask'" in record.getMessage()
    with pytest.raises(TypeError, match=r"model: .*'label'.*ids, label as keyword arguments"):
        picked([{"ids": X, "label": 0}], MaybeMasked())


def test_a_type_error_inside_the_model_is_not_changed():
    def model(x):
        return x + "a"

    with pytest.raises(TypeError, match=r"must be Tensor|unsupported operand") as error:
        picked([X], model)
    assert "called with" not in str(error.value)


class Frame:
    """The interface of a table of pandas or Polars that fastal uses."""

    def __init__(self, **columns):
        self.columns = list(columns)
        self.dtypes = [column.dtype for column in columns.values()]
        self.held = np.column_stack(list(columns.values()))

    def __array__(self, dtype=None, copy=None):
        return self.held


SCORES = {f"p{i}": MODEL(X)[:, i].detach().double().numpy() for i in range(3)}
IDS = np.arange(50)


def table(**columns):
    return pytest.importorskip("pyarrow").table(columns)


@pytest.mark.parametrize("of", [Frame, table])
def test_tables_with_an_integer_column_are_refused(of):
    assert fastal.select(of(**SCORES), 5, "margin").rows.tolist() == WANT
    for ids in (IDS, IDS.astype(np.uint8), IDS > 3):
        frame = of(id=ids, **SCORES)
        for call in (
            lambda: fastal.select(frame, 5),  # noqa: B023
            lambda: fastal.select([frame], 5),  # noqa: B023
            lambda: fastal.score(frame),  # noqa: B023
            lambda: fastal.Selector(5).update(frame),  # noqa: B023
            lambda: diversity.k_center(frame, 2),  # noqa: B023
            lambda: diversity.nearest_centroid(X.double(), frame),  # noqa: B023
        ):
            with pytest.raises(TypeError, match=r"a table .* integers too, in 'id'; wanted"):
                call()


def test_ambiguous_pools_are_refused():
    logits, onehot = MODEL(X).detach(), torch.eye(3).repeat(17, 1)[:50].long()
    for pool, says in (
        ({}, "pool: wanted an array, a path or an iterable of arrays, got dict"),
        ({"logits": logits}, "got dict"),
        ({logits}, "got set"),
        ((logits, onehot), "pool: a tuple of 2 "),
        (Output(logits, onehot), "pool: a tuple of 2 "),
        ([logits, onehot], "chunk 0 is float32, chunk 1 int64"),
        ([logits, onehot.double()], "chunk 1 float64"),
    ):
        with pytest.raises(TypeError, match=says):
            fastal.select(pool, 3)
    assert fastal.select([logits[:20], logits[20:]], 5, "margin").rows.tolist() == WANT
    other = logits[20:].numpy().astype(">f4")
    assert fastal.select([logits[:20], other], 5, "margin").rows.tolist() == WANT
