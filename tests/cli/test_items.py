"""`fastal select` and `fastal score` over items of several rows: options, files, errors."""

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import fastal
from fastal.cli import main
from tests.support.commands import rows_of

RNG = np.random.default_rng(0)
LENGTHS = np.array([3, 0, 5, 1, 7, 2, 0])
OFFSETS = np.concatenate([[0], LENGTHS.cumsum()])
X = RNG.normal(size=(18, 4)).astype(np.float32)
MASK = RNG.random(18) < 0.7
IMAGES = RNG.normal(size=(9, 4, 5, 6)).astype(np.float32)
SKIP = "--aggregate", "mean", "--on-invalid", "skip", "--quiet"


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arrays = {"x": X, "lengths": LENGTHS, "offsets": OFFSETS, "mask": MASK, "images": IMAGES}
    for name, array in arrays.items():
        np.save(f"{name}.npy", array)
    lists = [x.tolist() for x in np.split(X, OFFSETS[1:-1])]
    table = {"id": list("abcdefg"), "text": list("tuvwxyz"), "lang": ["de", "fr"] * 3 + ["de"]}
    table["x"] = pa.array(lists, pa.list_(pa.list_(pa.float32())))
    pq.write_table(pa.table(table), "ragged.parquet", row_group_size=2)
    flat = pa.FixedSizeListArray.from_arrays(pa.array(X.ravel()), 4)
    pq.write_table(pa.table({"id": np.arange(18), "x": flat}), "flat.parquet")
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments])


def picked(*arguments):
    done = run("select", *arguments)
    assert done.exit_code == 0, done.stderr
    lines = rows_of(done.stdout)
    return [int(line["row"]) for line in lines], [np.float32(line["score"]) for line in lines]


def wanted(picks):
    return picks.rows.tolist(), picks.scores.tolist()


def test_lengths_offsets_and_masks():
    mean = {"aggregate": "mean", "on_invalid": "skip"}
    want = fastal.select(fastal.items(X, lengths=LENGTHS), 3, **mean)
    for option in ("lengths", "offsets"):
        assert picked("x.npy", f"--{option}", f"{option}.npy", "--k", 3, *SKIP) == wanted(want)
    got = picked("flat.parquet", "--column", "x", "--lengths", "lengths.npy", "--k", 3, *SKIP)
    assert got == wanted(want)
    want = fastal.select(fastal.items(X, lengths=LENGTHS, mask=MASK), 3, **mean)
    options = "--offsets", "offsets.npy", "--mask", "mask.npy"
    assert picked("x.npy", *options, "--k", 3, *SKIP) == wanted(want)


def test_images_labels_and_a_temperature():
    options = "--aggregate", "top3", "--class-axis", 1, "--temperature", 2.5, "--by", "entropy"
    want = fastal.select(IMAGES, 4, "entropy", aggregate="top3", class_axis=1, temperature=2.5)
    assert picked("images.npy", "--k", 4, *options, "--quiet") == wanted(want)
    options = "--kind", "multilabel_logits", "--aggregate", "max"
    want = fastal.select(X, 4, kind="multilabel_logits", aggregate="max")
    assert picked("x.npy", "--k", 4, *options, "--quiet") == wanted(want)


def test_ragged_files_have_ids_texts_and_groups(tmp_path):
    pool = "ragged.parquet", "--ragged", "--column", "x", "--id-column", "id"
    done = run("select", *pool, "--carry", "text", "--k", 3, *SKIP, "--out", "picks.csv")
    assert done.exit_code == 0, done.stderr
    lines = rows_of((tmp_path / "picks.csv").read_text())
    for line in lines:
        assert (line["id"], line["text"]) == (
            "abcdefg"[int(line["row"])],
            "tuvwxyz"[int(line["row"])],
        )
    done = run("select", *pool, "--k", 9, *SKIP, "--exclude", "picks.csv")
    left = {line["id"] for line in rows_of(done.stdout)}
    assert left == set("acdef") - {line["id"] for line in lines}
    groups = "--group-column", "lang", "--per-group", 1
    done = run("select", "ragged.parquet", "--ragged", "--column", "x", *groups, *SKIP)
    assert sorted(line["group"] for line in rows_of(done.stdout)) == ["de", "fr"]


def test_scores_of_items(tmp_path):
    want = fastal.score(fastal.items(X, lengths=LENGTHS), aggregate="mean", on_invalid="skip")
    done = run("score", "x.npy", "--lengths", "lengths.npy", *SKIP, "--out", "scores.npy")
    assert done.exit_code == 0, done.stderr
    found = np.load("scores.npy")
    for name, column in want._asdict().items():
        assert np.array_equal(found[name], column, equal_nan=True)
    done = run("score", "ragged.parquet", "--ragged", "--column", "x", *SKIP, "--out", "scores.csv")
    assert done.exit_code == 0, done.stderr
    with (tmp_path / "scores.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [np.float32(line["margin"] or "nan") for line in lines] == pytest.approx(
        want.margin.tolist(), nan_ok=True, abs=0
    )
    done = run("score", "images.npy", "--class-axis", 1, "--aggregate", "max", "--quiet")
    assert len(rows_of(done.stdout)) == 9


def test_the_record_counts_items():
    done = run("select", "x.npy", "--lengths", "lengths.npy", "--k", 2, *SKIP, "--out", "picks.csv")
    assert done.exit_code == 0, done.stderr
    record = json.loads(Path("picks.run.json").read_text())
    assert (record["rows"], record["pool_rows"], record["invalid"]) == (7, 7, 2)
    assert record["arguments"]["by"]["aggregate"] == "mean"
    assert record["items"] == ["lengths.npy"]


def test_a_checkpoint_of_other_items_is_refused(tmp_path, interrupting):
    stop = interrupting(fastal.Selector)
    arguments = "--k", 2, *SKIP, "--out", "picks.csv", "--checkpoint", "saved"
    np.save("shard.npy", X)  # two files are two chunks
    np.save("twice.npy", np.concatenate([LENGTHS, LENGTHS]))
    np.save("other.npy", np.concatenate([LENGTHS, LENGTHS[::-1]]))
    stop(2)
    done = run("select", "shard.npy", "x.npy", "--lengths", "twice.npy", *arguments)
    assert isinstance(done.exception, KeyboardInterrupt | SystemExit)
    assert (tmp_path / "saved" / "checkpoint").exists()
    pool = "shard.npy", "x.npy"
    done = run("select", *pool, "--lengths", "other.npy", *arguments, "--resume")
    assert done.exit_code == 2
    assert "of another run" in done.stderr
    done = run("select", *pool, "--lengths", "twice.npy", *arguments, "--resume")
    assert done.exit_code == 0, done.stderr


def test_an_output_is_never_a_file_that_describes_the_items(files):
    for option, name in (("--lengths", "lengths.npy"), ("--offsets", "offsets.npy")):
        before = (files / name).read_bytes()
        done = run("score", "x.npy", option, name, *SKIP, "--out", name)
        assert done.exit_code == 2
        assert name in done.stderr
        assert (files / name).read_bytes() == before


def test_what_is_wrong_is_said_in_one_line():
    np.save("short.npy", MASK[1:])
    x, ragged = ("x.npy", *SKIP), ("ragged.parquet", "--column", "x", *SKIP)
    images = "images.npy", "--quiet"
    cases = (
        ("--lengths: the items have 75 rows, the values 18", (*x, "--lengths", "offsets.npy")),
        ("--lengths: wanted lengths or --offsets", (*x, "--mask", "mask.npy")),
        ("got both", (*x, "--lengths", "lengths.npy", "--offsets", "offsets.npy")),
        ("--mask: wanted a bool", (*x, "--lengths", "lengths.npy", "--mask", "short.npy")),
        ("--mask: wanted bools", (*x, "--lengths", "lengths.npy", "--mask", "lengths.npy")),
        ("--offsets: wanted 0 first", (*x, "--offsets", "lengths.npy")),
        ("--lengths: ragged.parquet: wanted a .npy", (*x, "--lengths", "ragged.parquet")),
        ("--lengths: missing.npy: No such file", (*x, "--lengths", "missing.npy")),
        ("give --ragged", ragged),
        ("with ragged, each row", (*ragged, "--ragged", "--lengths", "lengths.npy")),
        ("x.npy: --ragged: wanted Parquet or Arrow", (*x, "--ragged")),
        ("has ids of the rows", (
            "flat.parquet", "--column", "x", "--id-column", "id", "--lengths", "lengths.npy", *SKIP,
        )),
        ("wanted --aggregate as well", ("x.npy", "--lengths", "lengths.npy")),
        ("--aggregate: wanted one of mean", (*images, "--class-axis", 1, "--aggregate", "median")),
        ("--aggregate: wanted mean", (*images, "--class-axis", 1)),
        ("--class-axis: no axis 7", (*images, "--class-axis", 7, "--aggregate", "mean")),
        ("--class-axis: axis 0", (*images, "--class-axis", 0, "--aggregate", "mean")),
        ("--temperature: wanted 1e-06", (*x, "--lengths", "lengths.npy", "--temperature", 0)),
        ("--temperature: it divides logits", (*x, "--kind", "probs", "--temperature", 2)),
        ("(x.npy row 3) is an item of which no row counts", (
            "x.npy", "--lengths", "lengths.npy", "--aggregate", "mean",
        )),
    )  # fmt: skip
    for says, arguments in cases:
        done = run("select", "--k", 2, *arguments)
        assert done.exit_code == 2, says
        assert says in done.stderr, done.stderr
        assert "Traceback" not in done.stderr
        assert not done.stdout
