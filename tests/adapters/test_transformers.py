"""Trainer with real models of a few hundred weights, which are drawn at random."""

import doctest
import importlib
import os
import socket
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import fastal
from fastal.testing import check_scores, check_select
from tests.support.adapter_pages import page_code

transformers = pytest.importorskip(
    "transformers", reason="transformers is missing; scripts/test-adapters transformers has it"
)
pytest.importorskip("accelerate")

from torch.utils.data import DataLoader, Dataset, IterableDataset  # noqa: E402
from transformers import (  # noqa: E402
    BertConfig,
    BertForSequenceClassification,
    BertForTokenClassification,
    Trainer,
    TrainingArguments,
)

from fastal.adapters.transformers import RunningSelection, ScoresOfLogits  # noqa: E402

N, CLASSES, BATCH = 37, 5, 8
LENGTHS = np.random.default_rng(2).integers(1, 9, N)


class Rows(Dataset):
    """Random tokens. With labels of tokens, rows have different lengths."""

    def __init__(self, n=N, of_tokens=False, with_labels=True):
        generator = torch.Generator().manual_seed(1)
        self.ids = torch.randint(1, 50, (n, 9), generator=generator)
        self.of_tokens, self.with_labels = of_tokens, with_labels

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, i):
        row = {"input_ids": self.ids[i]}
        if self.of_tokens:
            row["input_ids"] = row["input_ids"][: LENGTHS[i]]
        if self.with_labels:
            row["labels"] = torch.ones(len(row["input_ids"]), dtype=torch.long)
            row["labels"] = row["labels"] if self.of_tokens else row["labels"][0]
        return row


class Stream(IterableDataset):
    def __init__(self, rows):
        self.rows = rows

    def __iter__(self):
        return (self.rows[i] for i in range(len(self.rows)))


def padded(rows):
    """Pads token ids with 0, and labels of tokens with -100."""
    batch = {}
    for name, padding in (("input_ids", 0), ("labels", -100)):
        if name in rows[0]:
            columns = [row[name] for row in rows]
            if columns[0].ndim:
                columns = torch.nn.utils.rnn.pad_sequence(columns, True, padding)
            batch[name] = columns if isinstance(columns, torch.Tensor) else torch.stack(columns)
    batch["attention_mask"] = (batch["input_ids"] != 0).long()
    return batch


def model_of(kind):
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, num_labels=CLASSES, initializer_range=2.0,
    )  # fmt: skip
    return kind(config)


@pytest.fixture(scope="module")
def classifier():
    return model_of(BertForSequenceClassification)


@pytest.fixture(scope="module")
def tagger():
    return model_of(BertForTokenClassification)


def trainer_of(folder, model, hook=None, callbacks=(), compute_metrics=None, **arguments):
    return Trainer(
        model,
        TrainingArguments(
            str(folder), report_to="none", disable_tqdm=True, use_cpu=True,
            per_device_eval_batch_size=BATCH, **arguments,
        ),
        data_collator=padded,
        preprocess_logits_for_metrics=hook,
        callbacks=[*callbacks],
        compute_metrics=compute_metrics,
    )  # fmt: skip


@pytest.fixture
def trainer(tmp_path):
    return partial(trainer_of, tmp_path)


def running(trainer, model, *args, arguments=None, **options):
    selection = RunningSelection(*args, **options)
    return selection, trainer(model, selection, [selection], **(arguments or {}))


@pytest.mark.parametrize("with_labels", [True, False])
@pytest.mark.parametrize("arguments", [{}, {"eval_accumulation_steps": 2}])
@pytest.mark.parametrize("by", fastal.Scores._fields)
def test_trainer_keeps_the_scores_of_the_logits(trainer, classifier, by, arguments, with_labels):
    rows = Rows(with_labels=with_labels)
    logits = trainer(classifier).predict(rows).predictions
    assert logits.shape == (N, CLASSES)
    scores = trainer(classifier, ScoresOfLogits(by), **arguments).predict(rows).predictions
    assert (scores.shape, scores.dtype) == ((N,), np.float32)
    assert np.array_equal(scores, getattr(fastal.score(logits), by))
    want = fastal.select(logits, k=9, by=by)
    picks = fastal.select(scores, k=9, by="score")
    assert picks.rows.tolist() == want.rows.tolist()
    assert picks.scores.tolist() == want.scores.tolist()


@pytest.mark.parametrize("on_invalid", ["raise", "skip"])
def test_scores_of_logits_pass_the_public_checks(on_invalid):
    def score(x, kind):
        hook = ScoresOfLogits(fastal.Scores._fields, kind=kind, on_invalid=on_invalid)
        return hook(x, None)

    check_scores(score, n_classes=[2, 33], on_invalid=on_invalid)


class Identity(torch.nn.Module):
    """A model of rows that are logits."""

    def forward(self, x):
        return {"logits": x}


@pytest.mark.full
@pytest.mark.parametrize("on_invalid", ["raise", "skip"])
def test_running_selection_passes_the_public_checks(tmp_path, on_invalid):
    def select(pool, k, exclude=None):
        selection = RunningSelection(k, exclude=exclude, on_invalid=on_invalid)
        arguments = TrainingArguments(
            str(tmp_path), report_to="none", disable_tqdm=True, use_cpu=True,
            per_device_eval_batch_size=BATCH,
        )  # fmt: skip
        rows = [{"x": row} for row in torch.from_numpy(pool)]
        Trainer(
            Identity(), arguments, preprocess_logits_for_metrics=selection, callbacks=[selection]
        ).predict(rows)
        return selection.result()

    check_select(select, on_invalid=on_invalid, n_rows=100)


def test_several_scores_are_a_plain_tuple(trainer, classifier):
    logits = trainer(classifier).predict(Rows()).predictions
    both = trainer(classifier, ScoresOfLogits(["entropy", "ratio"])).predict(Rows()).predictions
    assert type(both) is tuple
    for found, name in zip(both, ("entropy", "ratio"), strict=True):
        assert np.array_equal(found, getattr(fastal.score(logits), name))


def test_trainer_never_holds_more_than_a_batch_of_logits(trainer, classifier):
    """Of the tensors that it collects, the largest has a number per row."""
    from transformers import trainer as module

    sizes = []

    class Watched(module.EvalLoopContainer):
        def add(self, tensors):
            super().add(tensors)
            sizes.append(self.tensors.numel())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "EvalLoopContainer", Watched)
        trainer(classifier, ScoresOfLogits()).predict(Rows(with_labels=False))
        assert max(sizes) == N
        trainer(classifier).predict(Rows(with_labels=False))
        assert max(sizes) == N * CLASSES


def token_scores(trainer, tagger, by):
    """The mean score of the tokens of each sentence, one sentence after the other."""
    logits = trainer(tagger).predict(Rows(of_tokens=True)).predictions
    return [
        getattr(fastal.score(row[:length]), by).astype(float).mean()
        for row, length in zip(logits, LENGTHS, strict=True)
    ]


def test_padding_does_not_count(trainer, tagger):
    rows = Rows(of_tokens=True)
    want = token_scores(trainer, tagger, "margin")
    hook = ScoresOfLogits("margin", aggregate="mean")
    scores = trainer(tagger, hook).predict(rows).predictions
    np.testing.assert_allclose(scores, want, rtol=2e-5)

    def counting_padding(logits, labels):
        return hook(logits, torch.zeros_like(labels))

    wrong = trainer(tagger, counting_padding).predict(rows).predictions
    assert np.abs(wrong - want).max() > 0.01


def test_logits_of_the_next_token_count_by_its_label():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 3, generator=generator)
    labels = torch.tensor([[-100, -100, 1, 2], [-100, 0, -100, -100]])
    found = ScoresOfLogits(aggregate="sum", next_token=True)(logits, labels)
    of_tokens = fastal.score(logits.reshape(8, 3)).margin.reshape(2, 4)
    want = torch.stack([of_tokens[0, 1] + of_tokens[0, 2], of_tokens[1, 0]])
    torch.testing.assert_close(found, want)
    same_place = ScoresOfLogits(aggregate="sum")(logits, labels)
    assert not torch.allclose(found, same_place)


def test_scores_of_labels_and_temperatures():
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    hook = ScoresOfLogits(kind="multilabel_logits", aggregate="max", temperature=2.0)
    p = (x.double() / 2).sigmoid()
    torch.testing.assert_close(hook(x, None), (1 - (2 * p - 1).abs()).amax(1).float())


def test_the_first_of_several_outputs_is_scored():
    x = torch.tensor([[0.0, 1.0], [2.0, 0.0]])
    assert ScoresOfLogits()((x, torch.zeros(2, 7)), None).equal(fastal.score(x).margin)


def test_invalid_rows_raise_or_are_nan():
    x = torch.tensor([[0.0, 0.0], [torch.nan, 0.0]])
    with pytest.raises(fastal.InvalidRows, match=r"^row 1 "):
        ScoresOfLogits()(x, None)
    assert ScoresOfLogits(on_invalid="skip")(x, None).isnan().tolist() == [False, True]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"by": "doubt"}, "^by: wanted one of least_confidence, .* got 'doubt'"),
        ({"by": "random"}, "^by: wanted one of .* got 'random'"),
        ({"by": ()}, r"^by: wanted a name of a score, or several, got \(\)"),
        ({"by": 3}, "^by: wanted a name of a score, or several, got 3"),
        ({"kind": "logit"}, "^kind: .*'logit'"),
        ({"kind": "multilabel_logits"}, "^aggregate: wanted mean, "),
        ({"aggregate": "median"}, "^aggregate: .*'median'"),
        ({"temperature": 0}, "^temperature: .*0"),
        ({"on_invalid": "drop"}, "^on_invalid: .*'drop'"),
    ],
)
def test_wrong_options_are_errors(options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        ScoresOfLogits(**options)
    if options.get("by", "") != ():
        with pytest.raises((ValueError, TypeError)):
            RunningSelection(3, **options)


TOKENS = torch.zeros(2, 3, 4)


@pytest.mark.parametrize(
    ("options", "logits", "labels", "message"),
    [
        ({}, TOKENS, torch.zeros(2, 3), r"^aggregate: wanted mean.*\(2, 3, 4\).*got None"),
        ({"aggregate": "mean"}, TOKENS, None, r"^labels: wanted a tensor \(2, 3\).*got NoneType"),
        ({"aggregate": "mean"}, TOKENS, torch.zeros(2, 4), r"^labels: .*got \(2, 4\)"),
        ({"aggregate": "mean"}, TOKENS, (1, 2), "^labels: .*got tuple"),
        ({"aggregate": "mean"}, TOKENS[None], None, r"^logits: wanted .*got shape \(1, 2, 3, 4\)"),
        ({"aggregate": "mean"}, TOKENS[0], None, "wanted .items, rows, classes., got shape"),
        ({"aggregate": "mean", "next_token": True}, TOKENS[0], None, r"^logits: wanted \[n, tok"),
        ({}, TOKENS[0, 0], None, r"^logits: wanted \[n, classes\] or .*got shape \(4,\)"),
        ({}, "logits", None, "^logits: wanted a tensor.*got 'logits'"),
        ({}, (), None, r"^logits: wanted a tensor.*got \(\)"),
        (
            {"kind": "multilabel_logits", "aggregate": "max"}, TOKENS, torch.zeros(2, 3),
            r"^logits: wanted \[n, labels\], got shape \(2, 3, 4\)",
        ),
    ],
)  # fmt: skip
def test_wrong_outputs_are_errors(options, logits, labels, message):
    with pytest.raises((ValueError, TypeError), match=message):
        ScoresOfLogits(**options)(logits, labels)


def test_a_sentence_without_a_token_that_counts_is_invalid():
    hook = ScoresOfLogits(aggregate="mean")
    with pytest.raises(fastal.InvalidRows, match="row 1 is an item of which no row counts"):
        hook(TOKENS, torch.tensor([[1, 1, -100], [-100, -100, -100]]))


def test_a_running_selection_picks_what_select_picks(trainer, classifier):
    logits = trainer(classifier).predict(Rows()).predictions
    for by in ("margin", "entropy"):
        options = {"exclude": [3, 4, 5], "among": np.arange(2, 35)}
        selection, of = running(trainer, classifier, 7, by, **options)
        scores = of.predict(Rows()).predictions
        want = fastal.select(logits, k=7, by=by, **options)
        picks = selection.result()
        assert picks.rows.tolist() == want.rows.tolist()
        assert picks.scores.tolist() == want.scores.tolist()
        assert np.array_equal(scores, getattr(fastal.score(logits), by))


def test_a_running_selection_of_tokens(trainer, tagger):
    want = np.argsort(token_scores(trainer, tagger, "ratio"))[::-1][:6]
    selection, of = running(trainer, tagger, 6, "ratio", aggregate="mean")
    of.predict(Rows(of_tokens=True))
    assert selection.result().rows.tolist() == want.tolist()


def test_every_evaluation_starts_anew(trainer, classifier):
    selection, of = running(trainer, classifier, 5)
    with pytest.raises(ValueError, match=r"no evaluation with logits has ended.*callbacks="):
        selection.result()
    of.predict(Rows())
    first = selection.result()
    of.evaluate(Rows())  # the loss alone: it has no compute_metrics
    assert selection.result() is first
    of.predict(Rows(9))
    assert max(selection.result().rows.tolist()) < 9
    of.predict(Rows())
    assert selection.result().rows.tolist() == first.rows.tolist()


def test_evaluations_with_metrics_select_too(trainer, classifier):
    selection, of = running(
        trainer, classifier, 5, arguments={"compute_metrics": lambda p: {"n": len(p.predictions)}}
    )
    assert of.evaluate(Rows())["eval_n"] == N
    picked = selection.result().rows.tolist()
    of.predict(Rows())
    assert selection.result().rows.tolist() == picked


def test_an_evaluation_that_was_cut_short_leaves_nothing_behind(trainer, classifier):
    selection, of = running(trainer, classifier, 5)
    of.predict(Rows())
    want = selection.result().rows.tolist()

    class Broken(Rows):
        def __getitem__(self, i):
            if i == 20:
                raise OSError("row 20 is lost")
            return super().__getitem__(i)

    with pytest.raises(OSError, match="row 20"):
        of.predict(Broken())
    with pytest.raises(ValueError, match="has ended"):
        selection.result()
    of.predict(Stream(Rows()))  # which has no length to compare with
    assert selection.result().rows.tolist() == want


def test_without_the_callback_there_is_no_result(trainer, classifier):
    selection = RunningSelection(3)
    trainer(classifier, selection).predict(Rows())
    with pytest.raises(ValueError, match=r"wanted Trainer\(.*callbacks=\[selection\]"):
        selection.result()


def test_invalid_rows_are_named_by_their_numbers(trainer, classifier):
    class Spoiled(torch.nn.Module):
        """The classifier, with NaN for the rows that begin with token 0."""

        def forward(self, input_ids, attention_mask):
            logits = classifier(input_ids, attention_mask=attention_mask).logits.clone()
            logits[input_ids[:, 0] == 0] = torch.nan
            return {"logits": logits}

    rows = Rows(with_labels=False)
    rows.ids[[11, 30], 0] = 0
    _, of = running(trainer, Spoiled(), 3)
    with pytest.raises(fastal.InvalidRows, match=r"^row 11 .* among rows 8 to 15: 11"):
        of.predict(rows)
    selection, of = running(trainer, Spoiled(), N, on_invalid="skip")
    scores = of.predict(rows).predictions
    assert np.flatnonzero(np.isnan(scores)).tolist() == [11, 30]
    picks = selection.result()
    assert sorted({11, 30, *picks.rows.tolist()}) == [*range(N)]
    assert (len(picks), picks.invalid) == (N - 2, 2)


def test_a_sampler_that_groups_by_length_is_refused(trainer, classifier):
    arguments = {"train_sampling_strategy": "group_by_length"}
    _, of = running(trainer, classifier, 3, arguments=arguments)
    with pytest.raises(ValueError, match=r"SequentialSampler.*got LengthGroupedSampler"):
        of.predict(Rows())


def test_a_loader_that_shuffles_is_refused(trainer, classifier):
    _, of = running(trainer, classifier, 3)
    of.get_test_dataloader = lambda rows: DataLoader(rows, BATCH, shuffle=True, collate_fn=padded)
    with pytest.raises(ValueError, match="got RandomSampler"):
        of.predict(Rows())


def test_rows_that_are_dropped_are_missed(trainer, classifier):
    _, of = running(trainer, classifier, 3, arguments={"dataloader_drop_last": True})
    with pytest.raises(ValueError, match=r"given 32 rows of a dataset with 37.*drop_last=False"):
        of.predict(Rows())


def predict_in_part(rank, port, folder):
    """What one of two processes does; both end with the scores of all rows."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    tagger, rows = model_of(BertForTokenClassification), Rows(of_tokens=True)
    hook = ScoresOfLogits(aggregate="mean")
    np.save(folder / f"{rank}.npy", trainer_of(folder, tagger, hook).predict(rows).predictions)
    _, of = running(partial(trainer_of, folder), tagger, 3, aggregate="mean")
    with pytest.raises(ValueError, match="each of 2 processes sees a part of the rows"):
        of.predict(rows)
    torch.distributed.destroy_process_group()


@pytest.mark.full
def test_scores_of_several_processes_come_in_the_order_of_the_rows(trainer, tagger, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(predict_in_part, (port, tmp_path), nprocs=2)
    want = token_scores(trainer, tagger, "margin")
    for rank in range(2):
        np.testing.assert_allclose(np.load(tmp_path / f"{rank}.npy"), want, rtol=2e-5)


@pytest.mark.parametrize(
    ("world_size", "loader", "message"),
    [
        (2, {}, r"2 processes.*ScoresOfLogits.*by='score'"),
        (1, {"in_order": False}, "dataloader_in_order=False"),
        (1, {"dataset": Stream([]), "num_workers": 2}, "2 workers iterate over one"),
        (1, {}, "wanted a SequentialSampler.*got NoneType"),
    ],
)
def test_orders_that_cannot_be_known_are_refused(world_size, loader, message):
    selection = RunningSelection(1)
    selection(torch.zeros(2, 2), None)
    args = SimpleNamespace(world_size=world_size)
    with pytest.raises(ValueError, match=message):
        selection.on_prediction_step(args, None, None, eval_dataloader=SimpleNamespace(**loader))


def test_the_examples_of_the_page_run(classifier, tmp_path):
    names = {
        "Trainer": Trainer,
        "model": classifier,
        "args": TrainingArguments(
            str(tmp_path), report_to="none", disable_tqdm=True, use_cpu=True
        ),
        "pool": Rows(),
        "labelled": [1, 2],
    }  # fmt: skip
    found = []
    for block in page_code("transformers"):
        exec(block, names)
        found += [names["picks"].rows.tolist()]
    assert len(found) == 3
    assert all(sorted([*rows, 1, 2]) == [*range(N)] for rows in found)
    assert found[0] == found[1]


def test_the_examples_give_the_output_that_they_show(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module("fastal.adapters.transformers")
    found = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert found.attempted > 8
    assert found.failed == 0
