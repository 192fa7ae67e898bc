"""Measures of rows of any shape: draws of several predictions per row are selected like others."""

import numpy as np
import pytest
import torch

import fastal
from fastal.scoring.measure import Measure
from fastal.scoring.rows import Rows

DRAWS = np.random.default_rng(0).dirichlet(np.ones(4), (200, 5)).astype(np.float32)  # [n, S, C]


class VariationOfDraws(Measure):
    """The largest variance over S draws of the probability of a class: rows are [S, C]."""

    kind, invalid, offers = "draws", "has NaN", ("torch",)
    columns = "draws of classes"

    def check(self, x):
        if x.ndim != 3:
            raise ValueError(f"draws: wanted [rows, draws, classes], got {tuple(x.shape)}")

    def scores(self, rows: Rows):
        scores = rows.x.var(1).amax(1).float()
        return [scores], int(scores.isnan().sum())

    def identity(self):
        return "variation of draws"


def best(x, k):
    variation = x.astype(np.float64).var(1, ddof=1).max(1)
    return np.lexsort((np.arange(len(x)), -variation.astype(np.float32)))[:k]


def test_rows_of_draws_are_selected_from_an_array_a_file_and_chunks(tmp_path):
    np.save(tmp_path / "draws.npy", DRAWS)
    selector = fastal.Selector(7, VariationOfDraws())
    for start in (0, 130, 60):
        selector.update(DRAWS[start : {0: 60, 60: 130, 130: 200}[start]], start)
    for picks in (
        fastal.select(DRAWS, 7, VariationOfDraws()),
        fastal.select(tmp_path / "draws.npy", 7, VariationOfDraws(), chunk_bytes=4096),
        selector.result(),
    ):
        assert picks.rows.tolist() == best(DRAWS, 7).tolist()


def test_a_measure_of_its_own_checks_its_rows_and_their_shape_stays():
    selector = fastal.Selector(3, VariationOfDraws())
    with pytest.raises(ValueError, match=r"draws: wanted \[rows, draws, classes\], got \(5, 4\)"):
        selector.update(DRAWS[0])
    selector.update(DRAWS[:10])
    with pytest.raises(ValueError, match=r"rows from 10 on have shape \(3, 4\), the rows before"):
        selector.update(DRAWS[10:, :3])
    with pytest.raises(ValueError, match="this op has the backends torch"):
        fastal.select(DRAWS, 3, VariationOfDraws(), backend="native")


def test_invalid_rows_of_a_measure_of_its_own_are_named():
    broken = torch.from_numpy(DRAWS.copy())
    broken[3, 1, 2] = torch.nan
    with pytest.raises(fastal.InvalidRows, match="row 3 has NaN") as error:
        fastal.select(broken, 3, VariationOfDraws())
    assert error.value.rows == [3]
    assert fastal.select(broken, 3, VariationOfDraws(), on_invalid="skip").invalid == 1


class Wrong(VariationOfDraws):
    """Returns what a measure must not return."""

    def __init__(self, change):
        self.change = change

    def scores(self, rows):
        scores, n_invalid = super().scores(rows)
        return [self.change(scores[0])], n_invalid


@pytest.mark.parametrize("change", [lambda s: s[1:], lambda s: s[:, None], lambda s: s.double()])
def test_what_is_not_a_float32_score_per_row_is_refused(change):
    with pytest.raises(ValueError, match=r"by: Wrong returned .* wanted one float32"):
        fastal.select(DRAWS, 3, Wrong(change))


def test_scores_may_require_a_gradient():
    x = torch.from_numpy(DRAWS)
    wanted = fastal.select(x, 3, VariationOfDraws()).rows
    measure = Wrong(lambda s: s * torch.ones(1, requires_grad=True))
    assert fastal.select(x, 3, measure).rows.tolist() == wanted.tolist()


def test_a_selection_wants_one_score():
    measure = VariationOfDraws()
    measure.names = ("one", "other")
    with pytest.raises(ValueError, match="by: wanted a measure of one score, got one, other"):
        fastal.Selector(3, measure)
    with pytest.raises(ValueError, match=r"by: wanted one of .*, got \('margin', 'entropy'\)"):
        fastal.Selector(3, ("margin", "entropy"))
