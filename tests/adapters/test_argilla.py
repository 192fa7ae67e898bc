"""Picks in the client of Argilla, which talks to a stand-in for its server."""

import json
from pathlib import Path

import numpy as np
import pytest

import fastal
from fastal import Picks
from tests.support.adapter_pages import page_code

rg = pytest.importorskip(
    "argilla", reason="argilla is missing; scripts/test-adapters argilla has it"
)

from tests.support.argilla_server import ArgillaServer  # noqa: E402

LARGE = 2**60 + 1
TEXTS = ["a\u2028b\nc", "é 'x'", "t"]
pytestmark = pytest.mark.filterwarnings(
    "ignore:Workspace not provided:UserWarning:argilla",  # the first one is the right one here
    "ignore:`user_id` not provided:UserWarning:argilla",
)


def picks_of():
    return Picks(
        [5, 0, 2**61], [0.75, 0.5, 1e-12], [LARGE, 2, None],
        columns={"text": TEXTS, "n": [1, None, 3]},
    )  # fmt: skip


@pytest.fixture
def server():
    return ArgillaServer()


@pytest.fixture
def client(server):
    return rg.Argilla("http://argilla", "key", mounts={"all://": server.transport()})


@pytest.fixture
def dataset(client):
    settings = rg.Settings(
        fields=[rg.TextField("text")],
        questions=[rg.LabelQuestion("label", labels=["no", "yes"])],
        metadata=[rg.IntegerMetadataProperty("rank"), rg.FloatMetadataProperty("score")],
        allow_extra_metadata=True,
    )
    dataset = rg.Dataset("d", settings=settings, client=client)
    dataset.create()
    return dataset


def test_the_client_reads_the_records_and_sends_them_in_their_order(tmp_path, server, dataset):
    path = tmp_path / "picks.json"
    picks_of().save(path, format="argilla", predicted=["yes", None, "no"])
    dataset.records.from_json(path)
    sent = server.held["records"]
    assert [record["external_id"] for record in sent] == [str(LARGE), "2", f"row {2**61}"]
    assert [record["fields"]["text"] for record in sent] == TEXTS
    assert sent[0]["metadata"] == {"rank": 1, "row": 5, "score": 0.75, "id": LARGE, "n": 1}
    assert sent[1]["metadata"] == {"rank": 2, "row": 0, "score": 0.5, "id": 2}
    found = [
        [(one["question_name"], one["value"], one["score"], one["agent"]) for one in suggestions]
        for suggestions in (record["suggestions"] for record in sent)
    ]
    assert found == [
        [("label", "yes", 0.25, "fastal")], [], [("label", "no", 1 - 1e-12, "fastal")],
    ]  # fmt: skip


def test_records_with_images(tmp_path, server, client):
    settings = rg.Settings(
        fields=[rg.ImageField("url")],
        questions=[rg.LabelQuestion("label", labels=["no", "yes"])],
        allow_extra_metadata=True,
    )
    dataset = rg.Dataset("images", settings=settings, client=client)
    dataset.create()
    (tmp_path / "2.png").write_bytes(b"png")
    urls = ["https://example.org/1.png", str(tmp_path / "2.png")]
    picks = Picks([1, 2], [0.5, 0.25], columns={"url": urls})
    picks.save(tmp_path / "p.json", format="argilla", image_column="url")
    dataset.records.from_json(tmp_path / "p.json")
    found = [record["fields"]["url"] for record in server.held["records"]]
    assert found == [urls[0], "data:image/png;base64,cG5n"]  # the file of a path is sent


def test_what_the_client_exports_is_read(tmp_path, server, dataset):
    picks = picks_of()
    picks.save(tmp_path / "picks.json", format="argilla", predicted=["yes", None, "no"])
    dataset.records.from_json(tmp_path / "picks.json")
    server.respond(2, "label", "yes")
    dataset.records.to_json(tmp_path / "done.json")
    records = json.loads((tmp_path / "done.json").read_text())
    assert [record["status"] for record in records] == ["completed", "completed", "pending"]
    assert records[0]["responses"]["label"][0]["value"] == "yes"
    found = Picks.load(tmp_path / "done.json")
    assert found.rows.tolist() == picks.rows.tolist()
    assert found.scores.tolist() == picks.scores.tolist()
    assert found.ids.tolist() == [LARGE, 2, None]
    assert found["text"].tolist() == TEXTS
    assert found["n"].tolist() == [1, None, 3]


def test_the_client_names_no_status_of_a_response(tmp_path, server, dataset):
    """Drafts and discarded responses look like submitted ones in what it exports."""
    picks_of().save(tmp_path / "picks.json", format="argilla")
    dataset.records.from_json(tmp_path / "picks.json")
    server.respond(1, "label", "yes")
    server.held["records"][0]["responses"][0]["status"] = "discarded"
    dataset.records.to_json(tmp_path / "done.json")
    (record, *_) = json.loads((tmp_path / "done.json").read_text())
    assert record["responses"]["label"] == [{"value": "yes", "user_id": server.user["id"]}]


def test_the_client_allows_no_metadata_that_settings_do_not_name():
    """Its server, whose default is the other one, would refuse such records."""
    assert rg.Settings().allow_extra_metadata is False


def test_the_examples_of_the_page_run(server, client, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    logits = np.random.default_rng(0).normal(size=(300, 2))
    texts = [f"text {row}" for row in range(len(logits))]
    whole = fastal.select(logits, 250).rows.tolist()
    names = {"logits": logits, "texts": texts, "client": client}
    first, second, third = page_code("argilla")
    exec(first, names)
    exec(second, names)
    sent = server.held["records"]
    assert [record["metadata"]["row"] for record in sent] == whole[:100]
    values = [record["suggestions"][0]["value"] for record in sent]
    assert values == [["negative", "positive"][logits[row].argmax()] for row in whole[:100]]
    server.respond(60, "label", "positive")
    exec(third, names)
    assert names["picks"].rows.tolist() == whole[100:200]
    assert names["labels"] == dict.fromkeys(whole[:60], "positive")
    assert {path.name for path in Path().iterdir()} == {"picks.json", "labelled.json"}
