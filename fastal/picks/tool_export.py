"""Picks as annotation tools read them, in the order in which they are to be labelled."""

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple

from fastal.base.argument_values import TOOLS
from fastal.base.text import as_json
from fastal.picks.label_config import Control
from fastal.picks.table import Table, records, with_large_integers_as_text

_COLUMNS = ("text_column", "image_column")  # the arguments that name what the annotators see


class _Example(NamedTuple):
    """What a tool is told of a pick.

    Attributes:
        column: the name of the column that the annotators see.
        content: its value.
        is_image: whether it is the address of an image.
        label: the name of the predicted class; None: no prediction.
        values: the other columns.
    """

    column: str
    content: str
    is_image: bool
    label: str | None
    values: dict[str, Any]


class _Tool(NamedTuple):
    """A tool.

    Attributes:
        suffix: of the files that it reads.
        columns: those of `_COLUMNS` that it takes; the first is the default.
        write: writes examples to a file.
        takes_labels: whether its files hold predicted classes.
        rounds: whether a browser or pandas rounds its large integers.
        is_finite: whether its numbers must be finite.
        holds_once: whether a content may be there only once, on a line of its own.
    """

    suffix: str
    columns: tuple[str, ...]
    write: Callable[[BinaryIO, Iterator[_Example]], None]
    takes_labels: bool = True
    rounds: bool = False
    is_finite: bool = False
    holds_once: bool = False


@dataclass(frozen=True)
class ToolExport:
    """How picks are written for an annotation tool.

    Args:
        tool: one of `TOOLS`.
        text_column: the column of texts that the annotators see.
        image_column: the column of addresses of images that they see. Without any, `text_column` is
            "text"; for CVAT, `image_column` is "image".

    Raises:
        ValueError: no such tool, both columns are given, or the tool does not take this one.

    Example:
        >>> ToolExport("prodigy").suffix
        '.jsonl'
        >>> ToolExport("cvat", text_column="review")
        Traceback (most recent call last):
        ValueError: text_column: cvat shows images; wanted image_column
    """

    tool: str
    text_column: str | None = None
    image_column: str | None = None

    def __post_init__(self) -> None:
        if self.tool not in TOOLS:
            raise ValueError(f"format: wanted one of {', '.join(TOOLS)}, got {self.tool!r}")
        if self.text_column is not None and self.image_column is not None:
            raise ValueError("text_column and image_column: wanted one of them, got both")
        if self._argument not in self._tool.columns:
            shows = "images" if self._argument == "text_column" else "texts"
            wanted = self._tool.columns[0]
            raise ValueError(f"{self._argument}: {self.tool} shows {shows}; wanted {wanted}")

    @property
    def suffix(self) -> str:
        """The suffix of the file."""
        return self._tool.suffix

    @property
    def control(self) -> Control:
        """Stands for a labelling configuration: every name is a class."""
        return Control(self.tool, "", "", {}, ())

    def check_columns(self, names: Collection[str]) -> None:
        """ValueError if picks with these columns lack the one that the annotators see."""
        if self._column not in names:
            held = [name for name in names if name not in ("rank", "row", "score")]
            raise ValueError(
                f"{self._argument}: the picks have no column {self._column!r}; wanted one of "
                f"{', '.join(held) or 'those to carry'}, or carry with {self._column!r}"
            )

    def check_takes_labels(self, argument: str) -> None:
        """ValueError if the files of the tool hold no predicted classes."""
        if not self._tool.takes_labels:
            raise ValueError(f"{argument}: {self.tool} reads a list of images without classes")

    def labels(
        self, predicted: Any, class_names: Sequence[str] | None, n: int
    ) -> list[str | None] | None:
        """The names of the predicted classes of n picks; see `Picks.save` for the arguments."""
        for name, given in (("predicted", predicted), ("class_names", class_names)):
            if given is not None:
                self.check_takes_labels(name)
        if predicted is not None:
            return self.control.labels(predicted, class_names, n)
        if class_names is not None:
            raise ValueError("class_names: wanted predicted, too")
        return None

    def write(
        self, file: BinaryIO, table: Table, labels: Sequence[str | None] | None = None
    ) -> None:
        """Writes picks, best first. Whatever cannot be written is found before the first byte.

        Args:
            file: open for writing bytes.
            table: the columns of the picks.
            labels: [k], the names of the predicted classes; None for a pick without a prediction.

        Raises:
            ValueError, TypeError: a value that the tool cannot hold.
        """
        tool = self._tool
        self.check_columns([*table])
        self._check_contents(table[self._column].tolist())
        if tool.is_finite:
            self._check_finite(table)
        if tool.rounds:
            table = with_large_integers_as_text(table)
        tool.write(file, self._examples(table, labels))

    @property
    def _tool(self) -> _Tool:
        return _TOOLS[self.tool]

    @property
    def _argument(self) -> str:
        """The argument that names the column."""
        if self.text_column is None and self.image_column is None:
            return self._tool.columns[0]
        return "image_column" if self.text_column is None else "text_column"

    @property
    def _column(self) -> str:
        given = [name for name in (self.text_column, self.image_column) if name is not None]
        return given[0] if given else self._argument.removesuffix("_column")

    def _examples(self, table: Table, labels: Sequence[str | None] | None) -> Iterator[_Example]:
        is_image = self._argument == "image_column"
        for place, record in enumerate(records(table)):
            content = record.pop(self._column)
            label = None if labels is None else labels[place]
            yield _Example(self._column, content, is_image, label, record)

    def _check_contents(self, contents: list[Any]) -> None:
        """ValueError or TypeError if what the annotators would see is no text, or is empty."""
        places: dict[str, int] = {}
        for place, content in enumerate(contents, 1):
            got = f"{self._argument}: pick {place} has {content!r} in column {self._column!r}"
            if not isinstance(content, str):
                raise TypeError(f"{got}; wanted text")
            if not content:
                raise ValueError(f"{got}; wanted text that is not empty")
            if not self._tool.holds_once:
                continue
            if content.splitlines() != [content]:
                raise ValueError(f"{got}; wanted a name on one line of a list")
            if places.setdefault(content, place) != place:
                raise ValueError(
                    f"{got}, as pick {places[content]} has; wanted each image once in a list"
                )

    def _check_finite(self, table: Table) -> None:
        for name, values in table.items():
            for place, value in enumerate(values.tolist(), 1):
                if isinstance(value, float) and not math.isfinite(value):
                    raise ValueError(
                        f"format: pick {place} has {value} in column {name!r}; {self.tool} holds "
                        "finite numbers only"
                    )


def export_for(
    tool: str | None, text_column: str | None, image_column: str | None
) -> ToolExport | None:
    """The export that arguments ask for; None without a tool.

    Raises:
        ValueError: see `ToolExport`; or a column is given without a tool.
    """
    if tool is not None:
        return ToolExport(tool, text_column, image_column)
    for name, given in zip(_COLUMNS, (text_column, image_column), strict=True):
        if given is not None:
            raise ValueError(f"{name}: wanted format, too")
    return None


def _write_lines(record_of: Callable[[_Example], dict[str, Any]]) -> Any:
    def write(file: BinaryIO, examples: Iterator[_Example]) -> None:
        for example in examples:
            file.write(as_json(record_of(example), ensure_ascii=False).encode() + b"\n")

    return write


def _prodigy(example: _Example) -> dict[str, Any]:
    """A task of Prodigy; source: the input formats and the interface `choice` in its manual."""
    content = {"image" if example.is_image else "text": example.content}
    accept = {} if example.label is None else {"accept": [example.label]}
    return {**content, "meta": example.values, **accept}


def _doccano(example: _Example) -> dict[str, Any]:
    """A line of doccano; source: `data_import` in its code.

    doccano keeps every other field as metadata. The columns are in one field, since it reads lines
    into a DataFrame, where a column of integers and None would become floats; and since it exports
    numbers of its own as `id` unless a field has this name.
    """
    labels = [] if example.label is None else [example.label]
    return {"text": example.content, "label": labels, "fastal": example.values}


def _argilla(example: _Example) -> dict[str, Any]:
    """A record of Argilla; source: `Record.from_dict` in its client, validators in its server.

    The id is there for Argilla alone, which updates a record that has it. It is text there.
    """
    values = example.values
    identifier = values.get("id")
    record = {
        "id": str(values["row"] if identifier is None else identifier),
        "fields": {example.column: example.content},
        "metadata": {name: value for name, value in values.items() if value is not None},
    }
    if example.label is None:
        return record
    confidence = 1 - values["score"]
    suggestion = {
        "value": example.label,
        "score": confidence if 0 <= confidence <= 1 else None,
        "agent": "fastal",
    }
    return {**record, "suggestions": {"label": suggestion}}


def _write_argilla(file: BinaryIO, examples: Iterator[_Example]) -> None:
    separator = b"[\n"
    for example in examples:  # in ASCII, since the client reads files in the system's encoding
        file.write(separator + as_json(_argilla(example)).encode())
        separator = b",\n"
    file.write(b"[]\n" if separator == b"[\n" else b"\n]\n")


def _write_list(file: BinaryIO, examples: Iterator[_Example]) -> None:
    file.writelines(example.content.encode() + b"\n" for example in examples)


_TOOLS = {
    "prodigy": _Tool(".jsonl", _COLUMNS, _write_lines(_prodigy), rounds=True),
    "doccano": _Tool(".jsonl", _COLUMNS[:1], _write_lines(_doccano), rounds=True),
    "argilla": _Tool(".json", _COLUMNS, _write_argilla, is_finite=True),
    "cvat": _Tool(".txt", _COLUMNS[1:], _write_list, takes_labels=False, holds_once=True),
}
