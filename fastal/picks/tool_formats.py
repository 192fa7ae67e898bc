"""What annotation tools read: an example for each pick, in the order of labelling."""

from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, NamedTuple, TypeAlias

from fastal.base.text import as_json, write_json_list

COLUMNS = ("text_column", "image_column")  # the arguments that name what the annotators see


class Example(NamedTuple):
    """A pick as it is written for a tool.

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


_Write: TypeAlias = Callable[[BinaryIO, Iterator[Example]], None]


class Tool(NamedTuple):
    """An annotation tool.

    Attributes:
        suffix: of the files that it reads.
        columns: those of `COLUMNS` that it takes; the first is the default.
        write: writes examples to a file.
        takes_labels: whether its files hold predicted classes.
        rounds_integers: whether large integers pass through a browser, which rounds them.
        refuses_infinity: whether its numbers must be finite.
        is_list: whether its files are lists, with a line for each content.
        renames: whether its files have the content as "text" or "image", whatever its column.
    """

    suffix: str
    columns: tuple[str, ...]
    write: _Write
    takes_labels: bool = True
    rounds_integers: bool = False
    refuses_infinity: bool = False
    is_list: bool = False
    renames: bool = False


def _write_lines(record_of: Callable[[Example], dict[str, Any]]) -> _Write:
    def write(file: BinaryIO, examples: Iterator[Example]) -> None:
        for example in examples:
            file.write(as_json(record_of(example), ensure_ascii=False).encode() + b"\n")

    return write


def _prodigy(example: Example) -> dict[str, Any]:
    """A task of Prodigy; source: the input formats and the interface `choice` in its manual."""
    content = {"image" if example.is_image else "text": example.content}
    accept = {} if example.label is None else {"accept": [example.label]}
    return {**content, "meta": example.values, **accept}


def _doccano(example: Example) -> dict[str, Any]:
    """A line of doccano; source: `data_import` in its code.

    doccano keeps every other field as metadata. The columns are in one field, since it reads lines
    into a DataFrame, where a column of integers and None would become floats; and since it exports
    numbers of its own as `id` unless a field has this name.
    """
    labels = [] if example.label is None else [example.label]
    return {"text": example.content, "label": labels, "fastal": example.values}


def _argilla(example: Example) -> dict[str, Any]:
    """A record of Argilla; source: `Record.from_dict` in its client, validators in its server.

    The id is there for Argilla alone, which updates a record that has it. It is text there. A row
    without an id is named as such, since another row may have its number as an id.
    """
    values = example.values
    identifier = values.get("id", values["row"])
    record = {
        "id": f"row {values['row']}" if identifier is None else str(identifier),
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


def _write_argilla(file: BinaryIO, examples: Iterator[Example]) -> None:
    held = [_argilla(example) for example in examples]
    places: dict[str, int] = {}
    for place, record in enumerate(held, 1):
        if (before := places.setdefault(record["id"], place)) != place:
            raise ValueError(
                f"format: picks {before} and {place} have the same id {record['id']!r} in argilla, "
                "which would keep one of them; wanted ids that differ as text"
            )
    write_json_list(file, held)  # in ASCII, since the client reads files in the system's encoding


def _write_list(file: BinaryIO, examples: Iterator[Example]) -> None:
    file.writelines(example.content.encode() + b"\n" for example in examples)


TOOL_FORMATS = {
    "prodigy": Tool(".jsonl", COLUMNS, _write_lines(_prodigy), rounds_integers=True, renames=True),
    "doccano": Tool(
        ".jsonl", COLUMNS[:1], _write_lines(_doccano), rounds_integers=True, renames=True
    ),
    "argilla": Tool(".json", COLUMNS, _write_argilla, refuses_infinity=True),
    "cvat": Tool(".txt", COLUMNS[1:], _write_list, takes_labels=False, is_list=True),
}
