"""Files of picks: what is written is read back, in every format."""

import csv
import json

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from fastal.cli import main
from fastal.output.atomic import written_whole
from fastal.picks.files import read_picks, read_rows, write_picks
from fastal.picks.picks import Picks
from fastal.sources import labels


def run(*arguments):
    return CliRunner().invoke(main, list(map(str, arguments)))


TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


@settings(max_examples=60, deadline=None)
@given(
    st.one_of(
        st.lists(TEXTS, min_size=1, max_size=5),
        st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=5),
        st.lists(st.integers(0, 2**64 - 1) | st.none(), min_size=1, max_size=5),
        st.lists(TEXTS | st.none(), min_size=1, max_size=5),
    ),
    st.sampled_from([".csv", ".jsonl", ".parquet", ".json"]),
)
def test_any_ids_round_trip(tmp_path_factory, ids, suffix):
    path = tmp_path_factory.getbasetemp() / f"picks{suffix}"
    values = np.empty(len(ids), object)
    values[:] = ids
    scores = np.linspace(0, 1, len(ids), dtype=np.float32)
    with written_whole(path) as file:
        write_picks(file, Picks(np.arange(len(ids)), scores, values), suffix)
    picks = read_picks(path)
    found = picks.ids.tolist()
    if suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as file:
            assert [line["id"] or None for line in csv.DictReader(file)] == found
        ids = [None if value is None else str(value) or None for value in ids]
    if suffix == ".json" and any(type(value) is int and abs(value) > 2**53 for value in ids):
        ids = [value if value is None else str(value) for value in ids]
    assert found == ids
    assert picks.scores.tolist() == scores.tolist()


def test_integers_beyond_64_bits_are_text_in_parquet(tmp_path):
    ids = np.array([-1, 2**64 - 1], object)
    with written_whole(tmp_path / "picks.parquet") as file:
        write_picks(file, Picks(np.arange(2), np.ones(2, np.float32), ids), ".parquet")
    assert read_picks(tmp_path / "picks.parquet").ids.tolist() == ["-1", str(2**64 - 1)]
    assert labels.as_integers([-1, 2**64 - 1]) is None
    assert labels.as_integers([0, "1"]) is None


@pytest.mark.parametrize(
    "line", ['{"row": 0, "score": 1, "id": [1]}', '{"row": 0, "score": 1, "id": 1.5}']
)
def test_picks_with_ids_that_are_neither_integers_nor_text_are_refused(tmp_path, line):
    (tmp_path / "a.jsonl").write_text(line)
    done = run("convert", tmp_path / "a.jsonl", "--out", tmp_path / "o.csv")
    assert (done.exit_code, "neither an integer nor text" in done.stderr) == (2, True)


@pytest.mark.parametrize("score", [np.inf, -np.inf])
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet", ".json"])
def test_infinite_scores_round_trip(tmp_path, suffix, score):
    path = tmp_path / f"picks{suffix}"
    with written_whole(path) as file:
        write_picks(file, Picks(np.arange(1), np.array([score], np.float32)), suffix)
    if "json" in suffix:
        json.loads(path.read_text().splitlines()[-1 if suffix == ".jsonl" else 1],
                   parse_constant=lambda _: pytest.fail("no JSON"))  # fmt: skip
    assert read_picks(path).scores.tolist() == [score]


SUFFIXES = [".csv", ".jsonl", ".parquet", ".json"]
VALUES = {
    "text": TEXTS | st.none(),
    "integers": st.integers(-(2**53), 2**53),
    "floats": st.floats(allow_nan=False, allow_infinity=False),
    "bools": st.booleans(),
    "integers or None": st.integers(0, 2**53) | st.none(),
}


@settings(max_examples=100, deadline=None)
@given(st.data(), st.sampled_from([*VALUES]), st.sampled_from(SUFFIXES))
def test_any_carried_values_round_trip(tmp_path_factory, data, kind, suffix):
    values = data.draw(st.lists(VALUES[kind], min_size=1, max_size=5))
    name = data.draw(TEXTS.filter(lambda name: name not in RESERVED))
    picks = Picks(np.arange(len(values)), np.ones(len(values), np.float32), columns={name: values})
    picks.save(path := tmp_path_factory.getbasetemp() / f"carried{suffix}")
    found = Picks.load(path)
    assert [*found.columns] == [name]
    if suffix == ".csv":
        values = ["" if value is None else str(value) for value in values]
    assert found[name].tolist() == values
    assert list(map(type, found[name].tolist())) == list(map(type, values))
    assert found.rows.tolist() == picks.rows.tolist()


RESERVED = ["rank", "row", "score", "id", "group", "cluster", "role", "fastal_rank", "fastal_score"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_floats_keep_the_fewest_digits_of_their_type(tmp_path, suffix):
    columns = {"a": np.array([0.1], np.float32), "b": np.array([0.1])}
    Picks(np.arange(1), np.array([0.1], np.float32), columns=columns).save(tmp_path / f"p{suffix}")
    found = Picks.load(tmp_path / f"p{suffix}")
    want = np.float32(0.1) if suffix == ".parquet" else 0.1  # Parquet has a type for it
    assert [float(found[name][0]) for name in "ab"] == [want, 0.1]


def test_a_nested_value_in_a_file_of_picks_is_refused(tmp_path):
    (tmp_path / "p.jsonl").write_text('{"row": 0, "score": 1, "box": [1, 2]}')
    with pytest.raises(ValueError, match=r"p.jsonl: wanted picks.*box is \[1, 2\], no plain value"):
        Picks.load(tmp_path / "p.jsonl")


@pytest.mark.parametrize("row", ["1.7", "true", "-1", '"much"', "null", "1e999", str(2**63)])
@pytest.mark.parametrize("read", [read_picks, read_rows])
def test_a_row_number_that_is_none_is_refused_with_the_place_of_the_pick(tmp_path, row, read):
    path = tmp_path / "p.jsonl"
    path.write_text(f'{{"row": 0, "score": 1}}\n{{"row": {row}, "score": 1}}\n')
    with pytest.raises(
        ValueError, match=r"p\.jsonl: wanted .*: pick 2: row is .*, which is no row"
    ):
        read(path)


@pytest.mark.parametrize("call", [lambda path: Picks([], []).save(path), Picks.load])
def test_other_suffixes_are_refused(tmp_path, call):
    with pytest.raises(ValueError, match=r"^path: wanted a .csv or .* file, got .*p\.txt$"):
        call(tmp_path / "p.txt")


def test_a_file_that_cannot_be_written_whole_stays_as_it_was(tmp_path):
    (tmp_path / "p.jsonl").write_text("before")
    picks = Picks(np.arange(1), np.ones(1, np.float32), columns={"x": np.array([1j])})
    with pytest.raises(TypeError, match="complex"):
        picks.save(tmp_path / "p.jsonl")
    assert [path.name for path in tmp_path.iterdir()] == ["p.jsonl"]
    assert (tmp_path / "p.jsonl").read_text() == "before"


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".json"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_file_may_begin_with_the_mark_and_have_the_line_ends_of_windows(
    tmp_path, suffix, mark, end
):
    path = tmp_path / f"p{suffix}"
    Picks([4, 2], [0.5, 0.25], columns={"text": ["a\u2028b", "c\x85"]}).save(path)
    path.write_bytes((mark + path.read_bytes().decode().replace("\n", end)).encode())
    found = read_picks(path)
    assert (found.rows.tolist(), found["text"].tolist()) == ([4, 2], ["a\u2028b", "c\x85"])


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("p.json", "{}", "it holds no list"),
        ("p.json", '{"row": 1, "score": 2}', "it holds no list"),
        ("p.json", "5", "it holds no list"),
        ("p.json", '["row"]', 'it has "row", which is no JSON object'),
        ("p.jsonl", '{"row": 1, "score": 2}\n[1]', r"it has \[1\], which is no JSON object"),
        ("p.jsonl", "null", "it has null, which is no JSON object"),
    ],
)
@pytest.mark.parametrize("read", [read_picks, read_rows])
def test_json_that_is_no_list_of_objects_is_refused(tmp_path, name, text, words, read):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=f"{name}: wanted .*: {words}$"):
        read(tmp_path / name)
