"""A stand-in for Argilla's server: it keeps what its client sends, and sends it back."""

import json
import uuid
from collections import defaultdict

import httpx

_TIMES = {"inserted_at": "2026-01-01T00:00:00", "updated_at": "2026-01-01T00:00:00"}


class ArgillaServer:
    """Answers the requests of one client.

    Attributes:
        user: who is logged in.
        held: what the client created, by kind: "datasets", "questions", "records" and others.
    """

    def __init__(self):
        self.user = {"id": _new_id(), "username": "u", "role": "owner", "first_name": "u"}
        self.workspace = {"id": _new_id(), "name": "w", **_TIMES}
        self.held = defaultdict(list)

    def transport(self):
        """What `httpx.Client` sends requests with."""
        return httpx.MockTransport(self.answer)

    def answer(self, request):
        *_, parent, last = request.url.path.split("/")
        sent = json.loads(request.content) if request.content else None
        if last == "me":
            return httpx.Response(200, json=self.user)
        if last == "workspaces":
            return httpx.Response(200, json={"items": [self.workspace]})
        if last == "bulk":
            return httpx.Response(200, json=self._records(sent["items"]))
        if request.method == "POST":
            made = {**sent, "id": _new_id(), "status": "draft"}
            self.held[last].append(made)
            return httpx.Response(201, json=made)
        if request.method in ("PATCH", "PUT") or parent == "datasets":
            return httpx.Response(200, json=self.held["datasets"][0])
        items = self.held[last]
        if last == "records":
            items = items[int(request.url.params["offset"]) :]
            items = items[: int(request.url.params["limit"])]
        return httpx.Response(200, json={"items": items})

    def _records(self, sent):
        for record in sent:
            names = [one["question_name"] for one in record["suggestions"]]
            ids = {one["name"]: one["id"] for one in self.held["questions"]}
            suggestions = [
                {**one, "question_id": ids[name]}
                for one, name in zip(record["suggestions"], names, strict=True)
            ]
            self.held["records"].append({**record, "id": _new_id(), "suggestions": suggestions})
        return {"items": [], "updated_item_ids": []}

    def respond(self, n, question, value):
        """The user answers a question of the first n records."""
        for record in self.held["records"][:n]:
            answers = {question: {"value": value}}
            record["status"] = "completed"
            record["responses"] = [
                {"id": _new_id(), "values": answers, "status": "submitted",
                 "user_id": self.user["id"]}
            ]  # fmt: skip


def _new_id():
    return str(uuid.uuid4())
