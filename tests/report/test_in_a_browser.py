"""The page in a real browser: it is drawn, sorts, filters, and asks for nothing else."""

import io
import json

import matplotlib.image
import numpy as np
import pytest

import fastal
from fastal.report import write_report
from tests.support.browser import CHROMIUM, browser

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium here"),
]
K = 120
EVIL = "</script><script>document.title='owned'</script><b id=evil>"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page with every section."""
    folder = tmp_path_factory.mktemp("page")
    rng = np.random.default_rng(0)
    logits = (2 * rng.standard_normal((1000, 4))).astype(np.float32)
    matplotlib.image.imsave(folder / "a b.png", rng.random((8, 8)), format="png")
    texts = [EVIL, *(f"text {row}" for row in range(1, 1000))]
    pool = fastal.open_pool(
        logits,
        ids=[2**60 + row for row in range(1000)],
        carry={"text": texts, "image": [str(folder / "a b.png")] * 1000},
    )
    picks = fastal.select(pool, K)
    rows = picks.rows.copy()
    rows[0] = 0
    columns = {**picks.columns, "text": np.array([texts[row] for row in rows], object)}
    picks = fastal.Picks(rows, picks.scores, picks.ids, strategy="margin", columns=columns)
    curves = fastal.Simulation(
        ("margin", "random"), (0, 1), np.array([10, 20, 30]), rng.random((2, 2, 3)), "accuracy"
    )
    embeddings = rng.standard_normal((1000, 8))
    write_report(
        [picks, curves], folder / "report.html", pool=logits, embeddings=embeddings, title=EVIL
    )
    return folder / "report.html", picks


@pytest.fixture(scope="module")
def opened(page, tmp_path_factory):
    with browser(tmp_path_factory.mktemp("profile")) as found:
        found.resize(1200, 900)
        found.open(page[0])
        yield found


def column(opened, place):
    cells = f"[...document.querySelectorAll('#picks-body td:nth-child({place})')]"
    return opened.value(f"{cells}.map(cell => cell.textContent)")


def sorts(opened):
    heads = "[...document.querySelectorAll('#picks-head th')]"
    return opened.value(f"{heads}.map(head => head.getAttribute('aria-sort'))")


def click(opened, name):
    buttons = "[...document.querySelectorAll('#picks-head button')]"
    opened.value(f"{buttons}.find(button => button.textContent === '{name}').click()")


def type_into_filter(opened, text):
    opened.value("document.getElementById('picks-filter').focus()")
    opened.value("document.getElementById('picks-filter').select()")
    if text:
        opened.call("Input.insertText", text=text)
    else:
        opened.press("Delete", 46)


def status(opened):
    return opened.value("document.getElementById('picks-status').textContent")


def test_the_page_is_drawn_in_light_and_dark_and_nothing_is_wider_than_a_phone(opened):
    pictures = {}
    for width, is_dark in ((1200, False), (1200, True), (360, False)):
        opened.resize(width, 900, is_dark=is_dark)
        assert opened.value("document.documentElement.scrollWidth") <= width
        picture = matplotlib.image.imread(io.BytesIO(opened.screenshot()))[:, :, :3]
        assert picture.std() > 0.02, "blank"
        pictures[width, is_dark] = picture.mean()
    opened.resize(1200, 900)
    assert pictures[1200, True] < 0.3 < 0.7 < pictures[1200, False]


def test_every_picture_has_a_text_in_its_place_and_a_size(opened):
    charts = opened.value(
        "[...document.querySelectorAll('svg.chart')].map(svg =>"
        " [svg.getAttribute('role'), svg.getAttribute('aria-label').length,"
        "  svg.getBoundingClientRect().width])"
    )
    assert len(charts) == 4 + 1 + 1 + 1
    assert all(role == "img" and n > 20 and width > 200 for role, n, width in charts)


def test_a_click_on_a_header_sorts_and_says_so(opened, page):
    picks = page[1]
    assert column(opened, 2) == [str(row) for row in picks.rows[:50]]
    assert not any(sorts(opened))
    click(opened, "row")
    assert column(opened, 2) == [str(row) for row in sorted(picks.rows)[:50]]
    assert sorts(opened) == [None, "ascending", *[None] * 4]
    click(opened, "row")
    assert column(opened, 2) == [str(row) for row in sorted(picks.rows)[::-1][:50]]
    assert sorts(opened)[1] == "descending"
    click(opened, "id")  # beyond 2^53: the digits are kept, and compared
    assert column(opened, 4) == [str(label) for label in sorted(picks.ids.tolist())[:50]]
    click(opened, "rank")


def test_the_keyboard_sorts_too(opened):
    opened.value("document.querySelector('#picks-head th:nth-child(3) button').focus()")
    opened.press("Enter", 13)
    assert sorts(opened)[2] == "ascending"
    scores = list(map(float, column(opened, 3)))
    assert scores == sorted(scores)
    click(opened, "rank")


def test_the_filter_hides_rows_and_the_pages_turn(opened, page):
    picks = page[1]
    assert status(opened) == f"Picks 1 to 50 of {K}"
    opened.value("document.getElementById('picks-next').click()")
    assert status(opened) == f"Picks 51 to 100 of {K}"
    assert column(opened, 1)[0] == "51"
    wanted = f"TEXT {picks.rows[5]}"
    type_into_filter(opened, wanted)
    assert column(opened, 2)[0] == str(picks.rows[5])
    assert all(text.startswith(wanted.lower()) for text in column(opened, 5))
    type_into_filter(opened, "no such text")
    assert column(opened, 2) == []
    assert status(opened).startswith("No pick")
    type_into_filter(opened, "")
    assert len(column(opened, 2)) == 50


def test_text_is_text_and_images_are_images(opened):
    assert column(opened, 5)[0] == EVIL
    assert opened.value("document.getElementById('evil')") is None
    assert opened.value("document.title") == EVIL
    images = opened.value(
        "[...document.querySelectorAll('#picks-body img')].map(image =>"
        " [image.loading, image.alt.length > 0, image.src.slice(0, 22)])"
    )
    assert images == [["lazy", True, "data:image/png;base64,"]] * 50


def test_the_page_asks_for_nothing_and_its_console_is_silent(opened, page):
    assert opened.requests == [page[0].as_uri()]
    assert opened.complaints == []


def test_a_request_and_a_complaint_would_be_seen(opened, tmp_path):
    (tmp_path / "other.html").write_text("<img src='gone.png'><script>no.such.name</script>")
    opened.open(tmp_path / "other.html")
    assert any(address.endswith("gone.png") for address in opened.requests)
    assert "no is not defined" in json.dumps(opened.complaints)
