"""Runs on a real Ray cluster: the bytes of the local engine, whatever happens to the workers."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading

import numpy as np
import pytest
from click.testing import CliRunner

import fastal
from fastal import diversity
from fastal.base.errors import InvalidRows
from fastal.cli import main
from fastal.distributed import Ray, ray_workers
from fastal.pipeline import progress
from tests.support.checkout import environment
from tests.support.ray_runs import (
    SLOW_STEPS,
    SMALL_CHUNKS,
    TERMINATED_EARLY,
    Drive,
    alive,
    cluster,
    descendants,
    is_amid,
    readers,
    wait_for,
)

ray = pytest.importorskip("ray", reason="Ray is missing; scripts/test-adapters ray has it")

CPUS = 4  # of the cluster, as Ray counts them
# Ray writes no token into the home folder, and workers do not wait for all other processes.
OF_RAY = {"RAY_AUTH_MODE": "disabled", "RAY_worker_niceness": "0"}
TWO = Ray(workers=2, cpus=1)
CLASSES, N = 16, 16 * 600
LOGITS = np.random.default_rng(0).standard_normal((N, CLASSES)).astype(np.float32)
CHUNK_BYTES = 128 * LOGITS[0].nbytes


@pytest.fixture(scope="module")
def ray_folder():
    """Where Ray has its files. Paths of sockets have to be short."""
    with tempfile.TemporaryDirectory(prefix="ray") as folder:
        yield folder


@pytest.fixture(scope="module")
def address(ray_folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", ray_folder)
        for name, value in OF_RAY.items():
            patch.setenv(name, value)
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
        diversity.CosineClusters(5, max_iter=3).fit(pool, engine=engine, chunk_bytes=CHUNK_BYTES)
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
    with pytest.raises(TypeError, match="engine: wanted local or ray or an engine, got int"):
        select(pool, 3)
    for wrong in ({"workers": 0}, {"cpus": 0}, {"workers": 1.5}):
        with pytest.raises((TypeError, ValueError), match=next(iter(wrong))):
            Ray(**wrong)


def test_a_process_that_is_connected_to_another_cluster(address, pool):
    with pytest.raises(ValueError, match=f"connected to the Ray cluster at {address}, wanted h:1"):
        select(pool, Ray("h:1"))


def test_an_address_where_nothing_listens(pool, tmp_path):
    """Ray would try it for minutes, and log that."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        nowhere = f"127.0.0.1:{one.getsockname()[1]}"
        select = "select", pool, "--k", 9, "--engine", "ray"
        given = Drive(*select, "--address", nowhere, cwd=tmp_path).wait()
        in_environment = Drive(*select, cwd=tmp_path, RAY_ADDRESS=nowhere).wait()
    error = f"no Ray cluster at {nowhere}: Connection refused"
    assert given == (2, "", [f"Error: --address: {error}"])
    assert in_environment == (2, "", [f"Error: RAY_ADDRESS: {error}"])


def test_an_address_needs_the_engine(pool):
    done = CliRunner().invoke(main, ["select", str(pool), "--k", "9", "--address", "auto"])
    assert done.exit_code == 2
    assert "Error: --address needs --engine ray." in done.output


def test_workers_that_the_cluster_has_no_room_for(address, pool, caplog, monkeypatch):
    monkeypatch.setattr(ray_workers, "_PATIENCE", 0)

    class Other:
        def begun(self):
            return True

    other = ray.remote(Other).options(num_cpus=CPUS).remote()
    assert ray.get(other.begun.remote())

    def leave():
        wait_for(lambda: caplog.messages)
        ray.kill(other)

    thread = threading.Thread(target=leave)
    thread.start()
    found = select(pool, engine=Ray(workers=1))
    thread.join()
    check_same(found, select(pool, "local"))
    assert len(caplog.messages) == 1
    assert caplog.messages[0] == (
        "engine: 1 of 1 workers have not started in 0 s; each takes 2 CPUs and 0 GPUs, and the "
        "cluster has 0 CPUs and 0 GPUs free"
    )


class Commands:
    """Runs a command with both engines, each in a folder of its own."""

    def __init__(self, folder, address):
        self.folders = {"local": folder / "local", "ray": folder / "ray"}
        self.engines = {"local": [], "ray": ["--engine", "ray", "--address", address]}
        for of_engine in self.folders.values():
            of_engine.mkdir(parents=True)

    def run(self, engine, *arguments, code=SMALL_CHUNKS, **options):
        command = *arguments, *self.engines[engine]
        return Drive(*command, code=code, cwd=self.folders[engine], **options)

    def check_same(self, *arguments, out, status=0):
        """The files are the same, and what is printed, but for the times."""
        command = *arguments, "--out", out
        local = self.run("local", *command).wait()
        on_ray = self.run("ray", *command).wait()
        assert local[0] == on_ray[0] == status, (local, on_ray)
        lines = on_ray[2]
        if status != 2:
            assert lines.pop(0) == "Ray: workers: 2, machines: 1"
        assert timeless(lines) == timeless(local[2])
        files = [sorted(path.name for path in one.iterdir()) for one in self.folders.values()]
        assert files[0] == files[1]
        for name in files[0]:
            of_local, of_ray = (one / name for one in self.folders.values())
            if name.endswith(".run.json"):
                assert record(of_ray) == record(of_local)
            else:
                assert of_ray.read_bytes() == of_local.read_bytes()
        return on_ray


def record(path):
    found = json.loads(path.read_text())
    assert found.pop("seconds") > 0
    return found


def timeless(lines):
    """Lines of stderr without what depends on the time, and the lines that show progress."""
    lines = [line for line in lines if not re.match(r"\d+%: ", line)]
    return [re.sub(r" in .* s: .* [KMGT]?B/s", "", line) for line in lines]


@pytest.fixture
def commands(address, tmp_path):
    return Commands(tmp_path, address)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Parquet files with ids, groups, a text; and the ids of rows to exclude."""
    pa = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet")
    folder = tmp_path_factory.mktemp("table")
    for i, part in enumerate(np.split(LOGITS, 16)):
        rows = pa.FixedSizeListArray.from_arrays(pa.array(part.ravel()), CLASSES)
        numbers = range(i * len(part), (i + 1) * len(part))
        columns = {
            "x": rows,
            "id": [f"id {row}" for row in numbers],
            "group": [f"g{row % 7}" for row in numbers],
            "text": [f"text {row}" for row in numbers],
        }
        pa.parquet.write_table(pa.table(columns), folder / f"{i:02}.parquet", row_group_size=250)
    return folder


@pytest.fixture(scope="module")
def excluded(tmp_path_factory):
    path = tmp_path_factory.mktemp("excluded") / "picks.csv"
    ids = [f"id {row}" for row in fastal.select(LOGITS, k=200).rows]
    path.write_text("\n".join(["id", *ids]) + "\n")
    return path


@pytest.mark.parametrize(
    "out", ["picks.csv", pytest.param("picks.parquet", marks=pytest.mark.slow)]
)
def test_a_command_writes_the_same_bytes(commands, table, excluded, out):
    commands.check_same(
        "select", table, "--column", "x", "--id-column", "id", "--carry", "text", "--k", 300,
        "--noise", "power", "--seed", 3, "--exclude", excluded, out=out,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("out", ["scores.npy", "scores.csv"])
def test_scores_are_the_same_bytes(commands, table, pool, out):
    options = ["--column", "x", "--id-column", "id"] if out != "scores.npy" else []
    commands.check_same("score", table if options else pool, *options, out=out)


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        "select --per-group 40 --group-column group",
        "select --k 300 --ties random --seed 4 --by least_confidence",
        "cluster --clusters 5 --random 2 --max-iter 3",
        "outliers --clusters 4 --k 20 --max-iter 3",
        "outliers --validation KNOWN --k 20",
        "represent --training KNOWN --k 20",
        "represent --training KNOWN --k 3 --adaptive",
        "core-set --labelled KNOWN --k 4",
    ],
)
def test_commands_write_the_same_bytes(commands, table, tmp_path, command):
    known = tmp_path / "known.npy"
    np.save(known, LOGITS[:50])
    options = [str(known) if word == "KNOWN" else word for word in command.split()]
    options[1:1] = [table, "--column", "x", "--id-column", "id"]
    commands.check_same(*options, out="picks.csv")


@pytest.fixture
def cut(pool, tmp_path):
    """The pool with a file that is cut short."""
    folder = shutil.copytree(pool, tmp_path / "cut")
    with (folder / "05.npy").open("r+b") as file:
        file.truncate(20_000)
    return folder


@pytest.mark.slow
def test_a_file_that_is_cut_short_ends_a_command(commands, cut):
    _, _, lines = commands.check_same("select", cut, "--k", 300, out="picks.csv", status=2)
    assert len(lines) == 1


def test_a_file_that_is_cut_short_is_skipped(commands, cut):
    skipping = "select", cut, "--k", 300, "--on-bad-file", "skip"
    _, _, lines = commands.check_same(*skipping, out="picks.csv", status=3)
    assert any(line.startswith(f"skipped {cut / '05.npy'}") for line in lines)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["select --k 300", "score", "core-set --k 5"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("group", [False, True], ids=["alone", "group"])
def test_a_run_that_was_ended_goes_on_to_the_same_bytes(commands, pool, command, number, group):
    check_resumed(commands, pool, command.split(), number, group=group)


def test_an_interrupted_run_goes_on_to_the_same_bytes(commands, pool):
    check_resumed(commands, pool, ["select", "--k", 300], signal.SIGINT, group=True)


def check_resumed(commands, pool, command, number, *, group):
    """Ends a run on Ray amid its shards and resumes it."""
    out = "scores.csv" if command == ["score"] else "picks.csv"
    arguments = *command, pool, "--out", out
    assert commands.run("local", *arguments).wait()[0] == 0
    saving = *arguments, "--checkpoint", "saved"
    with commands.run("ray", *saving, code=SLOW_STEPS) as run:
        wait_for(lambda: is_amid(commands.folders["ray"] / "saved"))
        of_run = readers(os.getpid())
        assert of_run
        run.kill(number, group=group)
        status, _, lines = run.wait()
    if number == signal.SIGKILL:
        assert status == -number
    else:
        assert status == 128 + number
        assert timeless(lines)[1:] == [f"interrupted by signal {number}; continue with --resume"]
    wait_for(lambda: not set(readers(os.getpid())) & set(of_run))
    assert is_amid(commands.folders["ray"] / "saved")
    # The local engine can resume what one on Ray has begun.
    engine = [] if number == signal.SIGTERM else commands.engines["ray"]
    again = Drive(*saving, "--resume", *engine, code=SMALL_CHUNKS, cwd=commands.folders["ray"])
    status, _, lines = again.wait()
    assert status == 0, lines
    assert any(line.startswith("resumed at row ") for line in lines)
    local, on_ray = (folder / out for folder in commands.folders.values())
    assert on_ray.read_bytes() == local.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("group", [False, True], ids=["alone", "group"])
def test_nothing_is_left_of_a_cluster_that_a_command_has_started(
    pool, tmp_path, ray_folder, number, group
):
    arguments = "select", pool, "--k", 9, "--engine", "ray", "--out", tmp_path / "picks.csv"
    saving = *arguments, "--checkpoint", tmp_path / "saved"
    with Drive(*saving, code=SLOW_STEPS, RAY_TMPDIR=ray_folder, **OF_RAY) as run:
        wait_for(lambda: is_amid(tmp_path / "saved"))
        of_cluster = descendants(run.pid)
        assert readers(run.pid)
        run.kill(number, group=group)
        status, _, lines = run.wait()
    wait_for(lambda: not alive(of_cluster))
    if number != signal.SIGKILL:
        assert status == 128 + number
        assert timeless(lines)[1:] == [f"interrupted by signal {number}; continue with --resume"]


def test_messages(commands, pool):
    select = "select", pool, "--k", 9
    status, want, lines = commands.run("ray", *select, "--quiet").wait()
    assert (status, want.count("\n"), lines) == (0, 10, [])
    status, out, lines = commands.run("ray", *select, "--log-json").wait()
    assert (status, out) == (0, want)
    events = [json.loads(line) for line in lines]
    want = {"event": "engine", "workers": 2, "machines": 1, "dashboard": None}
    assert events[0] == want
    assert events[-1]["event"] == "done"
    assert {one["event"] for one in events[1:-1]} <= {"progress"}


def test_a_worker_that_is_killed_shows_nowhere(commands, pool):
    """Ray would write paragraphs about it, on standard output."""
    select = "select", pool, "--k", 9
    _, want, _ = commands.run("local", *select).wait()
    with commands.run("ray", *select, "--checkpoint", "saved", code=SLOW_STEPS) as run:
        wait_for(lambda: is_amid(commands.folders["ray"] / "saved"))
        os.kill(readers(os.getpid())[0], signal.SIGKILL)
        status, out, lines = run.wait()
    assert (status, out) == (0, want)
    assert len(timeless(lines)) == 2


def test_progress_advances_by_shards(address, pool, capfd, monkeypatch):
    monkeypatch.setattr(progress, "_SECONDS_A_LINE", 0.0)
    select(pool, progress=True)
    lines = capfd.readouterr().err.splitlines()
    assert lines[0] == "Ray: workers: 2, machines: 1"
    shares = [int(found[1]) for line in lines if (found := re.match(r"(\d+)%: ", line))]
    assert shares == sorted(shares)
    assert shares[-1] == 100
    assert 8 <= len({*shares} - {0}) <= 16


def test_a_signal_that_comes_while_ray_starts(pool, ray_folder):
    run = Drive(
        "select", pool, "--k", 9, "--engine", "ray", code=TERMINATED_EARLY,
        RAY_TMPDIR=ray_folder, **OF_RAY,
    )  # fmt: skip
    assert run.wait() == (143, "", ["interrupted by signal 15"])


@pytest.mark.slow
def test_a_cluster_with_one_cpu(pool, ray_folder):
    check_in_own_process(
        """
        with cluster(1):
            assert ray.available_resources()["CPU"] == 1
            picks = fastal.select(POOL, 300, engine="ray", chunk_bytes=8192)
            assert (picks.rows == fastal.select(POOL, 300).rows).all()
            picks = fastal.select(POOL, 300, engine=Ray(workers=9), chunk_bytes=8192)
            assert (picks.rows == fastal.select(POOL, 300).rows).all()
        """,
        pool, ray_folder,
    )  # fmt: skip


@pytest.mark.slow
def test_workers_that_do_not_start(pool, ray_folder):
    """They name what stops them, here a setting of fastal in their environment."""
    check_in_own_process(
        """
        ray.init(
            num_cpus=2, include_dashboard=False, log_to_driver=False,
            runtime_env={"env_vars": {"FASTAL_NATIVE": "nonsense"}},
        )
        try:
            fastal.select(POOL, 300, engine="ray")
        except OSError as error:
            assert str(error).startswith("engine: workers do not start: "), error
            assert "FASTAL_NATIVE" in str(error), error
            assert str(error).isprintable(), repr(str(error))
            assert len(str(error)) < 300, error
        else:
            raise AssertionError
        """,
        pool, ray_folder,
    )  # fmt: skip


def check_in_own_process(code, pool, ray_folder):
    head = f"""
import fastal, ray
from fastal.distributed import Ray
from tests.support.ray_runs import cluster
POOL = {str(pool)!r}
"""
    variables = environment(RAY_TMPDIR=ray_folder, **OF_RAY)
    command = [sys.executable, "-c", head + textwrap.dedent(code)]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
