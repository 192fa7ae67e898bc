"""Reads tables of text, line by line, with errors that name the file and the line."""

import csv
from collections.abc import Generator
from pathlib import Path

LONGEST_FIELD = 2**31 - 1  # the largest limit that Python's reader accepts


def csv_rows(path: Path) -> Generator[tuple[int, list[str]], None, None]:
    r"""Yields the number of the last line and the fields of each row of a .csv file.

    Raises:
        ValueError: the file is no UTF-8, or no table.
        OSError: it cannot be read.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.csv"
        >>> _ = path.write_text("row,score\n7,0.5\n")
        >>> list(csv_rows(path))
        [(1, ['row', 'score']), (2, ['7', '0.5'])]
    """
    with path.open(encoding="utf-8-sig", newline="") as file:  # spreadsheets add a mark
        lines = csv.reader(file)
        while True:
            # The limit is that of the process: it must not stay while the caller has the row.
            limit = csv.field_size_limit(LONGEST_FIELD)
            try:
                fields = next(lines)
            except StopIteration:
                return
            except (UnicodeDecodeError, csv.Error) as error:
                raise ValueError(f"{path} after line {lines.line_num}: {error}") from error
            finally:
                csv.field_size_limit(limit)
            yield lines.line_num, fields
