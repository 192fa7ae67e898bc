"""Datasets in memory and on disk, in the forms in which they hold lists."""

import doctest
import importlib

import numpy as np
import pytest

import fastal
from fastal.testing import check_select
from tests.support.adapter_pages import page_code

pa = pytest.importorskip("pyarrow", reason="pyarrow is missing; scripts/test-adapters has it")
datasets = pytest.importorskip(
    "datasets", reason="datasets is missing; scripts/test-adapters datasets has it"
)

from datasets import Array2D, Dataset, Features, List, Value  # noqa: E402

from fastal.adapters.datasets import open_dataset, picked  # noqa: E402

N, CLASSES = 60, 4
LOGITS = 2 * np.random.default_rng(0).normal(size=(N, CLASSES))


@pytest.fixture(autouse=True)
def _without_bars(monkeypatch, tmp_path):
    datasets.disable_progress_bars()
    monkeypatch.chdir(tmp_path)


def dataset_of(logits=LOGITS, of="float32", length=-1):
    """A dataset with ids and texts beside lists of numbers."""
    rows = [None if row is None else row.tolist() for row in logits]
    features = {"logits": List(Value(of), length=length), "name": Value("string")}
    return Dataset.from_dict(
        {"logits": rows, "name": [f"r{i}" for i in range(len(rows))]}, features=Features(features)
    )


def in_chunks(dataset, *bounds):
    """The same rows, in several parts."""
    parts = [dataset.select(range(a, b)) for a, b in zip((0, *bounds), (*bounds, N), strict=True)]
    return datasets.concatenate_datasets(parts)


def check_same(found, want):
    assert found.rows.tolist() == want.rows.tolist()
    assert found.scores.tolist() == want.scores.tolist()


def values_of(dataset, column="logits", rows=N, **options):
    return [chunk.x for chunk in open_dataset(dataset, column, **options).chunks(rows)]


FORMS = {
    "lists": lambda d: d,
    "parts": lambda d: in_chunks(d, 7, 8, 31),
    "on disk": lambda d: d.save_to_disk("saved") or datasets.load_from_disk("saved"),
    "formatted": lambda d: d.with_format("numpy", columns=["name"]),
    "transformed": lambda d: d.with_transform(lambda _: {"x": [1]}),
    "gathered": lambda d: in_chunks(d, 7, 31).select([*range(N)[::-1]]).select([*range(N)[::-1]]),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize(("of", "length"), [("float32", -1), ("float64", CLASSES), ("float16", -1)])
def test_the_picks_are_those_of_the_array(form, of, length):
    dataset = form(dataset_of(of=of, length=length))
    pool = open_dataset(dataset, "logits", id_column="name", carry=["name"])
    assert {x.dtype for x in values_of(dataset)} == {np.dtype(of)}
    for rows in (5, N):
        want = fastal.select(LOGITS.astype(of), 9, "entropy", exclude=[3, 4])
        found = fastal.select(pool, 9, "entropy", exclude=[3, 4], chunk_bytes=rows * 8 * CLASSES)
        check_same(found, want)
        assert found.ids.tolist() == found["name"].tolist() == [f"r{row}" for row in want.rows]


@pytest.mark.parametrize("on_invalid", ["raise", "skip"])
@pytest.mark.parametrize("bounds", [(), (7, 8, 31)])
def test_selections_pass_the_public_checks(bounds, on_invalid):
    def select(pool, k, exclude=None):
        dataset = in_chunks(dataset_of(pool), *bounds)
        pool = open_dataset(dataset, "logits")
        picks = fastal.select(pool, k, exclude=exclude, on_invalid=on_invalid, chunk_bytes=500)
        check_same_scores(picked(dataset, picks), picks)
        return picks

    def check_same_scores(dataset, picks):
        assert dataset["score"][:] == picks.scores.tolist()
        assert [int(name[1:]) for name in dataset["name"]] == picks.rows.tolist()

    check_select(select, on_invalid=on_invalid, n_rows=N)


@pytest.mark.parametrize(
    "order",
    [
        lambda d: d.shuffle(seed=3),
        lambda d: d.select([7, 7, 59, 0, 1]),
        lambda d: d.select(range(20, 50)).shuffle(seed=1),
        lambda d: d.filter(lambda row: row["name"] > "r3"),
        lambda d: d.shard(3, 1),
        lambda d: d.train_test_split(0.3, seed=0)["test"],
        lambda d: datasets.concatenate_datasets([d.shuffle(seed=5), d]),
    ],
)
def test_rows_are_those_of_the_dataset_after_it_was_reordered(order):
    dataset = order(dataset_of())
    want = np.stack([LOGITS[int(name[1:])] for name in dataset["name"]]).astype(np.float32)
    assert np.array_equal(np.concatenate(values_of(dataset, rows=8)), want)
    pool = open_dataset(dataset, "logits", carry=["name"])
    check_same(picks := fastal.select(pool, 4), fastal.select(want, 4))
    assert picks["name"].tolist() == [dataset[row]["name"] for row in picks.rows.tolist()]


def test_the_rows_of_the_stored_table_would_be_others():
    """What reading the Arrow table of a shuffled dataset gives."""
    dataset = dataset_of().shuffle(seed=3)
    stored = np.stack(dataset.data.column("logits").to_pylist())
    assert not np.array_equal(stored, values_of(dataset)[0])


def test_large_parts_are_read_in_place_and_small_ones_joined(tmp_path):
    rows, width = 3000, 500
    values = np.random.default_rng(1).normal(size=(rows, width)).astype(np.float32)
    column = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), width)
    parts = [column[:1000], column[1000:]]
    large = Dataset(pa.table({"x": pa.chunked_array(parts)}))
    found = values_of(large, "x", rows)
    assert [len(x) for x in found] == [1000, 2000]
    addresses = [x.__array_interface__["data"][0] for x in found]
    first = column.values.buffers()[1].address
    assert addresses == [first, first + 1000 * width * 4]
    assert np.array_equal(np.concatenate(found), values)
    small = Dataset(
        pa.table({"x": pa.chunked_array([column[i : i + 10] for i in range(0, 90, 10)])})
    )
    (joined,) = values_of(small, "x", rows)
    assert np.array_equal(joined, values[:90])


def test_a_dataset_on_disk_stays_there():
    """Arrow allocates no more than parts of the column while all of it is read."""
    rows, width = 40_000, 256
    values = np.random.default_rng(1).normal(size=(rows, width)).astype(np.float32)
    column = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), width)
    Dataset(pa.table({"x": column})).save_to_disk("large")
    dataset = datasets.load_from_disk("large")
    del column
    want = fastal.select(values, 10)
    before, peak = pa.total_allocated_bytes(), 0
    pool = open_dataset(dataset, "x")
    for chunk in pool.chunks(1000):
        peak = max(peak, pa.total_allocated_bytes() - before)
        del chunk
    assert peak < values.nbytes / 8
    check_same(fastal.select(pool, 10), want)


def test_missing_rows_are_invalid():
    logits = [*LOGITS]
    logits[0] = logits[17] = None
    for length in (-1, CLASSES):
        pool = open_dataset(dataset_of(logits, length=length), "logits")
        with pytest.raises(fastal.InvalidRows, match="row 0 "):
            fastal.select(pool, 3)
        found = fastal.select(pool, N, on_invalid="skip")
        assert found.invalid == 2
        assert sorted({0, 17, *found.rows.tolist()}) == [*range(N)]
    for nothing in ([None] * 3, []):
        with pytest.raises(
            ValueError, match="column: wanted values in 'logits', all rows of which"
        ):
            open_dataset(dataset_of(nothing), "logits")


def test_a_column_of_scores_of_ones_own():
    scores = np.random.default_rng(2).random(N).astype(np.float32)
    dataset = Dataset.from_dict({"mine": scores})
    check_same(
        fastal.select(open_dataset(dataset, "mine"), 5, "score"), fastal.select(scores, 5, "score")
    )


@pytest.mark.parametrize("kind", ["lists", "Array2D"])
def test_items_of_one_shape(kind):
    tokens = np.random.default_rng(3).normal(size=(N, 6, CLASSES)).astype(np.float32)
    of = Array2D((6, CLASSES), "float32") if kind == "Array2D" else List(List(Value("float32")))
    dataset = Dataset.from_dict({"x": tokens.tolist()}, features=Features({"x": of}))
    dataset = dataset.select([*range(N)])
    found = fastal.select(open_dataset(dataset, "x"), 5, aggregate="mean")
    check_same(found, fastal.select(tokens, 5, aggregate="mean"))


def test_items_of_their_own_lengths():
    rng = np.random.default_rng(3)
    sentences = [rng.normal(size=(rng.integers(1, 9), 3)).astype(np.float32) for _ in range(N)]
    of = Features({"x": List(List(Value("float32")))})
    dataset = Dataset.from_dict({"x": [s.tolist() for s in sentences]}, features=of)
    order = rng.permutation(N).tolist()
    for rows, given in (
        (sentences, dataset),
        ([sentences[i] for i in order], dataset.select(order)),
    ):
        want = fastal.select(fastal.items(rows), 7, aggregate="mean")
        check_same(fastal.select(open_dataset(given, "x", ragged=True), 7, aggregate="mean"), want)
    with pytest.raises(ValueError, match=r"lists of .* values in 'x'; if each row is an item"):
        fastal.select(open_dataset(dataset, "x"), 1, aggregate="mean")
    with pytest.raises(ValueError, match="ragged: wanted lists of lists"):
        open_dataset(dataset_of(), "logits", ragged=True)


def test_lists_of_several_lengths_are_refused():
    dataset = dataset_of([np.zeros(3), np.zeros(3), np.zeros(4)])
    with pytest.raises(ValueError, match=r"lists of 3 and of 4 values in 'logits'$"):
        fastal.select(open_dataset(dataset, "logits"), 1)


def test_strategies_of_several_passes_read_a_dataset():
    pool = open_dataset(in_chunks(dataset_of(), 20), "logits")
    array = LOGITS.astype(np.float32)
    check_same(fastal.diversity.k_center(pool, k=5), fastal.diversity.k_center(array, k=5))


def test_ids_exclude_picks_of_another_order():
    dataset = dataset_of()
    first = fastal.select(open_dataset(dataset, "logits", id_column="name"), 5)
    shuffled = dataset.shuffle(seed=2)
    rest = fastal.select(open_dataset(shuffled, "logits", id_column="name"), N, exclude=first)
    assert sorted([*rest.ids, *first.ids]) == sorted(dataset["name"])


def test_labels_keep_their_values():
    columns = {
        "large": [2**63 - 1, None, -5], "text": ["a", None, "ü"], "x": [0.5, 1.5, 2.5],
        "yes": [True, False, True],
    }  # fmt: skip
    dataset = Dataset.from_dict({"scores": [3.0, 2.0, 1.0], **columns})
    pool = open_dataset(dataset, "scores", carry=[*columns])
    for given in (pool, open_dataset(dataset.select([0, 1, 2]), "scores", carry=[*columns])):
        picks = fastal.select(given, 3, "score")
        assert {name: picks[name].tolist() for name in columns} == columns


def test_picked_rows_are_a_dataset_with_scores():
    dataset = dataset_of().shuffle(seed=1)
    picks = fastal.select(open_dataset(dataset, "logits"), 6)
    found = picked(dataset, picks)
    assert found["name"][:] == [dataset[row]["name"] for row in picks.rows.tolist()]
    assert found["score"][:] == picks.scores.tolist()
    assert found.features["score"].dtype == "float32"
    assert len(picked(dataset, picks[:0])) == 0
    with pytest.raises(ValueError, match="score_column: the dataset has a column 'name'"):
        picked(dataset, picks, "name")
    with pytest.raises(ValueError, match=r"picks: row \d+ is not in the dataset, which has 3 rows"):
        picked(dataset.select(range(3)), picks)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"column": "x"}, ValueError, "column: no column 'x'; the dataset has logits, name"),
        ({"id_column": "x"}, ValueError, "id_column: no column 'x'"),
        ({"carry": ["x"]}, ValueError, "carry: no column 'x'"),
        ({"carry": "name"}, TypeError, "carry: wanted a list of names"),
        ({"carry": ["score"]}, ValueError, "carry: the picks have a column 'score'"),
        ({"carry": ["logits"]}, TypeError, "carry: wanted integers, floats, bools or"),
        ({"id_column": "logits"}, TypeError, "id_column: wanted integers or text, got list"),
        ({"column": "name"}, TypeError, "column: wanted numbers, or lists of numbers, got string"),
        ({"dataset": datasets.DatasetDict(a=1, b=2)}, TypeError, "one of its splits: 'a', 'b'"),
        ({"dataset": LOGITS}, TypeError, "wanted a datasets.Dataset, got ndarray"),
    ],
)  # fmt: skip
def test_bad_arguments_are_refused(change, error, message):
    with pytest.raises(error, match=message):
        open_dataset(**{"dataset": dataset_of(), "column": "logits", **change})


def test_checkpoints_are_refused(tmp_path):
    with pytest.raises(ValueError, match="checkpoint"):
        fastal.select(open_dataset(dataset_of(), "logits"), 3, checkpoint=tmp_path / "state")


def test_the_numpy_format_of_the_library_rounds():
    """Why the adapter does not read rows through it."""
    values = np.array([[1.0, 1.0 + 1e-9]])
    dataset = dataset_of(values, of="float64")
    assert dataset.with_format("numpy")[:]["logits"].dtype == np.float32
    assert np.array_equal(values_of(dataset)[0], values)


def test_the_examples_of_the_page_run():
    names = {}
    for block in page_code("datasets"):
        exec(block, names)
    rows = names["picks"].rows.tolist()
    assert names["batch"]["text"][:] == [f"text {row}" for row in rows]
    scores = names["scored"]["margin"][:]
    assert [scores[row] for row in rows] == sorted(scores, reverse=True)[: len(rows)]


def test_the_examples_give_the_output_that_they_show():
    module = importlib.import_module("fastal.adapters.datasets")
    found = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert found.attempted > 8
    assert found.failed == 0
