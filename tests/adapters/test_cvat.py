"""A list of images in CVAT's Python package. What it sends is read before it leaves."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import fastal
from fastal import Picks
from tests.support.adapter_pages import page_code

cvat_sdk = pytest.importorskip(
    "cvat_sdk", reason="cvat-sdk is missing; scripts/test-adapters cvat has it"
)

from cvat_sdk.core.proxies.tasks import ResourceType, Task  # noqa: E402
from cvat_sdk.core.uploading import DataUploader  # noqa: E402

NAMES = ["b/2.png", "a/10.png", "a/1.png", "c d/1 é.png"]


@pytest.fixture
def sent():
    """What the client sent: specifications of tasks and their data."""
    return []


@pytest.fixture
def client(sent, monkeypatch):
    client = cvat_sdk.Client("http://localhost:1", check_server_version=False)
    api = client.api_client.tasks_api

    def create_data(task_id, data_request):
        sent.append(data_request.to_dict())
        return SimpleNamespace(rq_id="1"), None

    def create(spec):
        sent.append(spec.to_dict())
        return Task(client, {"id": 1, "name": spec.name})

    monkeypatch.setattr(api, "create_data", create_data)
    monkeypatch.setattr(client.tasks, "create", create)
    monkeypatch.setattr(client, "wait_for_completion", lambda *_, **__: None)
    monkeypatch.setattr(Task, "fetch", lambda task: task)
    return client


def lines_of(path, names=NAMES):
    scores = np.linspace(1, 0, len(names))
    Picks(range(len(names)), scores, columns={"image": names}).save(path, format="cvat")
    return path.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize(
    ("kind", "field"),
    [(ResourceType.SHARE, "server_files"), (ResourceType.REMOTE, "remote_files")],
)
def test_the_order_of_the_list_is_sent(tmp_path, client, sent, kind, field):
    task = Task(client, {"id": 1})
    options = {"sorting_method": "predefined"}
    task.upload_data(lines_of(tmp_path / "i.txt"), resource_type=kind, params=options)
    assert sent[0][field] == NAMES
    assert sent[0]["sorting_method"] == "predefined"


def test_uploads_of_local_images_name_no_folders(tmp_path, client, monkeypatch):
    """So images of the same name cannot be told apart, as the page says."""
    names = ["b/1.png", "a/2.png", "a/1.png"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found = []
    monkeypatch.setattr(DataUploader, "_tus_start_upload", lambda *_, **__: None)
    monkeypatch.setattr(DataUploader, "_tus_finish_upload", lambda *_, fields: found.append(fields))
    monkeypatch.setattr(
        client.api_client.rest_client, "POST", lambda *_, **__: SimpleNamespace(status=200)
    )
    monkeypatch.chdir(tmp_path)
    paths = [Path(line) for line in lines_of(tmp_path / "i.txt", names)]
    DataUploader(client).upload_files("url", paths, sorting_method="predefined", image_quality=70)
    assert found[0]["upload_file_order"] == ["1.png", "2.png", "1.png"]


def test_the_examples_of_the_page_run(tmp_path, client, sent, monkeypatch):
    monkeypatch.chdir(tmp_path)
    logits = np.random.default_rng(0).normal(size=(300, 2))
    paths = [f"i/{row}.png" for row in range(len(logits))]
    names = {"logits": logits, "paths": paths, "client": client}
    for block in page_code("cvat"):
        exec(block, names)
    spec, data = sent
    whole = fastal.select(logits, 200).rows.tolist()
    assert spec["segment_size"] == 25
    assert data["server_files"] == [f"i/{row}.png" for row in whole[:100]]
    assert fastal.select(logits, 100, exclude="picks.csv").rows.tolist() == whole[100:]
