"""Tables of labels in CSV."""

import pytest

from fastal.sources.label_files import read_labels


def test_a_table_of_labels_may_have_fields_of_any_length(tmp_path):
    path = tmp_path / "y.csv"
    path.write_text("label,text\n" + "".join(f"{label},{'x' * 200_000}\n" for label in (1, 0, 1)))
    assert read_labels(path, ["label"]).labels.tolist() == [1, 0, 1]


def test_a_line_of_labels_with_other_fields_is_named(tmp_path):
    path = tmp_path / "y.csv"
    path.write_text("row,label\n0,1\n\n1\n")
    with pytest.raises(ValueError, match=r"line 4: wanted 2 fields, .* got 1$"):
        read_labels(path, ["label"])
