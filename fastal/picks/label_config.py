"""The labelling configuration of a Label Studio project: which choice the annotators make."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree as ET

import numpy as np

from fastal.base.text import shown
from fastal.sources.expand import PathLike


class Control(NamedTuple):
    """A `Choices` tag.

    Attributes:
        config: the file and the name of the tag, for errors.
        name: the name of the tag.
        to_name: the name of the tag that shows the data.
        choices: the values of its choices, and what an annotation holds for each: the value, or the
            alias of the choice. Empty if the choices come from the task.
        fields: the fields that Label Studio wants in every task, `$text` as "text": those that the
            tags with a name show.
    """

    config: str
    name: str
    to_name: str
    choices: Mapping[str, str]
    fields: Sequence[str]

    def check_fields(self, columns: Iterable[str]) -> None:
        """ValueError if a task with these columns lacks a field: Label Studio would refuse it."""
        held = list(columns)
        for field in self.fields:
            if field not in held:
                raise ValueError(
                    f"label_config: {self.config} shows ${shown(field)}, and tasks without it are "
                    f"refused by Label Studio; wanted carry with {field!r}; tasks have "
                    f"{', '.join(held)}"
                )

    def check_values(self, data: Mapping[str, Any]) -> None:
        """ValueError if a field of a task is None: Label Studio would refuse the whole file."""
        for field in self.fields:
            if data[field] is None:
                raise ValueError(
                    f"label_config: {self.config} shows ${shown(field)}, and row {data['row']} has "
                    "None there, which Label Studio refuses; wanted text or a number"
                )

    def classes(self, names: Sequence[str] | None, n_classes: int | None = None) -> list[str]:
        """The name of each class; the choices if `names` is None.

        Args:
            names: the names of the classes, in their order.
            n_classes: the number of classes, if it is known.

        Raises:
            ValueError: a name is no choice, is empty or there twice, or there is not one name for
                each class.
            TypeError: `names` is text.
        """
        if isinstance(names, str):
            raise TypeError(f"class_names: wanted a list of names, got {names!r}")
        found = list(self.choices if names is None else names)
        for name in found:
            if not name:
                raise ValueError(f"class_names: wanted names that are not empty, got {found}")
            self._check_choice("class_names", name)
        if len(set(found)) < len(found):
            raise ValueError(f"class_names: wanted each name once, got {', '.join(found)}")
        if n_classes not in (None, len(found)):
            got = "names" if names is not None else f"choices in {self.config}"
            raise ValueError(
                f"class_names: wanted one name for each of {n_classes} classes, in their order, "
                f"got {len(found)} {got}"
            )
        return found

    def labels(self, predicted: Any, names: Sequence[str] | None, n: int) -> list[str | None]:
        """What the annotation of each of n picks would hold, if the model is right.

        Args:
            predicted: [n], the names of classes, or their numbers; None = no prediction.
            names: the names of the classes, in their order; None: the choices.
            n: the number of picks.

        Raises:
            ValueError, TypeError: there is not one for each pick, or it is no class.
        """
        values = predicted.tolist() if hasattr(predicted, "tolist") else list(predicted)
        if len(values) != n:
            raise ValueError(
                f"predicted: wanted one class for each of {n} picks, got {len(values)}"
            )
        classes = self.classes(names)
        found = []
        for value in values:
            name = value
            if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
                if not classes:
                    raise ValueError(
                        f"class_names: wanted the names of the classes, since predicted has {value}"
                    )
                if not 0 <= value < len(classes):
                    raise ValueError(
                        f"predicted: wanted the numbers of {len(classes)} classes, got {value}"
                    )
                name = classes[value]
            elif not isinstance(value, str | None):
                raise TypeError(f"predicted: wanted names or numbers of classes, got {value!r}")
            if name is not None:
                self._check_choice("predicted", name)
            found.append(None if name is None else self.choices.get(name, name))
        return found

    def _check_choice(self, argument: str, name: str) -> None:
        if self.choices and name not in self.choices:
            raise ValueError(
                f"{argument}: {name!r} is no choice of {self.config}, which has "
                f"{', '.join(self.choices)}"
            )


def read_control(config: PathLike) -> Control:
    """Reads the `Choices` tag of a configuration.

    Args:
        config: an XML file; or, if it has several such tags, the file and the name of one, as in
            "config.xml:sentiment".

    Raises:
        ValueError: the file is no such configuration, has a DOCTYPE, two choices have one alias, or
            it is not clear which tag is meant.
        OSError: it cannot be read.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "config.xml"
        >>> _ = path.write_text('''<View><Text name="t" value="$text"/>
        ...   <Choices name="mood" toName="t"><Choice value="good"/><Choice value="bad"/></Choices>
        ... </View>''')
        >>> control = read_control(path)
        >>> control.name, control.to_name, [*control.choices], control.fields
        ('mood', 't', ['good', 'bad'], ['text'])
    """
    text = os.fspath(config)
    path, name = Path(text), ""
    if not os.path.exists(path) and ":" in text:  # noqa: PTH110 (names may have any length)
        before, _, name = text.rpartition(":")
        path = Path(before)
    root = _parsed(path)
    tags = [tag for tag in root.iter("Choices") if tag.get("name") and tag.get("toName")]
    controls = {tag.get("name", ""): tag for tag in tags}
    if name not in controls and (name or len(controls) != 1):
        held = ", ".join(map(repr, controls)) or "none"
        wanted = f"a Choices tag named {name!r}" if name else f"one Choices tag, or {path}:NAME"
        raise ValueError(f"label_config: {path}: wanted {wanted}; it has {held}")
    found, tag = (name, controls[name]) if name else next(iter(controls.items()))
    to_name = tag.get("toName", "")
    if not any(of.get("name") == to_name for of in root.iter() if of is not tag):
        raise ValueError(f"label_config: {path}: no tag is named {to_name!r}, as {found!r} wants")
    choices = {
        value: choice.get("alias") or value
        for choice in tag.iter("Choice")
        if (value := choice.get("value")) is not None
    }
    if len(set(choices.values())) < len(choices):
        raise ValueError(
            f"label_config: {path}: wanted another alias for each choice of {found!r}, "
            f"got {choices}"
        )
    values = (of.get("value", "") for of in root.iter() if of.get("name"))
    fields = dict.fromkeys(filter(None, map(_field, values)))
    return Control(f"{path}:{found}", found, to_name, choices, list(fields))


def _field(value: str) -> str:
    """The field that the value of a tag shows, as Label Studio finds it; "" if there is none."""
    if len(value) > 1 and value[0] == "$":
        return value[1:].partition("[")[0]  # a part of a list
    within = re.search(r"\$(\w+)", value)
    return within[1] if within else ""


class _WithoutDoctype(ET.TreeBuilder):
    """Refuses a DOCTYPE, since it may define entities of any length."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:  # noqa: ARG002
        raise ValueError("wanted no DOCTYPE")


def _parsed(path: Path) -> Any:
    try:
        return ET.fromstring(path.read_bytes(), ET.XMLParser(target=_WithoutDoctype()))
    except (ET.ParseError, ValueError, LookupError) as error:
        raise ValueError(
            f"label_config: {path}: wanted the XML of a labelling configuration: {error}"
        ) from error
