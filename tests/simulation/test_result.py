"""The summary, file and picture of learning curves."""

import csv
import math
import sys
from types import SimpleNamespace

import mpmath
import numpy as np
import pytest

import fastal
from fastal.simulation.interval import interval, student_t

matplotlib = pytest.importorskip("matplotlib")
from matplotlib.figure import Figure  # noqa: E402

RNG = np.random.default_rng(0)
NAMES = ("margin", "random", "mine")


def simulation(n_seeds=4, names=NAMES, scores=None):
    if scores is None:
        scores = RNG.uniform(size=(len(names), n_seeds, 5))
    n_labelled = np.arange(10, 10 + 7 * 5, 7)
    return fastal.Simulation(names, tuple(range(n_seeds)), n_labelled, scores, "accuracy")


def t_interval(values):
    """By mpmath: the quantile inverts the distribution, an incomplete beta function."""
    n = len(values)
    mean = mpmath.fsum(values) / n
    deviation = mpmath.sqrt(mpmath.fsum((v - mean) ** 2 for v in values) / (n - 1))
    t = mpmath.findroot(
        lambda t: mpmath.betainc((n - 1) / 2, 0.5, 0, (n - 1) / (n - 1 + t * t), regularized=True)
        - 0.05,
        (1.9, 13), solver="anderson",
    )  # fmt: skip
    half = t * deviation / mpmath.sqrt(n)
    return [float(mean), float(mean - half), float(mean + half)]


def assert_close(found, want):
    # Sums of a few float64 numbers below 1, and a quantile to 2^-50.
    np.testing.assert_allclose(found, want, rtol=0, atol=1e-12)


@pytest.mark.parametrize("n_seeds", [2, 3, 4, 5, 20])
def test_a_summary_is_that_of_the_definition(n_seeds):
    found = simulation(n_seeds)
    x = found.n_labelled.tolist()

    def area(curve):
        parts = zip(x, x[1:], curve, curve[1:], strict=False)
        return math.fsum((b - a) * (u + v) / 2 for a, b, u, v in parts) / (x[-1] - x[0])

    areas = [[area(curve) for curve in of.tolist()] for of in found.scores]
    finals = found.scores[:, :, -1].tolist()
    for i, summary in enumerate(found.summary()):
        assert summary.strategy == NAMES[i]
        assert_close(summary.final, t_interval(finals[i]))
        assert_close(summary.area, t_interval(areas[i]))
        for values, gain in ((finals, summary.final_gain), (areas, summary.area_gain)):
            if NAMES[i] == "random":
                assert gain is None
            else:
                paired = [a - b for a, b in zip(values[i], values[1], strict=True)]
                assert_close(gain, t_interval(paired))


def test_a_normal_quantile_would_be_found_out():
    values = [0.5, 0.7, 0.6]
    mean, low, high = t_interval(values)
    assert_close(interval(values), (mean, low, high))
    assert abs((high - mean) / (1.96 * np.std(values, ddof=1) / np.sqrt(3)) - 1) > 1


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 9, 10, 101, 1000])
def test_the_quantile_of_student_is_that_of_the_distribution(degrees):
    t = student_t(degrees)
    below = mpmath.betainc(degrees / 2, 0.5, 0, degrees / (degrees + t * t), regularized=True)
    # The series has up to 500 terms, each within a relative 2^-50; the probability is 0.05.
    assert abs(float(below) - 0.05) < 1e-12


def test_the_difference_is_paired():
    """All seeds differ much, and the strategies by the same in each: there is no doubt."""
    random = RNG.uniform(size=(6, 5))
    found = simulation(6, ("margin", "random"), np.stack([random + 0.01, random])).summary()[0]
    assert_close(found.final_gain, (0.01, 0.01, 0.01))
    assert_close(found.area_gain, (0.01, 0.01, 0.01))
    assert found.final.high - found.final.low > 0.1


def test_the_area_of_a_constant_curve_is_its_score():
    found = simulation(2, ("margin",), np.full((1, 2, 5), 0.75)).summary()[0]
    assert found.area == found.final == (0.75, 0.75, 0.75)
    assert found.final_gain is found.area_gain is None


def test_one_seed_has_no_interval():
    found = simulation(1)
    summary = found.summary()[0]
    assert summary.final.mean == found.scores[0, 0, -1]
    assert math.isnan(summary.final.low)
    assert math.isnan(summary.area_gain.high)
    assert "one seed" in str(found)
    assert "nan" not in str(found)
    assert "±" not in str(found)


def test_the_text_has_the_numbers_of_the_summary():
    found = simulation()
    title, header, *lines = str(found).splitlines()
    assert title == "accuracy from 10 to 38 labels, mean over 4 seeds ± 95% confidence"
    assert header.split("  ")[-1] == "minus random"
    for line, summary in zip(lines, found.summary(), strict=True):
        shown = [summary.final, summary.final_gain, summary.area, summary.area_gain]
        assert line.split() == [summary.strategy, *" ".join(map(str, filter(None, shown))).split()]
    assert "random" not in str(simulation(names=("margin", "mine")))


def test_the_file_has_all_scores(tmp_path):
    found = simulation()
    found.save(tmp_path / "curves.csv")
    with (tmp_path / "curves.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["strategy", "seed", "round", "n_labelled", "score"]
    assert len(rows) == found.scores.size
    scores = np.full(found.scores.shape, np.nan)
    for row in rows:
        number = int(row["round"])
        scores[NAMES.index(row["strategy"]), int(row["seed"]), number] = float(row["score"])
        assert int(row["n_labelled"]) == found.n_labelled[number]
    assert (scores == found.scores).all()


def test_names_with_commas_and_large_seeds_read_back(tmp_path):
    names, seeds = ('a, "b"', "c"), (2**64 - 1, 0)
    scores = RNG.uniform(size=(2, 2, 3))
    fastal.Simulation(names, seeds, np.arange(1, 4), scores, "f").save(tmp_path / "c.csv")
    with (tmp_path / "c.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["strategy"] for row in rows[::6]] == list(names)
    assert [int(row["seed"]) for row in rows[::3]] == [*seeds, *seeds]


def test_a_table_of_pandas_has_the_columns_of_the_file(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(DataFrame=dict))
    found = simulation()
    frame = found.to_pandas()
    assert list(frame) == ["strategy", "seed", "round", "n_labelled", "score"]
    assert frame["strategy"].tolist() == [name for name in NAMES for _ in range(20)]
    assert frame["seed"].tolist() == [seed for seed in range(4) for _ in range(5)] * 3
    assert frame["round"].tolist() == list(range(5)) * 12
    assert frame["n_labelled"].tolist() == found.n_labelled.tolist() * 12
    assert frame["score"].tolist() == found.scores.ravel().tolist()


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_the_picture_is_a_file_of_its_suffix(tmp_path, suffix):
    simulation().plot(tmp_path / f"curves.{suffix}")
    begin = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[suffix]
    assert (tmp_path / f"curves.{suffix}").read_bytes().startswith(begin)
    assert len(list(tmp_path.iterdir())) == 1


def test_the_picture_has_the_means_and_their_intervals():
    found = simulation()
    axes = Figure().subplots()
    found.plot(axes)
    assert [line.get_label() for line in axes.lines] == list(NAMES)
    for line, band, scores in zip(axes.lines, axes.collections, found.scores, strict=True):
        assert line.get_xdata().tolist() == found.n_labelled.tolist()
        assert_close(line.get_ydata(), [math.fsum(of) / 4 for of in scores.T.tolist()])
        points = band.get_paths()[0].vertices
        for n, of in zip(found.n_labelled, scores.T, strict=True):
            ends = points[points[:, 0] == n, 1]
            assert_close([ends.min(), ends.max()], t_interval(of)[1:])
    assert axes.get_legend().get_title().get_text() == "mean over 4 seeds ± 95% confidence"
    assert axes.get_xlabel() == "labelled rows"
    assert axes.get_ylabel() == "accuracy"


def test_the_picture_of_many_strategies_tells_them_apart(tmp_path):
    names = tuple(f"strategy {i}" for i in range(30))
    scores = np.random.default_rng(0).random((30, 2, 3))
    many = fastal.Simulation(names, (0, 1), np.array([1, 2, 3]), scores, "accuracy")
    many.plot(tmp_path / "many.png")  # a layout that fails is a warning, which is an error here
    axes = Figure().subplots()
    many.plot(axes)
    looks = {(line.get_color(), line.get_linestyle()) for line in axes.lines}
    assert len(looks) == 30


def test_some_strategies_are_chosen_by_name():
    scores = np.arange(12.0).reshape(3, 2, 2)
    whole = fastal.Simulation(("a", "b", "c"), (0, 1), np.array([1, 2]), scores, "accuracy")
    some = whole.only("c", "a")
    assert some.strategies == ("c", "a")
    assert (some.scores == scores[[2, 0]]).all()
    assert (some.seeds, some.metric) == (whole.seeds, whole.metric)
    for wrong in ((), ("a", "a"), ("d",)):
        with pytest.raises(ValueError, match="strategies: wanted"):
            whole.only(*wrong)


def test_the_picture_of_one_seed_has_no_band():
    axes = Figure().subplots()
    simulation(1).plot(axes)
    assert not axes.collections
    assert axes.get_legend().get_title().get_text() == "one seed"


def test_what_cannot_be_written_is_an_error(tmp_path, monkeypatch):
    found = simulation()
    with pytest.raises(ValueError, match=r"path: wanted a \.csv file, got curves\.txt"):
        found.save("curves.txt")
    with pytest.raises(ValueError, match=r"path: wanted one of .*\.png.*, got .*curves\.xyz"):
        found.plot(tmp_path / "curves.xyz")
    with pytest.raises(FileNotFoundError, match="no such folder"):
        found.plot(tmp_path / "none" / "curves.png")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    message = r"plot needs matplotlib: pip install 'fastal\[demo\]'"
    with pytest.raises(ModuleNotFoundError, match=message):
        found.plot(tmp_path / "curves.png")
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ModuleNotFoundError, match="to_pandas needs pandas: pip install pandas"):
        found.to_pandas()
    assert list(tmp_path.iterdir()) == []
