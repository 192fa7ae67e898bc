"""`write_report`: what is recognised, what is on the page, what is an error."""

import json
import os
import re

import numpy as np
import pytest

import fastal
from fastal.report import write_report
from fastal.report.page.inputs import inputs_of
from fastal.report.page.named_picks import NamedPicks

RNG = np.random.default_rng(0)
LOGITS = RNG.standard_normal((300, 3)).astype(np.float32)
CURVES = fastal.Simulation(
    ("margin", "random"), (0, 1), np.array([10, 20, 30]), RNG.random((2, 2, 3)), "accuracy"
)


def headings(path):
    return re.findall("<h2>(.*?)</h2>", path.read_text())


def data_of(path):
    held = re.search(r'id="picks-data">(.*?)</script>', path.read_text(), re.DOTALL)[1]
    return json.loads(held)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "report.html"


def test_the_sections_are_those_that_have_data(out):
    picks = fastal.select(LOGITS, 20)
    write_report(picks, out)
    assert headings(out) == ["The run", "Picks", "How this page was made"]
    assert "give predictions (--pool, in Python pool=)" in out.read_text()
    write_report([picks, CURVES], out, pool=LOGITS, embeddings=RNG.random((300, 5)))
    want = ["The run", "Scores", "Probabilities", "Embeddings", "Learning curves", "Picks"]
    assert headings(out) == [*want, "How this page was made"]
    assert "What is not on this page" not in out.read_text()
    assert "lowest pick" in out.read_text()
    write_report(CURVES, out)
    assert headings(out) == ["Learning curves", "How this page was made"]
    assert data_of(out) is None


def test_pools_of_two_and_of_many_classes(out):
    picks = fastal.select(LOGITS[:, :2], 5)
    write_report(picks, out, pool=LOGITS[:, :2])
    assert "Probabilities" not in headings(out)
    many = RNG.standard_normal((300, 12))
    write_report(fastal.select(many, 5), out, pool=many)
    assert "second largest probability" in out.read_text()


def test_the_numbers_of_the_summary_are_on_the_page(out):
    write_report(CURVES, out)
    for of in CURVES.summary():
        assert f"<td>{of.final}</td>" in out.read_text()
    assert f"<td>{CURVES.summary()[0].area_gain}</td>" in out.read_text()


def test_of_many_strategies_each_chart_has_eight_and_random(out):
    names = ("s0", "random", *(f"s{i}" for i in range(1, 15)))
    scores = RNG.random((16, 2, 3))
    write_report(fastal.Simulation(names, (0, 1), np.array([10, 20, 30]), scores, "accuracy"), out)
    page = out.read_text()
    figures = re.findall("<figure>(.*?)</figure>", page, re.DOTALL)
    assert [re.findall("<h4>(.*?)</h4>", of) for of in figures] == [
        ["Chart 1 of 3"], ["Chart 2 of 3"], ["Chart 3 of 3"],
    ]  # fmt: skip
    shown = [re.findall("</svg> (.*?)</li>", of) for of in figures]
    assert all(of[0] == "random" and len(of) <= 8 for of in shown)
    assert [name for of in shown for name in of[1:]] == [f"s{i}" for i in range(15)]
    for of, legend in zip(figures, shown, strict=True):
        lines = re.findall(r'"line (s\d)" d="(.*?)"', of)
        assert [line for line, _ in lines] == [f"s{i}" for i in range(len(legend))]
    of_random = {re.search(r'"line s0" d="(.*?)"', of)[1] for of in figures}
    assert len(of_random) == 1, "the axes differ"
    assert page.count('<th scope="row">') == 16
    assert "Each chart has random rows" in page


def test_eight_strategies_are_one_chart_and_nine_without_random_are_two(out):
    for n, wanted in ((8, [8]), (9, [5, 4]), (17, [6, 6, 5])):
        names, scores = tuple(f"s{i}" for i in range(n)), RNG.random((n, 1, 2))
        write_report(fastal.Simulation(names, (0,), np.array([1, 2]), scores, "accuracy"), out)
        figures = re.findall("<figure>(.*?)</figure>", out.read_text(), re.DOTALL)
        assert [len(re.findall("<li>", of)) for of in figures] == wanted
        assert "random" not in out.read_text()
        assert "There is one seed, so there are no intervals." in out.read_text()


@pytest.mark.parametrize("value", [0.5, 1e17, -1e17])
def test_a_curve_may_be_flat(out, value):
    scores = np.full((1, 2, 2), value)
    write_report(fastal.Simulation(("a",), (0, 1), np.array([1, 2]), scores, "loss"), out)
    assert "nan" not in out.read_text()


@pytest.mark.parametrize(
    ("n_rounds", "value", "message"),
    [
        (1, 0.5, "simulation: wanted the scores of two or more rounds, got 1"),
        (2, np.nan, "wanted scores from -1e\\+150 to 1e\\+150, got nan for b, seed 7, round 1"),
        (2, -1e300, "simulation: wanted scores from .* got -1e\\+300 for b, seed 7, round 1"),
    ],
)
def test_curves_that_cannot_be_drawn_are_an_error(out, n_rounds, value, message):
    scores = np.full((2, 1, n_rounds), 0.5)
    scores[1, 0, -1] = value
    labels = np.arange(1, n_rounds + 1)
    with pytest.raises(ValueError, match=message):
        write_report(fastal.Simulation(("a", "b"), (7,), labels, scores, "accuracy"), out)


def test_a_run_without_picks_is_shown(out):
    none = fastal.Picks([], [])
    write_report(none, out, pool=LOGITS, embeddings=LOGITS)
    assert data_of(out)["rows"] == []
    assert "<td>0</td>" in out.read_text()


def test_scores_of_picks_may_be_infinite(out):
    write_report(fastal.Picks([2, 1], [np.inf, 0.5]), out, pool=LOGITS)
    assert "<td>0.5 to inf</td>" in out.read_text()
    assert [row[2] for row in data_of(out)["rows"]] == ["Infinity", 0.5]


def test_no_picks_are_not_picks_of_another_pool(out, caplog):
    write_report(fastal.Picks([], [], strategy="margin"), out, pool=LOGITS)
    assert not caplog.records


def test_the_arguments_of_a_score_are_facts(tmp_path, out):
    fastal.select(LOGITS, 5).save(tmp_path / "picks.csv")
    by = {"name": "margin", "temperature": 3.0}
    record = {**RECORD, "arguments": {"by": by, "kind": "logits"}}
    (tmp_path / "picks.run.json").write_text(json.dumps(record))
    write_report(tmp_path, out)
    assert "<td>kind logits, temperature 3.0</td>" in out.read_text()
    assert "<td>margin</td>" in out.read_text()


@pytest.mark.parametrize(
    ("record", "strategy"),
    [
        (
            {"command": "clustered_uncertainty", "arguments": {"by": "margin"}},
            "clustered_uncertainty",
        ),
        ({"command": "select", "arguments": {"by": "margin"}}, "margin"),
        ({"command": "select", "arguments": {"by": {"name": "random", "seed": 0}}}, "random"),
        (
            {"command": "select", "arguments": {"by": {"name": ["margin"], "draws_axis": 1}}},
            "margin of draws",
        ),
        (
            {"command": "select", "arguments": {"by": {"name": ["margin"], "aggregate": "max"}}},
            "margin, max of items",
        ),
        ({"command": "select", "arguments": {"by": ["margin", "ratio"]}}, "select"),
        ({}, "outliers"),
    ],
)
def test_only_select_is_named_by_its_score(record, strategy):
    picks = fastal.Picks([1], [0.5], strategy="outliers")
    assert NamedPicks("a", picks, record).strategy == strategy


@pytest.mark.parametrize("by", [None, "entropy"])
def test_the_triangle_is_of_the_score_of_the_picks_unless_another_is_named(out, by):
    write_report(fastal.select(LOGITS, 5, by="ratio"), out, pool=LOGITS, by=by)
    assert f"The {by or 'ratio'} of every prediction" in out.read_text()
    with pytest.raises(ValueError, match=r"by: it is for the map of three classes.* got no pool"):
        write_report(CURVES, out, by="margin")


def test_picks_of_another_pool_are_a_warning(out, caplog):
    picks = fastal.select(LOGITS, 20)
    write_report(picks, out, pool=LOGITS)
    assert not caplog.records
    write_report(picks, out, pool=LOGITS[::-1].copy())
    assert "margin: its scores are not margin of this pool" in caplog.text
    assert "<h3>Warnings</h3>" in out.read_text()
    assert "lowest pick" not in out.read_text()


def test_several_picks_are_series_and_a_column(out):
    picks = [fastal.select(LOGITS, 5, by=by) for by in ("margin", "entropy", "margin")]
    write_report(picks, out, embeddings=RNG.random((300, 4)))
    table = data_of(out)
    assert [row[0] for row in table["rows"]] == [
        *["margin"] * 5, *["entropy"] * 5, *["margin (2)"] * 5,
    ]  # fmt: skip
    assert table["columns"][0] == {"name": "picks", "kind": "text"}
    assert "row " in out.read_text() and "margin (2)</li>" in out.read_text()


def test_of_many_picks_each_series_has_the_same_number_of_markers(out):
    n = 3000
    x = RNG.random((n, 2))
    x[1] = np.nan
    every = fastal.Picks(np.arange(n), np.zeros(n, np.float32))
    write_report(every, out, embeddings=x)
    assert "Only the first 1,000 picks are marked." in out.read_text()
    assert out.read_text().count("<title>row ") == 999
    write_report([every, every[:1000]], out, embeddings=x)
    assert "Only the first 500 picks of each series are marked." in out.read_text()
    assert out.read_text().count(", picks</title>") == 499
    assert out.read_text().count(", picks (2)</title>") == 499
    write_report(every[:1000], out, embeddings=x)
    assert "are marked" not in out.read_text()


def test_groups_are_series_and_rare_ones_share_one(out):
    groups = np.array([f"g{i % 3}" for i in range(30)] + [f"rare{i}" for i in range(10)], object)
    picks = fastal.Picks(np.arange(40), np.zeros(40, np.float32), groups=groups)
    write_report(picks, out, embeddings=RNG.random((300, 4)))
    names = re.findall(r"</svg> (.*?)</li>", out.read_text())
    assert len(names) == 8
    assert names[:3] == ["group g0", "group g1", "group g2"]
    assert names[-1] == "other groups"


def test_the_table_keeps_digits_and_knows_numbers(out):
    columns = {
        "n": np.array([2**60 + 1, 3, None], object),
        "text": np.array(["</script><!--", "b\u2028", "\ud800"], object),
        "x": np.array([0.1, np.nan, np.inf], object),
        "flag": np.array([True, False, True], object),
    }
    picks = fastal.Picks([7, 8, 9], [0.95, 0.5, 0.25], ids=["007", "1", "2"], columns=columns)
    write_report(picks, out)
    assert out.read_text().count("</script>") == 2
    table = data_of(out)
    kinds = {column["name"]: column["kind"] for column in table["columns"]}
    assert kinds == {
        "rank": "number", "row": "number", "score": "number", "id": "text", "n": "number",
        "text": "text", "x": "number", "flag": "text",
    }  # fmt: skip
    assert table["rows"][0] == [1, 7, 0.95, "007", str(2**60 + 1), "</script><!--", 0.1, True]
    assert [row[4:7:2] for row in table["rows"][1:]] == [[3, "NaN"], [None, "Infinity"]]


def test_more_picks_than_a_browser_can_show_are_cut_with_a_note(out):
    picks = fastal.Picks(np.arange(10_005), np.zeros(10_005, np.float32))
    write_report(picks, out)
    table = data_of(out)
    assert (len(table["rows"]), table["total"]) == (10_000, 10_005)
    assert "the first 10,000 of 10,005 picks" in out.read_text()


def test_images_are_embedded_referred_to_or_missing(tmp_path):
    (tmp_path / "pages").mkdir()
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "small.png").write_bytes(b"png")
    (folder / "large #1.jpg").write_bytes(bytes(300_000))
    images = ["small.png", "large #1.jpg", "gone.gif", "https://example.org/a.webp?x=1", None]
    columns = {"image": np.array(images, object), "code": np.array([*"abcd", "javascript:x.png"])}
    picks = fastal.Picks(np.arange(5), np.zeros(5, np.float32), columns=columns)
    picks.save(folder / "picks.csv")
    out = tmp_path / "pages" / "report.html"
    write_report(folder / "picks.csv", out)
    table = data_of(out)
    assert [column["kind"] for column in table["columns"]][3:] == ["image", "text"]
    assert [row[3] for row in table["rows"]] == [
        "data:image/png;base64,cG5n", "../images/large%20%231.jpg", "gone.gif",
        "https://example.org/a.webp?x=1", "",
    ]  # fmt: skip
    for note in ("1 images are too large", "1 images are loaded", "1 images were not found"):
        assert note in out.read_text()


def test_a_file_that_has_no_type_of_an_image_is_referred_to(tmp_path, out):
    (tmp_path / "a.png#2").write_bytes(b"png")
    (tmp_path / "B.PNG").write_bytes(b"png")
    images = ["a.png#2", "B.PNG", "long" * 100 + ".png"]
    picks = fastal.Picks([0, 1, 2], [0.5, 0.4, 0.3], columns={"image": np.array(images, object)})
    picks.save(tmp_path / "picks.csv")
    write_report(tmp_path / "picks.csv", out)
    assert [row[3] for row in data_of(out)["rows"]] == [
        "a.png%232", "data:image/png;base64,cG5n", images[2],
    ]  # fmt: skip
    assert "1 images were not found" in out.read_text()


RECORD = {
    "command": "select", "arguments": {"by": "margin"}, "out": "picks.csv", "invalid": 2,
    "rows": 300, "pool": [{"file": "logits.npy"}], "backend": None, "versions": {"fastal": "1"},
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("command", 3), ("invalid", "many"), ("invalid", None), ("rows", "x"), ("rows", 1.5),
        ("pool", 5), ("pool", ["a"]), ("pool", [{}]), ("backend", []), ("versions", "1"),
        ("versions", None), ("invalid", float("inf")),
    ],
)  # fmt: skip
def test_a_damaged_record_is_not_used_and_a_warning_names_it(tmp_path, out, caplog, name, value):
    fastal.select(LOGITS, 5).save(tmp_path / "picks.csv")
    (tmp_path / "picks.run.json").write_text(json.dumps(RECORD))
    write_report(tmp_path, out)
    assert "<td>logits.npy</td>" in out.read_text()
    assert not caplog.records
    (tmp_path / "picks.run.json").write_text(json.dumps({**RECORD, name: value}))
    write_report(tmp_path, out)
    assert f"picks.run.json: damaged, {name} " in caplog.text
    assert "; the record is not used" in caplog.text
    assert "<td>logits.npy</td>" not in out.read_text()
    assert "the record is not used</li>" in out.read_text()


@pytest.mark.parametrize("text", ['{"command": "sel', "[" * 100_000])
def test_a_record_that_is_no_json_is_not_used(tmp_path, out, caplog, text):
    fastal.select(LOGITS, 5).save(tmp_path / "picks.csv")
    (tmp_path / "picks.run.json").write_text(text)
    write_report(tmp_path, out)
    assert "picks.run.json: wanted the record of a run as JSON" in caplog.text


@pytest.mark.parametrize("text", ["[]", "{}", '{"arguments": {}, "out": "other.csv", "rows": "x"}'])
def test_a_record_of_something_else_is_not_used(tmp_path, out, text):
    fastal.select(LOGITS, 5).save(tmp_path / "picks.csv")
    (tmp_path / "picks.run.json").write_text(text)
    write_report(tmp_path, out)
    assert "rows read" not in out.read_text()


def test_data_uris_count_as_images_of_the_page(tmp_path, out):
    images = ["data:image/png;base64," + "A" * n for n in (4, 300_000)]
    picks = fastal.Picks([0, 1], [0.5, 0.4], columns={"image": np.array(images, object)})
    write_report(picks, out)
    assert [row[3] for row in data_of(out)["rows"]] == [images[0], ""]
    assert "1 images are data URIs that are too large" in out.read_text()


def test_a_column_named_picks_is_kept_beside_the_names_of_the_files(out):
    picks = fastal.Picks([0], [0.5], strategy="a", columns={"picks": np.array(["mine"], object)})
    write_report([picks, picks], out)
    assert data_of(out)["columns"][0]["name"] == "picks (2)"
    assert [row[0] for row in data_of(out)["rows"]] == ["a", "a (2)"]
    assert [row[-1] for row in data_of(out)["rows"]] == ["mine", "mine"]


@pytest.mark.parametrize("target", ["picks.csv", "picks.run.json", "pool.npy", "x.npy"])
@pytest.mark.parametrize("link", ["symlink_to", "hardlink_to"])
def test_the_page_does_not_replace_a_file_that_is_read(tmp_path, target, link):
    fastal.select(LOGITS, 5).save(tmp_path / "picks.csv")
    np.save(tmp_path / "pool.npy", LOGITS)
    np.save(tmp_path / "x.npy", LOGITS)
    (tmp_path / "picks.run.json").write_text("{}")
    before = (tmp_path / target).read_bytes()
    page = tmp_path / "report.html"
    getattr(page, link)(tmp_path / target)
    for run in (tmp_path, tmp_path / "picks.csv"):
        with pytest.raises(ValueError, match=r"out: .*report\.html is "):
            write_report(run, page, pool=tmp_path / "pool.npy", embeddings=tmp_path / "x.npy")
    assert (tmp_path / target).read_bytes() == before


def test_an_older_page_in_the_folder_is_replaced(tmp_path, out):
    fastal.select(LOGITS, 5).save(tmp_path / "picks.csv")
    assert write_report(tmp_path, out) == write_report(tmp_path, out)


def test_only_regular_files_are_read(tmp_path, out):
    os.mkfifo(tmp_path / "pipe.csv")
    fastal.select(LOGITS, 5).save(tmp_path / "picks.csv")
    assert f"left out {tmp_path / 'pipe.csv'}: not a regular file" in write_report(tmp_path, out)


def test_long_fields_are_read(tmp_path, out):
    long = "x" * 200_000
    texts = np.array([long] * 5, object)
    picks = fastal.select(LOGITS, 5)
    fastal.Picks(picks.rows, picks.scores, columns={"text": texts}).save(tmp_path / "picks.csv")
    scores = "".join(f"{row},{long},0.5\n" for row in range(300))
    (tmp_path / "scores.csv").write_text(f"row,id,margin\n{scores}")
    write_report(tmp_path, out)
    assert "Scores" in headings(out)
    assert data_of(out)["rows"][0][3] == long


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("s.csv", b"row,a\n0,1\n1,\xff\n", "s.csv: not a table: after line 0: "),
        ("s.csv", b"row,a\n0,1\n1,x\n", "s.csv line 3: wanted a row number and scores"),
        ("s.csv", b"row,a\n0,1\n1\n", "s.csv line 3: wanted 2 fields, got 1"),
        ("s.csv", b"row,a\n0,1\n-1,2\n", "s.csv line 3: -1 is no row number"),
        ("s.csv", b"row,a\n0,1\n%d,2\n" % 2**63, f"s.csv line 3: {2**63} is no row number"),
        ("p.csv", b"rank,row,score\n1,-1,0.5\n", "p.csv: .* pick 1: row is '-1', which is no row"),
        ("p.jsonl", b'{"row": 1.7, "score": 1}\n', "p.jsonl: .* pick 1: row is 1.7, which is no"),
        ("z.npy", b"", "z.npy: not a .npy file"),
        ("z.npy", b"PK\x03\x04", "z.npy: not a .npy file"),
    ],
)
def test_a_damaged_file_is_an_error_that_names_it(tmp_path, out, name, text, message):
    (tmp_path / name).write_bytes(text)
    with pytest.raises(ValueError, match=message):
        write_report(tmp_path / name, out)


def test_bytes_that_are_no_text_late_in_a_file_are_an_error_with_its_name(tmp_path, out):
    path = tmp_path / "s.csv"
    path.write_bytes(b"row,a\n" + b"0,1\n" * 50_000 + b"\xff,1\n")
    with pytest.raises(ValueError, match=r"s\.csv after line \d+: .*can't decode"):
        write_report(path, out)


def test_a_folder_with_one_file_says_what_it_lacks(tmp_path, out):
    (tmp_path / "picks.csv").write_text("rank,row,score\n")
    with pytest.raises(
        ValueError, match=r"none of its files is recognised: .*picks\.csv: no picks"
    ):
        write_report(tmp_path, out)


def test_a_folder_is_recognised_by_what_its_files_hold(tmp_path, out):
    picks = fastal.select(LOGITS, 5)
    for suffix in (".csv", ".jsonl", ".json", ".parquet"):
        picks.save(tmp_path / f"p{suffix[1:]}{suffix}")
    CURVES.save(tmp_path / "x.csv")
    np.save(tmp_path / "s.npy", np.array([(0.5,)] * 300, [("margin", "f4")]))
    np.save(tmp_path / "logits.npy", LOGITS)
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n")
    (tmp_path / "names.csv").write_text("row,label\n1,cat\n")
    (tmp_path / "issues.csv").write_text("rank,row,label,self_confidence\n1,1,2,0.5\n")
    (tmp_path / "notes.txt").write_text("row,score\n")
    (tmp_path / "other.json").write_text("{}")
    (tmp_path / "sub").mkdir()
    out.write_text("an older page")
    found = inputs_of(tmp_path, out)
    assert [of.name for of in found.picks] == ["pcsv", "pjson", "pjsonl", "pparquet"]
    assert all(of.rows.tolist() == picks.rows.tolist() for of in found.picks)
    assert [*found.simulations] == ["x.csv"]
    assert found.simulations["x.csv"].scores.tolist() == CURVES.scores.tolist()
    assert [*found.score_files] == ["s.npy"]
    left_out = [line.partition(":")[0].rpartition("/")[2] for line in found.left_out]
    assert left_out == [
        "issues.csv", "logits.npy", "names.csv", "notes.txt", "other.json", "rows.csv", "sub",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("run", "options", "message"),
    [
        ([], {}, "run: wanted picks, scores or curves, got an empty list"),
        ("", {}, "run: wanted a folder or a file, got an empty path"),
        ("p.csv", {"kind": "probs"}, "kind and temperature: they are for the pool"),
        ("p.csv", {"temperature": 2.0}, "kind and temperature: they are for the pool"),
        ("p.csv", {"title": 5}, "title: wanted a text, got int"),
        ("p.csv", {"embeddings": np.diag([1e200] * 300)}, "embeddings: wanted values below 1e"),
        (None, {}, "run: wanted a folder, a file, Picks or a Simulation, got NoneType"),
        ("nothing", {}, "nothing: wanted a folder with picks, scores or learning curves"),
        ("x.npy", {}, "x.npy: not scores"),
        (
            "bad.csv",
            {},
            r"bad.csv: wanted picks, with row and score: pick 1: score is 'much', no number",
        ),
        ("p.csv", {"by": "bald"}, "by: wanted"),
        ("p.csv", {"pool": LOGITS, "kind": "multilabel_logits"}, "kind: wanted"),
        ("p.csv", {"pool": LOGITS[:5]}, "row .* is picked, and the pool has 5 rows"),
        ("p.csv", {"embeddings": LOGITS[:5]}, "row .* is picked, and the embeddings have 5 rows"),
        (
            "p.csv",
            {"pool": LOGITS, "embeddings": np.zeros((301, 2))},
            "embeddings: wanted 300 rows, as the pool has, got 301",
        ),
        ("p.csv", {"embeddings": np.zeros(300)}, "embeddings"),
    ],
)
def test_what_cannot_be_shown_is_an_error(tmp_path, monkeypatch, out, run, options, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nothing").mkdir()
    np.save("x.npy", LOGITS)
    (tmp_path / "bad.csv").write_text("row,score\n1,much\n")
    fastal.select(LOGITS, 50).save("p.csv")
    with pytest.raises((ValueError, TypeError), match=message):
        write_report(run, out, **options)
    assert not out.exists()


def test_the_page_is_an_html_file(tmp_path):
    with pytest.raises(ValueError, match=r"out: wanted a \.html file, got .*report\.pdf"):
        write_report(CURVES, tmp_path / "report.pdf")
