"""What all files of a pool must agree on: the names of their columns, and the shape of a row.

The first file decides. Where bad files are skipped, most of the files decide; if two groups are
equally large, the one that comes first.
"""

from collections import Counter
from collections.abc import Callable
from typing import TypeVar

from fastal.sources.location import Location
from fastal.sources.reader import Reader

Reject = Callable[[Location, Exception], None]  # raises the error, or skips the file
Reopen = Callable[[Location, tuple[str, ...]], "Reader | None"]  # None: the file was skipped
T = TypeVar("T")


def with_same_names(
    readers: list[Reader], *, majority: bool, reopen: Reopen, reject: Reject
) -> list[Reader]:
    """The readers whose columns have the names that decide, all of them in the same order.

    Formats without names agree with all others.

    Args:
        readers: of the files, in path order.
        majority: most of the files decide, instead of the first.
        reopen: opens a file once more, to read these columns in this order.
        reject: is called for each file whose columns have other names.
    """
    names = Counter(frozenset(reader.names) for reader in readers if reader.names)
    if not names:
        return readers
    wanted = _decisive(names, majority=majority)
    model = next(r for r in readers if frozenset(r.names or ()) == wanted)
    order = model.names or ()
    agreeing: list[Reader] = []
    for reader in readers:
        if reader.names in (order, ()):
            agreeing.append(reader)
        elif reader.names is None or {*reader.names} == {*order}:
            reopened = reopen(reader.file, order)
            agreeing += [] if reopened is None else [reopened]
        else:
            reject(reader.file, names_differ(reader, model))
    return agreeing


def with_same_shape(readers: list[Reader], *, majority: bool, reject: Reject) -> list[Reader]:
    """The readers whose rows have the shape that decides.

    If a reader does not know the shape of its rows, its `row_shape` is set.

    Args:
        readers: of the files, in path order, at least one.
        majority: most of the files decide, instead of the first.
        reject: is called for each file whose rows have another shape.

    Raises:
        ValueError: no file determines the shape of a row.
    """
    shapes = Counter(r.row_shape for r in readers if r.row_shape is not None)
    if not shapes:
        missing = next((reader for reader in readers if reader.n_rows), None)
        if missing is not None:
            of = repr(missing.names[0]) if missing.names else "its columns"
            raise ValueError(f"{missing.file}: no row of {of} has values")
        raise ValueError(f"{readers[0].file}: no rows, and their shape is not in the file either")
    shape = _decisive(shapes, majority=majority)
    model = next(r for r in readers if r.row_shape == shape)
    agreeing = []
    for reader in readers:
        if reader.row_shape in (shape, None):
            reader.row_shape = shape
            agreeing.append(reader)
            continue
        error = ValueError(
            f"{reader.file}: rows of shape {reader.row_shape}, where those of {model.file} "
            f"are of shape {shape}"
        )
        reject(reader.file, error)
    return agreeing


def names_differ(reader: Reader, model: Reader) -> ValueError:
    """The error of a file whose columns have other names than those of a model.

    It names the first column that only the one has, and the first that only the other has.
    """
    ours, theirs = reader.names or (), model.names or ()
    more = next((name for name in ours if name not in theirs), None)
    less = next((name for name in theirs if name not in ours), None)
    if len(ours) == len(theirs) == 1:
        return ValueError(
            f"{reader.file}: column: wanted the name to read: in this file it can only be "
            f"{more!r}, in {model.file} {less!r}"
        )
    lacks = "" if less is None else f" lacks {less!r}"
    has = "" if more is None else f" has {more!r}"
    return ValueError(
        f"{reader.file}: its columns differ from those of {model.file}: it"
        f"{lacks}{' and' if lacks and has else ''}{has}"
    )


def _decisive(found: "Counter[T]", *, majority: bool) -> T:
    return found.most_common(1)[0][0] if majority else next(iter(found))
