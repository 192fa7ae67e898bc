"""The rows most worth labelling, as an aggregate of Daft."""

import logging
from typing import Any, TypeAlias

import daft
import numpy as np
import pyarrow as pa
import pyarrow.compute
from daft import DataType, Expression, Series
from numpy.typing import NDArray

import fastal

__all__ = ["top_k"]

State: TypeAlias = dict[str, Any]

_log = logging.getLogger("fastal")


def top_k(
    logits: Any,
    ids: Any,
    k: int,
    by: Any = "margin",
    *,
    kind: str = "logits",
    temperature: float = 1.0,
    on_invalid: str = "raise",
    id_type: Any = None,
) -> Any:
    """An aggregate for `agg`: the k most uncertain rows of a DataFrame, or of each group.

    Each part of the DataFrame is reduced to its k best rows, and these are merged. The picks are
    exactly those of `fastal.select` over all rows in ascending order of their ids, for any parts in
    any order.

    Args:
        logits: a column, as a name or an expression: lists of numbers of one length, also of the
            types fixed-size list, embedding and tensor with one axis; or numbers, with by="score".
            Rows that are missing are invalid.
        ids: a column of different integers or texts, as a name or an expression.
        k: how many rows to pick, at least 1.
        by: see `fastal.Selector`; not "random".
        kind: see `fastal.Selector`.
        temperature: see `fastal.Selector`.
        on_invalid: "raise", or "skip" to leave invalid rows out; a warning then says how many.
        id_type: the type of the ids, a `daft.DataType`; None: text.

    Returns:
        An expression of lists of structs {"id", "score"}, best first; of rows with equal scores,
        the lowest id comes first. Scores are float32. `explode` and `unnest` make rows of them.

    Raises:
        ValueError, TypeError: a bad argument; the message names it. While Daft runs: an invalid row
            with on_invalid="raise", an id that is missing, of another type or there twice, tensors
            of several axes, or lists of several lengths in a group. Of an id that is in two parts,
            it is noticed only if both rows are among the best of their parts.

    Example:
        >>> import daft
        >>> from fastal.adapters.daft import top_k
        >>> frame = daft.from_pydict(
        ...     {"id": ["a", "b", "c"], "logits": [[9.0, 0.0], [0.1, 0.0], [0.0, 0.5]]}
        ... )
        >>> found = frame.agg(top_k("logits", "id", k=2, by="ratio").alias("picks"))
        >>> found.explode("picks").select(daft.col("picks").unnest()).to_pydict()["id"]
        ['b', 'c']
    """
    if isinstance(by, str) and by == "random":
        raise ValueError("by: wanted a score of the values, got 'random', which is of row numbers")
    options = {"kind": kind, "temperature": temperature, "on_invalid": on_invalid}
    fastal.Selector(k, by, **options)  # type: ignore[arg-type]  # checks the arguments
    of_ids = DataType.string() if id_type is None else id_type
    if not (isinstance(of_ids, DataType) and (of_ids.is_string() or of_ids.is_integer())):
        raise TypeError(f"id_type: wanted the DataType of text or of integers, got {of_ids!r}")
    columns = [daft.col(x) if isinstance(x, str) else x for x in (logits, ids)]
    for name, column in zip(("logits", "ids"), columns, strict=True):
        if not isinstance(column, Expression):
            raise TypeError(f"{name}: wanted a column, as a name or an expression, got {column!r}")
    aggregate = daft.udaf(
        return_dtype=DataType.list(DataType.struct({"id": of_ids, "score": DataType.float32()})),
        state={
            "k": DataType.int64(),
            "width": DataType.int64(),
            "ids": DataType.list(of_ids),
            "scores": DataType.list(DataType.float32()),
            "invalid": DataType.int64(),
        },
    )(_TopK)
    return aggregate()(*columns, {"k": k, "by": by, **options}, str(of_ids))


class _TopK:
    """The three steps of an aggregate. It has no arguments of its own: the state holds k.

    Daft keeps instances by the addresses of their arguments, which another aggregate may get later.
    """

    def aggregate(
        self, logits: Series, ids: Series, options: dict[str, Any], id_type: str
    ) -> State:
        """The state of a part of the rows."""
        k = options["k"]
        if str(ids.datatype()) != id_type:
            raise TypeError(f"id_type: wanted the type of the ids, {ids.datatype()}, got {id_type}")
        of_rows = ids.to_arrow()
        if of_rows.null_count:
            raise ValueError("ids: a row has no id")
        if not len(of_rows):
            return {"k": k, "width": 0, "ids": [], "scores": [], "invalid": 0}
        selector = fastal.Selector(**options)
        order = _order(of_rows)
        rows, width = _rows(logits)
        try:
            selector.update(rows[order])
        except fastal.InvalidRows as error:
            one = of_rows[int(order[error.rows[0]])].as_py()
            raise ValueError(
                f"logits: the row with the id {one!r} {error.reason}; {error.count} such in this "
                "part of the rows. on_invalid='skip' leaves them out"
            ) from None
        return _state(k, width, of_rows, order, selector.result(), selector.invalid)

    def combine(self, states: dict[str, Series]) -> State:
        """The state of several parts."""
        k = max(states["k"].to_pylist())
        widths = [width for width in states["width"].to_pylist() if width]
        _check_widths(np.array(widths))
        ids, scores = (states[name].to_arrow().flatten() for name in ("ids", "scores"))
        selector, order = fastal.Selector(k, "score"), _order(ids)
        selector.update(scores.to_numpy(zero_copy_only=False)[order])
        n_invalid = sum(states["invalid"].to_pylist())
        return _state(k, max(widths, default=0), ids, order, selector.result(), n_invalid)

    def finalize(self, state: State) -> list[dict[str, Any]]:
        """The picks, best first."""
        if state["invalid"]:
            _log.warning("top_k: %d rows are invalid and left out", state["invalid"])
        pairs = zip(state["ids"], state["scores"], strict=True)
        return [{"id": one, "score": score} for one, score in pairs]


def _order(ids: pa.Array) -> NDArray[np.int64]:
    """The places of the ids in ascending order; ValueError if one is there twice."""
    order: NDArray[np.int64] = pa.compute.sort_indices(ids).to_numpy().astype(np.int64)
    ascending = ids.take(order)
    repeated = pa.compute.equal(ascending[1:], ascending[:-1]).to_numpy(zero_copy_only=False)
    if repeated.any():
        place = int(repeated.argmax())
        raise ValueError(f"ids: {ascending[place].as_py()!r} is there twice")
    return order


def _state(
    k: int, width: int, ids: pa.Array, order: NDArray[np.int64], picks: fastal.Picks, n_invalid: int
) -> State:
    """The state after a selection among rows in ascending order of their ids."""
    found, scores = ids.take(order[picks["row"]]).to_pylist(), picks["score"].tolist()
    return {"k": k, "width": width, "ids": found, "scores": scores, "invalid": n_invalid}


def _rows(column: Series) -> tuple[NDArray[Any], int]:
    """The rows of a column, and how many values each list has.

    Returns:
        [n, C] of lists, or numbers [n], where missing rows are NaN; and C, which is 0 if it is not
        known since all lists are missing, or if the column has numbers.
    """
    lists = _lists(column)
    if column.datatype().is_numeric():
        return lists.to_numpy(zero_copy_only=False), 0
    is_present = lists.is_valid()
    present = is_present.to_numpy(zero_copy_only=False)
    lengths = pa.compute.list_value_length(lists).to_numpy(zero_copy_only=False)[present]
    _check_widths(lengths)
    values = lists.filter(is_present).flatten().to_numpy(zero_copy_only=False)
    if values.dtype.kind not in "iuf":
        raise TypeError(f"logits: wanted lists of numbers, got {column.datatype()}")
    if not len(lengths):
        return np.full((len(lists), 2), np.nan, np.float16), 0  # any width will do
    width = int(lengths[0])
    rows: NDArray[Any] = values.reshape(len(lengths), width)
    if present.all():
        return rows, width
    with_missing = np.full((len(lists), width), np.nan, np.result_type(rows, np.float16))
    with_missing[present] = rows
    return with_missing, width


def _check_widths(widths: NDArray[Any]) -> None:
    if len(widths) and widths.min() < widths.max():
        raise ValueError(f"logits: lists of {int(widths.min())} and of {int(widths.max())} values")


def _lists(column: Series) -> pa.Array:
    """The lists, or the numbers, of a column; TypeError if it has others, or several axes."""
    of, found, n_axes = column.datatype(), column.to_arrow(), [1]
    if of.is_tensor():
        found, shapes = found.storage.flatten()
        n_axes = pa.compute.list_value_length(shapes).drop_null().unique().to_pylist()
    elif of.is_fixed_shape_tensor():
        found, n_axes = found.storage, [len(of.shape)]
    elif of.is_embedding():
        found = found.storage
    elif not (of.is_list() or of.is_fixed_size_list() or of.is_numeric()):
        raise TypeError(f"logits: wanted lists of numbers, got {of}")
    others = [n for n in n_axes if n != 1]
    if others:
        raise TypeError(f"logits: wanted tensors with one axis, got some with {others[0]}")
    return found
