"""Trainer.predict with models that return what the loader gives, in one process and in two."""

import doctest
import importlib
import logging
import operator
import os
import socket
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import fastal
from fastal.testing import check_select
from tests.support.adapter_pages import page_code

pytest.importorskip(
    "lightning", reason="lightning is missing; scripts/test-adapters lightning has it"
)

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
)

from fastal.adapters.lightning import RunningSelection

pytestmark = [
    # Its own use of a class that torch has deprecated.
    pytest.mark.filterwarnings("ignore::FutureWarning:lightning.pytorch.utilities._pytree"),
    # Advice on workers, shuffling and devices.
    pytest.mark.filterwarnings("ignore::lightning.fabric.utilities.warnings.PossibleUserWarning"),
    # Of a loader whose rows it cannot follow: the adapter raises an error.
    pytest.mark.filterwarnings("ignore:Couldn't infer the batch indices:UserWarning"),
]
N, CLASSES, BATCH = 37, 5, 8
POOL = 2 * torch.randn(N, CLASSES, generator=torch.Generator().manual_seed(1))


class Model(LightningModule):
    """Returns each batch of logits as it is, or in another form."""

    def __init__(self, form=lambda x: x):
        super().__init__()
        self.form = form

    def predict_step(self, batch):
        return self.form(batch)


class Stream(IterableDataset):
    def __init__(self, rows=POOL):
        self.rows = rows

    def __iter__(self):
        return iter(self.rows)


@pytest.fixture
def predict(tmp_path):
    def run(selection, loader, model=None, **options):
        trainer = trainer_of(tmp_path, [selection], **options)
        trainer.predict(model or Model(), loader, return_predictions=False)
        return selection.result()

    return run


def trainer_of(folder, callbacks, **options):
    return Trainer(
        **{"accelerator": "cpu", "devices": 1, **options},
        default_root_dir=folder,
        callbacks=callbacks,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def loader_of(dataset=POOL, **options):
    return DataLoader(dataset, **({"batch_size": BATCH} | options))


def check_same(found, want):
    assert found.rows.tolist() == want.rows.tolist()
    assert found.scores.tolist() == want.scores.tolist()


@pytest.mark.parametrize("by", [*fastal.Scores._fields, "random"])
def test_the_picks_are_those_of_select(predict, by):
    options = {"exclude": [3, 4, 5], "among": np.arange(2, 35), "ties": "random", "seed": 4}
    found = predict(RunningSelection(7, by, **options), loader_of())
    check_same(found, fastal.select(POOL, 7, by, **options))
    assert isinstance(found.rows, torch.Tensor)


@pytest.mark.parametrize("on_invalid", ["raise", "skip"])
def test_running_selection_passes_the_public_checks(predict, on_invalid):
    def select(pool, k, exclude=None):
        selection = RunningSelection(k, exclude=exclude, on_invalid=on_invalid)
        return predict(selection, loader_of(torch.from_numpy(pool), shuffle=on_invalid == "skip"))

    check_select(select, on_invalid=on_invalid, n_rows=100)


@pytest.mark.parametrize(
    "sampling",
    [
        {"shuffle": True},
        {"sampler": RandomSampler(range(N))},
        {"batch_size": 1, "batch_sampler": BatchSampler(range(N - 1, -1, -1), 7, False)},
        {"sampler": SequentialSampler(range(N)), "drop_last": True},
        {"num_workers": 2, "shuffle": True},
    ],
)
def test_rows_are_those_of_the_dataset_in_any_order(predict, sampling):
    for by in ("margin", "random"):
        found = predict(RunningSelection(9, by), loader_of(**sampling))
        check_same(found, fastal.select(POOL, 9, by))


def test_a_sampler_of_some_rows_reads_them_alone(predict):
    rows = [30, 4, 19, 21, 7, 0, 11, 12, 13]
    found = predict(RunningSelection(N), loader_of(sampler=SubsetRandomSampler(rows)))
    check_same(found, fastal.select(POOL, N, among=rows))


def test_a_row_that_comes_twice_counts_once(predict):
    rows = [3, 3, 9, 30, 9, 2, 30, 3, 3, 1, 2, 8]
    found = predict(RunningSelection(N), loader_of(sampler=rows, batch_size=4))
    check_same(found, fastal.select(POOL, N, among=sorted({*rows})))


@pytest.mark.parametrize(
    ("form", "part"),
    [
        (lambda x: {"loss": 0, "logits": x}, "logits"),
        (lambda x: (x[:, 0], x), 1),
        (lambda x: SimpleNamespace(logits=x), operator.attrgetter("logits")),
        (lambda x: x.numpy(), None),
    ],
)
def test_predictions_of_other_forms(predict, form, part):
    found = predict(RunningSelection(5, logits=part), loader_of(), Model(form))
    check_same(found, fastal.select(POOL, 5))


def test_scores_that_the_model_returns_are_ranked(predict):
    model = Model(lambda x: fastal.score(x).entropy)
    check_same(
        predict(RunningSelection(5, "score"), loader_of(), model), fastal.select(POOL, 5, "entropy")
    )


@pytest.mark.parametrize("shuffle", [False, True])
def test_items_with_a_mask(predict, shuffle):
    tokens = torch.randn(N, 6, CLASSES, generator=torch.Generator().manual_seed(2))
    counts = torch.arange(6) < torch.randint(1, 7, (N, 1), generator=torch.Generator())
    pool = [{"x": x, "counts": c} for x, c in zip(tokens, counts, strict=True)]
    selection = RunningSelection(
        6, "ratio", aggregate="mean", logits=lambda p: fastal.items(p["x"], mask=p["counts"])
    )
    found = predict(selection, loader_of(pool, shuffle=shuffle))
    want = fastal.select(fastal.items(tokens, mask=counts), 6, "ratio", aggregate="mean")
    check_same(found, want)


def test_a_stream_is_counted(predict):
    for workers in (0, 1):
        found = predict(RunningSelection(5), loader_of(Stream(), num_workers=workers))
        check_same(found, fastal.select(POOL, 5))
    with pytest.raises(ValueError, match=r"2 workers read an IterableDataset.*num_workers of 0"):
        predict(RunningSelection(5), loader_of(Stream(), num_workers=2))


def test_every_predict_starts_anew(predict):
    selection = RunningSelection(5)
    with pytest.raises(ValueError, match=r"no predict.*callbacks=\[selection\]"):
        selection.result()
    predict(selection, loader_of())
    check_same(predict(selection, loader_of(POOL[:9])), fastal.select(POOL[:9], 5))
    with pytest.raises(ZeroDivisionError):
        predict(selection, loader_of(), Model(lambda x: 1 / 0))
    with pytest.raises(ValueError, match="no predict"):
        selection.result()
    check_same(predict(selection, loader_of()), fastal.select(POOL, 5))


def test_part_of_a_predict_is_asked_for(predict):
    for limit, batches in ((2, 2), (1, 1), (0.5, 2)):
        found = predict(RunningSelection(5), loader_of(), limit_predict_batches=limit)
        check_same(found, fastal.select(POOL[: batches * BATCH], 5))


def test_a_selection_without_picks_is_told(predict, caplog):
    with caplog.at_level(logging.WARNING, "fastal"):
        assert len(predict(RunningSelection(5, exclude=range(N)), loader_of())) == 0
    assert "RunningSelection: nothing was picked" in caplog.text


def test_invalid_rows_are_named_by_their_numbers(predict):
    pool = POOL.clone()
    pool[[11, 30], 2] = torch.nan
    with pytest.raises(fastal.InvalidRows, match=r"^row 11 .* among rows 8 to 15: 11"):
        predict(RunningSelection(5), loader_of(pool))
    found = predict(RunningSelection(N, on_invalid="skip"), loader_of(pool, shuffle=True))
    check_same(found, fastal.select(pool, N, on_invalid="skip"))
    assert found.invalid == 2


class EveryOther(BatchSampler):
    """Leaves out half of the batches."""

    def __iter__(self):
        return (batch for n, batch in enumerate(super().__iter__()) if n % 2)


def test_rows_that_are_left_out_are_missed(predict):
    sampler = EveryOther(SequentialSampler(range(N)), BATCH, False)
    with pytest.raises(ValueError, match="16 of 37 rows were read"):
        predict(RunningSelection(5), loader_of(batch_sampler=sampler, batch_size=1))


@pytest.mark.parametrize(
    ("form", "part", "error", "message"),
    [
        (lambda x: {"logits": x}, None, TypeError, r"a dict with 'logits'; logits= says"),
        (lambda x: {"logits": x}, "x", ValueError, r"a dict with 'logits', which has no part 'x'"),
        (lambda x: (x,), 2, ValueError, r"a tuple, which has no part 2"),
        (lambda x: x[1:], None, ValueError, r"each of the 8 rows of batch 0, got 7 rows"),
        (lambda x: "text", None, TypeError, r"got a str; logits= says"),
        (lambda x: x[0, 0], None, TypeError, r"logits= says"),
    ],
)
def test_predictions_that_are_no_rows_are_refused(predict, form, part, error, message):
    with pytest.raises(error, match=message):
        predict(RunningSelection(5, logits=part), loader_of(), Model(form))


def test_bad_arguments_are_refused_at_once():
    for arguments, message in (
        ({"k": 0}, "k: "), ({"by": "size"}, "by: "), ({"kind": "x"}, "kind: "),
        ({"logits": 1.5}, "logits: wanted a key"),
    ):  # fmt: skip
        with pytest.raises((TypeError, ValueError), match=message):
            RunningSelection(**{"k": 1, **arguments})


@pytest.mark.parametrize(
    ("loader", "message"),
    [
        ([POOL[:8], POOL[8:]], "row numbers are not known.*of the list"),
        (DataLoader(POOL, batch_size=None), "row numbers are not known.*of the DataLoader"),
        (loader_of(num_workers=2, in_order=False), "in_order=True"),
        ([loader_of(), loader_of()], "wanted one predict_dataloader, got 2.*ConcatDataset"),
    ],
)
def test_rows_that_cannot_be_known_are_refused(predict, loader, message):
    class OfBoth(Model):
        def predict_step(self, batch, batch_idx, dataloader_idx=0):
            return batch

    loaders = [loader] if message.endswith("list") else loader
    with pytest.raises(ValueError, match=message):
        predict(RunningSelection(5), loaders, OfBoth())


class Recorded(BasePredictionWriter):
    """What Trainer says that the rows of each batch are, and what they are."""

    def __init__(self):
        super().__init__("batch")
        self.said, self.were = [], []

    def write_on_batch_end(self, trainer, module, prediction, indices, batch, *_):
        self.said.append([*indices])
        self.were.append(prediction[:, 0].int().tolist())


def numbered(first, n):
    return torch.arange(first, first + n)[:, None].float()


def test_trainer_names_rows_of_an_earlier_loader_where_it_knows_none(tmp_path):
    """Why the adapter does not read `batch_indices`."""
    recorded = Recorded()
    trainer = trainer_of(tmp_path, [recorded])
    trainer.predict(Model(), loader_of(numbered(0, 5)), return_predictions=False)
    trainer.predict(Model(), loader_of(Stream(numbered(90, 3))), return_predictions=False)
    assert recorded.were == [[0, 1, 2, 3, 4], [90, 91, 92]]
    assert recorded.said == [[0, 1, 2, 3, 4], [0, 1, 2, 3, 4]]


class LateFirst(Dataset):
    """Row 0 is read after a row of the other worker has reached the model."""

    def __init__(self):
        self.has_arrived = torch.multiprocessing.Event()

    def __len__(self):
        return 4

    def __getitem__(self, i):
        if i == 0:
            assert self.has_arrived.wait(60)
        return torch.tensor([float(i)])


@pytest.mark.full
def test_trainer_names_wrong_rows_where_workers_are_not_in_order(tmp_path):
    """Why the adapter refuses such loaders."""
    recorded, rows = Recorded(), LateFirst()

    def arrived(x):
        rows.has_arrived.set()
        return x

    loader = DataLoader(rows, batch_size=1, num_workers=2, in_order=False)
    trainer_of(tmp_path, [recorded]).predict(Model(arrived), loader, return_predictions=False)
    assert recorded.said == [[0], [1], [2], [3]]
    assert recorded.were != recorded.said
    assert sorted(recorded.were) == recorded.said


class Saved(Callback):
    """Keeps what each process ends with."""

    def __init__(self, selection, folder):
        self.selection, self.folder = selection, folder

    def on_predict_end(self, trainer, module):
        picks = self.selection.result()
        np.savez(
            self.folder / f"{trainer.global_rank}.npz", rows=picks.rows, scores=picks.scores,
            invalid=picks.invalid,
        )  # fmt: skip


class Spoiled(Dataset):
    """The pool with an invalid row, which DistributedSampler repeats."""

    def __init__(self, n=N):
        self.rows = POOL[:n].clone()
        self.rows[0, 1] = torch.nan

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        return self.rows[i]


class Padded(DistributedSampler):
    """That of torch, which finds its process only once there is one."""

    def __init__(self, dataset, **options):
        rank = int(os.environ["LOCAL_RANK"])
        super().__init__(dataset, num_replicas=2, rank=rank, **options)


def run_in_part(rank, port, folder, make_loader, options):
    """What one of two processes does."""
    os.environ |= {"LOCAL_RANK": str(rank), "NODE_RANK": "0", "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    selection = RunningSelection(**options)
    trainer = trainer_of(
        folder, [selection, Saved(selection, folder)], devices=2, strategy="ddp",
        use_distributed_sampler=make_loader is own_loader,
    )  # fmt: skip
    try:
        trainer.predict(Model(), make_loader(), return_predictions=False)
    except ValueError as error:
        (folder / f"{rank}.txt").write_text(str(error))
    torch.distributed.destroy_process_group()


def own_loader():
    return loader_of(Spoiled())


def padded_loader(**options):
    rows = Spoiled()
    return loader_of(rows, sampler=Padded(rows, **options))


def in_two_processes(folder, make_loader, **options):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(run_in_part, (port, folder, make_loader, options), nprocs=2)
    return [folder / f"{rank}.npz" for rank in range(2)], [
        file.read_text() for file in sorted(folder.glob("*.txt"))
    ]


def check_files(files, want):
    for file in files:
        found = np.load(file)
        assert found["rows"].tolist() == want.rows.tolist()
        assert found["scores"].tolist() == want.scores.tolist()
        assert found["invalid"] == want.invalid


@pytest.mark.full
@pytest.mark.parametrize(
    "make_loader", [own_loader, partial(padded_loader, shuffle=False), padded_loader]
)
def test_two_processes_have_the_picks_of_one(tmp_path, make_loader):
    """One row of 37 is read twice by the sampler of torch, none by that of Trainer."""
    options = {"by": "entropy", "on_invalid": "skip", "exclude": [1, 5]}
    files, errors = in_two_processes(tmp_path, make_loader, k=N, **options)
    assert not errors
    check_files(files, fastal.select(Spoiled().rows, N, **options))


def shuffled_loader():
    torch.manual_seed(int(os.environ["LOCAL_RANK"]))
    rows = Spoiled()
    order = torch.randperm(N).tolist()
    return loader_of(rows, sampler=order[:20])


@pytest.mark.full
@pytest.mark.parametrize(
    ("make_loader", "message"),
    [
        (shuffled_loader, "rows were read by several processes, the first of them row"),
        (partial(padded_loader, drop_last=True), "36 of 37 rows were read"),
    ],
)
def test_processes_that_share_rows_or_lose_them_are_refused(tmp_path, make_loader, message):
    _, errors = in_two_processes(tmp_path, make_loader, k=3, on_invalid="skip")
    assert len(errors) == 2
    assert all(message in error for error in errors)


def the_same(x):
    return x


@pytest.mark.full
def test_processes_that_trainer_starts(tmp_path):
    selection = RunningSelection(5)
    trainer = trainer_of(
        tmp_path, [selection, Saved(selection, tmp_path)], devices=2, strategy="ddp_spawn"
    )
    trainer.predict(Model(the_same), loader_of(), return_predictions=False)
    check_files([tmp_path / f"{rank}.npz" for rank in range(2)], fastal.select(POOL, 5))
    with pytest.raises(ValueError, match="processes of ddp_spawn"):
        selection.result()


def test_the_examples_give_the_output_that_they_show(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module("fastal.adapters.lightning")
    found = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert found.attempted > 8
    assert found.failed == 0


def test_the_examples_of_the_page_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    first, tokens, saved = page_code("lightning")
    exec(first, names)
    assert len(names["picks"]) == 100
    assert not {1, 2, 3} & {*names["picks"].rows.tolist()}
    exec(saved, names)
    names["SavedPicks"]().on_predict_end(SimpleNamespace(is_global_zero=True), None)
    check_same(fastal.Picks.load("picks.parquet"), names["picks"])
    exec(tokens, names)
    names["selection"].write_on_batch_end(
        SimpleNamespace(predict_dataloaders=SimpleNamespace(dataset=Stream(), num_workers=0),
                        world_size=1),
        None, {"logits": torch.zeros(2, 3, 4), "mask": torch.ones(2, 3, dtype=bool)},
        None, None, 0, 0,
    )  # fmt: skip
