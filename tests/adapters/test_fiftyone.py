"""Datasets of FiftyOne, in its own database, against fastal and against plain loops."""

import doctest
import importlib.util
import logging
import math
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest

import fastal
from fastal import diversity
from tests.support.adapter_pages import page_code
from tests.support.checkout import PYTHONPATH

if importlib.util.find_spec("fiftyone") is None:
    pytest.skip(
        "fiftyone is missing; scripts/test-adapters fiftyone has it", allow_module_level=True
    )

# FiftyOne reads these when it is imported: a database, settings and plugins for these tests alone.
folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
os.environ.update(
    FIFTYONE_CONFIG_PATH=f"{folder.name}/config.json",
    FIFTYONE_DATABASE_DIR=f"{folder.name}/database",
    FIFTYONE_DATABASE_VALIDATION="false",  # it advises to install a newer MongoDB
    FIFTYONE_DEFAULT_DATASET_DIR=f"{folder.name}/datasets",
    FIFTYONE_DO_NOT_TRACK="true",
    FIFTYONE_PLUGINS_DIR=f"{folder.name}/plugins",
    FIFTYONE_SHOW_PROGRESS_BARS="false",
)
with warnings.catch_warnings():
    # FiftyOne calls functions of strawberry, psutil and mongoengine that these will remove.
    warnings.simplefilter("ignore", DeprecationWarning)
    import fiftyone as fo
    import fiftyone.brain as fob
    import fiftyone.operators as foo
    import fiftyone.plugins as fop
    from fiftyone.operators.executor import ExecutionContext, ExecutionError

    fo.Dataset()  # starts the database

from fastal.adapters import fiftyone as adapter  # noqa: E402
from fastal.adapters import fiftyone_plugin  # noqa: E402
from fastal.adapters.fiftyone import (  # noqa: E402
    compute_representativeness,
    compute_uncertainty,
    compute_uniqueness,
    open_samples,
    select,
    view_of,
)
from fastal.testing import check_select  # noqa: E402

N, CLASSES, WIDTH = 40, 5, 6
PLUGIN = "@fastal/active_learning"
RNG = np.random.default_rng(0)
LOGITS = 3 * RNG.standard_normal((N, CLASSES))
EMBEDDINGS = RNG.standard_normal((N, WIDTH)).astype(np.float32)


def dataset_of(**fields):
    """A dataset with a sample for each value of the fields."""
    dataset = fo.Dataset()
    names = list(fields)
    dataset.add_samples(
        [
            fo.Sample(f"{place}.png", **dict(zip(names, values, strict=True)))
            for place, values in enumerate(zip(*fields.values(), strict=True))
        ],
        dynamic=True,
    )
    return dataset


def classification(logits):
    return None if logits is None else fo.Classification(label="a", logits=logits)


def detections(confidences):
    return fo.Detections(
        detections=[
            fo.Detection(label="a", bounding_box=[0, 0, 1, 1], confidence=confidence)
            for confidence in confidences
        ]
    )


def places(view):
    """The number of each sample of a view, in its order."""
    return [int(Path(path).stem) for path in view.values("filepath")]


@pytest.fixture(scope="module")
def pool():
    """Predictions and embeddings; tests may write fields of their own names."""
    return dataset_of(
        prediction=[classification(row) for row in LOGITS],
        embedding=list(EMBEDDINGS),
    )


@pytest.fixture(scope="module")
def plugin():
    """The plugin, installed with the command of the page."""
    (command,) = [block for block in page_code("fiftyone", "sh") if "ln -s" in block]
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": PYTHONPATH,
    }
    subprocess.run(["bash", "-ec", command], check=True, env=environment, cwd=folder.name)


@pytest.mark.parametrize("by", fastal.Scores._fields)
def test_the_view_has_the_picks_of_fastal_in_their_order(pool, by):
    want = fastal.select(LOGITS, k=9, by=by)
    assert places(select(pool, "prediction", 9, by=by)) == want.rows.tolist()
    assert places(select(pool, "prediction.logits", 9, by=by)) == want.rows.tolist()


def test_a_view_is_read_in_its_own_order_and_only_its_samples_are_picked(pool):
    view = pool.shuffle(seed=1).limit(20)
    order = places(view)
    want = fastal.select(LOGITS[order], k=7)
    found = select(view, "prediction", 7)
    assert places(found) == [order[row] for row in want.rows]
    assert len(set(places(found)) & set(order)) == 7


def test_picks_of_any_strategy_are_shown_as_a_view(pool):
    want = diversity.k_center(EMBEDDINGS, k=8).rows.tolist()
    assert places(select(pool, "embedding", 8, diversity.k_center)) == want
    among = fastal.select(open_samples(pool, "prediction"), k=20)
    picks = diversity.k_center(open_samples(pool, "embedding"), k=5, among=among)
    assert set(places(view_of(pool, picks))) <= set(fastal.select(LOGITS, k=20).rows.tolist())


def test_ranks_and_scores_are_written_and_those_of_an_earlier_selection_go(pool):
    for by, k in (("margin", 12), ("entropy", 4)):
        fields = {"rank_field": "rank", "score_field": "score"}
        view = select(pool, "prediction", k, by=by, **fields)
        want = fastal.select(LOGITS, k=k, by=by)
        assert view.values("rank") == list(range(1, k + 1))
        assert view.values("score") == want.scores.tolist()
        assert places(pool.exists("rank").sort_by("rank")) == want.rows.tolist()
        assert len(pool.exists("score")) == k


@pytest.mark.parametrize("by", fastal.Scores._fields)
def test_uncertainty_is_the_score_of_fastal(pool, by):
    compute_uncertainty(pool, "prediction", f"of_{by}", by=by, temperature=2.0)
    want = getattr(fastal.score(LOGITS, temperature=2.0), by)
    assert pool.values(f"of_{by}") == want.tolist()


def test_a_field_is_written_by_one_call(pool, monkeypatch):
    written = []
    method = fo.Dataset.set_values
    monkeypatch.setattr(
        fo.Dataset, "set_values", lambda *a, **b: written.append(a[1]) or method(*a, **b)
    )
    monkeypatch.setattr(fo.Sample, "save", lambda *_: pytest.fail("saved one sample"))
    compute_uncertainty(pool, "prediction", "once")
    select(pool, "prediction", 3, rank_field="once_rank")
    assert written == ["once", "once_rank"]


def test_probabilities_in_a_list_field_are_scored_as_such():
    p = np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)
    dataset = dataset_of(p=p.tolist())
    compute_uncertainty(dataset, "p", by="ratio", kind="probs")
    largest = -np.sort(-p)
    np.testing.assert_allclose(
        dataset.values("uncertainty"), largest[:, 1] / largest[:, 0], rtol=1e-5
    )


def test_labels_of_classifications_are_independent():
    logits = [[9.0, 9.0, -9.0], [0.0, 9.0, -9.0]]
    dataset = dataset_of(p=[fo.Classifications(logits=np.array(row)) for row in logits])
    compute_uncertainty(dataset, "p", by="ratio", kind="multilabel_logits", aggregate="max")
    want = [max(math.exp(-abs(x)) for x in row) for row in logits]
    np.testing.assert_allclose(dataset.values("uncertainty"), want, rtol=1e-5)


@pytest.mark.parametrize("aggregate", ["mean", "max"])
def test_the_confidences_of_boxes_become_the_score_of_the_image(aggregate):
    confidences = [[0.9, 0.6], [0.5], [0.99, 0.2, 0.8]]
    dataset = dataset_of(p=[detections(row) for row in confidences])
    options = {"kind": "multilabel_probs", "aggregate": aggregate}
    path = "p.detections.confidence"
    compute_uncertainty(dataset, path, by="margin", **options)
    joined = {"mean": np.mean, "max": np.max}[aggregate]
    want = [joined([1 - abs(2 * p - 1) for p in row]) for row in confidences]
    np.testing.assert_allclose(dataset.values("uncertainty"), want, rtol=1e-5)
    assert places(select(dataset, path, 2, **options)) == np.argsort(-np.array(want))[:2].tolist()


def test_logits_of_each_box_are_rows_of_the_image():
    boxes = [LOGITS[:2], LOGITS[2:3], LOGITS[3:7]]
    values = [detections([0.5] * len(rows)) for rows in boxes]
    for value, rows in zip(values, boxes, strict=True):
        for box, row in zip(value.detections, rows, strict=True):
            box["scores"] = row
    dataset = dataset_of(p=values)
    compute_uncertainty(dataset, "p.detections.scores", aggregate="max")
    want = [fastal.score(rows).margin.max() for rows in boxes]
    np.testing.assert_allclose(dataset.values("uncertainty"), want, rtol=1e-6)


def test_frames_of_a_video_are_its_rows():
    dataset = fo.Dataset()
    for name, rows in (("a", LOGITS[:3]), ("b", LOGITS[3:5])):
        sample = fo.Sample(f"{name}.mp4")
        for number, row in enumerate(rows, 1):
            sample.frames[number] = fo.Frame(prediction=classification(row))
        dataset.add_sample(sample)
    compute_uncertainty(dataset, "frames.prediction", by="entropy", aggregate="max")
    want = [fastal.score(rows).entropy.max() for rows in (LOGITS[:3], LOGITS[3:5])]
    np.testing.assert_allclose(dataset.values("uncertainty"), want, rtol=1e-6)


def test_boxes_can_be_picked_one_by_one():
    confidences = RNG.random((4, 3))
    patches = dataset_of(p=[detections(row) for row in confidences.tolist()]).to_patches("p")
    view = select(patches, "p.confidence", 5, by="score", rank_field="rank")
    assert view.values("p.confidence") == sorted(confidences.ravel(), reverse=True)[:5]
    assert view.values("rank") == [1, 2, 3, 4, 5]


def test_of_grouped_samples_those_of_the_slice_are_picked():
    dataset = fo.Dataset()
    dataset.add_group_field("group", default="left")
    for number, (left, right) in enumerate(zip(LOGITS[:6], LOGITS[6:12], strict=True)):
        group = fo.Group()
        for name, row in (("left", left), ("right", right)):
            dataset.add_sample(
                fo.Sample(f"{number}.png", group=group.element(name), p=classification(row))
            )
    assert places(select(dataset, "p", 3)) == fastal.select(LOGITS[:6], k=3).rows.tolist()
    dataset.group_slice = "right"
    assert places(select(dataset, "p", 3)) == fastal.select(LOGITS[6:12], k=3).rows.tolist()


LACKING = {
    "a label": ("p", [classification(np.ones(2)), None, classification(np.array([0.0, 9.0]))]),
    "logits": ("p", [classification(np.ones(2)), fo.Classification(label="a"),
                     classification(np.array([0.0, 9.0]))]),
    "a vector": ("p", [np.ones(2), None, np.array([0.0, 9.0])]),
}  # fmt: skip


@pytest.mark.parametrize("lacking", LACKING)
def test_a_sample_without_a_value_is_named_or_left_out_and_never_gets_a_score(lacking, caplog):
    field, values = LACKING[lacking]
    dataset = dataset_of(**{field: values})
    dataset.set_values("uncertainty", [0.5] * 3)
    lacks = dataset.values("id")[1]
    with pytest.raises(ValueError, match=f"sample {lacks} has no value; 1 such among 3 samples"):
        compute_uncertainty(dataset, field)
    with pytest.raises(ValueError, match=f"sample {lacks} has no value"):
        select(dataset, field, 3)
    assert dataset.values("uncertainty") == [0.5] * 3
    with caplog.at_level(logging.WARNING, "fastal"):
        compute_uncertainty(dataset, field, missing="skip")
    assert "1 of 3 samples have no p" in caplog.text
    found = dataset.values("uncertainty")
    assert found[1] is None
    assert found[0] > found[2] > 0
    assert places(select(dataset, field, 3, missing="skip")) == [0, 2]


def test_an_image_without_boxes_has_no_value():
    dataset = dataset_of(p=[detections([0.5]), detections([])])
    path, options = "p.detections.confidence", {"kind": "multilabel_probs", "aggregate": "max"}
    with pytest.raises(ValueError, match="has no value; 1 such among 2 samples"):
        compute_uncertainty(dataset, path, **options)
    compute_uncertainty(dataset, path, missing="skip", **options)
    assert dataset.values("uncertainty") == [1.0, None]


def test_one_box_without_a_confidence_leaves_out_its_image():
    dataset = dataset_of(p=[detections([0.5]), detections([0.9, None, 0.5])])
    path, options = "p.detections.confidence", {"kind": "multilabel_probs", "aggregate": "max"}
    with pytest.raises(ValueError, match=f"sample {dataset.values('id')[1]} has no value; 1 such"):
        compute_uncertainty(dataset, path, **options)
    compute_uncertainty(dataset, path, missing="skip", **options)
    assert dataset.values("uncertainty") == [1.0, None]


@pytest.mark.parametrize("sizes", [(2, 2), (1, 2)])
def test_boxes_of_frames_are_refused_and_those_of_a_view_of_frames_are_scored(sizes):
    dataset, sample = fo.Dataset(), fo.Sample("a.mp4")
    for number, size in enumerate(sizes, 1):
        sample.frames[number] = fo.Frame(filepath=f"{number}.png", p=detections([0.9, 0.5][:size]))
    dataset.add_sample(sample)
    options = {"kind": "multilabel_probs", "aggregate": "max"}
    with pytest.raises(ValueError, match=r"^field: 'frames.p.* is within 2 levels of lists"):
        compute_uncertainty(dataset, "frames.p.detections.confidence", **options)
    frames = dataset.to_frames()
    compute_uncertainty(frames, "p.detections.confidence", **options)
    want = [{1: 0.2, 2: 1.0}[size] for size in sizes]
    np.testing.assert_allclose(frames.values("uncertainty"), want, rtol=1e-6)


@pytest.mark.full
def test_select_passes_the_public_checks():
    def selecting(pool, k, exclude=()):
        dataset = dataset_of(p=list(pool))
        left = dataset.exclude([dataset.values("id")[row] for row in exclude])
        view = select(left, "p", k, score_field="score")
        return places(view), view.values("score")

    check_select(selecting, n_rows=50)


def test_a_sample_that_cannot_be_scored_is_named_or_left_out():
    rows = LOGITS[:4].copy()
    rows[2, 1] = np.nan
    dataset = dataset_of(p=list(rows))
    bad = dataset.values("id")[2]
    for compute in (compute_uncertainty, compute_representativeness, compute_uniqueness):
        with pytest.raises(fastal.InvalidRows, match=f"sample {bad}"):
            compute(dataset, "p", "into")
    with pytest.raises(fastal.InvalidRows, match=f"sample {bad}"):
        select(dataset, "p", 2)
    good = dataset.limit(2)
    with pytest.raises(fastal.InvalidRows, match=rf"row 1 \(labelled sample {bad}\) has NaN"):
        compute_representativeness(good, "p", labelled=dataset.skip(1))
    compute_uncertainty(dataset, "p", on_invalid="skip")
    compute_representativeness(dataset, "p", on_invalid="skip")
    compute_uniqueness(dataset, "p", on_invalid="skip")
    for field in ("uncertainty", "representativeness", "uniqueness"):
        assert [value is None for value in dataset.values(field)] == [False, False, True, False]
    assert 2 not in places(select(dataset, "p", 4, on_invalid="skip"))


def test_values_that_do_not_belong_together_are_refused():
    dataset = dataset_of(p=[[1.0, 2.0], [1.0, 2.0, 3.0]], text=["a", "b"])
    odd = dataset.values("id")[1]
    with pytest.raises(ValueError, match=rf"p: sample {odd} has a value of shape \(3,\), sample"):
        compute_uncertainty(dataset, "p")
    with pytest.raises(TypeError, match=f"text: wanted numbers, sample {dataset.first().id} has"):
        compute_uncertainty(dataset, "text")
    boxes = dataset_of(p=[detections([0.5, 0.5])])
    with pytest.raises(ValueError, match=r"holds Detections; wanted the path of its numbers"):
        compute_uncertainty(boxes, "p")
    with pytest.raises(ValueError, match="embeddings: wanted a field with a vector per sample"):
        compute_uniqueness(boxes, "p.detections.confidence")
    ragged = dataset_of(p=[[[1.0, 2.0], [1.0]]])
    with pytest.raises(ValueError, match=r"the rows of sample .* have different lengths"):
        compute_uncertainty(ragged, "p")


def test_bad_arguments_are_named(pool):
    with pytest.raises(ValueError, match="field: there is no field 'predicted'; wanted one of id,"):
        compute_uncertainty(pool, "predicted")
    with pytest.raises(TypeError, match="field: wanted a name, got 3"):
        compute_uncertainty(pool, 3)
    with pytest.raises(TypeError, match="samples: wanted a dataset or a view, got list"):
        compute_uncertainty([], "prediction")
    with pytest.raises(TypeError, match="samples: wanted a dataset or a view, got ndarray"):
        view_of(LOGITS, fastal.select(LOGITS, k=1))
    with pytest.raises(ValueError, match="samples: wanted at least one sample, got none"):
        compute_uncertainty(pool.limit(1).skip(1), "prediction")
    with pytest.raises(ValueError, match="missing: wanted raise or skip, got 'zero'"):
        compute_uncertainty(pool, "prediction", missing="zero")
    with pytest.raises(ValueError, match="by"):
        compute_uncertainty(pool, "prediction", by="doubt")
    with pytest.raises(ValueError, match="wanted at least 2 with 'embedding' to compare, got 1"):
        compute_uniqueness(pool.limit(1), "embedding")
    with pytest.raises(ValueError, match="labelled: wanted at least one sample, got none"):
        compute_representativeness(pool, "embedding", labelled=pool.match_tags("none"))
    nothing = dataset_of(p=[classification(np.ones(2)), None])
    with pytest.raises(ValueError, match=r"p\.logits: none of 1 samples has a value"):
        compute_uncertainty(nothing.skip(1), "p", missing="skip")


def test_picks_of_other_samples_are_refused(pool):
    with pytest.raises(ValueError, match="picks: wanted picks with the ids of samples"):
        view_of(pool, fastal.select(LOGITS, k=3))
    picks = fastal.select(open_samples(pool, "prediction"), k=N)
    with pytest.raises(ValueError, match="picks: 30 of 40 ids are not among the samples, such as"):
        view_of(pool.limit(10), picks)


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_representativeness_is_the_similarity_to_the_direction_of_the_samples(pool):
    x = unit(EMBEDDINGS.astype(float))
    to_pool = x @ unit(x.sum(0, keepdims=True))[0]
    compute_representativeness(pool, "embedding")
    np.testing.assert_allclose(pool.values("representativeness"), to_pool, atol=1e-6)
    compute_representativeness(pool, "embedding", "apart", labelled=pool.limit(5))
    to_labelled = x @ unit(x[:5].sum(0, keepdims=True))[0]
    np.testing.assert_allclose(pool.values("apart"), to_pool - to_labelled, atol=1e-6)


def test_uniqueness_is_the_distance_to_the_most_similar_other_sample(pool):
    x = unit(EMBEDDINGS.astype(float))
    similarity = x @ x.T
    np.fill_diagonal(similarity, -1)
    want = 1 - similarity.max(1)
    compute_uniqueness(pool, "embedding")
    np.testing.assert_allclose(pool.values("uniqueness"), want, atol=1e-6)
    # With the samples before each one alone, the first of two similar samples would be unique.
    earlier = 1 - np.tril(similarity, -1).max(1)
    assert not np.allclose(pool.values("uniqueness"), earlier, atol=1e-6)


def test_equal_embeddings_have_uniqueness_0_and_opposite_ones_2():
    for x, want in (([[3, 1], [6, 2], [-1, 3]], [0, 0, 1]), ([[1, 0], [-2, 0]], [2, 2])):
        dataset = dataset_of(x=[[float(value) for value in row] for row in x])
        compute_uniqueness(dataset, "x")
        np.testing.assert_allclose(dataset.values("uniqueness"), want, atol=1e-6)


# What FiftyOne's own measures do.


def test_hardness_is_the_entropy_without_the_division_by_ln_c(pool):
    fob.compute_hardness(pool, "prediction")
    compute_uncertainty(pool, "prediction", "entropy", by="entropy")
    np.testing.assert_allclose(
        np.array(pool.values("hardness")) / math.log(CLASSES), pool.values("entropy"), rtol=1e-5
    )


def test_hardness_takes_independent_labels_for_classes():
    """Two labels that are surely there are among the hardest, as if they excluded each other."""
    logits = np.array([9.0, 9.0, -9.0])
    dataset = dataset_of(p=[fo.Classifications(logits=logits)])
    fob.compute_hardness(dataset, "p")
    assert dataset.values("hardness")[0] == pytest.approx(math.log(2), abs=1e-5)
    compute_uncertainty(dataset, "p", kind="multilabel_logits", aggregate="max")
    assert dataset.values("uncertainty")[0] < 1e-3


def test_hardness_stops_at_a_first_sample_without_a_label_and_writes_nan():
    dataset = dataset_of(p=[None, classification(LOGITS[0])])
    with pytest.raises(TypeError, match="Cannot infer an appropriate field type for value 'None'"):
        fob.compute_hardness(dataset, "p")
    dataset = dataset_of(p=[classification(np.array([0.0, np.nan]))])
    fob.compute_hardness(dataset, "p")
    assert math.isnan(dataset.values("hardness")[0])


def test_representativeness_of_fiftyone_is_1_for_the_sample_farthest_from_its_centre():
    """It is the distance to the centre, though its text promises the opposite."""
    rng = np.random.default_rng(0)
    centres = 100 * np.eye(20)
    x = np.repeat(centres, 5, axis=0) + rng.standard_normal((100, 20))
    dataset = dataset_of(x=list(x))
    fob.compute_representativeness(dataset, embeddings="x")
    found = np.array(dataset.values("representativeness")).reshape(20, 5)
    groups = x.reshape(20, 5, 20)
    distance = np.linalg.norm(groups - groups.mean(1, keepdims=True), axis=2)
    np.testing.assert_allclose(found, distance / distance.max(1, keepdims=True), rtol=1e-5)


def test_uniqueness_of_fiftyone_is_1_for_equal_samples():
    dataset = dataset_of(x=[[1.0, 2.0]] * 3)
    fob.compute_uniqueness(dataset, embeddings="x")
    assert dataset.values("uniqueness") == [1, 1, 1]
    compute_uniqueness(dataset, "x")
    np.testing.assert_allclose(dataset.values("uniqueness"), 0, atol=1e-6)


# The plugin.


def execute(name, samples, **params):
    """Runs an operator; returns its result, and what it asks the App to do."""
    result = foo.execute_operator(f"{PLUGIN}/{name}", view=samples.view(), params=params)
    requests = result.executor.to_json()["requests"]
    return result.result, {each["operator_uri"]: each["params"] for each in requests}


def shown(samples, requests):
    return fo.DatasetView._build(samples, requests["set_view"]["view"])


@pytest.mark.usefixtures("plugin")
def test_fiftyone_finds_the_plugin_and_its_operators():
    (found,) = [each for each in fop.list_plugins() if each.name == PLUGIN]
    assert found.version == fastal.__version__
    names = [operator.called for operator in fiftyone_plugin.OPERATORS]
    assert found.operators == names
    listed = [operator.uri for operator in foo.list_operators(builtin=False)]
    assert listed == [f"{PLUGIN}/{name}" for name in names]


@pytest.mark.usefixtures("plugin")
def test_the_operator_of_uncertainty_shows_the_picks_of_fastal(pool):
    result, requests = execute("select_uncertain", pool, field="prediction", k=6, by="entropy")
    want = fastal.select(LOGITS, k=6, by="entropy").rows.tolist()
    assert result == {"picked": 6}
    assert places(shown(pool, requests)) == want
    part = pool.skip(7)
    fields = {"rank_field": "op_rank", "score_field": "op_score"}
    _, requests = execute("select_uncertain", part, field="prediction.logits", k=3, **fields)
    picks = fastal.select(LOGITS[7:], k=3)
    assert places(shown(pool, requests)) == (picks.rows + 7).tolist()
    assert "reload_dataset" in requests
    assert pool.sort_by("op_score", reverse=True).limit(3).values("op_rank") == [1, 2, 3]


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize("strategy", ["k_center", "typiclust"])
def test_the_operator_of_diversity_shows_the_picks_of_the_strategy(pool, strategy):
    _, requests = execute("select_diverse", pool, field="embedding", k=5, strategy=strategy)
    want = getattr(diversity, strategy)(EMBEDDINGS, k=5).rows.tolist()
    assert places(shown(pool, requests)) == want


@pytest.mark.usefixtures("plugin")
def test_labelled_samples_are_not_picked_and_diverse_picks_keep_away_from_them():
    dataset = dataset_of(
        prediction=[classification(row) for row in LOGITS], embedding=list(EMBEDDINGS)
    )
    dataset.limit(10).tag_samples("labelled")
    options = {"k": 4, "labelled_tag": "labelled"}
    _, requests = execute("select_uncertain", dataset, field="prediction", **options)
    want = fastal.select(LOGITS, k=4, exclude=range(10)).rows.tolist()
    assert places(shown(dataset, requests)) == want
    _, requests = execute("select_diverse", dataset, field="embedding", **options)
    want = diversity.k_center(EMBEDDINGS[10:], k=4, labelled=EMBEDDINGS[:10]).rows + 10
    assert places(shown(dataset, requests)) == want.tolist()
    with pytest.raises(ExecutionError, match=r"no sample has the tag 'no'; .* \['labelled'\]"):
        execute("select_uncertain", dataset, field="prediction", k=4, labelled_tag="no")


@pytest.mark.usefixtures("plugin")
def test_the_operators_that_compute_write_what_the_functions_write(pool):
    options = {"field": "prediction", "by": "ratio", "temperature": 0.5, "into": "op_ratio"}
    result, requests = execute("compute_uncertainty", pool, **options)
    assert (result, list(requests)) == (None, ["reload_dataset"])
    assert pool.values("op_ratio") == fastal.score(LOGITS, temperature=0.5).ratio.tolist()
    for name in ("representativeness", "uniqueness"):
        execute(f"compute_{name}", pool, field="embedding", into=f"op_{name}")
        getattr(adapter, f"compute_{name}")(pool, "embedding", f"want_{name}")
        assert pool.values(f"op_{name}") == pool.values(f"want_{name}")


@pytest.mark.usefixtures("plugin")
def test_operators_leave_out_samples_only_if_they_are_told_to():
    values = [LOGITS[0], None, np.array([np.nan, *LOGITS[2, 1:]]), LOGITS[3]]
    dataset = dataset_of(p=[classification(row) for row in values])
    given = {"field": "p", "k": 4}
    with pytest.raises(ExecutionError, match="has no value; 1 such among 4 samples"):
        execute("select_uncertain", dataset, **given)
    with pytest.raises(ExecutionError, match=f"sample {dataset.values('id')[2]}"):
        execute("select_uncertain", dataset, **given, skip_missing=True)
    both = {"skip_missing": True, "skip_invalid": True}
    result, _ = execute("select_uncertain", dataset, **given, **both)
    assert result == {"picked": 2}
    execute("compute_uncertainty", dataset, field="p", **both)
    assert [x is None for x in dataset.values("uncertainty")] == [False, True, True, False]


@pytest.mark.usefixtures("plugin")
def test_the_form_of_each_operator_suggests_fields_and_has_its_parameters(pool):
    both = {"skip_missing", "skip_invalid", "view_target", "field"}
    scores = {"by", "kind", "temperature", "aggregate"}
    picks = {"k", "labelled_tag", "rank_field", "score_field"}
    want = {
        "select_uncertain": scores | picks,
        "select_diverse": {"strategy"} | picks,
        "compute_uncertainty": scores | {"into"},
        "compute_representativeness": {"into"},
        "compute_uniqueness": {"into"},
    }
    for name, own in want.items():
        operator = foo.get_operator(f"{PLUGIN}/{name}")
        ctx = ExecutionContext({"dataset_name": pool.name}, operator_uri=operator.uri)
        form = operator.resolve_type(ctx, "inputs").to_json()["type"]["properties"]
        assert set(form) == both | own
        if "k" in own:
            assert list(form)[:3] == ["view_target", "field", "k"]
        suggested = [choice["value"] for choice in form["field"]["view"]["choices"]]
        assert "embedding" in suggested
        assert ("prediction.confidence" in suggested) == ("uncertain" in name)
        outputs = operator.resolve_type(ctx, "outputs")
        assert (outputs is None) == name.startswith("compute")


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize(
    "params",
    [{"k": 3}, {"field": "prediction"}, {"field": "prediction", "k": 0},
     {"field": "prediction", "k": 3, "by": "doubt"}],
)  # fmt: skip
def test_parameters_that_the_form_refuses_are_refused(pool, params):
    with pytest.raises(ExecutionError, match="Validation error"):
        execute("select_uncertain", pool, **params)


def test_the_examples_of_the_docstrings_run():
    found = doctest.testmod(adapter)
    assert found.attempted
    assert not found.failed


@pytest.mark.usefixtures("plugin")
def test_the_code_of_the_page_runs():
    names = {}
    for block in page_code("fiftyone"):
        exec(compile(block, "docs/adapters/fiftyone.md", "exec"), names)
    assert len(names["view"]) == 20
