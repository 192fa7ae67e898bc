"""A backend for Label Studio: predictions and uncertainty of your model, while people label.

It speaks the protocol of Label Studio's machine-learning backends with Python's own HTTP server, so
it needs no package of Label Studio, and it can run where your model runs.
"""

import json
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias
from xml.etree import ElementTree as ET

import torch

import fastal

__all__ = ["Backend"]

Data: TypeAlias = Mapping[str, Any]
Predict: TypeAlias = Callable[[list[Data]], Any]
Fit: TypeAlias = Callable[[list[tuple[Data, str]]], Predict | None]

_METHODS = "least_confidence", "margin", "ratio", "entropy"
_KINDS = "logits", "probs", "log_probs"
_log = logging.getLogger("fastal")


class Backend:
    """A model as a backend of Label Studio, for projects with one choice per task.

    Each prediction holds the class that the model predicts and the score 1 - uncertainty, since
    Label Studio's uncertainty sampling begins with the lowest score.

    Args:
        predict: called with the data of n tasks, as dictionaries; returns [n, C], an array of NumPy
            or torch. It is never called from two threads at once.
        fit: called with all annotations that this backend has seen, as pairs of the data of a task
            and the name of the class; returns the new `predict`, or None if the old one has
            learned. It runs in a thread of its own, and the old `predict` answers until it returns.
            None: the model does not learn.
        fit_every: `fit` is called after so many new or changed annotations. The button "Start
            Training" of Label Studio calls it at once.
        by: "least_confidence", "margin", "ratio" or "entropy"; see `fastal.score`.
        kind: what `predict` returns: "probs", "logits" or "log_probs".
        class_names: the choices of the labelling configuration in the order of the columns of
            `predict`; None: they are in the order of the configuration.
        control: the name of the `Choices` tag; None: the configuration has one.
        name: how the versions of the model begin. Each `fit` makes a version, with the time.

    Attributes:
        version: the present version of the model, which its predictions have.

    Raises:
        ValueError: an unknown `by` or `kind`, or `fit_every` below 1.
        TypeError: `predict` or `fit` cannot be called.

    Example:
        >>> from fastal.adapters.label_studio import Backend
        >>> backend = Backend(lambda tasks: [[0.9, 0.1] for task in tasks])
        >>> config = '''<View><Text name="t" value="$text"/><Choices name="mood" toName="t">
        ...   <Choice value="bad"/><Choice value="good"/></Choices></View>'''
        >>> backend.predictions([{"text": "hm"}], config)[0]["result"][0]["value"]
        {'choices': ['bad']}
    """

    def __init__(
        self,
        predict: Predict,
        fit: Fit | None = None,
        *,
        fit_every: int = 10,
        by: str = "margin",
        kind: str = "probs",
        class_names: Sequence[str] | None = None,
        control: str | None = None,
        name: str = "fastal",
    ) -> None:
        for argument, value, known in (("by", by, _METHODS), ("kind", kind, _KINDS)):
            if value not in known:
                raise ValueError(f"{argument}: wanted one of {known}, got {value!r}")
        if fit_every < 1:
            raise ValueError(f"fit_every: wanted at least 1, got {fit_every}")
        if not callable(predict):
            raise TypeError(f"predict: wanted a function, got {predict!r}")
        if not (fit is None or callable(fit)):
            raise TypeError(f"fit: wanted a function or None, got {fit!r}")
        self._predict, self._fit, self._fit_every = predict, fit, fit_every
        self._by, self._kind = by, kind
        self._class_names, self._control, self._name = class_names, control, name
        self._examples: dict[int, tuple[Data, str]] = {}  # by the number of the annotation
        self._n_new = 0
        self._in_predict, self._in_state = threading.Lock(), threading.Lock()
        self._worker = ThreadPoolExecutor(1)
        self.version = self._new_version()

    def predictions(self, tasks: list[Data], config: str) -> list[dict[str, Any]]:
        """The predictions for tasks, as Label Studio stores them.

        Args:
            tasks: [n], the data of the tasks.
            config: the XML of the labelling configuration.

        Raises:
            ValueError: the configuration has no such choice; or `predict` returned another shape,
                or a row that is invalid.
        """
        choices = _read_choices(config, self._control)
        classes = choices.classes(self._class_names)
        if not tasks:
            return []
        with self._in_predict:
            version, output = self.version, torch.as_tensor(self._predict(tasks))
        if tuple(output.shape) != (len(tasks), len(classes)):
            raise ValueError(
                f"predict: wanted [{len(tasks)}, {len(classes)}], a column for each of "
                f"{', '.join(classes)}, got {tuple(output.shape)}"
            )
        scores = getattr(fastal.score(output, kind=self._kind), self._by).tolist()
        return [
            {
                "model_version": version,
                "score": 1 - score,
                "result": [choices.result(classes[place])],
            }
            for score, place in zip(scores, output.argmax(1).tolist(), strict=True)
        ]

    def server(self, port: int = 9090, host: str = "127.0.0.1") -> ThreadingHTTPServer:
        """The HTTP server, which `serve_forever()` runs.

        Args:
            port: where it listens; 0: any free port, which `server_port` then names.
            host: the address that it listens at. Whoever reaches it can ask for predictions and
                send annotations, so let only Label Studio reach it.

        Raises:
            OSError: it cannot listen there.
        """
        backend = self

        class Handler(_Handler):
            answers = MappingProxyType({"setup": backend._set_up, "predict": backend._respond})
            events = staticmethod(backend._note)

        return ThreadingHTTPServer((host, port), Handler)

    def _set_up(self, request: Data) -> dict[str, Any]:
        _read_choices(request["schema"], self._control).classes(self._class_names)
        return {"model_version": self.version}

    def _respond(self, request: Data) -> dict[str, Any]:
        tasks = [task["data"] for task in request["tasks"]]
        found = self.predictions(tasks, request["label_config"])
        return {"results": found, "model_version": self.version}

    def _note(self, event: Data) -> None:
        """Keeps the annotations of an event of Label Studio; calls `fit` if it is time."""
        action = event.get("action")
        is_due = action == "START_TRAINING"
        with self._in_state:
            if action in ("ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_CREATED"):
                choices = _read_choices(event["project"]["label_config"], self._control)
                for annotation, task in _pairs(event["annotation"], event["task"]):
                    self._keep(annotation, task, choices)
            elif action == "ANNOTATIONS_DELETED":
                for annotation in event["annotations"]:
                    self._examples.pop(annotation["id"], None)
            is_due |= self._n_new >= self._fit_every
            if is_due:
                self._n_new = 0
        if is_due and self._fit is not None:
            self._worker.submit(self._learn)

    def _keep(self, annotation: Data, task: Data, choices: "_Choices") -> None:
        label = None if annotation["was_cancelled"] else choices.label(annotation["result"])
        if label is None:  # skipped, or without a choice
            self._examples.pop(annotation["id"], None)
            return
        self._examples[annotation["id"]] = task["data"], label
        self._n_new += 1

    def _learn(self) -> None:
        assert self._fit is not None
        with self._in_state:
            examples = [*self._examples.values()]
        if not examples:
            _log.warning("fit: not called, since no annotation has come yet")
            return
        try:
            predict = self._fit(examples)
        except Exception:
            _log.exception(
                "fit: it failed on %d annotations; predict stays as it was", len(examples)
            )
            return
        with self._in_predict:
            self._predict = self._predict if predict is None else predict
            self.version = self._new_version()

    def _new_version(self) -> str:
        """A name that no earlier run had: Label Studio does not ask again for one that it has."""
        now = datetime.now(timezone.utc).replace(tzinfo=None)
        return f"{self._name} {now.isoformat(timespec='microseconds')}"


class _Choices(NamedTuple):
    """A `Choices` tag.

    Attributes:
        name: its name.
        to_name: the name of the tag that shows the data.
        written: what an annotation holds for each choice: its value, or its alias.
    """

    name: str
    to_name: str
    written: Mapping[str, str]

    def classes(self, names: Sequence[str] | None) -> list[str]:
        """The names of the classes in the order of the model."""
        found = list(self.written if names is None else names)
        for name in found:
            if name not in self.written:
                raise ValueError(
                    f"class_names: {name!r} is no choice of {self.name!r}, which has "
                    f"{', '.join(self.written)}"
                )
        return found

    def result(self, name: str) -> dict[str, Any]:
        """A choice, as predictions hold it."""
        return {
            "from_name": self.name,
            "to_name": self.to_name,
            "type": "choices",
            "value": {"choices": [self.written[name]]},
        }

    def label(self, result: list[Data]) -> str | None:
        """The name of the choice that an annotation holds; None if it holds none."""
        names = {written: name for name, written in self.written.items()}
        for part in result:
            if part.get("from_name") == self.name:
                (choice,) = part["value"]["choices"]
                if choice not in names:
                    raise ValueError(
                        f"annotation: {choice!r} is no choice of {self.name!r}, which has "
                        f"{', '.join(names)}"
                    )
                return names[choice]
        return None


def _read_choices(config: str, name: str | None) -> _Choices:
    """Reads the `Choices` tag of a labelling configuration."""
    try:
        root = ET.fromstring(config, ET.XMLParser(target=_WithoutDoctype()))
    except ET.ParseError as error:
        raise ValueError(f"label_config: wanted XML: {error}") from error
    tags = {tag.get("name"): tag for tag in root.iter("Choices")}
    held = ", ".join(map(repr, tags)) or "none"
    if name not in tags and (name is not None or len(tags) != 1):
        wanted = "one Choices tag, or control" if name is None else f"a Choices tag named {name!r}"
        raise ValueError(f"control: wanted {wanted}; the labelling configuration has {held}")
    tag = next(iter(tags.values())) if name is None else tags[name]
    if tag.get("choice", "single").startswith("multiple"):
        raise ValueError("control: wanted one choice per task, got a tag with choice='multiple'")
    written = {
        value: choice.get("alias", value)
        for choice in tag.iter("Choice")
        if (value := choice.get("value")) is not None
    }
    if len(written) < 2:
        raise ValueError(f"control: wanted a tag with two choices or more, got {len(written)}")
    return _Choices(tag.get("name", ""), tag.get("toName", ""), written)


class _WithoutDoctype(ET.TreeBuilder):
    """Refuses a DOCTYPE, since it may define entities of any length."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:  # noqa: ARG002
        raise ValueError("label_config: wanted no DOCTYPE")


def _pairs(annotations: Any, tasks: Any) -> list[tuple[Data, Data]]:
    """Annotations of an event, each with its task: one, or several with a list of tasks."""
    if not isinstance(annotations, list):
        return [(annotations, tasks)]
    by_number = {task["id"]: task for task in tasks}
    return [(annotation, by_number[annotation["task"]]) for annotation in annotations]


class _Handler(BaseHTTPRequestHandler):
    """The protocol: GET / or /health; POST /setup, /predict and /webhook.

    Attributes:
        answers: what answers a POST, by the path.
        events: takes the body of a POST to /webhook.
    """

    answers: Mapping[str, Callable[[Data], dict[str, Any]]]
    events: Callable[[Data], None]

    def do_GET(self) -> None:
        if self.path.strip("/") in ("", "health"):
            self._send(200, {"status": "UP"})
        else:
            self._send(404, {"error": "wanted /health"})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        name = self.path.strip("/")
        try:
            if name == "webhook":
                type(self).events(json.loads(body))
                self._send(200, {})
            elif name in self.answers:
                self._send(200, self.answers[name](json.loads(body)))
            else:
                self._send(404, {"error": "wanted /setup, /predict or /webhook"})
        except ValueError as error:
            _log.exception("/%s failed", name)
            self._send(400, {"error": str(error)})
        except Exception as error:
            _log.exception("/%s failed", name)
            self._send(500, {"error": repr(error)})

    def _send(self, status: int, answer: dict[str, Any]) -> None:
        content = json.dumps(answer).encode()
        # Of an error, Label Studio shows the reason in the first line alone.
        reason = answer.get("error", "").encode("ascii", "replace").decode().replace("\n", " ")
        self.send_response(status, reason or None)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
        """Logs a request."""
        _log.debug(format, *arguments)
