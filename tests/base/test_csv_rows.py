"""Tables of text are read with the numbers of their lines, and errors name them."""

import csv

import pytest

from fastal.base.csv_rows import csv_rows


def test_rows_have_the_number_of_their_last_line_and_long_fields_are_read(tmp_path):
    path = tmp_path / "a.csv"
    limit = csv.field_size_limit()
    assert limit < 2**20, "something raised the limit of the process"
    long = "x" * (limit + 1)
    path.write_text(f'\ufeffrow,text\n1,"two\nlines"\n2,{long}\n', "utf-8")
    assert list(csv_rows(path)) == [
        (1, ["row", "text"]),
        (3, ["1", "two\nlines"]),
        (4, ["2", long]),
    ]
    assert csv.field_size_limit() == limit


def test_the_limit_of_the_process_is_as_before_while_rows_are_read(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("1\n2\n")
    limit = csv.field_size_limit()
    first = csv_rows(path)
    next(first)
    second = csv_rows(path)
    next(second)
    assert csv.field_size_limit() == limit
    first.close()
    second.close()
    assert csv.field_size_limit() == limit


def test_a_file_that_is_no_text_is_an_error_that_names_it_and_the_line_before(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"a\n" * 20_000 + b"\xff\n")
    with pytest.raises(ValueError, match=r"a\.csv after line \d+: 'utf-8' codec can't decode"):
        list(csv_rows(path))
