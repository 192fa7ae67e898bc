"""The pages on Ray and on Ray Data, on a cluster of this machine."""

import numpy as np
import pytest

import fastal
from tests.support.adapter_pages import page_code
from tests.support.checkout import PYTHONPATH

ray = pytest.importorskip("ray", reason="ray is missing; scripts/test-adapters ray_data has it")
pytest.importorskip(
    "ray.data", reason="ray[data] is missing; scripts/test-adapters ray_data has it"
)

from ray.exceptions import RayTaskError  # noqa: E402

pytestmark = [
    pytest.mark.full,
    pytest.mark.filterwarnings("ignore::FutureWarning:ray"),
    pytest.mark.filterwarnings("ignore:.*is deprecated.*:DeprecationWarning:ray"),  # of its own use
]
# Many rows tie.
LOGITS = np.random.default_rng(1).integers(-2, 3, size=(2000, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def names():
    """What the page defines; its cluster has processes that import the same fastal."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", PYTHONPATH)
        ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
        names = {"__name__": "__main__"}  # functions of a script are sent as they are
        for block in page_code("ray_data", folder="distributed"):
            exec(block, names)
        yield names
        ray.shutdown()


def picks_of(names, pipeline):
    """The picks of another pipeline by the last lines of the page."""
    *_, lines = page_code("ray_data", folder="distributed")
    names = {**names, "pipeline": pipeline}
    exec(lines[lines.index("selectors =") :], names)
    return names["picks"]


def pipeline_of(logits, rows, blocks):
    data = ray.data.range(len(rows), override_num_blocks=blocks)
    return data.map_batches(lambda batch: {"row": rows[batch["id"]], "logits": logits[batch["id"]]})


def test_the_examples_of_the_page_run(names):
    want = fastal.select(names["inputs"] @ names["WEIGHT"], 100, "margin")
    assert names["picks"].rows.tolist() == want.rows.tolist()
    assert np.allclose(
        names["picks"].scores, want.scores, rtol=1e-5
    )  # products of smaller matrices


def test_the_example_of_the_engine_runs(names, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the pool is named by a relative path
    (tmp_path / "predictions").mkdir()
    np.save(tmp_path / "predictions" / "0.npy", LOGITS)
    found = {}
    (block,) = page_code("index", folder="distributed")
    exec(block, found)
    want = fastal.select("predictions/", 1000)
    assert found["picks"].rows.tolist() == want.rows.tolist()
    assert found["picks"].scores.tolist() == want.scores.tolist()


def test_the_picks_are_those_of_select_with_ties_and_rows_in_any_order(names):
    order = np.random.default_rng(2).permutation(len(LOGITS))
    want = fastal.select(LOGITS, 100, "margin")
    for rows, blocks in ((np.arange(len(LOGITS)), 1), (order, 7)):
        picks = picks_of(names, pipeline_of(LOGITS[rows], rows, blocks))
        assert picks.rows.tolist() == want.rows.tolist()
        assert picks.scores.tolist() == want.scores.tolist()


def test_an_invalid_row_is_named(names):
    logits = LOGITS[:20].copy()
    logits[17, 2] = np.nan
    with pytest.raises(RayTaskError, match="row 17 "):
        picks_of(names, pipeline_of(logits, np.arange(20), 2))


def test_lists_of_several_lengths_are_objects_that_are_refused(names):
    data = ray.data.range(4, override_num_blocks=1)
    for logits in ([1.0, 2.0], [1.0]), ([1.0, 2.0], None):
        pipeline = data.map_batches(
            lambda batch, logits=logits: {"row": batch["id"], "logits": [*logits, *logits]}
        )
        with pytest.raises(RayTaskError, match="dtype object"):
            picks_of(names, pipeline)
