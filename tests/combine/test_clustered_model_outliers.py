"""`clustered_model_outliers` against its three stages, of which the first two are loops."""

import numpy as np
import pytest

from fastal import combine
from fastal.pipeline.checkpoint import Checkpoint
from tests.support.combined import (
    VALIDATION,
    clustered_picks,
    mean_rank,
    model_outliers_of_uncertain,
    pools,
)


@pytest.mark.parametrize("oversample", [1, 2, 4])
@pytest.mark.parametrize("share", [0.02, 0.3])
def test_picks_are_of_clusters_of_the_model_outliers(oversample, share):
    logits, x = pools()
    picks = combine.clustered_model_outliers(
        logits, x, VALIDATION, x, 10, oversample=oversample, share=share, seed=2
    )
    rows, _ = model_outliers_of_uncertain(logits, x, 10 * oversample, share)
    want = combine.clustered_uncertainty(logits, x, 10, share=1, seed=2, among=rows)
    assert clustered_picks(picks) == clustered_picks(want)
    assert picks.scores.tobytes() == want.scores.tobytes()
    assert picks.strategy == "clustered_model_outliers"


def test_clusters_of_other_rows_are_found_to_be_wrong():
    logits, x = pools()
    picks = combine.clustered_model_outliers(logits, x, VALIDATION, x, 10, share=0.3)
    rows, _ = model_outliers_of_uncertain(
        logits, x, 20, 0.3, lambda row: mean_rank(row, VALIDATION)
    )
    wrong = combine.clustered_uncertainty(logits, x, 10, share=1, among=rows)
    assert clustered_picks(picks) != clustered_picks(wrong)


def test_rows_that_are_invalid_in_each_pool_are_counted_once():
    logits, x = pools()
    activations, embeddings = x.copy(), x.copy()
    logits[3] = np.nan
    activations[5, 0] = embeddings[7, 1] = np.inf
    picks = combine.clustered_model_outliers(
        logits, activations, VALIDATION, embeddings, 30, share=1, oversample=20, on_invalid="skip"
    )
    assert picks.invalid == 3
    assert not {3, 5, 7} & set(picks.rows.tolist())


def test_both_stages_have_checkpoints(tmp_path, monkeypatch):
    logits, x = (tmp_path / name for name in ("logits.npy", "embeddings.npy"))
    for path, rows in zip((logits, x), pools(), strict=True):
        np.save(path, rows)
    folders = set()
    opened = Checkpoint.__init__

    def init(self, folder, *arguments, **options):
        folders.add(folder.relative_to(tmp_path / "run").parts)
        opened(self, folder, *arguments, **options)

    monkeypatch.setattr(Checkpoint, "__init__", init)
    combine.clustered_model_outliers(logits, x, VALIDATION, x, 10, checkpoint=tmp_path / "run")
    assert {stages[0] for stages in folders} == {"outliers", "clusters"}
    assert ("outliers", "uncertain") in folders
