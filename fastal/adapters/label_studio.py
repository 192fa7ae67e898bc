"""A backend for Label Studio: predictions and uncertainty of your model, while people label.

It speaks the protocol of Label Studio's machine-learning backends with Python's own HTTP server, so
it needs no package of Label Studio, and it can run where your model runs.
"""

import json
import logging
import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias
from xml.etree import ElementTree as ET

import numpy as np
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
        predict: called with the data of n tasks, as dictionaries; returns [n, C] numbers, as an
            array, a list of rows or a tensor. It is never called from two threads at once.
        fit: called with all annotations that this backend has seen, as pairs of the data of a task
            and the name of the class; returns the new `predict`, or None if the old one has
            learned. If it returns anything else, an error is logged, and the old `predict` stays.
            It runs in a thread of its own, and the old `predict` answers until it returns.
            So `fit` should train a copy of the model. The thread ends with the process, even if
            `fit` still runs. None: the model does not learn.
        fit_every: `fit` is called after so many new or changed annotations. The button "Start
            Training" of Label Studio calls it at once. While `fit` runs, at most one more call
            waits, and it gets all annotations that have come when it begins.
        by: "least_confidence", "margin", "ratio" or "entropy"; see `fastal.score`.
        kind: what `predict` returns: "logits", "probs" or "log_probs".
        class_names: the choices of the labelling configuration in the order of the columns of
            `predict`; None: they are in the order of the configuration.
        control: the name of the `Choices` tag; None: the configuration has one. Only tags with
            `name` and `toName` count.
        name: how the versions of the model begin. Each `fit` makes a version, with the time.

    Attributes:
        version: the present version of the model, which its predictions have.

    Raises:
        ValueError: an unknown `by` or `kind`, `fit_every` below 1, or a name of a class that is
            empty or there twice.
        TypeError: `predict` or `fit` cannot be called, or `class_names` is no list of text.

    Example:
        >>> from fastal.adapters.label_studio import Backend
        >>> backend = Backend(lambda tasks: [[0.9, 0.1] for task in tasks], kind="probs")
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
        kind: str = "logits",
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
        self._class_names = None if class_names is None else _checked_names(class_names)
        self._control, self._name = control, name
        self._examples: dict[int, _Example] = {}  # by the number of the annotation
        self._n_new = 0  # annotations since a fit took its examples
        self._in_predict, self._in_state = threading.Lock(), threading.Lock()
        self._in_fit, self._is_waiting = threading.Lock(), False
        self._learner: threading.Thread | None = None  # the last
        self.version = self._new_version()

    def predictions(self, tasks: list[Data], config: str) -> list[dict[str, Any]]:
        """The predictions for tasks, as Label Studio stores them.

        Args:
            tasks: [n], the data of the tasks.
            config: the XML of the labelling configuration.

        Raises:
            ValueError: the configuration has no such choice; or `predict` returned no numbers, or
                another shape, or a row that is invalid.
        """
        choices = _read_choices(config, self._control)
        classes = choices.classes(self._class_names)
        if not tasks:
            return []
        with self._in_predict:
            version, output = self.version, _as_matrix(self._predict(tasks), len(tasks), classes)
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
            host: the address that it listens at. The server asks for no password, so let only
                Label Studio reach this address.

        Raises:
            OSError: it cannot listen there.
        """
        backend = self

        class Handler(_Handler):
            answers = MappingProxyType({"setup": backend._set_up, "predict": backend._respond})
            events = staticmethod(backend._note)

        return ThreadingHTTPServer((host, port), Handler)

    def _set_up(self, request: Data) -> dict[str, Any]:
        _read_choices(_field(request, "schema", str), self._control).classes(self._class_names)
        return {"model_version": self.version}

    def _respond(self, request: Data) -> dict[str, Any]:
        tasks = [_field(task, "data", dict) for task in _field(request, "tasks", list)]
        found = self.predictions(tasks, _field(request, "label_config", str))
        version = found[0]["model_version"] if found else self.version
        return {"results": found, "model_version": version}

    def _note(self, event: Data) -> None:
        """Keeps the annotations of an event of Label Studio; calls `fit` if it is time."""
        action = _field(event, "action", str)
        changes, gone = self._changes(action, event), _deleted("TASKS_DELETED", "tasks", event)
        with self._in_state:
            for number in [n for n, example in self._examples.items() if example.task in gone]:
                del self._examples[number]
            for number, example in changes:
                if example is None:
                    self._examples.pop(number, None)
                else:
                    self._examples[number] = example
                    self._n_new += 1
            is_due = action == "START_TRAINING" or self._n_new >= self._fit_every
            if self._fit is not None and is_due and not self._is_waiting:
                # A daemon, so that Ctrl-C ends the process while `fit` runs.
                self._learner = threading.Thread(target=self._learn, daemon=True)
                self._learner.start()
                self._is_waiting = True

    def _changes(self, action: str, event: Data) -> list[tuple[int, "_Example | None"]]:
        """The numbers of annotations and their examples; None if they are skipped or deleted."""
        if action not in ("ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_CREATED"):
            return [(n, None) for n in _deleted("ANNOTATIONS_DELETED", "annotations", event)]
        config = _field(_field(event, "project", dict), "label_config", str)
        choices = _read_choices(config, self._control)
        changes = []
        for annotation, task in _pairs(event, is_many=action == "ANNOTATIONS_CREATED"):
            is_skipped = _field(annotation, "was_cancelled", bool)
            label = None if is_skipped else choices.label(_field(annotation, "result", list))
            example = None
            if label is not None:
                example = _Example(_field(task, "id", int), (_field(task, "data", dict), label))
            changes.append((_field(annotation, "id", int), example))
        return changes

    def _learn(self) -> None:
        with self._in_fit:
            with self._in_state:
                examples = [example.pair for example in self._examples.values()]
                self._n_new, self._is_waiting = 0, False
            if examples:
                self._fit_to(examples)
            else:
                _log.warning("fit: not called, since no annotation has come yet")

    def _fit_to(self, examples: list[tuple[Data, str]]) -> None:
        assert self._fit is not None
        try:
            predict = self._fit(examples)
        except Exception:
            _log.exception(
                "fit: it failed on %d annotations; predict stays as it was", len(examples)
            )
            return
        if not (predict is None or callable(predict)):
            _log.error("fit: wanted a function or None, got %r; predict stays as it was", predict)
            return
        with self._in_predict:
            self._predict = self._predict if predict is None else predict
            self.version = self._new_version()

    def _new_version(self) -> str:
        """A name that no earlier run had: Label Studio does not ask again for one that it has."""
        now = datetime.now(timezone.utc).replace(tzinfo=None)
        return f"{self._name} {now.isoformat(timespec='microseconds')}"


class _Example(NamedTuple):
    """What an annotation teaches.

    Attributes:
        task: the number of its task.
        pair: the data of the task, and the name of the class.
    """

    task: int
    pair: tuple[Data, str]


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
        found = _checked_names(self.written if names is None else names)
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
        for part in result:
            if not isinstance(part, dict):
                raise ValueError(f"result: wanted a list of objects, got {json.dumps(part)[:80]}")
        chosen = [
            choice
            for part in result
            if part.get("from_name") == self.name
            for choice in _field(_field(part, "value", dict), "choices", list)
        ]
        if not chosen:
            return None
        if len(chosen) > 1:
            raise ValueError(f"annotation: wanted one choice of {self.name!r}, got {chosen}")
        names = {written: name for name, written in self.written.items()}
        if chosen[0] not in [*names]:
            raise ValueError(
                f"annotation: {chosen[0]!r} is no choice of {self.name!r}, which has "
                f"{', '.join(names)}"
            )
        return names[chosen[0]]


def _read_choices(config: str, name: str | None) -> _Choices:
    """Reads the `Choices` tag of a labelling configuration."""
    try:
        root = ET.fromstring(config, ET.XMLParser(target=_WithoutDoctype()))
    except (ET.ParseError, ValueError) as error:
        raise ValueError(
            f"label_config: wanted the XML of a labelling configuration: {error}"
        ) from error
    named = [tag for tag in root.iter("Choices") if tag.get("name") and tag.get("toName")]
    tags = {tag.get("name", ""): tag for tag in named}
    if name is None and len(tags) == 1:
        (name,) = tags
    if name is None or name not in tags:
        held = ", ".join(map(repr, tags)) or "none"
        wanted = "one Choices tag, or control" if name is None else f"a Choices tag named {name!r}"
        raise ValueError(
            f"control: wanted {wanted}; the labelling configuration has {held} with name and toName"
        )
    tag, to_name = tags[name], tags[name].get("toName", "")
    if not any(of.get("name") == to_name for of in root.iter() if of is not tag):
        raise ValueError(f"label_config: no tag is named {to_name!r}, as {name!r} wants")
    if tag.get("choice", "single").startswith("multiple"):
        raise ValueError("control: wanted one choice per task, got a tag with choice='multiple'")
    written = {
        value: choice.get("alias") or value
        for choice in tag.iter("Choice")
        if (value := choice.get("value")) is not None
    }
    if len(written) < 2:
        raise ValueError(f"control: wanted a tag with two choices or more, got {len(written)}")
    if len(set(written.values())) < len(written):
        raise ValueError(f"control: wanted another alias for each choice, got {written}")
    return _Choices(name, to_name, written)


class _WithoutDoctype(ET.TreeBuilder):
    """Refuses a DOCTYPE, since it may define entities of any length."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:  # noqa: ARG002
        raise ValueError("wanted no DOCTYPE")


def _checked_names(names: Iterable[str]) -> list[str]:
    """The names of classes; ValueError or TypeError if they do not tell classes apart."""
    if isinstance(names, str):
        raise TypeError(f"class_names: wanted a list of names, got {names!r}")
    found = list(names)
    for name in found:
        if not isinstance(name, str):
            raise TypeError(f"class_names: wanted text, got {name!r}")
        if not name:
            raise ValueError(f"class_names: wanted names that are not empty, got {found}")
    if len(set(found)) < len(found):
        raise ValueError(f"class_names: wanted each name once, got {', '.join(found)}")
    return found


def _as_matrix(output: Any, n: int, classes: Sequence[str]) -> torch.Tensor:
    """What `predict` returned, as floats [n, C]."""
    wanted = f"[{n}, {len(classes)}], a column for each of {', '.join(classes)}"
    try:
        matrix = _as_floats(output)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"predict: wanted {wanted}, got {type(output).__name__}: {error}"
        ) from error
    if tuple(matrix.shape) != (n, len(classes)):
        raise ValueError(f"predict: wanted {wanted}, got {tuple(matrix.shape)}")
    return matrix


def _as_floats(output: Any) -> torch.Tensor:
    if isinstance(output, list | tuple) and any(isinstance(row, torch.Tensor) for row in output):
        output = torch.stack([_as_floats(row) for row in output])
    if isinstance(output, torch.Tensor):
        if output.is_complex() or output.dtype == torch.bool:
            raise TypeError(f"it holds {output.dtype}, no real numbers")
        return output if output.is_floating_point() else output.double()
    if isinstance(output, np.ma.MaskedArray):
        raise TypeError("masked values are no numbers")
    array = np.asarray(output)
    if array.ndim == 0 or array.dtype.kind not in "fiuO":
        raise TypeError(f"it holds {array.dtype} of shape {array.shape}, no rows of real numbers")
    is_of_torch = array.dtype.kind == "f" and array.itemsize <= 8
    kind = array.dtype.newbyteorder("=") if is_of_torch else np.dtype(np.float64)
    return torch.from_numpy(array.astype(kind, order="C"))  # a copy, which may be written to


_JSON = {dict: "an object", list: "a list", str: "text", int: "an integer", bool: "true or false"}


def _field(held: Any, name: str, kind: type) -> Any:
    """A field of an object of JSON; ValueError if it is missing or of another type."""
    if not isinstance(held, dict) or name not in held:
        raise ValueError(f"{name}: wanted an object with this field, got {json.dumps(held)[:80]}")
    value = held[name]
    if not isinstance(value, kind):
        raise ValueError(f"{name}: wanted {_JSON[kind]}, got {json.dumps(value)[:80]}")
    return value


def _deleted(action: str, name: str, event: Data) -> set[int]:
    """The numbers of what an event says is deleted, if this is its action."""
    if event["action"] != action:
        return set()
    return {_field(gone, "id", int) for gone in _field(event, name, list)}


def _pairs(event: Data, is_many: bool) -> list[tuple[Data, Data]]:
    """Annotations of an event, each with its task: one, or several with a list of tasks."""
    if not is_many:
        return [(_field(event, "annotation", dict), _field(event, "task", dict))]
    by_number = {_field(task, "id", int): task for task in _field(event, "task", list)}
    pairs = []
    for annotation in _field(event, "annotation", list):
        number = _field(annotation, "task", int)
        if number not in by_number:
            raise ValueError(
                f"task: wanted task {number}, which an annotation has, among the tasks"
            )
        pairs.append((annotation, by_number[number]))
    return pairs


class _Handler(BaseHTTPRequestHandler):
    """The protocol: GET / or /health; POST /setup, /predict and /webhook.

    Attributes:
        answers: what answers a POST, by the path.
        events: takes the body of a POST to /webhook.
    """

    answers: Mapping[str, Callable[[Data], dict[str, Any]]]
    events: Callable[[Data], None]

    def do_GET(self) -> None:
        if self._name() in ("", "health"):
            self._send(200, {"status": "UP"})
        else:
            self._send(404, {"error": "wanted /health"})

    def do_POST(self) -> None:
        name = self._name()
        try:
            body = self._body()
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

    def _name(self) -> str:
        return self.path.partition("?")[0].strip("/")

    def _body(self) -> bytes:
        length = self.headers.get("Content-Length", "0")
        if not (length.isascii() and length.isdecimal()):
            raise ValueError(f"Content-Length: wanted a number of bytes, got {length!r}")
        return self.rfile.read(int(length))

    def _send(self, status: int, answer: dict[str, Any]) -> None:
        content = json.dumps(answer).encode()
        # Of an error, Label Studio shows the reason in the first line alone. A client may refuse a
        # long line.
        reason = re.sub("[^ -~]", "?", " ".join(answer.get("error", "").split()))
        self.send_response(status, reason[:1000] or None)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
        """Logs a request."""
        _log.debug(format, *arguments)
