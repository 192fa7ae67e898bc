"""Active transfer learning: planted regions, the definitions in float64, chunks, bad arguments."""

import logging
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fastal
from fastal import combine
from fastal.combine.labelled_hidden import given_correctness
from fastal.combine.training import Training
from tests.support import transfer
from tests.support.matrices import DTYPES

WIDTH = 12


def planted(n=2000, seed=0, n_region=50):
    """A pool of which the last 50 rows are in a region of their own."""
    x = np.random.default_rng(seed).standard_normal((n, WIDTH)).astype(np.float32)
    x[n - n_region :, :3] += 4
    return x


def validation(n=400, seed=1):
    """Validation rows, and whether the main model is right: it fails in the region."""
    x = planted(n, seed, n // 10)
    return x, np.arange(n) < n - n // 10


def small(n=120, width=5, seed=0):
    x = np.random.default_rng(seed).standard_normal((n, width)).astype(np.float32)
    return x, x[:, 0] + np.random.default_rng(seed + 9).standard_normal(n) < 1


def in_region(picks, pool):
    return int((np.asarray(picks.rows) >= len(pool) - 50).sum())


def assert_same(a, b):
    assert np.asarray(a.rows).tolist() == np.asarray(b.rows).tolist()
    assert np.asarray(a.scores).tobytes() == np.asarray(b.scores).tobytes()
    assert a.invalid == b.invalid
    assert a.auc == b.auc or (math.isnan(a.auc) and math.isnan(b.auc))


# Strategies by name: of a pool, a number of picks and options.
def uncertainty(pool, k, **options):
    return combine.transfer_uncertainty(pool, *validation(), k, **options)


def representative(pool, k, **options):
    return combine.transfer_representative(pool, planted(500, 3)[:400], k, **options)


def atlas(pool, k, **options):
    return combine.atlas(pool, *validation(), k, **options)


STRATEGIES = [uncertainty, representative, atlas]


@pytest.mark.parametrize("model", ["logistic", pytest.param("network", marks=pytest.mark.full)])
def test_the_rows_of_a_planted_region_of_errors_are_found(model, caplog):
    pool = planted()
    picks = uncertainty(pool, 50, model=model)
    assert in_region(picks, pool) >= 45
    assert picks.auc > 0.95
    assert (picks.strategy, picks.invalid, len(set(picks.rows))) == ("transfer_uncertainty", 0, 50)
    assert (np.diff(picks.scores) <= 0).all()
    assert not caplog.records


def test_the_inverted_score_finds_none_of_them():
    """The rows most surely right are what a score of the wrong sign picks."""
    pool = planted()
    x, is_correct = validation()
    inverted = combine.transfer_uncertainty(pool, x, ~is_correct, 50)
    assert in_region(inverted, pool) == 0
    with pytest.raises(AssertionError):
        assert_follows(inverted, pool, x, ~is_correct, 50)


def assert_follows(picks, pool, x, is_wrong, k, already=()):
    """Rows and scores of picks by the definition. Rows whose order is within rounding may swap."""
    odds, bound = transfer.log_odds(x, is_wrong, pool)
    odds[list(already)] = -math.inf
    rows = np.asarray(picks.rows)[:k]
    best = np.sort(odds)[::-1][:k]
    assert (np.abs(odds[rows] - best) <= 2 * bound.max()).all()
    want = 1 / (1 + np.exp(-odds[rows]))
    # The slope of the probability is at most 1/4, and it is rounded to float32.
    assert (np.abs(np.asarray(picks.scores[:k]) - want) <= bound[rows] / 4 + want * 2.0**-24).all()


def test_picks_follow_the_definition():
    x, is_correct = small()
    pool = small(300, seed=4)[0]
    picks = combine.transfer_uncertainty(pool, x, is_correct, 20)
    assert_follows(picks, pool, x, ~is_correct, 20)


def test_rows_of_which_the_model_is_sure_do_not_tie():
    x = np.arange(-50, 50, dtype=np.float32)[:, None]
    pool = np.arange(0, 4000, dtype=np.float32)[:, None]
    picks = combine.transfer_uncertainty(pool, x, x[:, 0] < 0, 3, l2=1e-3)
    assert picks.rows.tolist() == [3999, 3998, 3997]
    assert (picks.scores == 1).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_and_kind_of_array(dtype):
    x, is_correct = small()
    pool = torch.from_numpy(small(200, seed=4)[0]).to(dtype)
    picks = combine.transfer_uncertainty(pool, torch.from_numpy(x), torch.from_numpy(is_correct), 9)
    assert_follows(picks, pool.double().numpy(), x, ~is_correct, 9)
    assert (picks.rows.dtype, picks.scores.dtype) == (torch.int64, torch.float32)


@settings(deadline=None, max_examples=15)
@given(data=st.data(), strategy=st.sampled_from(STRATEGIES))
def test_chunks_change_no_bit(data, strategy):
    pool = planted(300)
    pool[data.draw(st.integers(0, 299))] = math.nan
    cuts = sorted(data.draw(st.lists(st.integers(0, 300), max_size=5)))
    options = {"on_invalid": "skip", "exclude": np.arange(0, 300, 7)}
    chunks = [chunk.copy() for chunk in np.split(pool, cuts)]
    picks = strategy(chunks, 12, **options)
    assert_same(picks, strategy(pool, 12, **options))
    assert len(set(picks.rows.tolist())) == 12
    assert not (picks.rows % 7 == 0).any()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_what_the_caller_passed_stays_as_it_was(strategy):
    pool = torch.from_numpy(planted(300)).requires_grad_()
    before = pool.detach().clone()
    given = validation()
    kept = [x.copy() for x in given]
    with torch.inference_mode():
        within = strategy(pool, 15)
    assert_same(strategy(pool, 15), within)
    assert torch.equal(pool.detach(), before) and pool.grad is None
    assert not within.scores.requires_grad
    combine.atlas(pool, *given, 15)
    assert all((a == b).all() for a, b in zip(given, kept, strict=True))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_exclude_and_among_leave_out_rows_valid_or_not(strategy):
    pool = planted(300)
    pool[:100] = math.nan
    assert (strategy(pool, 15, exclude=range(100)).rows >= 100).all()
    mask = (np.arange(300) >= 100) & (np.arange(300) % 2 == 0)
    picks = strategy(pool, 15, among=mask, exclude=fastal.Picks([298], [0.0]))
    assert mask[picks.rows].all() and 298 not in picks.rows
    with pytest.raises(fastal.InvalidRows, match="has NaN"):
        strategy(pool, 15)
    assert strategy(pool, 15, on_invalid="skip").invalid == 100


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_ids_and_carried_columns_come_with_the_picks(strategy):
    texts = [f"text {i}" for i in range(300)]
    pool = fastal.open_pool(planted(300), ids=list(range(1000, 1300)), carry={"text": texts})
    picks = strategy(pool, 15)
    assert (picks.ids == picks.rows + 1000).all()
    assert picks["text"].tolist() == [texts[row] for row in picks.rows]


@pytest.mark.parametrize("strategy", [uncertainty, representative])
def test_quotas(strategy):
    picks = strategy(planted(300), None, groups=np.arange(300) % 3, per_group=4)
    assert np.bincount(picks.groups).tolist() == [4, 4, 4]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_fewer_rows_than_wanted(strategy, caplog):
    picks = strategy(planted(300), 15, among=range(4))
    assert sorted(picks.rows) == [0, 1, 2, 3]
    assert "k: wanted 15 rows" in caplog.text


def test_slices_keep_the_auc_and_picks_are_those_of_other_strategies(tmp_path):
    pool = planted(300)
    picks = uncertainty(pool, 15)
    assert isinstance(picks, fastal.Picks)
    assert picks[:3].auc == picks.auc
    later = fastal.select(pool, 5, by="random", exclude=picks)
    assert (picks + later).strategy == "transfer_uncertainty + random"
    picks.save(tmp_path / "picks.csv")
    assert fastal.Picks.load(tmp_path / "picks.csv").rows.tolist() == picks.rows.tolist()


@pytest.mark.full
def test_a_checkpoint_is_bound_to_the_validation_rows(tmp_path, monkeypatch):
    monkeypatch.setattr("fastal.pipeline.checkpoint._SECONDS", 0.0)
    monkeypatch.setattr("fastal.pipeline.checkpoint._PAUSE", 0.0)
    np.save(tmp_path / "x.npy", planted())
    how = {"checkpoint": tmp_path / "state", "chunk_bytes": 1 << 13}
    want = uncertainty(tmp_path / "x.npy", 15)
    log_odds, calls = combine.small_model.log_odds, []

    def stops(x, layers):
        calls.append(len(x))
        if len(calls) == 5 + 6:  # five folds, and some chunks
            raise KeyboardInterrupt
        return log_odds(x, layers)

    monkeypatch.setattr("fastal.combine.small_model.log_odds", stops)
    with pytest.raises(KeyboardInterrupt):
        uncertainty(tmp_path / "x.npy", 15, **how)
    with pytest.raises(ValueError, match="small_model"):
        combine.transfer_uncertainty(
            tmp_path / "x.npy", *validation(seed=5), 15, resume=True, **how
        )
    assert_same(uncertainty(tmp_path / "x.npy", 15, resume=True, **how), want)


def test_a_warning_says_that_a_small_model_knows_nothing(caplog):
    x, _ = validation()
    is_correct = np.random.default_rng(3).random(len(x)) < 0.7
    picks = combine.transfer_uncertainty(planted(300), x, is_correct, 5)
    assert picks.auc < 0.6
    assert f"its held-out AUC is {picks.auc:.2f}" in caplog.text


def test_a_single_wrong_row_leaves_the_auc_unknown(caplog):
    x, _ = validation()
    picks = combine.transfer_uncertainty(planted(300), x, np.arange(len(x)) != 7, 5)
    assert math.isnan(picks.auc)
    assert "not measured" in caplog.text


@pytest.mark.parametrize("strategy", [combine.transfer_uncertainty, combine.atlas])
@pytest.mark.parametrize(
    ("is_correct", "error", "words"),
    [
        (np.ones(400, bool), ValueError, "got wrong, got 400 rows, all right"),
        (np.zeros(400, bool), ValueError, "got right, got 400 rows, all wrong"),
        (np.arange(400) % 2, TypeError, "wanted a bool .* got int64"),
        (np.ones(399, bool), ValueError, r"each of the 400 .* \(399,\)"),
        ([None] * 400, TypeError, "wanted a bool .* got object"),
        (["yes"] * 400, TypeError, "is_correct"),
    ],
)
def test_wrong_labels_are_one_clear_error(strategy, is_correct, error, words):
    with pytest.raises(error, match=words):
        strategy(planted(300), validation()[0], is_correct, 5)


def test_lists_of_bools_are_taken():
    assert given_correctness([True, False, True], 3).tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"k": 0}, ValueError, "k: wanted at least 1"),
        ({"model": "forest"}, ValueError, "model: wanted one of logistic, network"),
        ({"l2": 0}, ValueError, "l2: wanted a finite number above 0"),
        ({"seed": -1}, ValueError, "seed"),
        ({"backend": "triton"}, ValueError, "backend"),
        (
            {"validation_hidden": validation()[0][:, :5]},
            ValueError,
            "validation_hidden: wanted 12 .* got 5",
        ),
        ({"validation_hidden": validation()[0] * math.nan}, ValueError, "validation_hidden: row 0"),
        ({"validation_hidden": fastal.Picks([1], [0.0])}, TypeError, "got picks"),
        ({"validation_hidden": [validation()[0][0]]}, ValueError, "validation_hidden"),
        ({"model": "network", "is_correct": np.arange(400) > 3}, ValueError, "at least 5 rows"),
    ],
)
def test_bad_arguments_are_named(options, error, words):
    x, is_correct = validation()
    given = {"validation_hidden": x, "is_correct": is_correct, "k": 5, **options}
    with pytest.raises(error, match=words):
        combine.transfer_uncertainty(planted(300), **given)


def test_the_pool_s_own_rows_are_found_and_not_those_like_the_labelled():
    pool = planted()
    picks = combine.transfer_representative(pool, planted(500, 3)[:450], 50)
    assert in_region(picks, pool) >= 45
    assert picks.strategy == "transfer_representative"
    # The wrong side: rows most surely like the labelled data.
    z = np.concatenate([planted(500, 3)[:450], pool])
    training = Training("logistic", 1.0, 0, "wrong", "labelled")
    measure = training.measure(torch.from_numpy(z).double(), torch.arange(len(z)) < 450)
    assert in_region(fastal.select(pool, 50, measure), pool) == 0


def test_representative_picks_follow_the_definition():
    pool, labelled = small(200, seed=4)[0], small(80)[0] - 1
    drawn = fastal.select(pool, 60, by="random", seed=5).rows
    x = np.concatenate([pool[np.sort(drawn)], labelled])
    picks = combine.transfer_representative(pool, labelled, 20, pool_rows=60, seed=5)
    assert_follows(picks, pool, x, np.arange(140) < 60, 20)


@pytest.mark.parametrize("strategy", [representative, atlas])
def test_a_generator_is_refused_where_the_pool_is_read_again(strategy):
    with pytest.raises(ValueError, match="can be read several times"):
        strategy((planted(300) for _ in range(1)), 15)


def test_a_generator_is_read_once():
    pool = planted(300)
    assert_same(uncertainty(iter([pool]), 15), uncertainty(pool, 15))


def test_representative_needs_rows_to_train_on():
    with pytest.raises(ValueError, match="wanted rows to train on"):
        representative(planted(300) * math.nan, 5, on_invalid="skip")
    with pytest.raises(ValueError, match="labelled_hidden: wanted 5 columns"):
        representative(small()[0], 5)


@pytest.mark.parametrize(("k", "per_iteration"), [(25, 10), (7, 10), (20, 10), (3, 1)])
def test_atlas_follows_the_definition_and_picks_exactly_k(k, per_iteration):
    x, is_correct = small()
    pool = small(150, seed=4)[0]
    picks = combine.atlas(pool, x, is_correct, k, per_iteration=per_iteration)
    assert len(set(picks.rows.tolist())) == len(picks) == k
    assert picks.strategy == "atlas"
    done = 0
    while done < k:
        of = min(per_iteration, k - done)
        already = picks.rows[:done]
        rows = np.concatenate(
            [
                x,
                *[
                    pool[np.sort(already[i : i + per_iteration])]
                    for i in range(0, done, per_iteration)
                ],
            ]
        )
        is_wrong = np.append(~is_correct, np.zeros(done, bool))
        assert_follows(picks[done : done + of], pool, rows, is_wrong, of, already)
        done += of


def test_atlas_that_does_not_learn_is_found():
    """Its first iteration is `transfer_uncertainty`; the later ones are not."""
    x, is_correct = small()
    pool = small(150, seed=4)[0]
    once = combine.transfer_uncertainty(pool, x, is_correct, 25)
    picks = combine.atlas(pool, x, is_correct, 25)
    assert picks.rows[:10].tolist() == once.rows[:10].tolist()
    assert picks.auc == once.auc
    with pytest.raises(AssertionError):
        assert_follows(picks[10:], pool, x, ~is_correct, 10, picks.rows[:10])


def test_atlas_spreads_over_two_regions():
    """Once picks of a region count as learnt, more of the other come."""
    x, pool = np.random.default_rng(1).standard_normal((2, 1000, 4)).astype(np.float32)
    x[:20, 0] += 6
    x[20:35, 1] += 5
    pool[:100, 0] += 6
    pool[100:200, 1] += 5
    is_correct = np.arange(1000) >= 35
    once = combine.transfer_uncertainty(pool, x, is_correct, 60)
    spread = combine.atlas(pool, x, is_correct, 60)
    of_other = [np.isin(picks.rows, range(100, 200)).sum() for picks in (once, spread)]
    assert 0 < of_other[0] < of_other[1]


def test_atlas_counts_invalid_rows_once():
    pool = planted(300)
    pool[[5, 50]] = math.nan
    assert atlas(pool, 35, on_invalid="skip").invalid == 2


def test_atlas_reads_a_pool_to_its_end(caplog):
    caplog.set_level(logging.WARNING)
    picks = atlas(planted(60), 99, per_iteration=30)
    assert sorted(picks.rows) == list(range(60))
    assert "k: wanted 99 rows; 60 valid ones were left" in caplog.text
    assert len(atlas(planted(60)[:0], 5)) == 0
