"""The page about scaling holds what the model prints, and the model what was measured."""

import re

import pytest

from benchmarks import scaling_model as model
from tests.support.checkout import ROOT


def test_the_committed_page_holds_the_tables():
    page = model.PAGE.read_text(encoding="utf-8")
    assert page == model.filled(page)
    assert all(table.rstrip() in page for table in model.tables().values())


@pytest.mark.parametrize(
    "constant", [*model.CORE.values(), *model.GPU.values(), *model.MERGE.values()], ids=str
)
def test_a_measured_constant_is_in_its_file(constant):
    text = (ROOT / "benchmarks" / "results" / model.RESULTS[constant.file]).read_text()
    assert re.search(rf"(?<![\d.]){re.escape(constant.digits)}(?![\d.])", text)


def test_a_pass_is_what_the_formulas_of_the_page_say():
    cluster = model.Cluster(64, has_gpus=False)
    assert cluster.workers == 1024
    assert model.shards(10**9, 3072, 1024) == (10_000, 100_000)
    n, rows = model.shards(10**10, 400, 1024)
    assert (n, rows) == (10_000, 1_000_000)
    (one,) = model.select(10**10, cluster)
    assert one.read == pytest.approx(10 * 1024 * 1_000_000 * 400 / (64 * 5e9))
    assert one.compute == pytest.approx(one.read * 5e9 / (7.63e9 * 32))
    assert one.driver == pytest.approx(10_000 * (120_000 / 1.25e9 + 140e-6 + 3e-3))
    assert one.seconds == pytest.approx(0.2 + one.driver)


def test_later_samples_are_parts_of_whole_ones():
    assert model.sampled(10, 4) == 10
    assert model.sampled(10, 1) == pytest.approx(4 + sum(1 / m for m in range(1, 7)))
    assert model.sample_bytes() == 21_845 * 3084


def test_numbers_have_few_digits():
    assert [model.size(n) for n in (3.07e8, 3.07e12, 3.07e15)] == ["307 MB", "3.1 TB", "3.1 PB"]
    found = [model.duration(s) for s in (43, 130, 7300, 2e5)]
    assert found == ["43 s", "2.2 min", "2.0 h", "2.3 days"]
