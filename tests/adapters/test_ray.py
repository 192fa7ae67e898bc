"""Runs on a real Ray cluster: the bytes of the local engine, whatever happens to the workers."""

import os
import signal
import threading

import numpy as np
import pytest

import fastal
from fastal import diversity
from fastal.base.errors import InvalidRows
from fastal.distributed import Ray
from tests.support.ray_runs import cluster, readers, wait_for

ray = pytest.importorskip("ray", reason="Ray is missing; scripts/test-adapters ray has it")

CPUS = 4  # of the cluster, as Ray counts them
TWO = Ray(workers=2, cpus=1)
CLASSES, N = 16, 16 * 600
LOGITS = np.random.default_rng(0).standard_normal((N, CLASSES)).astype(np.float32)
CHUNK_BYTES = 128 * LOGITS[0].nbytes


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")  # writes no token into the home folder
        with cluster(CPUS) as address:
            yield address


@pytest.fixture(autouse=True)
def no_workers_are_left(request):
    yield
    if "address" in request.fixturenames:
        wait_for(lambda: ray.available_resources().get("CPU") == CPUS)
        wait_for(lambda: not readers(os.getpid()))


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pool")
    for i, part in enumerate(np.split(LOGITS, 16)):
        np.save(folder / f"{i:02}.npy", part)
    return folder


def select(pool, engine=TWO, **options):
    return fastal.select(pool, k=300, engine=engine, chunk_bytes=CHUNK_BYTES, **options)


def check_same(picks, want):
    assert (picks.rows == want.rows).all()
    assert (picks.scores == want.scores).all()


def first_logit(x):
    return x[:, 0]


def test_picks_clusters_and_core_sets_are_those_of_the_local_engine(address, pool):
    check_same(select(pool, by="entropy"), select(pool, "local", by="entropy"))
    ours, theirs = (
        diversity.CosineClusters(5, seed=3).fit(pool, engine=engine, chunk_bytes=CHUNK_BYTES)
        for engine in (TWO, "local")
    )
    assert (ours.centroids == theirs.centroids).all()
    ours, theirs = (
        diversity.k_center(pool, k=4, engine=engine, chunk_bytes=CHUNK_BYTES)
        for engine in (TWO, "local")
    )
    check_same(ours, theirs)


def test_a_worker_that_is_killed_is_replaced(address, pool, tmp_path):
    died = tmp_path / "died"

    def by(x):
        if (x[:, 0] == LOGITS[N // 2, 0]).any() and not died.exists():
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return x[:, 0]

    check_same(select(pool, by=by), select(pool, "local", by=first_logit))
    assert died.exists()


def test_a_worker_that_is_killed_from_outside_is_replaced(address, pool, tmp_path):
    waits, goes_on = tmp_path / "waits", tmp_path / "goes-on"

    def by(x):
        import time

        waits.touch()
        while not goes_on.exists():
            time.sleep(0.01)
        return x[:, 0]

    def kill():
        wait_for(waits.exists)
        os.kill(readers(os.getpid())[0], signal.SIGKILL)
        goes_on.touch()

    thread = threading.Thread(target=kill)
    thread.start()
    found = select(pool, by=by)
    thread.join()
    check_same(found, select(pool, "local", by=first_logit))


def test_what_fails_once_is_read_again(address, pool, tmp_path):
    kinds = {OSError: 1, RuntimeError: N // 2, ValueError: N - 1}

    def by(x):
        for kind, row in kinds.items():
            marker = tmp_path / kind.__name__
            if (x[:, 0] == LOGITS[row, 0]).any() and not marker.exists():
                marker.touch()
                raise kind("for a moment")
        return x[:, 0]

    check_same(select(pool, by=by), select(pool, "local", by=first_logit))
    assert {path.name for path in tmp_path.iterdir()} == {kind.__name__ for kind in kinds}


@pytest.mark.parametrize("kind", [OSError, RuntimeError, ValueError])
def test_what_always_fails_is_the_error_of_the_local_engine(address, pool, kind):
    def by(x):
        if (x[:, 0] == LOGITS[N // 2, 0]).any():
            raise kind("no score for such a row")
        return x[:, 0]

    with pytest.raises(kind) as ours:
        select(pool, by=by)
    with pytest.raises(kind) as local:
        select(pool, "local", by=by)
    assert str(ours.value) == str(local.value)


def test_a_shard_that_kills_every_worker_ends_the_run(address, pool):
    def by(x):
        if (x[:, 0] == LOGITS[N // 2, 0]).any():
            os.kill(os.getpid(), signal.SIGKILL)
        return x[:, 0]

    with pytest.raises(OSError, match="3 workers died while they read rows") as error:
        select(pool, by=by)
    assert "\n" not in str(error.value)


def test_invalid_rows_are_those_of_the_local_engine(address, tmp_path):
    logits = LOGITS.copy()
    logits[[N - 1, 4000, 4001]] = np.nan
    pool = np.split(logits, 16)
    for i, part in enumerate(pool):
        np.save(tmp_path / f"{i:02}.npy", part)
    with pytest.raises(InvalidRows) as ours:
        select(tmp_path)
    with pytest.raises(InvalidRows) as local:
        select(tmp_path, "local")
    assert str(ours.value) == str(local.value)
    assert list(ours.value.rows) == list(local.value.rows)
    found, want = (select(tmp_path, engine, on_invalid="skip") for engine in (TWO, "local"))
    check_same(found, want)
    assert found.invalid == want.invalid == 3


def test_what_cannot_be_divided_is_refused_before_there_are_workers(address, pool):
    refused = [
        lambda: select(LOGITS),
        lambda: select(iter([LOGITS])),
        lambda: select([LOGITS[:9], LOGITS[9:]]),
        lambda: diversity.CosineClusters(3, batch_size=512).fit(pool, engine=TWO),
    ]
    for call in refused:
        with pytest.raises(ValueError, match=r"^engine: "):
            call()


def test_other_engines_are_refused(pool):
    with pytest.raises(ValueError, match="engine: wanted local or ray, got 'spark'"):
        select(pool, "spark")
    with pytest.raises(TypeError, match="engine: wanted local or ray, got int"):
        select(pool, 3)
    for wrong in ({"workers": 0}, {"cpus": 0}, {"workers": 1.5}):
        with pytest.raises((TypeError, ValueError), match=next(iter(wrong))):
            Ray(**wrong)


def test_a_process_that_is_connected_to_another_cluster(address, pool):
    with pytest.raises(ValueError, match=f"connected to the Ray cluster at {address}, wanted h:1"):
        select(pool, Ray("h:1"))
