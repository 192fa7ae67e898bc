"""Picks and a backend in a real Label Studio: what it shows, and in which order annotators work."""

import doctest
import json
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from subprocess import PIPE
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import fastal
from fastal.adapters import label_studio as adapter
from fastal.adapters.label_studio import Backend
from fastal.cli import main
from fastal.picks.label_config import read_control
from tests.support import checkout
from tests.support import label_studio_pages as pages
from tests.support.adapter_pages import page_code
from tests.support.browser import CHROMIUM, browser
from tests.support.label_studio_server import Refused, held_port, label_studio

TEXT = '<Text name="review" value="$text"/>'
CHOICES = (
    '<Choices name="mood" toName="review"><Choice value="bad"/><Choice value="good" alias="g"/>'
    "</Choices>"
)
SEQUENTIAL, UNCERTAINTY = "Sequential sampling", "Uncertainty sampling"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The first user of a server, the second, and the file of its database. It starts slowly."""
    pytest.importorskip(
        "label_studio", reason="Label Studio is missing; scripts/test-adapters label_studio has it"
    )
    folder = tmp_path_factory.mktemp("label-studio")
    with label_studio(folder) as first:
        yield SimpleNamespace(
            first=first, second=first.second(), database=folder / "label_studio.sqlite3"
        )


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config.xml"
    path.write_text(f"<View>{TEXT}{CHOICES}</View>")
    return path


def picks_of(n=8):
    columns = {"text": [f"text {i}" for i in range(n)]}
    scores = np.linspace(1, 0, n, dtype=np.float32)
    return fastal.Picks(np.arange(n)[::-1] * 2, scores, columns=columns)


def saved(picks, config, folder):
    path = folder / "tasks.json"
    picks.save(path, label_config=config, predicted=[i % 2 for i in range(len(picks))])
    return path


def choice(label):
    value = {"choices": [label]}
    return [{"from_name": "mood", "to_name": "review", "type": "choices", "value": value}]


def labelling(project, *annotators):
    """The ranks of the tasks that annotators get, who take turns until nothing is left."""
    ranks, is_left = [], True
    while is_left:
        is_left = False
        for annotator in annotators:
            task = annotator.next_task(project)
            if task is not None:
                is_left = True
                ranks.append(task["data"]["fastal_rank"])
                annotator.annotate(task["id"], choice("bad"))
    return ranks


def mixed(path):
    """The file with its tasks in another order, which the order of labelling must not follow."""
    tasks = json.loads(path.read_text())
    order = np.random.default_rng(3).permutation(len(tasks))
    assert order.tolist() != sorted(order)
    path.write_text(json.dumps([tasks[i] for i in order]))
    return path, (order + 1).tolist()


def test_a_file_of_tasks_is_imported_with_its_predictions(server, config, tmp_path):
    project = server.first.project(config.read_text())
    counts = server.first.import_file(project, saved(picks_of(), config, tmp_path))
    assert (counts["task_count"], counts["prediction_count"]) == (8, 8)
    tasks = server.first.tasks(project)
    assert [task["data"]["fastal_rank"] for task in tasks] == [*range(1, 9)]
    assert [task["data"]["row"] for task in tasks] == picks_of().rows.tolist()
    for place, task in enumerate(tasks):
        (prediction,) = task["predictions"]
        assert prediction["result"] == choice(["bad", "g"][place % 2])
        assert prediction["score"] == pytest.approx(1 - task["data"]["fastal_score"])
    # The version of the predictions that annotators see, and that uncertainty sampling orders by.
    assert server.first.call("GET", f"/api/projects/{project}")["model_version"] == "fastal"
    shown = server.first.next_task(project)["predictions"]
    assert [prediction["model_version"] for prediction in shown] == ["fastal"]


@pytest.mark.parametrize(
    "column", ["tasks:data.fastal_rank", "-tasks:data.fastal_score", "tasks:predictions_score"]
)
def test_the_data_manager_sorts_numbers_as_numbers(server, config, tmp_path, column):
    project = server.first.project(config.read_text())
    server.first.import_file(project, mixed(saved(picks_of(12), config, tmp_path))[0])
    tasks = server.first.tasks(project, column)
    assert [task["data"]["fastal_rank"] for task in tasks] == [*range(1, 13)]


@pytest.mark.parametrize("n_annotators", [1, 2])
def test_sequential_sampling_keeps_the_order_of_the_file(server, config, tmp_path, n_annotators):
    path, ranks = mixed(saved(picks_of(), config, tmp_path))
    project = server.first.project(config.read_text(), sampling=SEQUENTIAL)
    server.first.import_file(project, path)
    assert labelling(project, *[server.first, server.second][:n_annotators]) == ranks


@pytest.mark.parametrize("n_annotators", [1, 2])
def test_uncertainty_sampling_begins_with_the_best_pick(server, config, tmp_path, n_annotators):
    path, ranks = mixed(saved(picks_of(), config, tmp_path))
    project = server.first.project(config.read_text(), sampling=UNCERTAINTY)
    server.first.import_file(project, path)
    found = labelling(project, *[server.first, server.second][:n_annotators])
    assert found == sorted(ranks) != ranks


def test_uncertainty_sampling_is_random_if_a_project_has_members(server, config, tmp_path):
    # The API of the community edition adds no members. Other editions have them.
    project = server.first.project(config.read_text(), sampling=UNCERTAINTY)
    server.first.import_file(project, saved(picks_of(10), config, tmp_path))
    with closing(sqlite3.connect(server.database)) as database, database:
        row = "(enabled, created_at, updated_at, project_id, user_id)"
        for user in (1, 2):
            database.execute(
                f"insert into projects_projectmember {row} values (1, 0, 0, ?, ?)", (project, user)
            )
    found = labelling(project, server.first, server.second)
    assert sorted(found) == [*range(1, 11)] != found


def test_a_project_keeps_the_model_version_that_it_has(server, config, tmp_path):
    project = server.first.project(config.read_text(), sampling=UNCERTAINTY)
    older = {"model_version": "older", "score": 0.5, "result": choice("bad")}
    data = {"text": "x", "fastal_rank": 0}
    server.first.import_tasks(project, [{"data": data, "predictions": [older]}])
    path, ranks = mixed(saved(picks_of(), config, tmp_path))
    server.first.import_file(project, path)
    task = server.first.next_task(project)
    assert task["data"]["fastal_rank"] == 0
    server.first.annotate(task["id"], choice("bad"))
    # The others have no predictions of that version, so annotators see none.
    task = server.first.next_task(project)
    assert task["predictions"] == []
    server.first.annotate(task["id"], choice("bad"))
    # The setting is one that people change.
    server.first.call("PATCH", f"/api/projects/{project}", {"model_version": "fastal"})
    ranks.remove(task["data"]["fastal_rank"])
    assert labelling(project, server.first) == sorted(ranks)


def test_a_second_annotator_of_the_same_tasks_gets_those_that_were_begun_first(
    server, config, tmp_path
):
    project = server.first.project(config.read_text(), maximum_annotations=2)
    server.first.import_file(project, saved(picks_of(), config, tmp_path))
    for rank in (1, 2, 3):
        task = server.first.next_task(project)
        assert task["data"]["fastal_rank"] == rank
        server.first.annotate(task["id"], choice("bad"))
    found = labelling(project, server.second)
    assert sorted(found[:3]) == [1, 2, 3]  # in any order
    assert found[3:] == [4, 5, 6, 7, 8]


def test_an_import_drops_the_cluster_of_a_prediction(server, config, tmp_path):
    """So picks do not write it, although uncertainty sampling would spread tasks over clusters."""
    path = saved(picks_of(2), config, tmp_path)
    tasks = json.loads(path.read_text())
    for task in tasks:
        task["predictions"][0]["cluster"] = 5
    project = server.first.project(config.read_text())
    server.first.import_tasks(project, tasks)
    found = server.first.call("GET", f"/api/predictions?project={project}")
    assert [prediction["cluster"] for prediction in found] == [None, None]
    # The API for one prediction at a time does keep it.
    one = {"task": found[0]["task"], "result": choice("bad"), "score": 0.5, "cluster": 5}
    assert server.first.call("POST", "/api/predictions/", one)["cluster"] == 5


@pytest.mark.parametrize(
    ("tags", "fields"),
    [
        (TEXT, ["text"]),
        (TEXT + '<Text name="b" value="$other"/>', ["text", "other"]),
        (TEXT + '<Header name="h" value="Of $day: "/>', ["text", "day"]),
        (TEXT + '<Header value="$title"/>', ["text"]),
        (TEXT + '<Choices name="c" toName="review" value="$choices"/>', ["text", "choices"]),
    ],
)
def test_the_server_refuses_tasks_that_lack_a_field_as_fastal_does(server, tmp_path, tags, fields):
    path = tmp_path / "config.xml"
    path.write_text(f"<View>{tags}{CHOICES}</View>")
    project = server.first.project(path.read_text())
    assert sorted(read_control(f"{path}:mood").fields) == sorted(fields)
    data = dict.fromkeys(fields, "x")
    assert server.first.import_tasks(project, [{"data": data}])["task_count"] == 1
    for field in fields:
        for wrong in ({key: "x" for key in fields if key != field}, data | {field: None}):
            with pytest.raises(Refused, match=field):
                server.first.import_tasks(project, [{"data": wrong}])


def test_a_round_from_the_command_to_labels_and_to_the_next_round(server, config, tmp_path):
    rng = np.random.default_rng(8)
    pool = tmp_path / "pool.parquet"
    logits = rng.standard_normal((60, 2)).astype(np.float32)
    write_pool(pool, logits)

    def select(*options):
        out = tmp_path / "tasks.json"
        done = CliRunner().invoke(main, [
            "select", str(pool), "--column", "logits", "--id-column", "review", "--carry", "text",
            "--by", "margin", "--k", "6", "--label-config", str(config), "--out", str(out),
            *options,
        ])  # fmt: skip
        assert done.exit_code == 0, done.output
        return out

    project = server.first.project(config.read_text())
    server.first.import_file(project, select())
    want = fastal.select(logits, 12, by="margin").rows.tolist()
    labelled = []
    for _ in range(4):
        task = server.first.next_task(project)
        labelled.append(task["data"]["row"])
        server.first.annotate(task["id"], task["predictions"][0]["result"])
    assert labelled == want[:4]
    export = tmp_path / "export.json"
    export.write_text(json.dumps(server.first.export(project)))
    server.first.import_file(project, select("--exclude", str(export)))
    rows = [task["data"]["row"] for task in server.first.tasks(project)]
    # Two tasks that nobody has labelled are no part of the export, and so they are picked again.
    assert rows == [*want[:6], *want[4:10]]
    for annotated in json.loads(export.read_text()):
        row = annotated["data"]["row"]
        label = annotated["annotations"][0]["result"][0]["value"]["choices"]
        assert label == [["bad", "g"][int(logits[row].argmax())]]


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")
@pytest.mark.parametrize(
    ("sign", "predicted", "corrected", "written"),
    [("", "positive", "negative[1]", "negative"), ("-", "negative", "positive[2]", "pos")],
)
def test_an_annotator_sees_the_picks_in_order_with_what_the_model_predicts(
    server, tmp_path, sign, predicted, corrected, written
):
    project = pages.import_reviews(server.first, tmp_path)
    pages.show_few_columns(server.first, project, sign)
    texts = pages.TEXTS if sign == "" else pages.TEXTS[::-1]
    with browser(tmp_path / "profile") as page:
        page.resize(1280, 800)
        pages.log_in(page, server.first.url)
        pages.open_tasks(page, server.first.url, project)
        shown = [line for line in pages.lines(page) if line in texts]
        assert shown == texts[: len(shown)] != []
        pages.label_as_displayed(page)
        assert page.value(pages.CHOSEN) == [predicted]  # "positive" is an alias in the file
        page.click(pages.with_text(corrected))
        page.until(f"!{pages.CHOSEN}.includes({predicted!r})")
        for text in texts[1:3]:  # the first is corrected, the second is confirmed
            page.click(pages.button("Submit"))
            page.until(f"document.body.innerText.includes({text!r}) && {pages.CHOSEN}.length > 0")
        assert [url for url in page.requests if not url.startswith(server.first.url)] == []
    found = {
        task["data"]["text"]: annotation["result"][0]["value"]["choices"]
        for task in server.first.export(project)
        for annotation in task["annotations"]
    }
    assert found == {texts[0]: [written], texts[1]: ["negative"]}


def write_pool(path, logits):
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {
        "logits": pa.FixedSizeListArray.from_arrays(pa.array(logits.ravel()), logits.shape[1]),
        "review": [f"r{i}" for i in range(len(logits))],
        "text": [f"text {i}" for i in range(len(logits))],
    }
    pq.write_table(pa.table(columns), path)


CONFIG = f"<View>{TEXT}{CHOICES}</View>"
LONG = 12  # characters, from which on the model says "good"


def of_length(tasks):
    """A model: the logits of bad and good."""
    good = np.array([0.25 * (len(task["text"]) - LONG) for task in tasks])
    return np.stack([-good, good], 1)


@contextmanager
def running(backend):
    """The address of a backend that runs in this process."""
    http = backend.server(0)
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{http.server_port}"
    finally:
        http.shutdown()
        thread.join()
        http.server_close()


def learned(backend):
    """Waits until the last call of `fit` has ended."""
    backend._learner.join()


def eventually(condition):
    """Waits for what a server sends."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


NAIVE = {
    "least_confidence": lambda p: p.shape[1] / (p.shape[1] - 1) * (1 - p.max(1)),
    "margin": lambda p: 1 - (np.sort(p)[:, -1] - np.sort(p)[:, -2]),
    "ratio": lambda p: np.sort(p)[:, -2] / np.sort(p)[:, -1],
    "entropy": lambda p: -(p * np.log(p)).sum(1) / np.log(p.shape[1]),
}


@pytest.mark.parametrize("by", NAIVE)
@pytest.mark.parametrize("kind", ["probs", "logits", "log_probs"])
@pytest.mark.parametrize("array", [np.asarray, torch.as_tensor, np.ndarray.tolist])
def test_a_prediction_has_the_likeliest_class_and_one_minus_the_uncertainty(by, kind, array):
    p = np.random.default_rng(1).dirichlet(np.ones(2), 9)
    output = {"probs": p, "logits": np.log(p) + 3, "log_probs": np.log(p)}[kind]
    backend = Backend(lambda tasks: array(output), by=by, kind=kind, class_names=["good", "bad"])
    found = backend.predictions([{"text": "x"}] * 9, CONFIG)
    want = [["g", "bad"][row.argmax()] for row in p]  # the alias, where a choice has one
    assert [prediction["result"] for prediction in found] == [choice(label) for label in want]
    scores = [prediction["score"] for prediction in found]
    np.testing.assert_allclose(scores, 1 - NAIVE[by](p), atol=1e-5)
    assert {prediction["model_version"] for prediction in found} == {backend.version}


def test_a_model_returns_logits_unless_it_says_otherwise():
    logits = np.random.default_rng(2).standard_normal((9, 2))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    found = Backend(lambda tasks: logits).predictions([{}] * 9, CONFIG)
    scores = [prediction["score"] for prediction in found]
    np.testing.assert_allclose(scores, 1 - NAIVE["margin"](p), atol=1e-5)


def test_no_tasks_have_no_predictions():
    assert Backend(lambda tasks: 1 / 0).predictions([], CONFIG) == []


@pytest.mark.parametrize(
    ("output", "error", "words"),
    [
        (np.ones((2, 3)) / 3, ValueError, r"^predict: wanted \[2, 2\], a column for .*bad, good"),
        (np.ones(2), ValueError, r"^predict: wanted \[2, 2\].*got \(2,\)"),
        (np.full((2, 2), np.nan), ValueError, "NaN"),
    ],
)
def test_output_that_does_not_fit_is_refused(output, error, words):
    with pytest.raises(error, match=words):
        Backend(lambda tasks: output).predictions([{}, {}], CONFIG)


P = np.array([[0.9, 0.1], [0.3, 0.7]])


@pytest.mark.parametrize(
    "output",
    [
        P[:, ::-1].copy()[:, ::-1],
        P[::-1].copy()[::-1],
        P.T.copy().T,
        P.astype(">f8"),
        P.astype(">f4"),
        P.astype(object),
        P.astype(np.longdouble),
        P.tolist(),
        [*P],
        tuple(P),
        [*torch.tensor(P)],
        [torch.tensor(P[0]), P[1, ::-1].copy()[::-1]],
        [[*row] for row in torch.tensor(P)],
        torch.tensor(P, requires_grad=True),
        [*torch.tensor(P, requires_grad=True)],
        np.frombuffer(P.tobytes()).reshape(2, 2),  # which cannot be written to
    ],
)
def test_predict_may_return_any_matrix_of_numbers(output):
    found = Backend(lambda tasks: output, kind="probs").predictions([{}, {}], CONFIG)
    assert [prediction["result"] for prediction in found] == [choice("bad"), choice("g")]
    scores = [prediction["score"] for prediction in found]
    np.testing.assert_allclose(scores, 1 - NAIVE["margin"](P), atol=1e-5)


@pytest.mark.parametrize("output", [P.round().astype(int), torch.tensor(P.round()).int()])
def test_predict_may_return_integers(output):
    found = Backend(lambda tasks: output, kind="probs").predictions([{}, {}], CONFIG)
    assert [prediction["score"] for prediction in found] == [1, 1]


@pytest.mark.parametrize(
    ("output", "got"),
    [
        (None, "NoneType: "),
        ((row for row in P), "generator: "),
        (0.5, "float: "),
        (P > 0.5, "ndarray: it holds bool"),
        (torch.tensor(P) > 0.5, "Tensor: it holds torch.bool"),
        (P + 0j, "ndarray: it holds complex128"),
        (torch.tensor(P) + 0j, "Tensor: it holds torch.complex128"),
        (P.astype(str), "ndarray: it holds <U"),
        (np.array([["a", "b"]] * 2, object), "ndarray: could not convert"),
        (np.ma.masked_array(P, P > 0.5), "MaskedArray: masked"),
        ([[0.5], [0.5, 0.5]], "list: "),
        ([torch.ones(2), torch.ones(3)], "list: "),
        ([], r"\(0,\)"),
    ],
)
def test_output_that_is_no_matrix_of_numbers_is_refused(output, got):
    with pytest.raises(ValueError, match=rf"^predict: wanted \[2, 2\], .*bad, good, got {got}"):
        Backend(lambda tasks: output).predictions([{}, {}], CONFIG)


def with_choices(attributes):
    """A configuration with a second tag of choices."""
    choices = '<Choice value="good"/><Choice value="bad"/>'
    return CONFIG.replace("</View>", f"<Choices {attributes}>{choices}</Choices></View>")


@pytest.mark.parametrize(
    "attributes", ['toName="review"', 'name="b"', 'name="" toName="review"', 'name="b" toName=""']
)
def test_only_choices_with_a_name_and_to_name_count(attributes):
    found = Backend(of_length).predictions([{"text": "x"}], with_choices(attributes))
    assert found[0]["result"] == choice("bad")


@pytest.mark.parametrize(
    ("config", "options", "words"),
    [
        ("<View", {}, "^label_config: wanted the XML"),
        ("\ud800", {}, "^label_config: wanted the XML"),
        ("<View/>", {}, "one Choices tag, or control; .* has none"),
        (CONFIG + "<View/>", {}, "^label_config: wanted the XML"),
        ('<!DOCTYPE v SYSTEM "x"><View/>', {}, "^label_config: .*: wanted no DOCTYPE"),
        (CONFIG, {"control": "x"}, "a Choices tag named 'x'; .* has 'mood'"),
        (CONFIG, {"class_names": ["bad", "fine"]}, "^class_names: 'fine' is no choice of 'mood'"),
        (CONFIG.replace("<Choices", '<Choices choice="multiple"'), {}, "one choice per task"),
        (CONFIG.replace('<Choice value="bad"/>', ""), {}, "two choices or more, got 1"),
        (with_choices('name="b" toName="review"'), {}, "has 'mood', 'b'"),
        (with_choices('name="b"'), {"control": "b"}, "has 'mood' with name and toName"),
        (with_choices('toName="review"'), {"control": ""}, "has 'mood' with name and toName"),
        (CONFIG.replace('name="mood"', ""), {}, "has none with name and toName"),
        (CONFIG.replace('toName="review"', ""), {}, "has none with name and toName"),
        (CONFIG.replace('toName="review"', 'toName="x"'), {}, "^label_config: no tag is named 'x'"),
        (CONFIG.replace('toName="review"', 'toName="mood"'), {}, "no tag is named 'mood'"),
        (CONFIG.replace('"g"', '"bad"'), {}, "another alias for each choice, got .*'good': 'bad'"),
        (CONFIG.replace('"bad"', '""'), {}, r"^class_names: .* not empty, got \['', 'good'\]"),
    ],
)
def test_configurations_that_do_not_fit_a_backend_are_refused(config, options, words):
    with pytest.raises(ValueError, match=words):
        Backend(of_length, **options).predictions([{"text": "x"}], config)


def test_a_choice_with_an_empty_alias_is_written_as_its_value():
    config = CONFIG.replace('<Choice value="bad"/>', '<Choice value="bad" alias=""/>')
    found = Backend(of_length).predictions([{"text": "x"}], config)
    assert found[0]["result"] == choice("bad")


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"by": "bald"}, ValueError, "^by: wanted one of"),
        ({"kind": "probabilities"}, ValueError, "^kind: wanted one of"),
        ({"fit_every": 0}, ValueError, "^fit_every: wanted at least 1, got 0"),
        ({"predict": 3}, TypeError, "^predict: wanted a function, got 3"),
        ({"fit": 3}, TypeError, "^fit: wanted a function or None, got 3"),
        ({"class_names": "ab"}, TypeError, "^class_names: wanted a list of names, got 'ab'"),
        ({"class_names": ["bad", 3]}, TypeError, "^class_names: wanted text, got 3"),
        ({"class_names": ["bad", ""]}, ValueError, "^class_names: wanted names that are not empty"),
        ({"class_names": ["a", "a"]}, ValueError, "^class_names: wanted each name once, got a, a"),
    ],
)
def test_arguments_of_a_backend_are_checked(options, error, words):
    with pytest.raises(error, match=words):
        Backend(**{"predict": of_length, **options})


def event(action, number, label, cancelled=False):
    """What Label Studio sends of an annotation."""
    result = [] if label is None else choice(label)
    annotation = {"id": number, "task": number, "result": result, "was_cancelled": cancelled}
    task = {"id": number, "data": {"text": f"text {number}"}}
    project = {"label_config": CONFIG}
    return {"action": action, "annotation": annotation, "task": task, "project": project}


def test_fit_gets_the_annotations_that_stand():
    calls = []
    backend = Backend(of_length, calls.append, fit_every=4)
    versions = {backend.version}
    both = event("ANNOTATIONS_CREATED", 7, "g")
    both |= {name: [both[name]] for name in ("annotation", "task")}
    for given in (
        event("ANNOTATION_CREATED", 1, "g"),
        event("ANNOTATION_CREATED", 2, "bad"),
        event("ANNOTATION_CREATED", 3, "bad", cancelled=True),  # skipped
        event("ANNOTATION_CREATED", 4, None),
        event("ANNOTATION_UPDATED", 2, "g"),
        {"action": "TASKS_CREATED", "tasks": [{"id": 5}]},
        both,
    ):
        assert calls == []
        backend._note(given)
    learned(backend)
    want = [({"text": f"text {number}"}, "good") for number in (1, 2, 7)]
    assert calls == [want]
    assert backend.version not in versions
    backend._note({"action": "ANNOTATIONS_DELETED", "annotations": [{"id": 2}, {"id": 99}]})
    backend._note({"action": "START_TRAINING"})
    learned(backend)
    assert calls[1:] == [[want[0], want[2]]]


def test_annotations_leave_with_their_tasks():
    calls = []
    backend = Backend(of_length, calls.append)
    for number, task in ((11, 1), (12, 2), (13, 1), (2, 3)):
        given = event("ANNOTATION_CREATED", number, "g")
        given["task"] = {"id": task, "data": {"text": f"text {task}"}}
        backend._note(given)
    backend._note({"action": "TASKS_DELETED", "tasks": [{"id": 1}, {"id": 99}, {"id": 12}]})
    backend._note({"action": "START_TRAINING"})
    learned(backend)
    assert calls == [[({"text": f"text {task}"}, "good") for task in (2, 3)]]


def test_an_annotation_whose_choice_was_taken_back_counts_no_more():
    calls = []
    backend = Backend(of_length, calls.append, fit_every=3)
    for number in (1, 2):
        backend._note(event("ANNOTATION_CREATED", number, "g"))
    taken_back = event("ANNOTATION_UPDATED", 2, "g")
    taken_back["annotation"]["result"][0]["value"]["choices"] = []
    backend._note(taken_back)
    backend._note(event("ANNOTATION_CREATED", 3, "bad"))
    learned(backend)
    assert calls == [[({"text": "text 1"}, "good"), ({"text": "text 3"}, "bad")]]


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (choice("x"), "^annotation: 'x' is no choice of 'mood', which has bad, g"),
        (
            choice("bad") + choice("g"),
            r"^annotation: wanted one choice of 'mood', got \['bad', 'g'\]",
        ),
    ],
)
def test_of_annotations_with_one_that_is_wrong_none_is_kept(result, words):
    backend = Backend(of_length)
    events = [event("ANNOTATIONS_CREATED", number, "g") for number in (1, 2, 3)]
    events[2]["annotation"]["result"] = result
    all_three = {name: [each[name] for each in events] for name in ("annotation", "task")}
    with pytest.raises(ValueError, match=words):
        backend._note(events[0] | all_three)
    assert (backend._examples, backend._n_new) == ({}, 0)


def test_while_fit_runs_one_more_waits_and_gets_all_annotations():
    begun, may_end, sizes = threading.Event(), threading.Event(), []

    def fit(examples):
        sizes.append(len(examples))
        begun.set()
        assert may_end.wait(60)

    backend = Backend(of_length, fit, fit_every=2)
    for number in range(2):
        backend._note(event("ANNOTATION_CREATED", number, "g"))
    assert begun.wait(60)
    before = set(threading.enumerate())
    for number in range(2, 31):
        backend._note(event("ANNOTATION_CREATED", number, "g"))
    backend._note({"action": "START_TRAINING"})
    # Not their number: a thread of an earlier test may end in between.
    assert len(set(threading.enumerate()) - before) == 1
    may_end.set()
    learned(backend)
    assert sizes == [2, 31]
    backend._note(event("ANNOTATION_CREATED", 31, "g"))  # the first since then
    learned(backend)
    assert sizes == [2, 31]
    backend._note(event("ANNOTATION_CREATED", 32, "g"))
    learned(backend)
    assert sizes == [2, 31, 33]


SLOW = """
import time
from fastal.adapters.label_studio import Backend, _Example

def fit(examples):
    print("fit", flush=True)
    time.sleep(60)

backend = Backend(len, fit)
backend._examples[1] = _Example(1, ({}, "good"))
server = backend.server(0)
backend._note({"action": "START_TRAINING"})
backend._note({"action": "START_TRAINING"})
server.serve_forever()
"""


@pytest.mark.full
def test_ctrl_c_ends_a_backend_that_learns():
    command = [sys.executable, "-c", SLOW]
    with subprocess.Popen(command, stdout=PIPE, stderr=PIPE, env=checkout.environment()) as process:
        try:
            assert process.stdout.readline() == b"fit\n"
            process.send_signal(signal.SIGINT)
            left, errors = process.communicate(timeout=30)
        finally:
            process.kill()
    assert left == b""
    assert b"KeyboardInterrupt" in errors
    assert process.returncode == -signal.SIGINT


def test_an_answer_has_the_version_of_its_predictions(monkeypatch):
    backend = Backend(of_length, lambda examples: None, fit_every=1)
    predictions = backend.predictions

    def and_learn(*given):
        found = predictions(*given)
        backend._note(event("ANNOTATION_CREATED", 1, "g"))
        learned(backend)
        return found

    monkeypatch.setattr(backend, "predictions", and_learn)
    answer = backend._respond({"tasks": [{"data": {"text": "x"}}], "label_config": CONFIG})
    (prediction,) = answer["results"]
    assert answer["model_version"] == prediction["model_version"] != backend.version
    assert backend._respond({"tasks": [], "label_config": CONFIG}) == {
        "results": [], "model_version": backend.version,
    }  # fmt: skip


def test_a_fit_that_fails_leaves_the_model_as_it_was(caplog):
    backend = Backend(of_length, lambda examples: 1 / 0, fit_every=1)
    version = backend.version
    backend._note(event("ANNOTATION_CREATED", 1, "g"))
    learned(backend)
    assert "fit: it failed on 1 annotations; predict stays as it was" in caplog.text
    assert "ZeroDivisionError" in caplog.text
    assert backend.version == version


def test_a_fit_that_returns_no_function_leaves_the_model_as_it_was(caplog):
    backend = Backend(of_length, lambda examples: SimpleNamespace(coef_=3), fit_every=1)
    version, before = backend.version, backend.predictions([{"text": "x"}], CONFIG)
    backend._note(event("ANNOTATION_CREATED", 1, "g"))
    learned(backend)
    assert caplog.messages == [
        "fit: wanted a function or None, got namespace(coef_=3); predict stays as it was"
    ]
    assert backend.version == version
    assert backend.predictions([{"text": "x"}], CONFIG) == before


def test_training_without_annotations_is_a_warning(caplog):
    backend = Backend(of_length, lambda examples: 1 / 0)
    backend._note({"action": "START_TRAINING"})
    learned(backend)
    assert caplog.messages == ["fit: not called, since no annotation has come yet"]


def test_while_fit_runs_the_old_model_answers():
    begun, may_end = threading.Event(), threading.Event()

    def fit(examples):
        begun.set()
        assert may_end.wait(60)
        return lambda tasks: -of_length(tasks)

    backend = Backend(of_length, fit, fit_every=1)

    def label():
        return backend.predictions([{"text": "x"}], CONFIG)[0]["result"]

    backend._note(event("ANNOTATION_CREATED", 1, "g"))
    assert begun.wait(60)
    assert label() == choice("bad")
    may_end.set()
    learned(backend)
    assert label() == choice("g")


def test_what_is_wrong_is_the_reason_in_the_first_line_of_the_answer(caplog):
    with running(Backend(of_length)) as url:
        for path, body, status, words in [
            ("/predict", b"{", 400, "Expecting property name"),
            ("/setup", b'{"schema": "<View/>"}', 400, "control: wanted one Choices tag"),
            ("/x", b"{}", 404, "wanted /setup"),
            ("/x", None, 404, "wanted /health"),
        ]:
            with pytest.raises(urllib.error.HTTPError) as found:
                urllib.request.urlopen(url + path, body)
            assert found.value.code == status
            assert words in found.value.reason
            found.value.close()
        with urllib.request.urlopen(url) as answer:
            assert json.loads(answer.read()) == {"status": "UP"}


ANNOTATED = event("ANNOTATION_CREATED", 1, "g")
SEVERAL = event("ANNOTATIONS_CREATED", 1, "g") | {"annotation": [ANNOTATED["annotation"]]}


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/setup", [], "schema: wanted an object with this field, got []"),
        ("/setup", {"schema": 3}, "schema: wanted text, got 3"),
        ("/predict", None, "tasks: wanted an object with this field, got null"),
        ("/predict", {}, "tasks: wanted an object with this field, got {}"),
        ("/predict", {"tasks": {}}, "tasks: wanted a list, got {}"),
        ("/predict", {"tasks": [1]}, "data: wanted an object with this field, got 1"),
        ("/predict", {"tasks": [{"data": []}]}, "data: wanted an object, got []"),
        ("/predict", {"tasks": []}, "label_config: wanted an object with this field"),
        ("/predict", {"tasks": [], "label_config": None}, "label_config: wanted text, got null"),
        ("/webhook", None, "action: wanted an object with this field, got null"),
        ("/webhook", {"action": ["x"]}, "action: wanted text"),
        ("/webhook", {"action": "TASKS_DELETED"}, "tasks: wanted an object with this field"),
        ("/webhook", {"action": "TASKS_DELETED", "tasks": [1]}, "id: wanted an object with this"),
        ("/webhook", {"action": "ANNOTATIONS_DELETED", "annotations": 1}, "annotations: wanted a"),
        ("/webhook", {"action": "ANNOTATION_CREATED"}, "project: wanted an object with this"),
        ("/webhook", ANNOTATED | {"annotation": []}, "annotation: wanted an object, got []"),
        ("/webhook", ANNOTATED | {"annotation": {}}, "was_cancelled: wanted an object with"),
        ("/webhook", ANNOTATED | {"task": {"id": "1"}}, "id: wanted an integer, got"),
        ("/webhook", ANNOTATED | {"task": {"id": 1}}, "data: wanted an object with this field"),
        ("/webhook", SEVERAL | {"task": []}, "task: wanted task 1, which an annotation has"),
        (
            "/webhook",
            ANNOTATED | {"annotation": ANNOTATED["annotation"] | {"result": [None]}},
            "result: wanted a list of objects, got null",
        ),
        (
            "/webhook",
            ANNOTATED
            | {"annotation": ANNOTATED["annotation"] | {"result": [{"from_name": "mood"}]}},
            "value: wanted an object with this field",
        ),
    ],
)
def test_json_of_another_shape_is_refused_with_the_name_of_the_field(path, body, words):
    with running(Backend(of_length)) as url:
        with pytest.raises(urllib.error.HTTPError) as found:
            urllib.request.urlopen(url + path, json.dumps(body).encode())
        with found.value as answer:
            assert answer.code == 400
            assert answer.reason.startswith(words)
            assert json.loads(answer.read())["error"].startswith(words)


def test_a_path_may_have_a_query():
    with running(Backend(of_length)) as url:
        with urllib.request.urlopen(f"{url}/health?x=1") as answer:
            assert json.loads(answer.read()) == {"status": "UP"}
        body = {"tasks": [{"data": {"text": "x"}}], "label_config": CONFIG}
        with urllib.request.urlopen(f"{url}/predict?x=1", json.dumps(body).encode()) as answer:
            assert json.loads(answer.read())["results"][0]["result"] == choice("bad")


@pytest.mark.parametrize("length", ["abc", "-1", "+3", "1_0", "\xb2", ""])
def test_a_length_that_is_no_number_of_bytes_is_refused(length):
    with running(Backend(of_length)) as url:
        request = urllib.request.Request(f"{url}/setup", b"{}", {"Content-Length": length})
        with pytest.raises(urllib.error.HTTPError) as found:
            urllib.request.urlopen(request, timeout=30)
        with found.value as answer:
            assert answer.code == 400
            assert answer.reason.startswith("Content-Length: wanted a number of bytes, got")


@pytest.mark.parametrize(
    "text", ["a\rb", "a\r\nX-Made-Up: b", "a\x00\x1b\x7f\x85é\u2028b", "b" * 70000]
)
def test_the_text_of_an_error_stays_in_the_first_line(text):
    def predict(tasks):
        raise ValueError(text)

    body = {"tasks": [{"data": {}}], "label_config": CONFIG}
    content = json.dumps(body).encode()
    content = b"POST /predict HTTP/1.0\r\nContent-Length: %d\r\n\r\n%b" % (len(content), content)
    with (
        running(Backend(predict)) as url,
        socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), 30) as client,
        client.makefile("rb") as file,
    ):
        client.sendall(content)
        answer = file.read()
    head, _, answered = answer.partition(b"\r\n\r\n")
    first, *others = head.split(b"\r\n")
    assert first.startswith(b"HTTP/1.0 400 ")
    assert all(0x20 <= byte < 0x7F for byte in first)
    assert len(first) < 2000
    assert [line.partition(b":")[0] for line in others] == [
        b"Server", b"Date", b"Content-Type", b"Content-Length",
    ]  # fmt: skip
    assert json.loads(answered) == {"error": text}


def test_the_examples_of_the_docstrings_run():
    found = doctest.testmod(adapter, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert found.attempted > 0
    assert found.failed == 0


WORDS = ["no", "it broke", "it is fine", "it is quite good", "it is a very good thing"]


def connect(user, project, url, title="fastal"):
    return user.call("POST", "/api/ml/", {"project": project, "url": url, "title": title})["id"]


def retrieve_predictions(user, project):
    selected = {"all": True, "excluded": []}
    path = f"/api/dm/actions?id=retrieve_tasks_predictions&project={project}"
    user.call("POST", path, {"selectedItems": selected})


def test_a_backend_learns_from_annotations_and_its_predictions_are_renewed(server):
    calls = []

    def fit(examples):
        calls.append(examples)
        return lambda tasks: -of_length(tasks)

    user, backend = server.first, Backend(of_length, fit, fit_every=2)
    project = user.project(CONFIG)
    user.import_tasks(project, [{"data": {"text": text}} for text in WORDS])
    with running(backend) as url:
        connect(user, project, url)
        first = backend.version
        for text in WORDS[:2]:
            task = user.next_task(project)
            (prediction,) = task["predictions"]
            assert (task["data"]["text"], prediction["model_version"]) == (text, first)
            assert prediction["result"] == choice("bad")
            user.annotate(task["id"], choice("g"))
        eventually(lambda: backend.version != first)
        assert calls == [[({"text": text}, "good") for text in WORDS[:2]]]
        (prediction,) = user.next_task(project)["predictions"]
        assert prediction["model_version"] == backend.version != first
        assert prediction["result"] == choice("g")


def test_the_button_that_starts_training_calls_fit(server):
    calls = []
    user, backend = server.first, Backend(of_length, calls.append, fit_every=100)
    project = user.project(CONFIG)
    user.import_tasks(project, [{"data": {"text": text}} for text in WORDS])
    with running(backend) as url:
        number = connect(user, project, url)
        task = user.next_task(project)
        made = user.annotate(task["id"], choice("g"))
        user.call("PATCH", f"/api/annotations/{made['id']}", {"result": choice("bad")})
        user.call("POST", f"/api/ml/{number}/train", {})
        eventually(lambda: calls)
        assert calls == [[({"text": WORDS[0]}, "bad")]]
        user.call("DELETE", f"/api/annotations/{made['id']}")
        user.annotate(user.next_task(project)["id"], choice("bad"))
        user.call("POST", f"/api/ml/{number}/train", {})
        eventually(lambda: len(calls) > 1)
        assert len(calls[1]) == 1
        task = user.next_task(project)
        user.annotate(task["id"], choice("g"))
        user.call("DELETE", f"/api/tasks/{task['id']}")
        user.call("POST", f"/api/ml/{number}/train", {})
        eventually(lambda: len(calls) > 2)
        assert calls[2] == calls[1]


def test_uncertainty_sampling_needs_the_version_of_a_backend_not_its_title(server):
    """A connected backend makes its title the project's model version, and no prediction has it."""
    user, backend = server.first, Backend(of_length)
    texts = [" " * n for n in np.random.default_rng(5).permutation(10).tolist()]
    certainties = [p["score"] for p in backend.predictions([{"text": t} for t in texts], CONFIG)]
    sure_last = [texts[i] for i in np.argsort(certainties, kind="stable")]
    found = []
    with running(backend) as url:
        for version in ("fastal", backend.version):
            project = user.project(CONFIG, sampling=UNCERTAINTY)
            user.import_tasks(project, [{"data": {"text": text}} for text in texts])
            connect(user, project, url)
            retrieve_predictions(user, project)
            assert user.call("GET", f"/api/projects/{project}")["model_version"] == "fastal"
            user.call("PATCH", f"/api/projects/{project}", {"model_version": version})
            found.append([])
            while task := user.next_task(project):
                found[-1].append(task["data"]["text"])
                user.annotate(task["id"], choice("bad"))
    by_title, by_version = found
    assert sorted(by_title) == sorted(sure_last) != by_title != sure_last
    np.testing.assert_allclose(
        [certainties[texts.index(text)] for text in by_version], np.sort(certainties)
    )


def test_label_studio_shows_why_it_cannot_use_a_backend(server):
    user = server.first
    project = user.project(CONFIG)
    backend = Backend(of_length, class_names=["bad", "fine"])
    with running(backend) as url, pytest.raises(Refused, match=r"class_names: .* is no choice of"):
        connect(user, project, url)


def test_the_code_of_the_page_runs(monkeypatch):
    class Server:
        def __init__(self, backend):
            self.backend = backend

        def serve_forever(self):
            config = pages.CONFIG.replace(' alias="pos"', "")
            found = self.backend.predictions([{"text": "x"}], config)
            assert found[0]["result"][0]["value"] == {"choices": ["positive"]}
            assert found[0]["score"] == pytest.approx(0.8 - 0.2)

    monkeypatch.setattr(Backend, "server", lambda backend, port: Server(backend))
    model = Model()
    names = {"model": model}
    for block in page_code("label_studio"):
        exec(block, names)
    predict = names["fit"]([({"text": "a"}, "positive")])
    assert vars(model) == {}  # so the old model answers as before
    assert predict([{"text": "b"}]) == [["a", "positive", "b"]]


class Model:
    """A model of the page, which shows what it learned."""

    def fit(self, texts, labels):
        self.learned = [*texts, *labels]

    def predict_proba(self, texts):
        if not hasattr(self, "learned"):
            return np.array([[0.2, 0.8]] * len(texts))
        return [[*self.learned, *texts]]


def test_a_held_port_is_free_for_a_server_that_starts_later():
    with held_port() as port:
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port))
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        with ThreadingHTTPServer(("127.0.0.1", port), BaseHTTPRequestHandler):
            socket.create_connection(("127.0.0.1", port)).close()
