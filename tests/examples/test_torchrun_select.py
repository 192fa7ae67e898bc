"""The script for torchrun, with two processes that talk through gloo."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.utils.data import DistributedSampler

import fastal
from tests.support.checkout import ROOT, environment

LOGITS = np.random.default_rng(0).normal(size=(1001, 4)).astype(np.float32).round(1)  # with ties


def run_script(folder, *arguments):
    """Runs the script in two processes; what it printed."""
    script = str(ROOT / "examples" / "torchrun_select.py")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    return subprocess.run(
        [*launcher, "2", script, *arguments], cwd=folder, env=environment(OMP_NUM_THREADS="1"),
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


@pytest.mark.full
def test_two_processes_save_the_picks_of_one(tmp_path):
    (tmp_path / "pool").mkdir()
    for part, rows in enumerate(np.split(LOGITS, [70, 400])):
        np.save(tmp_path / "pool" / f"{part}.npy", rows)
    done = run_script(tmp_path, "pool", "two.csv", "100")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "100 picks of 1001 rows, read by 2 processes: two.csv\n"
    want = fastal.select(tmp_path / "pool", 100)
    want.save(tmp_path / "one.csv")
    assert (tmp_path / "two.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()
    assert (want.rows < 500).any() and (want.rows > 500).any()  # both found some


@pytest.mark.full
def test_an_invalid_row_in_the_share_of_the_other_process_ends_both(tmp_path):
    logits = LOGITS.copy()
    logits[900, 1] = np.nan
    np.save(tmp_path / "pool.npy", logits)
    done = run_script(tmp_path, "pool.npy", "picks.csv")
    assert done.returncode != 0
    assert "row 900 (pool.npy row 900) has NaN" in done.stderr
    assert not (tmp_path / "picks.csv").exists()


def test_a_distributed_sampler_gives_rows_to_two_processes_or_leaves_rows_out():
    """What the page warns of."""
    for drop_last, counts in ((False, {1, 2}), (True, {0, 1})):
        samplers = [
            DistributedSampler(range(1001), 3, rank, shuffle=False, drop_last=drop_last)
            for rank in range(3)
        ]
        rows = torch.tensor([row for sampler in samplers for row in sampler])
        assert set(rows.bincount(minlength=1001).tolist()) == counts
