"""A task has the threshold of the shards that are merged, and a worker leaves out what is below."""

import pickle
from pathlib import Path

import numpy as np
import pytest

import fastal
from fastal.distributed.divided_pass import DividedPass
from fastal.distributed.shard_reader import ShardReader
from fastal.distributed.shards import Shard
from fastal.diversity import CosineClusters


@pytest.mark.parametrize(
    "make", [lambda: fastal.Selector(500), lambda: CosineClusters(2).reducer()]
)
def test_a_worker_sends_only_what_beats_the_threshold(make, tmp_path, monkeypatch):
    x = np.random.default_rng(0).standard_normal((30_000, 4)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    source = fastal.open_pool(tmp_path / "x.npy")
    driver, whole = make(), make()
    whole.update(x)
    monkeypatch.setattr(ShardReader, "_fetched", lambda self, reference: reference)
    reader = ShardReader(source, None, str(Path.cwd()))
    of_pass = DividedPass(None, driver, source, 1000)
    given, n_bytes = [pickle.dumps(driver.part())], []
    for start in range(0, 30_000, 5000):
        found, state = reader.read(given, of_pass._task(Shard(start, start + 5000)))
        assert found.error is None
        n_bytes.append(len(state))
        read = driver.part()
        read.load_state_dict(pickle.loads(state))
        driver.merge(read)
    assert n_bytes[-1] < n_bytes[0] / 2
    assert pickle.dumps(driver.state_dict()) == pickle.dumps(whole.state_dict())
