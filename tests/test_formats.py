"""Every format gives the picks, ids and groups of the matrix in memory."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastal
from fastal.arrays import as_tensor
from fastal.sources import open_pool
from tests.formats import WRITERS, C, N, data, write

DATA = data()


@pytest.fixture(scope="module")
def pools(tmp_path_factory):
    root = tmp_path_factory.mktemp("formats")
    return {name: write(name, root / name.replace(" ", "-"), DATA) for name in WRITERS}


def chunks_of(source, rows, start=0):
    """Row numbers and rows as float64, of chunks found to be as they should."""
    found, at = [], start
    for chunk in source.chunks(rows, start):
        assert chunk.start == at
        assert len(chunk.x) <= rows
        at += len(chunk.x)
        found.append(np.asarray(as_tensor(chunk.x, "chunk").double()))
    return np.concatenate(found)


@pytest.mark.parametrize("name", WRITERS)
def test_the_same_picks(pools, name):
    path, options, has_labels = pools[name]
    want = fastal.select(DATA.x, 25, "margin")
    of_groups = fastal.select(DATA.x, None, "margin", groups=DATA.groups, per_group=4)
    for chunk_bytes in (1, 4 * C * 33, None):
        source = open_pool(path, **options)
        picks = fastal.select(source, 25, "margin", chunk_bytes=chunk_bytes)
        assert type(picks.rows) is type(picks.scores) is np.ndarray
        assert picks.rows.tolist() == want.rows.tolist()
        np.testing.assert_array_equal(picks.scores, want.scores)
        if not has_labels:
            assert picks.ids is None
            continue
        assert picks.ids.tolist() == DATA.ids[want.rows].tolist()
        picks = fastal.select(source, None, "margin", per_group=4, chunk_bytes=chunk_bytes)
        assert picks.rows.tolist() == of_groups.rows.tolist()
        assert list(picks.groups) == list(of_groups.groups)
        assert picks.ids.tolist() == DATA.ids[of_groups.rows].tolist()


@pytest.mark.parametrize("name", WRITERS)
def test_chunks_from_any_row(pools, name):
    path, options, _ = pools[name]
    source = open_pool(path, **options)
    assert source.n_rows == N
    assert source.row_bytes == C * 4

    @settings(max_examples=12, deadline=None)
    @given(st.integers(1, N + 10), st.integers(0, N - 1))
    def check(rows, start):
        np.testing.assert_array_equal(chunks_of(source, rows, start), DATA.x[start:])

    check()
