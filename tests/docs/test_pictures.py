"""The picture of the README shows what `benchmarks/results` holds, and nothing typed by hand."""

import importlib.util
import json
import re

import pytest

from tests.support.checkout import ROOT

pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def pictures():
    spec = importlib.util.spec_from_file_location("pictures", ROOT / "docs" / "pictures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cells(path):
    """The rows of a table of results as lists of cells."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if "│" in line]


def test_the_rates_are_those_of_the_results(pictures):
    rates = pictures.rates_of(pictures.RESULTS)
    assert set(pictures.PROVIDERS) <= set(rates.providers)
    n_found = 0
    for logits, provider, rate, _, _, share in cells(pictures.RESULTS):
        if found := re.fullmatch(r"float32 (\d+) classes 2 threads", logits):
            at = rates.classes.index(int(found[1]))
            assert rates.providers[provider][at] == float(rate)
            assert rates.bandwidth[at] == float(share.split(" of ")[1])
            n_found += 1
    assert n_found == sum(map(len, rates.providers.values())) >= 60


def test_other_results_draw_another_picture(pictures, tmp_path):
    other = tmp_path / "results.txt"
    text = pictures.RESULTS.read_text(encoding="utf-8")
    other.write_text(text.replace("│ 28.16 │", "│ 18.16 │"), encoding="utf-8")
    drawn = [tmp_path / "a.svg", tmp_path / "b.svg", tmp_path / "c.svg"]
    pictures.draw(drawn[0], pictures.rates_of(pictures.RESULTS))
    pictures.draw(drawn[1], pictures.rates_of(pictures.RESULTS))
    pictures.draw(drawn[2], pictures.rates_of(other))
    same, again, different = (path.read_bytes() for path in drawn)
    assert same == again
    assert different != same


def test_the_committed_picture_was_drawn_from_the_results(pictures):
    text = pictures.PICTURE.read_text(encoding="utf-8")
    shown = json.loads(re.search(r"<dc:description>(.*)</dc:description>", text)[1])
    rates = pictures.rates_of(pictures.RESULTS)
    assert shown["results"] == pictures.RESULTS.name
    assert shown["machine"] == rates.machine
    assert shown["classes"] == rates.classes
    assert shown["bandwidth"] == rates.bandwidth
    assert shown["providers"] == {name: rates.providers[name] for name in pictures.PROVIDERS}
    assert pictures.PICTURE.stat().st_size < 150_000
