"""`exclude` and `among` as picks and as files of picks: by id, or by row."""

import json
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import fastal
from fastal import diversity
from fastal.cli import main
from fastal.picks.files import write_picks
from tests.support.commands import run_process

N = 60


def run(*arguments):
    return CliRunner().invoke(main, list(map(str, arguments)))


X = np.random.default_rng(0).standard_normal((N, 3)).astype(np.float32)
select = partial(fastal.select, by="margin")
ORDER = np.argsort(-fastal.score(X).margin, kind="stable")


def pool_with_ids(folder, ids, column="id"):
    folder.mkdir(exist_ok=True)
    for number, part in enumerate(np.array_split(np.arange(N), 3)):
        columns = {"logits": X[part].tolist(), column: [ids[row] for row in part]}
        pq.write_table(pa.table(columns), folder / f"{number}.parquet")
    return fastal.open_pool(folder, column="logits", id_column=column)


def file_of(path, picks):
    with path.open("wb") as file:
        write_picks(file, picks, path.suffix)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet", ".json"])
@pytest.mark.parametrize("ids", ["text", "integers", "large"])
def test_the_second_round_leaves_the_first_out(tmp_path, suffix, ids):
    """By id: the pool of the second round has its rows in another order."""
    names = {
        "text": [f"doc {row}" for row in range(N)],
        "integers": list(range(100, 100 + N)),
        "large": [2**60 + row for row in range(N)],
    }[ids]
    first = select(pool_with_ids(tmp_path / "a", names), 10)
    path = file_of(tmp_path / f"picks{suffix}", first)
    order = np.random.default_rng(1).permutation(N)
    folder = tmp_path / "b"
    folder.mkdir()
    table = pa.table({"logits": X[order].tolist(), "id": [names[row] for row in order]})
    pq.write_table(table, folder / "x.parquet")
    pool = fastal.open_pool(folder, column="logits", id_column="id")
    for given in (path, str(path), first, [path, first]):
        second = select(pool, 10, exclude=given)
        assert list(second.ids) == [names[row] for row in ORDER[10:20]]
        again = select(pool, 99, among=given)
        assert list(again.ids) == list(first.ids)


def test_by_row_where_one_of_them_has_no_ids(tmp_path):
    np.save(tmp_path / "x.npy", X)
    with_ids = select(pool_with_ids(tmp_path / "a", list("abcdef" * 10)), 5)
    without = select(X, 5)
    for pool in (X, tmp_path / "x.npy", pool_with_ids(tmp_path / "a", list(range(N)))):
        found = select(pool, 5, exclude=without)
        assert found.rows.tolist() == ORDER[5:10].tolist()
    assert select(X, 5, exclude=with_ids).rows.tolist() == ORDER[5:10].tolist()


def test_picks_without_an_id_are_matched_by_row(tmp_path):
    pool = pool_with_ids(tmp_path / "a", [f"doc {row}" for row in range(N)])
    both = select(X, 3) + select(pool, 6, exclude=select(X, 3))
    assert [one is None for one in both.ids] == [True] * 3 + [False] * 6
    assert select(pool, 5, exclude=both).rows.tolist() == ORDER[9:14].tolist()


def test_what_label_studio_exports(tmp_path):
    first = select(X, 6)
    tasks = json.loads(file_of(tmp_path / "tasks.json", first).read_text())
    exported = [
        {"id": 7 + number, "annotations": [{"result": []}], "data": task["data"], "project": 3}
        for number, task in enumerate(tasks[:4])  # two of the tasks are not annotated yet
    ]
    (tmp_path / "export.json").write_text(json.dumps(exported))
    found = select(X, 6, exclude=tmp_path / "export.json")
    assert found.rows.tolist() == ORDER[4:10].tolist()


def test_ids_that_are_not_in_the_pool(tmp_path, caplog):
    pool = pool_with_ids(tmp_path / "a", [f"{row}" for row in range(N)])
    given = fastal.Picks(np.arange(3), np.zeros(3, np.float32), np.array(["1", "x", "y"], object))
    found = select(pool, N, exclude=given)
    assert sorted(found.rows.tolist()) == [row for row in range(N) if row != 1]
    assert "exclude: 2 of 3 ids are not in the pool, the first is 'x'" in caplog.messages
    with pytest.raises(ValueError, match="among: the id 'x' is not in the pool"):
        select(pool, 3, among=given)


def test_ids_of_another_type_and_ids_that_are_there_twice(tmp_path):
    pool = pool_with_ids(tmp_path / "a", [f"{row % 50}" for row in range(N)])
    scores = np.zeros(2, np.float32)
    with pytest.raises(TypeError, match="exclude: the ids are int, those of the pool str"):
        select(pool, 3, exclude=fastal.Picks(np.arange(2), scores, np.array([1, 2])))
    given = fastal.Picks(np.arange(2), scores, np.array(["7", "20"], object))
    with pytest.raises(ValueError, match="exclude: the id '7' is in the pool twice: rows 7 and 57"):
        select(pool, 3, exclude=given)


@pytest.mark.parametrize(
    ("name", "content", "error", "words"),
    [
        ("picks.txt", "", ValueError, "exclude: wanted a .csv or .jsonl or .parquet or .json file"),
        (
            "picks.csv",
            "a,b\n1,2\n",
            ValueError,
            "exclude: .*wanted a column row or id: it has a, b",
        ),
        ("picks.json", '[{"row": 1}]', ValueError, "export as JSON, not as JSON-MIN"),
        ("none.csv", None, OSError, "exclude: .*none.csv: no such file"),
    ],
)
def test_files_that_hold_no_picks(tmp_path, name, content, error, words):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(error, match=words):
        select(X, 3, exclude=tmp_path / name)


def test_the_record_of_picks_of_another_pool_is_noticed(tmp_path, caplog):
    np.save(tmp_path / "x.npy", X)
    pool, path = tmp_path / "x.npy", tmp_path / "picks.csv"
    assert run("select", pool, "--k", 3, "--by", "margin", "--out", path).exit_code == 0
    np.save(pool, X)  # new predictions, as in each round
    np.save(tmp_path / "other.npy", X)
    record = json.loads((tmp_path / "picks.run.json").read_text())
    for given, changed, differs in (
        (pool, {}, ""),
        (tmp_path / "other.npy", {}, "has other files than that of the picks, such as "),
        (pool, {"pool_rows": 61}, "has 60 rows, that of the picks has 61"),
        (pool, {"pool": None}, ""),
    ):
        (tmp_path / "picks.run.json").write_text(json.dumps(record | changed))
        caplog.clear()
        assert select(given, 3, exclude=path).rows.tolist() == ORDER[3:6].tolist()
        said = [m for m in caplog.messages if "matched by row number" in m]
        assert len(said) == bool(differs)
        assert all(f"but the pool {differs}" in m for m in said)
    (tmp_path / "picks.run.json").write_text("no record")
    assert len(select(pool, 3, exclude=path).rows) == 3


def test_tables_that_hold_rows_or_ids_alone(tmp_path, caplog):
    pool = pool_with_ids(tmp_path / "a", [f"doc {row}" for row in range(N)])
    (tmp_path / "ids.csv").write_text("id\n" + "".join(f"doc {row}\n" for row in ORDER[:4]))
    (tmp_path / "rows.csv").write_text("row,label\n" + "".join(f"{row},x\n" for row in ORDER[:4]))
    for name in ("ids", "rows"):
        found = select(pool, 3, exclude=tmp_path / f"{name}.csv")
        assert found.rows.tolist() == ORDER[4:7].tolist()
    with pytest.raises(ValueError, match="exclude: the picks have ids and no rows, and the pool"):
        select(X, 3, exclude=tmp_path / "ids.csv")
    none = select(X, 3, exclude=range(N))
    for suffix in (".csv", ".jsonl", ".parquet", ".json"):
        path = file_of(tmp_path / f"none{suffix}", none)
        assert select(X, 3, exclude=path).rows.tolist() == ORDER[:3].tolist()
        assert f"exclude: {path} holds no rows" in caplog.messages
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(ValueError, match="wanted a column row or id: the file is empty"):
        select(X, 3, exclude=tmp_path / "empty.csv")


def test_sets_and_empty_arrays():
    assert select(X, 3, exclude=set(ORDER[:4].tolist())).rows.tolist() == ORDER[4:7].tolist()
    assert select(X, 3, exclude=np.array([])).rows.tolist() == ORDER[:3].tolist()


def test_rows_that_a_generator_turns_out_not_to_have():
    with pytest.raises(ValueError, match="exclude: row 60 is not in the pool, which has 60 rows"):
        select((X[start : start + 7] for start in range(0, N, 7)), 3, exclude=[1, 60])
    with pytest.raises(ValueError, match="among: row 70 is not in the pool, which has 60 rows"):
        select((X[start : start + 7] for start in range(0, N, 7)), 3, among=[1, 70])
    chunks = (X[start : start + 7] for start in range(0, N, 7))
    mask = np.arange(50) == 7
    with pytest.raises(ValueError, match="got 50 values for at least 56 rows"):
        select(chunks, 3, exclude=mask)
    with pytest.raises(ValueError, match="each of the 60 rows of the pool, got 70 values"):
        select([X[:20], X[20:]], 3, exclude=np.arange(70) == 7)


def test_too_few_rows_are_left(caplog):
    found = select(X, 5, among=[3, 4, 5], exclude=[4])
    assert sorted(found.rows.tolist()) == [3, 5]
    assert caplog.messages == [
        "k: wanted 5 rows; exclude and among leave 2 valid ones, which were all picked"
    ]
    caplog.clear()
    assert len(select(X, 5, among=[3], exclude=[3]).rows) == 0
    assert caplog.messages == ["nothing was picked: exclude and among leave no rows"]


def test_invalid_rows_that_are_left_out_are_no_error():
    x = X.copy()
    x[[4, 9]] = np.nan
    assert select(x, 5, exclude=[4, 9]).invalid == 0
    with pytest.raises(fastal.InvalidRows, match="row 9") as caught:
        select(x, 5, exclude=[4])
    assert caught.value.rows == [9]
    assert caught.value.count == 1
    with pytest.raises(fastal.InvalidRows, match="row 4"):
        select(x, 5, among=[2, 4, 5])


def test_a_checkpoint_is_bound_to_the_rows(tmp_path, monkeypatch):
    np.save(tmp_path / "x.npy", X)
    monkeypatch.setattr("fastal.pipeline.checkpoint._SECONDS", 0.0)
    monkeypatch.setattr("fastal.pipeline.checkpoint._PAUSE", 0)

    def run(**options):
        return select(
            tmp_path / "x.npy", 3, checkpoint=tmp_path / "state", chunk_bytes=12 * 32, **options
        )

    def stopped(*arguments):
        raise RuntimeError

    with monkeypatch.context() as patch:
        patch.setattr("fastal.selection.selector.Selector.result", stopped)
        with pytest.raises(RuntimeError):
            run(exclude=[1, 2])
    with pytest.raises(ValueError, match="of another run: exclude"):
        run(exclude=[1, 3], resume=True)
    assert len(run(exclude=[2, 1], resume=True).rows) == 3


@pytest.mark.full
def test_the_command_reads_the_files_of_earlier_rounds(tmp_path):
    np.save(tmp_path / "x.npy", X)
    pool = str(tmp_path / "x.npy")
    found = []
    for number in range(3):
        excluded = [f"--exclude={tmp_path / f'{before}.csv'}" for before in range(number)]
        out = str(tmp_path / f"{number}.csv")
        done = run_process("select", pool, "--by", "margin", "--k", "5", "--out", out, *excluded)
        assert done.returncode == 0, done.stderr
        rows = (tmp_path / f"{number}.csv").read_text().splitlines()[1:]
        found += [int(line.split(",")[1]) for line in rows]
    assert found == ORDER[:15].tolist()
    out, among = str(tmp_path / "far.csv"), str(tmp_path / "1.csv")
    done = run_process("core-set", pool, "--k", "5", "--among", among, "--out", out)
    assert done.returncode == 0, done.stderr
    rows = [int(line.split(",")[1]) for line in (tmp_path / "far.csv").read_text().splitlines()[1:]]
    assert sorted(rows) == sorted(ORDER[5:10].tolist())
    record = json.loads((tmp_path / "far.run.json").read_text())
    assert "5 rows" in record["arguments"]["among"]
    done = run_process("select", pool, "--k", "5", "--exclude", str(tmp_path / "none.csv"))
    assert done.returncode == 2
    assert "none.csv" in done.stderr


@pytest.mark.full
def test_messages_are_about_options(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((9, 2), np.float32))
    done = run_process("select", str(tmp_path / "x.npy"), "--k", "2", "--by", "margin")
    assert "9 rows have the score of the last pick; 2 of them were picked" in done.stderr
    assert "--ties random draws them" in done.stderr


def test_the_output_is_no_file_of_rows(tmp_path):
    np.save(tmp_path / "x.npy", X)
    path = file_of(tmp_path / "r.csv", select(X, 3))
    before = path.read_bytes()
    for option in ("--exclude", "--among"):
        done = run("select", tmp_path / "x.npy", "--k", 2, option, path, "--out", path)
        assert done.exit_code == 2
        assert f"--out: {path} is a file of {option[2:]}" in done.stderr
    assert path.read_bytes() == before


@pytest.mark.parametrize("suffix", [".csv", ".json"])
def test_ids_of_which_some_are_missing(tmp_path, suffix):
    """Rows without an id are matched by row, in every format."""
    ids = [None if row in (3, ORDER[1]) else 2**60 + row for row in range(N)]
    pool = pool_with_ids(tmp_path / "a", ids)
    first = select(pool, 4)
    path = file_of(tmp_path / f"picks{suffix}", first)
    for given in (first, path):
        assert select(pool, 4, exclude=given).rows.tolist() == ORDER[4:8].tolist()


def test_duplicates_name_their_rows():
    duplicates = diversity.deduplicate(np.repeat(X[:4], 2, axis=0), np.ones((1, 3)), 0.99)
    assert select(X, 4, among=duplicates).rows.tolist()
    assert set(select(X, N, exclude=duplicates).rows.tolist()) == {*range(N)} - {1, 3, 5, 7}
