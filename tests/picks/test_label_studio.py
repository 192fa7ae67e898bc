"""Tasks for Label Studio: the fields of a project's configuration, and the model's own choice."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import fastal
from fastal import Picks
from fastal.cli import main
from fastal.picks.label_config import read_control
from fastal.pipeline.predicted import predicted_classes

CLASSES = ["cat", "dog", "ant"]
CHOICES = '<Choice value="cat"/><View><Choice value="dog" alias="d"/></View><Choice value="ant"/>'
MOOD = '<Choices name="mood" toName="t"><Choice value="sad"/><Choice value="glad"/></Choices>'
ANIMAL = f'<Choices name="animal" toName="t" choice="single">{CHOICES}</Choices>'
TEXT = '<Header value="What is it?"/><Text name="t" value="$text"/>'
WRITTEN = {"cat": "cat", "dog": "d", "ant": "ant"}  # what an annotation holds


def config_of(tmp_path, *parts):
    path = tmp_path / "config.xml"
    path.write_text(f"<View>{''.join(parts)}</View>")
    return path


@pytest.fixture
def config(tmp_path):
    return config_of(tmp_path, TEXT, ANIMAL)


@pytest.fixture
def x():
    return np.random.default_rng(5).standard_normal((40, 3)).astype(np.float32)


@pytest.fixture
def pool(tmp_path, x):
    lists = pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), 3)
    texts = [f"text {i}" for i in range(40)]
    table = pa.table({"x": lists, "text": texts, "id": [2**60 + i for i in range(40)]})
    pq.write_table(table, tmp_path / "pool.parquet", row_group_size=7)
    return tmp_path / "pool.parquet"


def run(*arguments):
    return CliRunner().invoke(main, list(map(str, arguments)))


def refused(done, *words):
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.output
    for word in words:
        assert word in done.stderr, done.stderr


def select(pool, config, *options, carry="text"):
    out = pool.parent / "tasks.json"
    done = run("select", pool, "--k", 9, "--by", "margin", "--carry", carry, "--id-column", "id",
               "--label-config", config, "--out", out, *options)  # fmt: skip
    return done, json.loads(out.read_text()) if out.exists() else None


@pytest.mark.parametrize("names", [None, "list", "file"])
@pytest.mark.parametrize("chunk_mb", [[], ["--chunk-mb", 1]])
def test_tasks_have_the_fields_and_the_predicted_class(tmp_path, pool, config, x, names, chunk_mb):
    order = CLASSES if names is None else ["ant", "cat", "dog"]
    given = []
    if names is not None:
        (tmp_path / "names.txt").write_text("\n".join(order) + "\n")
        given = ["--class-names", ",".join(order) if names == "list" else tmp_path / "names.txt"]
    done, tasks = select(pool, config, *given, *chunk_mb)
    assert done.exit_code == 0, done.output
    picks = fastal.select(x, 9, "margin")
    assert len(tasks) == 9
    for place, (task, row) in enumerate(zip(tasks, picks.rows.tolist(), strict=True)):
        score = float(str(picks.scores[place]))
        assert task["data"] == {
            "fastal_rank": place + 1, "fastal_score": score, "row": row,
            "id": str(2**60 + row), "text": f"text {row}",
        }  # fmt: skip
        (prediction,) = task["predictions"]
        choice = WRITTEN[order[int(x[row].argmax())]]
        assert prediction == {
            "model_version": "fastal",
            "score": 1 - score,
            "result": [
                {
                    "from_name": "animal", "to_name": "t", "type": "choices",
                    "value": {"choices": [choice]},
                }
            ],
        }  # fmt: skip
    # Uncertainty sampling begins with the lowest score, so with the best pick.
    scores = [task["predictions"][0]["score"] for task in tasks]
    assert scores == sorted(scores)
    assert Picks.load(tmp_path / "tasks.json").rows.tolist() == picks.rows.tolist()


def test_mapped_files_and_groups(tmp_path, x):
    np.save(tmp_path / "pool.npy", x)
    config = config_of(tmp_path, '<Text name="t" value="$group"/>', ANIMAL)
    out = tmp_path / "tasks.json"
    command = ["select", tmp_path / "pool.npy", "--label-config", config, "--out", out]
    done = run(*command, "--per-group", 2, "--groups", "predicted")
    assert done.exit_code == 0, done.output
    for task in json.loads(out.read_text()):
        (result,) = task["predictions"][0]["result"]
        assert result["value"]["choices"] == [WRITTEN[CLASSES[task["data"]["group"]]]]
    refused(run(*command, "--k", 2), "$group, and tasks without it")


def test_one_of_several_controls_is_named(tmp_path, pool):
    path = config_of(tmp_path, TEXT, MOOD, ANIMAL)
    done, tasks = select(pool, f"{path}:animal")
    assert done.exit_code == 0, done.output
    assert {task["predictions"][0]["result"][0]["from_name"] for task in tasks} == {"animal"}
    refused(select(pool, path)[0], "--label-config: ", "config.xml:NAME; it has 'mood', 'animal'")
    refused(select(pool, f"{path}:x")[0], "a Choices tag named 'x'; it has 'mood', 'animal'")


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ([TEXT, MOOD], "got 2 choices in"),
        ([TEXT, '<Labels name="l" toName="t"/>'], "wanted one Choices tag"),
        ([ANIMAL], "no tag is named 't', as 'animal' wants"),
        ([TEXT, ANIMAL, "<"], "wanted the XML of a labelling configuration"),
        (
            [TEXT, ANIMAL.replace('"d"', '"cat"')],
            "wanted another alias for each choice of 'animal'",
        ),
        (['<Image name="t" value="$image"/>', ANIMAL], "shows $image, and tasks without it are"),
        ([TEXT, ANIMAL, '<Header name="h" value="$title"/>'], "wanted carry with 'title'"),
        ([TEXT, ANIMAL, '<Header name="h" value="On: $day"/>'], "wanted carry with 'day'"),
        ([TEXT, ANIMAL, '<List name="l" value="$all[0]"/>'], "wanted carry with 'all'"),
    ],
)
def test_configurations_that_do_not_fit_are_refused_before_the_pool_is_read(
    tmp_path, pool, monkeypatch, parts, words
):
    monkeypatch.setattr("fastal.commands.command.CommandRun.run", lambda *_, **__: 1 / 0)
    done, tasks = select(pool, config_of(tmp_path, *parts))
    refused(done, words)
    assert tasks is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--class-names", "cat,dog"], "--class-names: wanted one name for each of 3 classes"),
        (["--class-names", "cat,dog,bee"], "--class-names: 'bee' is no choice of"),
        (["--label-config", "absent.xml"], "absent.xml"),
        (["--label-config", "absent.xml:x"], "absent.xml"),
        (["--label-config", "x" * 5000], "too long"),
        (["--out", "picks.csv"], "--label-config: wanted --out, a .json file of tasks"),
    ],
)
def test_options_that_do_not_fit_are_refused(tmp_path, pool, config, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    refused(select(pool, config, *options)[0], words)
    assert not (tmp_path / "picks.csv").exists()


def test_class_names_need_a_configuration(pool):
    done = run("select", pool, "--k", 3, "--class-names", "a,b,c")
    refused(done, "--class-names: wanted --label-config, or --format, too")


BOMB = """<?xml version="1.0"?><!DOCTYPE v [<!ENTITY a "aaaaaaaaaa">
{}]><View><Text name="t" value="$text"/>&{};</View>"""
LEVELS = "".join(
    f'<!ENTITY {b} "{f"&{a};" * 10}">\n' for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    "text",
    [
        BOMB.format(LEVELS, "i"),
        '<!DOCTYPE v SYSTEM "file:///etc/passwd"><View/>',
        '<!DOCTYPE v [<!ENTITY e SYSTEM "file:///etc/passwd">]><View>&e;</View>',
    ],
)
def test_a_doctype_is_refused(tmp_path, text):
    (tmp_path / "c.xml").write_text(text)
    with pytest.raises(ValueError, match=r"c.xml: wanted the XML .*: wanted no DOCTYPE"):
        read_control(tmp_path / "c.xml")


def test_a_comment_may_speak_of_a_doctype(tmp_path):
    assert read_control(config_of(tmp_path, "<!-- <!DOCTYPE x> -->", TEXT, ANIMAL)).name == "animal"


def picks_of(n=3):
    scores = np.array([0.75, 0.5, 0.25], np.float32)[:n]
    return Picks(np.arange(n), scores, columns={"text": list("abc"[:n])})


@pytest.mark.parametrize(
    ("predicted", "names", "want"),
    [
        (["dog", "cat", "ant"], None, ["d", "cat", "ant"]),
        (np.array([2, 0, 1]), None, ["ant", "cat", "d"]),
        ([2, None, np.int64(0)], ["ant", "cat", "dog"], ["d", None, "ant"]),
        (np.array(["dog", "cat", "ant"]), None, ["d", "cat", "ant"]),
    ],
)
def test_labels_of_the_caller(tmp_path, config, predicted, names, want):
    picks_of().save(
        tmp_path / "t.json", label_config=config, predicted=predicted, class_names=names
    )
    tasks = json.loads((tmp_path / "t.json").read_text())
    found = [
        task["predictions"][0]["result"][0]["value"]["choices"][0]
        if "predictions" in task
        else None
        for task in tasks
    ]
    assert found == want
    assert tasks[0]["predictions"][0]["score"] == 0.25


def test_a_choice_with_an_empty_alias_is_written_as_its_value(tmp_path):
    config = config_of(tmp_path, TEXT, ANIMAL.replace('alias="d"', 'alias=""'))
    picks_of(1).save(tmp_path / "t.json", label_config=config, predicted=["dog"])
    (task,) = json.loads((tmp_path / "t.json").read_text())
    assert task["predictions"][0]["result"][0]["value"] == {"choices": ["dog"]}


def test_a_row_in_several_tasks_counts_once_at_its_first_place(tmp_path, x):
    picks = Picks([4, 7, 2], [1.0, 0.5, 0.25], [40, 70, 20])
    picks.save(tmp_path / "t.json")
    tasks = json.loads((tmp_path / "t.json").read_text())
    later = json.loads(json.dumps(tasks[::-1]))
    for task in later:  # of an overlapping round
        task["data"]["fastal_score"] /= 2
    (tmp_path / "export.json").write_text(json.dumps([*tasks, *tasks, *later]))
    found = Picks.load(tmp_path / "export.json")
    assert (found.rows.tolist(), found.ids.tolist()) == ([4, 7, 2], [40, 70, 20])
    assert found.scores.tolist() == [1.0, 0.5, 0.25]
    rest = fastal.select(x, 40 - 3, "margin", exclude=tmp_path / "export.json")
    assert sorted(rest.rows.tolist()) == sorted({*range(40)} - {4, 7, 2})


def test_a_row_with_two_ids_in_tasks_is_refused(tmp_path, x):
    tasks = [{"data": {"row": 3, "id": i, "fastal_score": 1.0}} for i in ("a", "b")]
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    with pytest.raises(ValueError, match="row 3 is there twice"):
        fastal.select(x, 4, "margin", exclude=tmp_path / "export.json")


def test_without_labels_the_configuration_is_only_checked(tmp_path, config):
    picks_of().save(tmp_path / "a.json", label_config=config)
    picks_of().save(tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_choices_that_come_from_the_task_take_any_class(tmp_path):
    config = config_of(tmp_path, TEXT, '<Choices name="c" toName="t" value="$text"/>')
    picks_of(1).save(tmp_path / "t.json", label_config=config, predicted=["new"])
    (task,) = json.loads((tmp_path / "t.json").read_text())
    assert task["predictions"][0]["result"][0]["value"] == {"choices": ["new"]}


def test_infinite_scores_are_no_score_of_a_prediction(tmp_path, config):
    picks = Picks([0], [np.inf], columns={"text": ["a"]})
    picks.save(tmp_path / "t.json", label_config=config, predicted=["cat"])
    (task,) = json.loads((tmp_path / "t.json").read_text())
    assert task["predictions"][0]["score"] is None


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"predicted": ["cat"]}, ValueError, "^predicted: wanted one class for each of 3 picks"),
        ({"predicted": ["bee"] * 3}, ValueError, "^predicted: 'bee' is no choice of .*cat, dog"),
        ({"predicted": [3, 0, 0]}, ValueError, "^predicted: wanted the numbers of 3 .*got 3"),
        ({"predicted": [-1, 0, 0]}, ValueError, "got -1"),
        ({"predicted": [0.5, 0, 0]}, TypeError, "^predicted: wanted names or numbers"),
        ({"predicted": [0, 0, 0], "class_names": ["x"]}, ValueError, "^class_names: 'x' is no"),
        ({"predicted": [0] * 3, "class_names": "cat"}, TypeError, "a list of names, got .cat"),
        ({"predicted": [0] * 3, "class_names": ["cat", ""]}, ValueError, "that are not empty"),
        ({"predicted": [0] * 3, "class_names": ["cat"] * 2}, ValueError, "wanted each name once"),
        ({"predicted": [0, 0, 0], "label_config": None}, ValueError, "wanted label_config, or"),
        ({"path": "t.csv"}, ValueError, "^label_config: wanted a .json file of tasks as path"),
    ],
)  # fmt: skip
def test_labels_that_do_not_fit_are_refused(tmp_path, config, options, error, words):
    given = {"path": "t.json", "label_config": config, **options}
    path = tmp_path / given.pop("path")
    with pytest.raises(error, match=words):
        picks_of().save(path, **given)
    assert not path.exists()


def test_a_field_that_the_picks_lack_is_named(tmp_path, config):
    with pytest.raises(ValueError, match=r"shows \$text, .* refused by Label Studio; wanted carry"):
        Picks([0], [1.0]).save(tmp_path / "t.json", label_config=config)
    assert not (tmp_path / "t.json").exists()


def test_none_in_a_field_is_refused_with_its_row(tmp_path, config):
    picks = Picks([4, 7], [1.0, 0.5], columns={"text": ["a", None]})
    with pytest.raises(ValueError, match=r"^label_config: .* shows \$text, and row 7 has None"):
        picks.save(tmp_path / "t.json", label_config=config)
    assert not (tmp_path / "t.json").exists()
    picks.save(tmp_path / "t.json")


def test_a_tag_without_a_name_wants_no_field(tmp_path):
    config = config_of(tmp_path, TEXT, ANIMAL, '<Header value="$title"/>')
    assert read_control(config).fields == ["text"]


@pytest.mark.parametrize("rows", [1, 2, 100])
def test_predicted_classes_are_those_of_the_rows_in_their_order(x, rows, monkeypatch):
    monkeypatch.setattr("fastal.pipeline.drive._KEPT_ROWS", rows)
    wanted = np.array([39, 0, 5, 17])
    found = predicted_classes(fastal.open_pool(x), wanted)
    assert found == x[wanted].argmax(1).tolist()
