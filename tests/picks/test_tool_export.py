"""Picks for Prodigy, doccano, Argilla and CVAT, and what these tools export."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import fastal
from fastal import Picks
from fastal.base.argument_values import TOOLS
from fastal.cli import main
from fastal.pipeline.predicted import predicted_classes

SUFFIXES = {"prodigy": ".jsonl", "doccano": ".jsonl", "argilla": ".json", "cvat": ".txt"}
WITH_ROWS = ["prodigy", "doccano", "argilla"]
TEXTS = ["a\u2028b\nc", 'é "x" \x85', "t\r\nu"]
LARGE = 2**60 + 1
N = 40


def picks_of(**columns):
    return Picks(
        [5, 0, 2**40], [0.9, 0.5, 1e-12], [LARGE, 2, None],
        columns={"text": TEXTS, "image": ["b/1.png", "a 2.png", "c.png"], "n": [1, None, 3]}
        | columns,
    )  # fmt: skip


def written(tmp_path, tool, picks=None, **options):
    path = tmp_path / f"out{SUFFIXES[tool]}"
    (picks_of() if picks is None else picks).save(path, format=tool, **options)
    text = path.read_bytes().decode()
    if tool == "cvat":
        return text
    return json.loads(text) if tool == "argilla" else [*map(json.loads, text.split("\n")[:-1])]


def run(*arguments):
    return CliRunner().invoke(main, list(map(str, arguments)))


def refused(done, *words):
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.output
    for word in words:
        assert word in done.stderr, done.stderr


@pytest.fixture
def x():
    return np.random.default_rng(5).standard_normal((N, 3)).astype(np.float32)


@pytest.fixture
def pool(tmp_path, x):
    lists = pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), 3)
    table = pa.table(
        {
            "x": lists,
            "review": [f"text {i}" for i in range(N)],
            "file": [f"i/{i}.png" for i in range(N)],
            "id": [2**60 + i for i in range(N)],
        }
    )
    pq.write_table(table, tmp_path / "pool.parquet")
    return tmp_path / "pool.parquet"


def test_tasks_of_prodigy(tmp_path):
    tasks = written(tmp_path, "prodigy", predicted=[1, None, 0], class_names=["no", "yes"])
    values = {"rank": 1, "row": 5, "score": 0.9, "id": str(LARGE), "image": "b/1.png", "n": 1}
    assert tasks[0] == {"text": TEXTS[0], "meta": values, "accept": ["yes"]}
    assert "accept" not in tasks[1]
    assert [task["meta"]["rank"] for task in tasks] == [1, 2, 3]
    assert [task["meta"]["id"] for task in tasks] == [str(LARGE), "2", None]
    (image, *_) = written(tmp_path, "prodigy", image_column="image")
    assert (image["image"], image["meta"]["text"]) == ("b/1.png", TEXTS[0])
    assert "text" not in image


def test_lines_of_doccano(tmp_path):
    lines = written(tmp_path, "doccano", predicted=["yes", None, "no"])
    assert [line["text"] for line in lines] == TEXTS
    assert [line["label"] for line in lines] == [["yes"], [], ["no"]]
    # In one field: next to one another, doccano would make floats of integers beside None.
    assert {tuple(line) for line in lines} == {("text", "label", "fastal")}
    assert lines[1]["fastal"] == {
        "rank": 2, "row": 0, "score": 0.5, "id": "2", "image": "a 2.png", "n": None,
    }  # fmt: skip


def test_records_of_argilla(tmp_path):
    records = written(tmp_path, "argilla", predicted=["yes", None, "no"])
    assert records[0] == {
        "id": str(LARGE),
        "fields": {"text": TEXTS[0]},
        "metadata": {
            "rank": 1, "row": 5, "score": 0.9, "id": LARGE, "image": "b/1.png", "n": 1,
        },
        "suggestions": {"label": {"value": "yes", "score": 1 - 0.9, "agent": "fastal"}},
    }  # fmt: skip
    assert records[1]["id"] == "2"
    assert records[2]["id"] == f"row {2**40}"  # since it has no id, and another may be 2^40
    assert {"n", "suggestions"} & records[1].keys() == set()
    (tmp_path / "out.json").read_text("ascii")
    (image, *_) = written(tmp_path, "argilla", image_column="image")
    assert image["fields"] == {"image": "b/1.png"}


def test_records_of_argilla_without_ids_are_named_by_their_rows(tmp_path):
    picks = Picks([7, 3], [0.5, 0.25], columns={"text": ["a", "b"]})
    assert [record["id"] for record in written(tmp_path, "argilla", picks)] == ["7", "3"]


def test_a_row_without_an_id_is_not_taken_for_the_row_whose_id_is_its_number(tmp_path):
    """Argilla would update the record of the other row, in this round or in a later one."""
    picks = Picks([0, 5], [0.9, 0.8], ["5", None], columns={"text": ["a", "b"]})
    assert [record["id"] for record in written(tmp_path, "argilla", picks)] == ["5", "row 5"]
    found = Picks.load(tmp_path / "out.json")
    assert (found.rows.tolist(), found.ids.tolist()) == ([0, 5], ["5", None])


@pytest.mark.parametrize("ids", [["a", "b", "a"], [5, "b", "5"], ["row 2", "b", None]])
def test_picks_with_equal_ids_are_refused_for_argilla(tmp_path, ids):
    """It would update the first one."""
    ids = np.array(ids, object)
    picks = Picks([0, 1, 2], [0.9, 0.8, 0.7], ids, columns={"text": ["a", "b", "c"]})
    with pytest.raises(
        ValueError, match=r"^format: picks 1 and 3 have the same id '.*' in argilla"
    ):
        written(tmp_path, "argilla", picks)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("score", "want"), [(0.25, 0.75), (0, 1), (-0.5, None), (1.5, None)])
def test_argilla_has_scores_of_suggestions_from_0_to_1(tmp_path, score, want):
    picks = Picks([0], [score], columns={"text": ["a"]})
    (record,) = written(tmp_path, "argilla", picks, predicted=["x"])
    assert record["suggestions"]["label"]["score"] == want


def test_a_list_of_images_for_cvat(tmp_path):
    assert written(tmp_path, "cvat") == "b/1.png\na 2.png\nc.png\n"
    ids = Picks([3, 1], [1, 0.5], ["z.png", "y.png"])
    assert written(tmp_path, "cvat", ids, image_column="id") == "z.png\ny.png\n"


@pytest.mark.parametrize("tool", TOOLS)
def test_no_picks(tmp_path, tool):
    picks = Picks([], [], columns={"text": [], "image": []})
    assert written(tmp_path, tool, picks) in ("", [])


@pytest.mark.parametrize("tool", WITH_ROWS)
def test_what_was_written_is_read(tmp_path, tool):
    picks = picks_of()
    written(tmp_path, tool, picks, predicted=["yes", None, "no"])
    found = Picks.load(tmp_path / f"out{SUFFIXES[tool]}")
    assert found.rows.tolist() == picks.rows.tolist()
    assert found.scores.tolist() == picks.scores.tolist()
    assert [str(one) for one in found.ids] == [str(LARGE), "2", "None"]
    assert found["text"].tolist() == TEXTS
    assert found["n"].tolist() == [1, None, 3]
    if tool == "argilla":  # its numbers do not pass through a browser
        assert found.ids.tolist() == [LARGE, 2, None]


def prodigy_export(task, answer):
    """What `db-out` prints of a task."""
    return {**task, "_input_hash": -15, "_task_hash": 20, "options": [], "answer": answer}


def doccano_export(line, number):
    """What doccano 1.8.4 writes: numbers with 10 decimal places, and an id of its own."""
    values = {**line["fastal"], "score": round(line["fastal"]["score"], 10)}
    text, label = line["text"], line["label"]
    return {"id": number, "text": text, "fastal": values, "label": label, "Comments": []}


def argilla_export(record):
    """What `to_json` of Argilla 2.8.0 writes."""
    return {
        "id": record["id"], "fields": record["fields"], "metadata": record["metadata"],
        "suggestions": {}, "vectors": {}, "status": "completed", "_server_id": "f1",
        "responses": {"label": [{"value": "yes", "user_id": "u"}]},
    }  # fmt: skip


@pytest.mark.parametrize("tool", ["prodigy", "argilla"])
def test_ids_that_are_images_stay_ids(tmp_path, tool):
    picks = Picks([3, 1], [1, 0.5], ["z.png", "y.png"])
    written(tmp_path, tool, picks, image_column="id")
    found = Picks.load(tmp_path / f"out{SUFFIXES[tool]}")
    assert found.ids.tolist() == ["z.png", "y.png"]


def exported(tool, records):
    if tool == "prodigy":
        return [prodigy_export(one, answer) for one in records for answer in ("accept", "reject")]
    if tool == "doccano":
        return [doccano_export(one, number) for number, one in enumerate(records, 1)]
    return [argilla_export(one) for one in records]


def test_a_row_that_several_people_labelled_is_at_its_first_place(tmp_path):
    lines = [{"text": "a", "meta": {"row": row, "score": score}}
             for row, score in [(1, 0.75), (2, 0.5), (1, 0.25)]]  # fmt: skip
    (tmp_path / "e.jsonl").write_text("\n".join(map(json.dumps, lines)))
    picks = Picks.load(tmp_path / "e.jsonl")
    assert (picks.rows.tolist(), picks.scores.tolist()) == ([1, 2], [0.75, 0.5])


def test_picks_may_be_in_one_file_with_what_a_tool_exports(tmp_path, x, caplog):
    lines = [
        {"rank": 1, "row": 4, "score": 0.5},
        prodigy_export({"text": "a", "meta": {"rank": 1, "row": 7, "score": 0.75}}, "accept"),
        {"id": 1, "row": 9, "text": "not of fastal"},
    ]
    (tmp_path / "e.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert Picks.load(tmp_path / "e.jsonl").rows.tolist() == [4, 7]
    assert {*range(N)} - {*fastal.select(x, N, exclude=tmp_path / "e.jsonl").rows} == {4, 7}
    assert "1 of 3 records are no picks" in caplog.text


@pytest.mark.parametrize("tool", [*WITH_ROWS, "doccano in .json"])
def test_the_second_round_leaves_out_what_a_tool_exports(tmp_path, pool, tool, caplog):
    """By id: the pool of the second round has its rows in another order."""
    tool, _, suffix = tool.partition(" in ")
    source = fastal.open_pool(pool, column="x", id_column="id", carry=["review"])
    first = fastal.select(source, 6)
    records = exported(tool, written(tmp_path, tool, first, text_column="review"))
    path = tmp_path / f"export{suffix or SUFFIXES[tool]}"
    foreign = {"text": "not of fastal", "meta": {}, "metadata": {}}
    if path.suffix == ".json":
        path.write_text(json.dumps([*records, foreign]))
    else:
        path.write_text("\n".join(map(json.dumps, [*records, foreign])))
    table = pq.read_table(pool)
    order = np.random.default_rng(1).permutation(N)
    pq.write_table(table.take(order), tmp_path / "other.parquet")
    other = fastal.open_pool(tmp_path / "other.parquet", column="x", id_column="id")
    whole = fastal.select(other, N).ids.tolist()
    assert fastal.select(other, N, exclude=path).ids.tolist() == whole[6:]
    assert fastal.select(other, N, among=path).ids.tolist() == whole[:6]
    assert f"1 of {len(records) + 1} records are no picks" in caplog.text
    assert Picks.load(path).rows.tolist() == first.rows.tolist()
    options = ["--column", "x", "--id-column", "id", "--quiet"]
    done = run("select", tmp_path / "other.parquet", "--k", N, "--exclude", path, *options)
    assert [int(line.split(",")[3]) for line in done.stdout.split()[1:]] == whole[6:]


def test_an_export_that_has_ids_of_doccano_alone_is_refused(tmp_path, x):
    """Its ids would be taken for those of the pool."""
    text = "id,text,fastal,label,Comments\n1,\"a\",\"{'rank': 1, 'row': 5, 'score': 0.9}\",pos,\n"
    (tmp_path / "e.csv").write_text(text)
    with pytest.raises(ValueError, match=r"^exclude: .*e\.csv: .* doccano's.* export as JSONL"):
        fastal.select(x, 3, exclude=tmp_path / "e.csv")
    with pytest.raises(ValueError, match="export as JSONL"):
        Picks.load(tmp_path / "e.csv")


def test_an_export_of_doccano_is_found_by_any_of_its_lines(tmp_path):
    """One that is not of fastal comes first; PostgreSQL sorts the names in a field."""
    text = "id,text,fastal\n1,a,\n2,b,\"{'row': 5, 'rank': 1, 'score': 0.9}\"\n"
    (tmp_path / "e.csv").write_text(text)
    with pytest.raises(ValueError, match="export as JSONL"):
        Picks.load(tmp_path / "e.csv")


@pytest.mark.parametrize("values", [["x", ""], ["{'row': 1}", "{}"], [None, None]])
def test_a_column_may_have_the_name_of_what_doccano_exports(tmp_path, values):
    picks = Picks([1, 0], [0.5, 0.25], columns={"fastal": values})
    picks.save(tmp_path / "p.csv")
    found = Picks.load(tmp_path / "p.csv")
    assert found.rows.tolist() == [1, 0]
    assert found["fastal"].tolist() == [value or "" for value in values]


def test_a_table_of_ids_may_have_a_column_with_the_name_of_what_doccano_exports(tmp_path, pool):
    (tmp_path / "t.csv").write_text(f"id,fastal\n{2**60 + 3},x\n")
    source = fastal.open_pool(pool, column="x", id_column="id")
    assert fastal.select(source, 1, among=tmp_path / "t.csv").rows.tolist() == [3]


@pytest.mark.parametrize(
    "record", [{"text": "a", "meta": {"score": 1}}, {"fields": {"text": "a"}, "metadata": {}}]
)
@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_examples_that_are_not_of_fastal_are_refused(tmp_path, x, record, suffix):
    path = tmp_path / f"e{suffix}"
    path.write_text(json.dumps([record] if suffix == ".json" else record))
    with pytest.raises(ValueError, match=f"^exclude: .*e{suffix}: wanted a column row or id"):
        fastal.select(x, 3, exclude=path)


def test_the_csv_of_label_studio_is_refused_since_its_ids_are_its_own(tmp_path, x):
    path = tmp_path / "export.csv"
    path.write_text("annotation_id,fastal_rank,fastal_score,id,row,text\n1,1,0.9,10,3,t\n")
    with pytest.raises(ValueError, match=r"export.csv: .*it is Label Studio's, .*export as JSON$"):
        fastal.select(x, k=3, exclude=path)


def test_a_task_of_label_studio_with_a_row_of_its_own_in_meta_is_the_tasks_row(tmp_path, x):
    path = tmp_path / "export.json"
    task = {"id": 1, "data": {"fastal_rank": 1, "fastal_score": 0.5, "row": 3}, "meta": {"row": 9}}
    path.write_text(json.dumps([task]))
    assert sorted(fastal.select(x, k=N, exclude=path).rows) == [r for r in range(N) if r != 3]


@pytest.mark.parametrize("tool", ["prodigy", "doccano"])
def test_a_column_that_the_content_would_hide_is_refused(tmp_path, tool):
    picks = picks_of(body=["x", "y", "z"])
    with pytest.raises(ValueError, match=f"^text_column: {tool} holds 'body' as 'text', and the"):
        picks.save(tmp_path / "out.jsonl", format=tool, text_column="body")
    assert list(tmp_path.iterdir()) == []
    assert "body" in written(tmp_path, "argilla", picks, text_column="body")[0]["fields"]


@pytest.mark.parametrize("tool", TOOLS)
def test_text_that_utf_8_cannot_hold_is_named(tmp_path, tool):
    picks = picks_of(text=["a", "\udce9.png", "c"], image=["a", "\udce9.png", "c"])
    with pytest.raises(
        ValueError, match=r"pick 2 has '\\udce9.png' in column '(text|image)'; wanted"
    ):
        picks.save(tmp_path / f"out{SUFFIXES[tool]}", format=tool)


def test_a_list_of_images_is_no_file_to_exclude(tmp_path, x):
    written(tmp_path, "cvat")
    with pytest.raises(ValueError, match=r"^exclude: wanted a \.csv or .* file, got .*out\.txt"):
        fastal.select(x, 3, exclude=tmp_path / "out.txt")


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"format": "brat"}, ValueError, "^format: wanted one of prodigy, doccano, argilla, cvat"),
        ({"path": "t.csv"}, ValueError, r"^path: prodigy wants a \.jsonl file, got .*t\.csv"),
        ({"format": "argilla"}, ValueError, r"^path: argilla wants a \.json file"),
        ({"format": None, "text_column": "text"}, ValueError, "^text_column: wanted format, too"),
        ({"text_column": "a", "image_column": "b"}, ValueError, "wanted one of them, got both"),
        (
            {"format": "cvat", "text_column": "text"}, ValueError,
            "^text_column: cvat shows images; wanted image_column",
        ),
        (
            {"format": "doccano", "image_column": "image"}, ValueError,
            "^image_column: doccano shows texts; wanted text_column",
        ),
        (
            {"text_column": "review"}, ValueError,
            "^text_column: the picks have no column 'review'; wanted one of id, text, image, n",
        ),
        ({"text_column": ""}, ValueError, "^text_column: the picks have no column ''; wanted"),
        (
            {"path": "t.json", "format": "argilla", "text_column": "n"}, TypeError,
            "^text_column: pick 1 has 1 in column 'n'; wanted text$",
        ),
        ({"label_config": "c.xml"}, ValueError, "^label_config: wanted none with format='prodigy'"),
        ({"class_names": ["a"]}, ValueError, "^class_names: wanted predicted, too"),
        (
            {"predicted": [0, 1, 0], "class_names": "no,yes"}, TypeError,
            "^class_names: wanted a list of names, got 'no,yes'$",
        ),
        ({"predicted": [0, 0, 0]}, ValueError, "^class_names: wanted the names of the classes"),
        (
            {"predicted": ["a", None, "c"], "class_names": ["a", "b"]}, ValueError,
            "^predicted: 'c' is none of a, b",
        ),
        ({"predicted": ["a"]}, ValueError, "^predicted: wanted one class for each of 3 picks"),
        (
            {"predicted": [0, 3, 0], "class_names": ["a"]}, ValueError,
            "^predicted: wanted the numbers of 1 classes, got 3",
        ),
        (
            {"format": "cvat", "path": "t.txt", "predicted": ["a"] * 3}, ValueError,
            "^predicted: cvat reads a list of images without classes",
        ),
    ],
)  # fmt: skip
def test_arguments_that_do_not_fit_are_refused(tmp_path, options, error, words):
    given = {"path": "t.jsonl", "format": "prodigy", **options}
    with pytest.raises(error, match=words):
        picks_of().save(tmp_path / given.pop("path"), **given)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("tool", "column", "values", "error", "words"),
    [
        ("prodigy", "text", ["a", None, "b"], TypeError, "pick 2 has None in column 'text'"),
        ("doccano", "text", ["a", "", "b"], ValueError, "pick 2 has '' .*wanted text that is not"),
        ("argilla", "n", [1.0, 2.0, np.nan], ValueError, "pick 3 has nan in column 'n'; argilla"),
        ("cvat", "image", ["a", "b\nc", "d"], ValueError, r"pick 2 has 'b\\nc' .*on one line"),
        ("cvat", "image", ["a", "b", "c\x85"], ValueError, "pick 3 .*on one line of a list"),
        ("cvat", "image", ["a", "b", "a"], ValueError, "pick 3 has 'a' .*, as pick 1 has; wanted"),
    ],
)
def test_values_that_a_tool_cannot_hold_are_refused(tmp_path, tool, column, values, error, words):
    with pytest.raises(error, match=words):
        written(tmp_path, tool, picks_of(**{column: values}))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("to_file", [True, False])
def test_commands_write_for_a_tool(tmp_path, pool, x, tool, to_file):
    out = tmp_path / f"cli{SUFFIXES[tool]}"
    columns = ["--carry", "review,file", "--id-column", "id", "--column", "x"]
    shown = ["--image-column", "file"] if tool == "cvat" else ["--text-column", "review"]
    names = [] if tool == "cvat" else ["--class-names", "a,b,c"]
    given = [*shown, *names, *(["--out", out] if to_file else [])]
    done = run("select", pool, "--k", 9, "--format", tool, *columns, *given, "--quiet")
    assert done.exit_code == 0, done.output
    source = fastal.open_pool(pool, column="x", id_column="id", carry=["review", "file"])
    picks = fastal.select(source, 9)
    labels = {"predicted": predicted_classes(source, picks.rows), "class_names": ["a", "b", "c"]}
    column = {"image_column": "file"} if tool == "cvat" else {"text_column": "review", **labels}
    written(tmp_path, tool, picks, **column)
    want = (tmp_path / f"out{out.suffix}").read_text()
    assert (out.read_text() if to_file else done.stdout) == want


@pytest.mark.parametrize("tool", TOOLS)
def test_convert_writes_for_a_tool(tmp_path, tool):
    picks_of().save(tmp_path / "picks.parquet")
    out = tmp_path / f"converted{SUFFIXES[tool]}"
    done = run("convert", tmp_path / "picks.parquet", "--format", tool, "--out", out)
    assert (done.exit_code, done.output) == (0, "")
    written(tmp_path, tool)
    assert out.read_bytes() == (tmp_path / f"out{out.suffix}").read_bytes()
    if tool != "cvat":
        assert run("convert", out, "--out", tmp_path / "back.csv").exit_code == 0
        assert Picks.load(tmp_path / "back.csv").rows.tolist() == [5, 0, 2**40]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            ["--format", "cvat", "--image-column", "review", "--out", "t.csv"],
            "--out: wanted a .txt file, got t.csv",
        ),
        (["--format", "cvat"], "--image-column: the picks have no column 'image'"),
        (["--format", "prodigy", "--text-column", "text"], "wanted one of review, or carry with"),
        (["--text-column", "review"], "--text-column: wanted --format, too"),
        (
            ["--format", "cvat", "--image-column", "review", "--class-names", "a,b,c"],
            "--class-names: cvat reads a list of images without classes",
        ),
        (
            ["--format", "doccano", "--text-column", "review", "--class-names", "a,b"],
            "--class-names: wanted one name for each of 3 classes, in their order, got 2",
        ),
        (
            ["--format", "doccano", "--text-column", "review", "--label-config", "c.xml"],
            "--label-config: wanted none with --format doccano",
        ),
        (["--class-names", "a,b,c"], "--class-names: wanted --label-config, or --format, too"),
    ],
)
def test_commands_refuse_before_the_pool_is_read(tmp_path, pool, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fastal.commands.command.CommandRun.run", lambda *_, **__: 1 / 0)
    refused(run("select", pool, "--column", "x", "--k", 2, "--carry", "review", *options), words)
    assert [path.name for path in tmp_path.iterdir()] == ["pool.parquet"]


@pytest.mark.parametrize(
    "command",
    [
        ("core-set", "--k", 4), ("cluster", "--clusters", 3),
        ("combine", "diverse", "--k", 4, "--embeddings", "x.npy"),
    ],
)  # fmt: skip
def test_other_commands_write_for_a_tool(tmp_path, pool, x, command, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", x)
    done = run(*command, pool, "--column", "x", "--carry", "file", "--format", "cvat",
               "--image-column", "file", "--quiet")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert all(line.startswith("i/") for line in done.stdout.split())
