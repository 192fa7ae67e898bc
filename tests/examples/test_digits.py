"""The example of the digits runs, and shows what margin is worth."""

import re

import pytest

from tests.support.examples import example

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")


@pytest.mark.full
def test_the_example_prints_the_table_and_draws_the_picture(tmp_path, capsys):
    picture = tmp_path / "curves.png"
    example("digits").main(picture)
    out, err = capsys.readouterr()
    title, header, *lines, last = out.splitlines()
    assert title == "accuracy from 20 to 220 labels, mean over 5 seeds ± 95% confidence"
    assert "with 220 labels" in header
    cells = {line.split()[0]: re.findall(r"(\S+) ± (\S+)", line) for line in lines}
    assert list(cells) == ["random", "least_confidence", "margin", "ratio", "entropy"]
    for name in ("margin", "ratio"):
        gain, interval = map(float, cells[name][3])
        assert gain > interval > 0  # the whole interval is above that of random rows
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert last == f"The curves: {picture}"
    assert len(err.splitlines()) == 25
