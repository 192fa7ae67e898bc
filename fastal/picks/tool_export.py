"""Picks as a file for an annotation tool."""

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from fastal.base.argument_values import TOOLS
from fastal.picks.label_config import Control
from fastal.picks.table import Table, records, with_large_integers_as_text
from fastal.picks.tool_formats import COLUMNS, TOOL_FORMATS, Example, Tool


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
        """ValueError if picks with these columns lack the one that annotators see, or hide it."""
        if self._column not in names:
            held = [name for name in names if name not in ("rank", "row", "score")]
            raise ValueError(
                f"{self._argument}: the picks have no column {self._column!r}; wanted one of "
                f"{', '.join(held) or 'those to carry'}, or carry with {self._column!r}"
            )
        shown = self._argument.removesuffix("_column")
        if self._tool.renames and shown != self._column and shown in names:
            raise ValueError(
                f"{self._argument}: {self.tool} holds {self._column!r} as {shown!r}, and the picks "
                f"have another column {shown!r}; wanted only one of them"
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
        if predicted is None:
            if class_names is not None:
                raise ValueError("class_names: wanted predicted, too")
            return None
        found = self.control.labels(predicted, class_names, n)
        for label in found:
            if class_names is not None and label is not None and label not in class_names:
                raise ValueError(f"predicted: {label!r} is none of {', '.join(class_names)}")
        return found

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
        if tool.refuses_infinity:
            self._check_finite(table)
        if tool.rounds_integers:
            table = with_large_integers_as_text(table)
        tool.write(file, self._examples(table, labels))

    @property
    def _tool(self) -> Tool:
        return TOOL_FORMATS[self.tool]

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

    def _examples(self, table: Table, labels: Sequence[str | None] | None) -> Iterator[Example]:
        is_image = self._argument == "image_column"
        for place, record in enumerate(records(table)):
            content = record[self._column]
            if self._column not in ("id", "group"):  # what tells rows from one another stays
                del record[self._column]
            label = None if labels is None else labels[place]
            yield Example(self._column, content, is_image, label, record)

    def _check_contents(self, contents: list[Any]) -> None:
        """ValueError or TypeError if what the annotators would see is no text, or is empty."""
        places: dict[str, int] = {}
        for place, content in enumerate(contents, 1):
            got = f"{self._argument}: pick {place} has {content!r} in column {self._column!r}"
            if not isinstance(content, str):
                raise TypeError(f"{got}; wanted text")
            if not content:
                raise ValueError(f"{got}; wanted text that is not empty")
            if not content.isascii() and content.encode(errors="replace").decode() != content:
                raise ValueError(f"{got}; wanted text that UTF-8 can hold")
            if not self._tool.is_list:
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
    for name, given in zip(COLUMNS, (text_column, image_column), strict=True):
        if given is not None:
            raise ValueError(f"{name}: wanted format, too")
    return None
