"""What is said of rows that are not what they were said to be, and of selections of such."""

import pickle
import re

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch.utils._python_dispatch import TorchDispatchMode

import fastal
from fastal import diversity
from fastal.cli import main
from fastal.scoring.by_name import UncertaintyScore
from fastal.sources.array import ArraySource

RNG = np.random.default_rng(0)
LOGITS = RNG.standard_normal((300, 5)).astype(np.float32) * 3
PROBS = RNG.dirichlet(np.ones(5), 300).astype(np.float32)
SIGMOIDS = RNG.random((300, 5)).astype(np.float32)


def messages(caplog):
    found = [record.getMessage() for record in caplog.records]
    caplog.clear()
    return found


@pytest.mark.parametrize(
    ("x", "kind", "says"),
    [
        (LOGITS, "probs", "as logits have (kind='logits')"),
        (np.abs(LOGITS), "probs", "as logits have (kind='logits')"),
        (np.log(PROBS), "probs", "as log-probabilities have (kind='log_probs')"),
        (SIGMOIDS, "probs", "as sigmoids of several labels have"),
        (100 * PROBS, "probs", "sums from 100 to 100, as parts of a whole have: divide"),
        (0 * PROBS, "probs", "they are all zeros"),
        (0 * PROBS + np.nan, "probs", "they have no finite value"),
        (0 * PROBS + np.nan, "logits", "they have no finite value"),
        (0 * PROBS - np.inf, "log_probs", "they have no finite value"),
    ],
)
def test_rows_that_are_all_invalid_are_said_to_look_like_something(backend, caplog, x, kind, says):
    x = torch.tensor(x, device=backend[1])
    for take in (
        lambda how: fastal.score(x, kind=kind, backend=backend[0], on_invalid=how),
        lambda how: fastal.select(x, 3, kind=kind, backend=backend[0], on_invalid=how),
    ):
        with pytest.raises(fastal.InvalidRows, match=re.escape(says)) as e:
            take("raise")
        assert says in str(pickle.loads(pickle.dumps(e.value.located("there"))))
        caplog.clear()
        take("skip")
        first, *others = messages(caplog)
        assert first.startswith("the first 300 rows are all invalid and left out")
        assert says in first
        assert others == ["300 of 300 rows are invalid: NaN"] or others == [
            "nothing was picked: all 300 rows are invalid"
        ]


def test_skipping_is_no_advice_where_it_would_leave_little(caplog):
    x = SIGMOIDS.copy()
    x[[4, 200]] = PROBS[:2]
    with pytest.raises(fastal.InvalidRows) as error:
        fastal.select(x, 3, kind="probs")
    assert str(error.value).endswith(
        "as sigmoids of several labels have; wanted one distribution per row. on_invalid='skip' "
        "would leave out 298 of 300 rows"
    )
    x = PROBS.copy()
    x[:7] = 0.7
    with pytest.raises(fastal.InvalidRows, match=r"on_invalid='skip' leaves them out$"):
        fastal.select(x, 3, kind="probs")


@pytest.mark.parametrize("kind", ["logits", "probs", "log_probs"])
@pytest.mark.parametrize("shape", [(300,), (300, 1)])
def test_one_sigmoid_a_row_gets_the_line_to_write(backend, kind, shape):
    p = SIGMOIDS[:, 0].reshape(shape)
    for call in (fastal.score, lambda x, **how: fastal.select(x, 3, **how)):
        with pytest.raises(ValueError, match=f"^{kind}: wanted ") as error:
            call(torch.tensor(p, device=backend[1]), kind=kind, backend=backend[0])
        line = re.search(r"pass (np\.column_stack\(.*\)) with kind='probs'$", str(error.value))
        stacked = eval(line[1], {"np": np, "p": p})
        picks = fastal.select(stacked, 3, kind="probs")
        nearest = np.argsort(np.abs(p.ravel() - 0.5), kind="stable")[:3]
        assert picks.rows.tolist() == nearest.tolist()
    with pytest.raises(ValueError, match=r"got shape \(300, 2, 2\)\. For draws"):
        fastal.select(np.zeros((300, 2, 2)), 3, kind=kind)


def test_a_few_invalid_rows_look_like_nothing():
    x = PROBS.copy()
    x[7] = LOGITS[7]
    with pytest.raises(fastal.InvalidRows, match="row 7 has") as error:
        fastal.score(x, kind="probs")
    assert error.value.looks == ""


def test_logits_that_are_probabilities_are_told(backend, caplog):
    for x, is_told in (
        (PROBS, True), (np.eye(5, dtype=np.float32), True), (PROBS.astype(np.float16), True),
        (LOGITS, False), (SIGMOIDS, False), (np.log(PROBS), False), (PROBS[:0], False),
        (np.r_[PROBS[:1], LOGITS], False),
    ):  # fmt: skip
        found = torch.tensor(x, device=backend[1])
        fastal.select([found, found], 3, backend=backend[0])
        said = [message for message in messages(caplog) if "kind='probs' gives" in message]
        assert len(said) == is_told
        fastal.select([found, found], 3, kind="log_probs", backend=backend[0])
        said = [message for message in messages(caplog) if "kind='probs' gives" in message]
        assert len(said) == is_told
        assert all(message.startswith("log_probs: the first rows") for message in said)
    fastal.score(PROBS, kind="probs", backend=backend[0])
    assert not messages(caplog)


TOKENS = PROBS[:60].reshape(10, 6, -1)


@pytest.mark.parametrize(
    ("x", "how"),
    [(TOKENS, {"aggregate": "mean"}),
     (np.concatenate([np.full_like(TOKENS[:, :1], -100), TOKENS], 1), {"aggregate": "max"}),
     (np.moveaxis(TOKENS, 2, 1), {"aggregate": "top3", "class_axis": 1}),
     (fastal.items(list(TOKENS)), {"aggregate": "sum"}),
     (TOKENS, {"by": "bald"}),
     (np.moveaxis(TOKENS, 1, 2), {"by": "margin", "draws_axis": 2, "class_axis": 1})],
)  # fmt: skip
def test_items_and_draws_of_logits_that_are_probabilities_are_told(x, how, caplog):
    fastal.select(x, 3, **how)
    (said,) = [message for message in messages(caplog) if "sum to 1" in message]
    assert said.startswith("logits: ")
    caplog.clear()
    fastal.select(x, 3, kind="probs", **how)
    assert not messages(caplog)


def test_items_and_draws_of_logits_are_told_from_probabilities():
    x = LOGITS[:60].reshape(10, 6, -1)
    for how in ({"aggregate": "mean"}, {"by": "bald"}):
        with pytest.raises(fastal.InvalidRows, match=r"as logits have \(kind='logits'\)"):
            fastal.select(x, 3, kind="probs", **how)


def test_labels_of_another_kind_are_told(caplog):
    logits = np.random.default_rng(0).normal(size=(20, 5))
    for x, kind, told in (
        (SIGMOIDS, "multilabel_probs", ""), (logits, "multilabel_logits", ""),
        (SIGMOIDS[:3, :5], "multilabel_logits", ""),  # few logits may be from 0 to 1
        (SIGMOIDS, "multilabel_logits", "kind='multilabel_probs' gives"),
        (logits, "multilabel_probs", r"do not count (kind='multilabel_logits')"),
        (np.c_[SIGMOIDS, [[-100.0, np.nan]] * len(SIGMOIDS)], "multilabel_probs", ""),
    ):  # fmt: skip
        caplog.clear()
        fastal.select(x, 3, kind=kind, aggregate="mean", on_invalid="skip")
        said = [m for m in messages(caplog) if m.startswith(f"{kind}: ")]
        assert [told in message for message in said] == [True] * bool(told)


def test_draws_of_labels_are_refused():
    with pytest.raises(ValueError, match=r"^kind: .*, got 'multilabel_logits'"):
        fastal.select(np.zeros((4, 3, 2)), 1, by="bald", kind="multilabel_logits")


def test_logits_and_log_probabilities_are_scored_alike_and_need_no_warning(caplog):
    log_probs = torch.log_softmax(torch.tensor(LOGITS).double(), 1)
    want = fastal.score(log_probs, kind="log_probs")
    for x, kind in ((log_probs, "logits"), (LOGITS.astype(float), "log_probs")):
        for scores, wanted in zip(fastal.score(x, kind=kind), want, strict=True):
            np.testing.assert_allclose(np.asarray(scores), wanted.numpy(), rtol=2e-5, atol=1e-37)
    assert not messages(caplog)


class Reads(TorchDispatchMode):
    """Counts how many values are read of a tensor and of what is computed from it."""

    def __init__(self):
        super().__init__()
        self.values = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if not func.is_view:
            self.values += sum(arg.numel() for arg in args if isinstance(arg, torch.Tensor))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("x", "most"),
    [
        (LOGITS, 10 * 5 + 20),  # the first row, and its sum
        (np.r_[PROBS[:1], LOGITS[1:]], 64 * 5 * 20),
        (PROBS, 64 * 5 * 20),
    ],
    ids=["logits", "first row", "probabilities"],
)
def test_few_rows_of_the_first_chunk_are_examined(caplog, x, most):
    measure = UncertaintyScore(("margin",), "logits")
    long = torch.tensor(x).repeat(100, 1)
    with Reads() as reads:
        is_told = bool(measure.suspect(long, 0))
    assert is_told == (x is PROBS)
    assert 0 < reads.values <= most < long.numel()
    with Reads() as reads:
        long.sum()
    assert reads.values == long.numel()


def test_the_first_chunk_alone_is_examined(monkeypatch):
    examined = []
    monkeypatch.setattr(UncertaintyScore, "suspect", lambda _, x, n: examined.append(len(x)) or "")
    fastal.select([LOGITS[:100], LOGITS[100:]], 3)
    assert examined == [100]


def test_selections_that_come_out_empty_say_so(caplog, tmp_path):
    nothing = np.empty((0, 5), np.float32)
    for pool in (nothing, [nothing], iter([]), iter([nothing])):
        assert len(fastal.select(pool, 3).rows) == 0
        assert messages(caplog) == ["nothing was picked: there are no rows"]
    invalid = np.full((20, 5), np.nan, np.float32)
    for call in (
        lambda: fastal.select(invalid, 3, on_invalid="skip"),
        lambda: fastal.select(invalid, per_group=3, groups="predicted", on_invalid="skip"),
        lambda: fastal.select(invalid, 3, lambda x: x[:, 0], on_invalid="skip"),
        lambda: diversity.k_center(invalid, 3, on_invalid="skip"),
        lambda: diversity.cluster_outliers(invalid, LOGITS[:3], 3, on_invalid="skip"),
        lambda: diversity.representative(invalid, LOGITS[:3], 3, on_invalid="skip"),
        lambda: diversity.adaptive_representative(invalid, LOGITS[:3], 3, on_invalid="skip"),
    ):
        assert len(call().rows) == 0
        assert messages(caplog)[-1] == "nothing was picked: all 20 rows are invalid"
    np.save(tmp_path / "pool.npy", invalid)
    pool, out = str(tmp_path / "pool.npy"), str(tmp_path / "picks.csv")
    main(["select", pool, "--k", "3", "--on-invalid", "skip", "--out", out], standalone_mode=False)
    assert "nothing was picked: all 20 rows are invalid" in messages(caplog)


@pytest.mark.parametrize("by", ["least_confidence", "margin", "ratio", "entropy"])
@pytest.mark.parametrize("n_classes", [2, 49, 300])
def test_picks_of_rows_of_equal_values_are_told(backend, caplog, by, n_classes):
    x = torch.randn(40, n_classes, generator=torch.Generator().manual_seed(0)) * 3
    x[[3, 20, 39]] = torch.tensor([-100.0, 0.0, 7.5])[:, None]
    picks = fastal.select(x, 5, by, backend=backend[0])
    assert set(picks.rows.tolist()) >= {3, 20, 39}
    (said,) = messages(caplog)
    assert said.startswith("3 of 5 picks are rows of equal values")
    assert set(map(int, re.search(r"rows ([\d, ]+)\.", said)[1].split(", "))) == {3, 20, 39}
    x[[3, 20, 39]] = torch.nan
    fastal.select(x, 5, by, backend=backend[0], on_invalid="skip")
    assert not messages(caplog)


def test_equal_probabilities_quotas_and_noise(caplog):
    x = PROBS.copy()
    x[9] = 0.2
    fastal.select(x, 5, kind="probs")
    fastal.select(np.log(x), 5, kind="log_probs", per_group=2, groups="predicted")
    fastal.select(iter([x]), 5, kind="probs", noise="softrank", beta=100)
    *read, by_score = messages(caplog)
    assert len(read) == 2
    assert all("1 of 5 picks are rows of equal values" in each for each in read)
    assert "of 5 picks have the score of a row of equal values" in by_score  # which is read once


def test_rows_that_score_like_blank_ones_are_none(caplog, tmp_path):
    tied = np.array([[5, 5, 0, 0], [4, 4, -1, 0], [9, 0, 0, 0]], np.float32)
    np.save(tmp_path / "tied.npy", tied)
    nearly = np.array([[1e-4, 0, 0, 0], [9, 0, 0, 0]], np.float32)
    for pool in (tied, tmp_path / "tied.npy"):
        for by in ("margin", "ratio"):
            assert fastal.select(pool, 2, by).scores.tolist() == [1, 1]
    assert fastal.select(nearly, 1, "entropy").scores[0] > 1 - 1e-6
    orthogonal = np.array([[0, 5], [5, 1]], np.float32)
    assert diversity.cluster_outliers(orthogonal, [[1.0, 0.0]] * np.ones((1, 1)), 1).scores[0] == 1
    assert not messages(caplog)


def test_picks_of_rows_of_zeros_are_told(caplog):
    x = RNG.standard_normal((200, 16)).astype(np.float32)
    x[:, 0] = np.abs(x[:, 0]) + 3  # all of one direction, so that zeros are farthest
    training = x[:5].copy()
    x[[20, 30]] = 0
    for call in (
        lambda: diversity.cluster_outliers(x, training, 5),
        lambda: diversity.k_center(x, 5, labelled=training),
        lambda: diversity.k_center(x, 5),
    ):
        assert {20, 30} <= set(call().rows.tolist())
        (said,) = messages(caplog)
        assert said.startswith("2 of 5 picks are rows of zeros")
    diversity.representative(x, training, 200)
    diversity.adaptive_representative(x[:40], training, 40)
    assert [message.split(" are")[0] for message in messages(caplog)] == [
        "2 of 200 picks", "2 of 40 picks",
    ]  # fmt: skip
    diversity.k_center(x, 5, metric="euclidean")
    diversity.model_outliers(x, training, 5)
    assert not messages(caplog)


def test_of_many_blank_picks_a_few_are_read_again(caplog):
    fastal.select(np.zeros((5000, 3), np.float32), 3000)
    of_ties, said = messages(caplog)
    assert of_ties.startswith("5000 rows have the score of the last pick; 3000 of them")
    assert said.startswith("50 of 50 picks that were read again are rows of equal values")


def test_sources_of_others_need_no_close(caplog):
    class Own(ArraySource):
        def chunks(self, rows, start=0):
            return iter(list(super().chunks(rows, start)))

    assert len(fastal.select(Own(np.zeros((9, 3), np.float32)), 3).rows) == 3
    assert "3 of 3 picks are rows of equal values" in messages(caplog)[1]


def test_the_command_line_spells_the_axis_of_draws_as_an_option(tmp_path):
    np.save(tmp_path / "draws.npy", np.zeros((6, 3, 2)))
    done = CliRunner().invoke(main, ["select", str(tmp_path / "draws.npy"), "--k", "1"])
    assert done.exit_code == 2
    assert "give --draws-axis 1; for items" in done.stderr
    assert "--aggregate mean" in done.stderr


@pytest.mark.parametrize("given", [[np.zeros((2, 3))], fastal.open_pool(np.zeros((2, 3)))])
def test_a_list_or_a_pool_to_score_is_answered_by_what_to_give(given):
    with pytest.raises(TypeError, match=r"^logits: wanted an array .* fastal\.items\(list\)"):
        fastal.score(given)
