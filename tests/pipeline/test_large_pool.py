"""A pool of 8.4 GB, stored as a sparse file, whose best rows are known."""

import json
import subprocess
import sys

import numpy as np
import pytest

from tests.support.checkout import PYTHONPATH
from tests.support.memory import MEASURE

ROWS, CLASSES = 2_100_000, 1000

CODE = """
import json
def work():
    picks = fastal.select(sys.argv[1], 1000, "margin", kind="probs", on_invalid="skip")
    print(json.dumps([picks.rows.tolist(), picks.scores.tolist(), picks.invalid]))
measure(work)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, writes sparse files")
@pytest.mark.full
def test_planted_rows_of_a_large_pool_are_found_in_64_mb(tmp_path):
    """Rows of zeros are invalid. The margin 1 - (p1 - p2) of the others is known."""
    pool = np.lib.format.open_memmap(tmp_path / "pool.npy", "w+", np.float32, (ROWS, CLASSES))
    first_beyond_4_gib = 2**32 // (4 * CLASSES) + 1
    rows = np.random.default_rng(0).choice(ROWS, 1500, replace=False)
    rows = np.unique([0, 1, 65535, 65536, first_beyond_4_gib, ROWS - 1, *rows])
    second = np.random.default_rng(1).permutation(len(rows)) / (2 * len(rows))
    for row, p in zip(rows, second, strict=True):
        pool[row, [row % CLASSES, (row + 7) % CLASSES]] = 1 - p, p
    del pool
    environment = {"PYTHONPATH": PYTHONPATH}
    python = [sys.executable, "-c", MEASURE + CODE, str(tmp_path / "pool.npy")]
    done = subprocess.run(python, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    (found, scores, invalid), peak = map(json.loads, done.stdout.splitlines())
    order = np.argsort(-second)[:1000]
    assert found == rows[order].tolist()
    np.testing.assert_allclose(scores, 2 * second[order], rtol=1e-5)
    assert invalid == ROWS - len(rows)
    assert peak < 64e6  # the highest rise of the memory that is not page cache
