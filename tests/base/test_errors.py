"""Errors about rows keep what they say under other names."""

import pickle

import fastal


def test_invalid_rows_are_renamed_without_advice_to_skip_them():
    error = fastal.InvalidRows([1, 4], 7, (0, 9), "has NaN", looks="they look like logits")
    renamed = error.renamed("x: sample", [30, 40])
    assert type(renamed) is fastal.InvalidRows
    assert str(renamed) == "x: sample 30 has NaN; 7 such: 30, 40, ...; they look like logits"
    assert (renamed.rows, renamed.count, renamed.span) == ([30, 40], 7, (0, 9))
    assert error.rows == [1, 4]
    for found in (pickle.loads(pickle.dumps(renamed)), renamed.located("")):
        assert str(found) == str(renamed)
    assert str(renamed.located("a.npy")).startswith("x: sample 30 (a.npy) has NaN; 7 such")
