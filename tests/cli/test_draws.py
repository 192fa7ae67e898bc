"""`fastal select` and `fastal score` over draws: a file with an axis of draws, or one a member."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

import fastal
from fastal.cli import main
from tests.support.commands import rows_of

X = np.random.default_rng(0).normal(size=(4, 90, 3)).astype(np.float32)  # [S, N, C]
FIRST = X.transpose(1, 0, 2)


def run(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments])


@pytest.fixture
def members(tmp_path):
    for number, x in enumerate(X):
        np.save(tmp_path / f"member{number}.npy", x)
    return [tmp_path / f"member{number}.npy" for number in range(4)]


def test_each_file_of_an_ensemble_is_a_draw(tmp_path, members):
    out = tmp_path / "picks.csv"
    done = run("select", *members, "--ensemble", "--k", 9, "--by", "bald", "--out", out)
    assert done.exit_code == 0, done.stderr
    want = fastal.select(FIRST, 9, "bald")
    assert [int(line["row"]) for line in rows_of(out.read_text())] == want.rows.tolist()
    record = json.loads((tmp_path / "picks.run.json").read_text())
    np.save(members[1], X[1] + 1)
    run("select", *members, "--ensemble", "--k", 9, "--by", "bald", "--out", out)
    again = json.loads((tmp_path / "picks.run.json").read_text())
    assert record["pool_fingerprint"] != again["pool_fingerprint"]


def test_scores_of_a_file_with_an_axis_of_draws(tmp_path):
    np.save(tmp_path / "draws.npy", X.transpose(1, 2, 0))
    out = tmp_path / "scores.npy"
    axes = "--draws-axis", 2, "--class-axis", 1
    done = run(
        "score", tmp_path / "draws.npy", *axes, "--by", "bald", "--by", "margin", "--out", out
    )
    assert done.exit_code == 0, done.stderr
    found, want = np.load(out), fastal.score(FIRST, draws_axis=1)
    assert np.array_equal(found["bald"], want.bald)
    assert np.array_equal(found["margin"], want.margin)


def test_an_output_that_is_a_member_is_refused(members):
    before = members[2].read_bytes()
    done = run("score", *members, "--ensemble", "--by", "bald", "--out", members[2])
    assert done.exit_code == 2
    assert "member2.npy" in done.stderr
    assert members[2].read_bytes() == before


def test_bad_draws_end_with_one_line(tmp_path, members):
    np.save(tmp_path / "short.npy", X[0, :-1])
    for says, arguments in (
        ("pool 0 has 90 rows, pool 1 89", [members[0], tmp_path / "short.npy", "--ensemble"]),
        ("wanted [rows, draws, classes]", [members[0]]),
        ("--on-bad-file skip", [*members, "--ensemble", "--on-bad-file", "skip"]),
    ):
        done = run("select", "--k", 3, "--by", "bald", *arguments)
        assert done.exit_code == 2
        assert says in done.stderr
        assert len(done.stderr.strip().splitlines()) <= 4  # click shows the usage above its errors
        assert not done.stdout
