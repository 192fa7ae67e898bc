"""The result of a selection."""

import operator
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray

from fastal.base.argument_values import TASK_COLUMNS
from fastal.base.arrays import as_tensor, converter_for, is_array
from fastal.output.packages import pandas_for
from fastal.picks import display
from fastal.picks.table import ranked, records, table_of
from fastal.sources.expand import PathLike
from fastal.sources.labels import as_column, joined


@dataclass(frozen=True, eq=False, repr=False)
class Picks:
    """The rows most worth labelling, best first.

    Rows with equal scores are in the order of `ties`. With noise, the order is that of the keys
    that were drawn.

    `len(picks)` is the number of picks. `picks[3]` is a pick as a dictionary of plain values, and a
    loop over picks yields such dictionaries. `picks[:10]`, `picks[mask]` and `picks[places]` are
    Picks. `picks["text"]` is a column. `a + b` is `Picks.concat([a, b])`.

    Rows and scores are arrays of the kind and on the device of the pool; for pools of files they
    are NumPy arrays. Ids, groups and carried columns are always NumPy arrays, with text as objects.

    Attributes:
        rows: [k] int64, row numbers in the pool (fewer than k if the pool has fewer valid rows).
        scores: [k] float32, larger = more worth labelling.
        ids: [k], the ids of the rows; None if the pool has none.
        invalid: how many rows of the pool were left out as invalid.
        groups: [k], the groups of the rows; None if there are none.
        strategy: the short name of the strategy, such as "margin" or "k_center"; None if unknown.
        columns: the carried columns, [k] each, by name; see `carry` of `open_pool`.

    Raises:
        ValueError: ids, groups or a column have another length than rows.

    Example:
        >>> import fastal, numpy as np
        >>> logits = np.array([[9.0, 0.0], [0.0, 0.0], [0.0, 1.0]])
        >>> pool = fastal.open_pool(logits, carry={"text": ["sure", "torn", "hm"]})
        >>> picks = fastal.select(pool, k=2, by="ratio")
        >>> picks
        2 picks by ratio
        rank  row    score  text
           1    1        1  torn
           2    2  0.36788  hm
        >>> picks.rows, picks["text"].tolist(), picks.invalid
        (array([1, 2]), ['torn', 'hm'], 0)
        >>> picks[0]
        {'row': 1, 'score': 1.0, 'text': 'torn'}
    """

    rows: Any
    scores: Any
    ids: Any = None
    invalid: int = 0
    groups: Any = None
    strategy: str | None = None
    columns: dict[str, NDArray[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, dtype in (("rows", np.int64), ("scores", np.float32)):
            if not is_array(values := getattr(self, name)):
                values = np.array(values) if len(values) else np.empty(0, dtype)
                if name == "rows" and values.dtype.kind not in "iu":
                    raise TypeError(f"rows: wanted row numbers, got {values.dtype}")
                object.__setattr__(self, name, values.astype(dtype))
        if tuple(self.rows.shape) != tuple(self.scores.shape) or len(self.rows.shape) != 1:
            raise ValueError(
                f"scores: wanted one for each row, [k], got {tuple(self.scores.shape)} for rows of "
                f"shape {tuple(self.rows.shape)}"
            )
        labels = {"ids": self.ids, "groups": self.groups}
        for name, values in labels.items():
            if values is not None:
                object.__setattr__(self, name, self._checked(name, values))
        for name in {"rank", "row", "score", "id", "group", *TASK_COLUMNS} & self.columns.keys():
            raise ValueError(f"columns: {name!r} is the name of a column that all picks have")
        columns = {name: self._checked(name, values) for name, values in self.columns.items()}
        object.__setattr__(self, "columns", columns)

    def __len__(self) -> int:
        return int(self.rows.shape[0])  # not every kind of array has a length

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return records(table_of(self))

    @overload
    def __getitem__(self, index: str) -> NDArray[Any]: ...

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...

    @overload
    def __getitem__(self, index: Any) -> "Picks": ...

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, str):
            table = table_of(self)
            if index not in table:
                raise KeyError(f"no column {index!r}; the picks have {', '.join(table)}")
            return table[index]
        if isinstance(index, (int, np.integer)) and not isinstance(index, bool):
            place = range(len(self))[operator.index(index)]
            return next(iter(self._taken(np.array([place]))))
        if is_array(index) and not isinstance(index, np.ndarray):
            index = as_tensor(index, "index").cpu().numpy()
        elif isinstance(index, list) and not index:
            index = np.empty(0, np.int64)
        places = np.ascontiguousarray(np.arange(len(self))[index])
        if places.ndim != 1:
            raise IndexError(f"wanted a slice, a mask [k] or places [n], got {type(index)}")
        return self._taken(places)

    def __add__(self, other: "Picks") -> "Picks":
        return Picks.concat([self, other]) if isinstance(other, Picks) else NotImplemented

    def __repr__(self) -> str:
        return display.as_text(self)

    def _repr_html_(self) -> str:
        return display.as_html(self)

    @classmethod
    def concat(cls, parts: "Iterable[Picks]") -> "Picks":
        """Picks of one pool, one after the other, in the order given.

        Args:
            parts: at least one. Rows and scores are of the kind of the first. A pick without an id,
                a group or a carried column that another part has gets None there. The counts of
                invalid rows are added: rows that several parts left out count several times.

        Raises:
            ValueError: a row is picked twice, by its id if all picks have ids, else by its number;
                or there are no parts.

        Example:
            >>> import fastal, numpy as np
            >>> scores = np.array([[0.1], [0.9], [0.5]])
            >>> first, second = (fastal.select(scores, k, by=lambda x: x[:, 0]) for k in (1, 2))
            >>> fastal.Picks.concat([first, second[1:]]).rows
            array([1, 2])
            >>> first + second
            Traceback (most recent call last):
            ValueError: concat: row 1 is picked twice
        """
        parts = list(parts)
        if not parts:
            raise ValueError("concat: wanted at least one Picks, got none")
        rows, scores = (
            _concatenated([getattr(part, name) for part in parts]) for name in ("rows", "scores")
        )
        ids, groups = (
            None if all(values is None for values in labels) else _joined(labels, parts)
            for labels in ([part.ids for part in parts], [part.groups for part in parts])
        )
        names = dict.fromkeys(name for part in parts for name in part.columns)
        columns = {name: _joined([p.columns.get(name) for p in parts], parts) for name in names}
        strategies = dict.fromkeys(part.strategy for part in parts if part.strategy is not None)
        found = cls(
            rows, scores, ids, sum(part.invalid for part in parts), groups,
            " + ".join(strategies) or None, columns,
        )  # fmt: skip
        _check_distinct(found)
        return found

    @classmethod
    def load(cls, path: PathLike) -> "Picks":
        """Reads a file of picks that `save` or a command wrote, in the format of its suffix.

        Args:
            path: a .csv, .jsonl, .parquet or .json file; also what Label Studio (JSON), Prodigy
                (`db-out`), doccano (JSONL or JSON) and Argilla (`to_json`) export of such picks. A
                row that several people labelled is one pick.

        Returns:
            Picks. Rows are int64, scores float32. Ids, groups and carried columns have the type
            that they were written with, but those of a .csv file are text. Every column that is not
            rank, row, score, id or group is a carried column.

        Raises:
            ValueError, OSError: the file does not hold picks, or cannot be read.

        Example:
            >>> import fastal, numpy as np
            >>> fastal.select(np.array([[9.0, 0.0], [0.0, 0.0]]), k=1).save("picks.jsonl")
            >>> fastal.Picks.load("picks.jsonl").rows
            array([1])
        """
        from fastal.picks.files import checked_suffix, read_picks

        return read_picks(checked_suffix(Path(path)))

    def save(
        self,
        path: PathLike,
        *,
        format: str | None = None,  # noqa: A002 (the name that users expect)
        text_column: str | None = None,
        image_column: str | None = None,
        label_config: PathLike | None = None,
        predicted: Any = None,
        class_names: Sequence[str] | None = None,
    ) -> None:
        """Writes the picks to a file, which appears whole or not at all.

        The columns are rank (from 1), row and score; then id and group, if the picks have them;
        then the carried columns.

        Args:
            path: the file: .csv, .jsonl (one JSON object per line), .parquet (extra `arrow`), or
                .json (tasks for Label Studio, whose data the columns are). A file that exists is
                replaced.
            format: an annotation tool that reads the file: "prodigy" or "doccano" (.jsonl),
                "argilla" (.json), or "cvat" (.txt, a list of images). None: as the suffix says.
            text_column: with `format`: the column of texts that the annotators see.
            image_column: with `format`: the column of paths or URLs of images that they see. If
                neither is given, `text_column` is "text"; for CVAT, `image_column` is "image".
            label_config: for tasks: the XML file of the project's labelling configuration, which
                then must find all its fields in the tasks. If it has several Choices tags, the file
                and the name of one, as in "config.xml:sentiment".
            predicted: with `label_config` or `format`: [k], the class that the model predicts for
                each pick, as a name or a number; None for a pick without a prediction. Annotators
                see it and correct it. Tasks then have predictions of the model version "fastal",
                and Argilla suggestions of the agent "fastal". Their score is 1 - the score of the
                pick.
            class_names: the names of the classes, in their order; None: the choices of the
                configuration.

        Raises:
            ValueError, OSError: the path has another suffix, or cannot be written; or the
                configuration cannot be read, shows a field that the picks lack or that is None, or
                lacks a class; or the tool of `format` cannot hold a value.
            TypeError: what the annotators would see is no text, such as None.
            ModuleNotFoundError: the format is Parquet, and pyarrow is not installed.

        Example:
            >>> import fastal, numpy as np
            >>> from pathlib import Path
            >>> fastal.select(np.array([[9.0, 0.0], [0.0, 0.0]]), k=1, by="ratio").save("picks.csv")
            >>> Path("picks.csv").read_text().split()
            ['rank,row,score', '1,1,1.0']
        """
        from fastal.picks.files import checked_suffix, save_picks
        from fastal.picks.tool_export import export_for

        export = export_for(format, text_column, image_column)
        target = Path(path) if export is not None else checked_suffix(Path(path))
        save_picks(self, target, label_config, predicted, class_names, export)

    def to_pandas(self) -> Any:
        """A pandas DataFrame with the columns that `save` writes.

        Raises:
            ModuleNotFoundError: pandas is not installed.
        """
        return pandas_for("to_pandas").DataFrame(ranked(self))

    def to_arrow(self) -> Any:
        """A pyarrow Table with the columns that `save` writes.

        Raises:
            ModuleNotFoundError: pyarrow is not installed.

        Example:
            >>> import fastal, numpy as np
            >>> picks = fastal.select(np.array([[9.0, 0.0], [0.0, 0.0]]), k=1)
            >>> picks.to_arrow().column_names
            ['rank', 'row', 'score']
        """
        from fastal.picks.files import arrow_table

        return arrow_table("to_arrow", ranked(self))

    def _checked(self, name: str, values: Any) -> NDArray[Any]:
        """A column as a NumPy array [k]."""
        is_column = isinstance(values, np.ndarray) and values.dtype.kind not in "UT"
        column: NDArray[Any] = values if is_column else as_column(values)
        if column.shape != (len(self),):
            wanted = f"wanted one value for each of {len(self)} picks"
            raise ValueError(f"{name}: {wanted}, got shape {column.shape}")
        return column

    def _taken(self, places: NDArray[np.int64]) -> "Picks":
        """The picks at these places, in this order."""

        def taken(x: Any) -> Any:
            if x is None or isinstance(x, np.ndarray):
                return None if x is None else x[places]
            tensor = as_tensor(x, "picks")
            return converter_for(x)(tensor[torch.from_numpy(places).to(tensor.device)])

        columns = {name: values[places] for name, values in self.columns.items()}
        return replace(
            self, rows=taken(self.rows), scores=taken(self.scores), ids=taken(self.ids),
            groups=taken(self.groups), columns=columns,
        )  # fmt: skip


def _concatenated(arrays: list[Any]) -> Any:
    """Rows or scores of parts, one after the other, as an array of the kind of the first."""
    tensors = [as_tensor(x, "concat") for x in arrays]
    return converter_for(arrays[0])(torch.cat([x.to(tensors[0].device) for x in tensors]))


def _joined(columns: list[Any], parts: list[Picks]) -> NDArray[Any]:
    """A column of parts, one after the other; None for the rows of parts without it."""
    return joined(
        [
            np.full(len(part), None, object) if values is None else values
            for values, part in zip(columns, parts, strict=True)
        ]
    )


def _check_distinct(picks: Picks) -> None:
    """ValueError if a row is picked twice."""
    rows = as_tensor(picks.rows, "concat").tolist()
    ids = [None] * len(rows) if picks.ids is None else picks.ids.tolist()
    by_id = None not in ids
    seen: set[Any] = set()
    for row, label in zip(rows, ids, strict=True):
        # Ids that were read from CSV are text, whatever they were.
        key = str(label) if by_id else row
        if key in seen:
            what = f"id {label!r}" if by_id else f"row {row}"
            raise ValueError(f"concat: {what} is picked twice")
        seen.add(key)
