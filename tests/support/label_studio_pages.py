"""Label Studio in a browser: what an annotator clicks.

`python -m tests.support.label_studio_pages docs/images` takes the pictures of its page, in the
environment that `scripts/test-adapters label_studio` makes.
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import fastal
from tests.support.browser import Browser, browser
from tests.support.label_studio_server import PASSWORD, USER, Annotator, label_studio

CONFIG = """<View>
  <Text name="review" value="$text"/>
  <Choices name="sentiment" toName="review" choice="single">
    <Choice value="negative"/>
    <Choice value="positive" alias="pos"/>
  </Choices>
</View>
"""
TEXTS = [
    "Not bad at all, though the box was.",
    "I wanted to love it.",
    "Works. Most days.",
    "My cat likes it more than I do.",
    "Cheaper than the last one, and it shows.",
    "It does what it says, slowly.",
    "Would buy again if I had to.",
    "The second one they sent is fine.",
    "Loud, but it cleans well.",
    "Arrived late, has run ever since.",
]
SHOWN = {"id", "total_annotations", "predictions_score", "text", "fastal_rank", "fastal_score"}


def import_reviews(annotator: Annotator, folder: Path) -> int:
    """The number of a new project, whose tasks are reviews."""
    config, tasks = folder / "config.xml", folder / "tasks.json"
    config.write_text(CONFIG)
    rng = np.random.default_rng(4)
    scores = np.sort(rng.uniform(0.8, 1, len(TEXTS))).astype(np.float32)[::-1].round(3)
    rows = rng.choice(9000, len(TEXTS), replace=False)
    picks = fastal.Picks(rows, scores, columns={"text": TEXTS})
    predicted = ["positive", "negative", "positive", "negative", "negative"] * 2
    picks.save(tasks, label_config=config, predicted=predicted)
    project = annotator.project(CONFIG, "Reviews")
    annotator.import_file(project, tasks)
    return project


def log_in(page: Browser, url: str) -> None:
    """Logs the first user in."""
    page.open(f"{url}/user/login/")
    page.write("input[name=email]", USER)
    page.write("input[name=password]", PASSWORD)
    page.press("Enter", 13)
    page.until("!location.pathname.startsWith('/user/login')")


def open_tasks(page: Browser, url: str, project: int) -> None:
    """Opens the Data Manager."""
    page.open(f"{url}/projects/{project}/data")
    page.until("document.body.innerText.includes('fastal_rank')")


def show_few_columns(annotator: Annotator, project: int, sign: str = "") -> None:
    """Makes a tab of the Data Manager with the columns that matter.

    Args:
        annotator: who makes it.
        project: the number of the project.
        sign: "": in the order of the picks; "-": in the opposite order.
    """
    columns = annotator.call("GET", f"/api/dm/columns?project={project}")["columns"]
    hidden = [
        f"tasks:{'data.' if column.get('parent') == 'data' else ''}{column['id']}"
        for column in columns
        if column["id"] not in SHOWN
    ]
    data = {
        "title": "Picks", "type": "list", "target": "tasks", "gridWidth": 4,
        "ordering": [f"{sign}tasks:data.fastal_rank"], "columnsWidth": {"tasks:data.text": 420},
        "hiddenColumns": {"explore": hidden, "labeling": []}, "columnsDisplayType": {},
    }  # fmt: skip
    annotator.call("POST", "/api/dm/views", {"project": project, "data": data})


def open_menu_of_labelling(page: Browser) -> None:
    """Opens the menu beside "Label All Tasks"."""
    page.click(f"{button('Label All Tasks')}.parentElement.querySelectorAll('button')[1]")
    page.until("document.body.innerText.includes('Label Tasks As Displayed')")


def label_as_displayed(page: Browser) -> None:
    """Begins with the first task of the Data Manager."""
    open_menu_of_labelling(page)
    page.click(with_text("Label Tasks As Displayed"))
    page.until(f"Boolean({button('Submit')}) && {CHOSEN}.length > 0")


def button(text: str) -> str:
    """The expression for a button."""
    return f"[...document.querySelectorAll('button')].find(x => x.textContent.trim() === '{text}')"


def with_text(text: str) -> str:
    """The expression for the innermost element with a text."""
    return f"[...document.querySelectorAll('*')].findLast(x => x.textContent.trim() === '{text}')"


# The labels of the choices that are marked.
CHOSEN = (
    "[...document.querySelectorAll('input:checked')]"
    ".map(x => x.closest('label')?.innerText.split('[')[0].trim())"
)


def lines(page: Browser) -> list[str]:
    """The text of the page."""
    return page.value("document.body.innerText").splitlines()


def take_pictures(folder: Path) -> None:
    """Writes the pictures of the page."""
    with tempfile.TemporaryDirectory() as name:
        data, profile = Path(name) / "data", Path(name) / "profile"
        data.mkdir()
        with label_studio(data) as annotator, browser(profile) as page:
            project = import_reviews(annotator, Path(name))
            show_few_columns(annotator, project)
            log_in(page, annotator.url)
            page.resize(1280, 620)
            open_tasks(page, annotator.url, project)
            open_menu_of_labelling(page)
            time.sleep(1)  # the menu fades in
            (folder / "label-studio-tasks.png").write_bytes(page.screenshot())
            page.resize(1280, 480)
            open_tasks(page, annotator.url, project)
            label_as_displayed(page)
            time.sleep(1)
            (folder / "label-studio-labelling.png").write_bytes(page.screenshot())


if __name__ == "__main__":
    take_pictures(Path(sys.argv[1]))
