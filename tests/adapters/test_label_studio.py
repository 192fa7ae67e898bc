"""Picks in a real Label Studio: what it imports, and in which order annotators then get tasks."""

import json
import sqlite3
from contextlib import closing
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner

import fastal
from fastal.cli import main
from fastal.picks.label_config import read_control
from tests.support import label_studio_pages as pages
from tests.support.browser import CHROMIUM, browser
from tests.support.label_studio_server import Refused, label_studio

pytest.importorskip(
    "label_studio", reason="Label Studio is missing; scripts/test-adapters label_studio has it"
)
pytestmark = pytest.mark.full  # the server takes half a minute to start

TEXT = '<Text name="review" value="$text"/>'
CHOICES = (
    '<Choices name="mood" toName="review"><Choice value="bad"/><Choice value="good" alias="g"/>'
    "</Choices>"
)
SEQUENTIAL, UNCERTAINTY = "Sequential sampling", "Uncertainty sampling"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The first user of a server, the second, and the file of its database."""
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
    server.first.import_file(project, saved(picks_of(30), config, tmp_path))
    with closing(sqlite3.connect(server.database)) as database, database:
        row = "(enabled, created_at, updated_at, project_id, user_id)"
        for user in (1, 2):
            database.execute(
                f"insert into projects_projectmember {row} values (1, 0, 0, ?, ?)", (project, user)
            )
    found = labelling(project, server.first, server.second)
    assert sorted(found) == [*range(1, 31)] != found


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
def test_an_annotator_sees_the_picks_in_order_with_what_the_model_predicts(server, tmp_path):
    project = pages.import_reviews(server.first, tmp_path)
    pages.show_few_columns(server.first, project)
    with browser(tmp_path / "profile") as page:
        page.resize(1280, 800)
        pages.log_in(page, server.first.url)
        pages.open_tasks(page, server.first.url, project)
        shown = [line for line in pages.lines(page) if line in pages.TEXTS]
        assert shown == pages.TEXTS[: len(shown)] != []
        pages.label_as_displayed(page)
        assert page.value(pages.CHOSEN) == ["positive"]  # which the prediction holds as its alias
        page.click(pages.with_text("negative[1]"))
        page.until(f"{pages.CHOSEN}.includes('negative')")
        for text in pages.TEXTS[1:3]:  # the first is corrected, the second is confirmed
            page.click(pages.button("Submit"))
            page.until(f"document.body.innerText.includes({text!r}) && {pages.CHOSEN}.length > 0")
        assert [url for url in page.requests if not url.startswith(server.first.url)] == []
    found = {
        task["data"]["text"]: annotation["result"][0]["value"]["choices"]
        for task in server.first.export(project)
        for annotation in task["annotations"]
    }
    assert found == {pages.TEXTS[0]: ["negative"], pages.TEXTS[1]: ["negative"]}


def write_pool(path, logits):
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {
        "logits": pa.FixedSizeListArray.from_arrays(pa.array(logits.ravel()), logits.shape[1]),
        "review": [f"r{i}" for i in range(len(logits))],
        "text": [f"text {i}" for i in range(len(logits))],
    }
    pq.write_table(pa.table(columns), path)
