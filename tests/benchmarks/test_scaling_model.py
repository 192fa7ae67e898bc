"""The page about scaling holds what the model prints, and the model what was measured."""

import re

import pytest

from benchmarks import scaling_model as model
from tests.support.checkout import ROOT


def test_the_committed_page_holds_what_is_computed():
    page = model.PAGE.read_text(encoding="utf-8")
    assert page == model.filled(page)
    assert all(part.rstrip() in page for part in model.parts().values())


def written_sizes(page):
    """Numbers of shards and bytes that the page has outside of what is computed or measured."""
    mark = re.escape(model.MARK).replace(r"\{\}", r"{}")
    for name in model.parts():
        begin, end = mark.format(name), mark.format(f"end of {name}")
        page = re.sub(rf"{begin}.*{end}", "", page, flags=re.DOTALL)
    page = re.sub(r"## The constants.*(?=## Where)", "", page, flags=re.DOTALL)
    return re.findall(r"[\d,.]+\*{0,2} (?:shards|[KMGTP]B)\b|hundreds of [KMGTP]B", page)


def test_all_numbers_of_shards_and_bytes_on_the_page_are_computed():
    page = model.PAGE.read_text(encoding="utf-8")
    assert written_sizes(page) == []
    assert written_sizes(f"{page}\n- It has 10,000 shards: 61 GB, or hundreds of GB.") == [
        "10,000 shards", "61 GB", "hundreds of GB",
    ]  # fmt: skip


def test_the_page_about_ray_has_the_same_sizes():
    page = " ".join((model.PAGE.parent / "index.md").read_text(encoding="utf-8").split())
    mapped = model.chunk_rows_of(model.mapped_files(0, 1024), None) * 1024
    assert mapped == model.LEAST_BYTES == 256 << 20
    assert (
        f"about {model.SHARDS_PER_WORKER} shards of a large pool, of {model.LEAST_BYTES >> 20} MB "
        f"to {model.MOST_BYTES >> 30} GB each and {model.MOST_ROWS:,} rows at most"
    ) in page
    assert f"about {model.MOST_SHARDS:,} shards at most" in page
    assert f"{model.chunk_rows_of(model.mapped_files(0, 1), None):,} rows" in page


def test_what_the_page_says_of_bounds_is_so():
    clusters = [model.Cluster(n, has_gpus) for n in model.MACHINES for has_gpus in (False, True)]

    def seconds(strategy, n_rows, cluster):
        return model.run_seconds(strategy(n_rows, cluster))

    for n_rows in model.ROWS:  # more than 8 machines do not help
        scores = [seconds(model.score, n_rows, one) for one in clusters]
        assert min(scores) > 0.9 * max(scores[:2])
        assert all(model.bound_of(model.score(n_rows, one)) == "driver" for one in clusters)
    few, some, most = clusters[::2]
    assert few.n == 8
    assert not any(one.has_gpus for one in (few, some, most))
    for one in (some, most):
        assert model.bound_of(model.k_means(10**9, one)) == "driver"
    assert seconds(model.k_means, 10**9, most) > seconds(model.k_means, 10**9, some)
    assert model.shards(10**9, 3072, most.workers)[0] < 4 * most.workers


@pytest.mark.parametrize(
    "constant", [*model.CORE.values(), *model.GPU.values(), *model.MERGE.values()], ids=str
)
def test_a_measured_constant_is_in_its_file(constant):
    text = (ROOT / "benchmarks" / "results" / model.RESULTS[constant.file]).read_text()
    assert re.search(rf"(?<![\d.]){re.escape(constant.digits)}(?![\d.])", text)


def test_a_pass_is_what_the_formulas_of_the_page_say():
    cluster = model.Cluster(64, has_gpus=False)
    assert cluster.workers == 1024
    assert model.shards(10**9, 3072, 1024) == (11_445, 2**28 // 3072)
    n, rows = model.shards(10**10, 400, 1024)
    assert (n, rows) == (14_902, 2**28 // 400)
    (one,) = model.select(10**10, cluster)
    assert one.read == pytest.approx(15 * 1024 * rows * 400 / (64 * 5e9))
    assert one.compute == pytest.approx(one.read * 5e9 / (7.63e9 * 32))
    assert one.driver == pytest.approx(n * (120_000 / 1.25e9 + 140e-6 + 3e-3))
    assert one.seconds == pytest.approx(0.2 + one.driver)


def test_later_samples_are_parts_of_whole_ones():
    assert model.sampled(10, 4) == 10
    assert model.sampled(10, 1) == pytest.approx(4 + sum(1 / m for m in range(1, 7)))
    assert model.sample_bytes() == 21_845 * 3084


def test_numbers_have_few_digits():
    assert [model.size(n) for n in (3.07e8, 3.07e12, 3.07e15)] == ["307 MB", "3.1 TB", "3.1 PB"]
    found = [model.duration(s) for s in (43, 130, 7300, 2e5)]
    assert found == ["43 s", "2.2 min", "2.0 h", "2.3 days"]
