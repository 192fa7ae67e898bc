"""Files that are cut short while they are read: reported, never fatal, never another's matter."""

import os
import signal
import subprocess
import sys

import pytest
import torch

from fastal.base.memory_guard import guarded
from fastal_kernels import native
from tests.support.checkout import environment

pytestmark = pytest.mark.skipif(
    bool(native.reasons()) or sys.platform != "linux", reason="not compiled here, or not Linux"
)

HEAD = """
import ctypes, faulthandler, mmap, os, signal, sys, threading, time
import numpy as np
import torch
from fastal import ops as backend
from fastal.base.arrays import as_tensor
from fastal.base.memory_guard import guarded
from fastal_kernels import native
from fastal_kernels.native import _native

PAGE = mmap.PAGESIZE
torch.set_num_threads(2)
native.LEAST_SHARE = 1
libc = ctypes.CDLL(None)

def mapped(n_rows=4000, n_classes=100, path="pool.npy"):
    x = np.random.default_rng(0).standard_normal((n_rows, n_classes), np.float32)
    np.save(path, x)
    array = np.load(path, mmap_mode="r")
    return path, array, as_tensor(array, path)

def lost_from(array, size):
    "The first row that a cut to so many bytes takes something of, and the first in a lost page."
    row = array.strides[0]
    return max(0, size - array.offset) // row, max(0, -(-size // PAGE) * PAGE - array.offset) // row

def bits(scores):
    return torch.stack(list(scores)).view(torch.int32)

def score(x, name):
    return backend.uncertainty(x, ["entropy", "margin"], backend=name)

class Action(ctypes.Structure):  # struct sigaction
    _fields_ = [("handler", ctypes.c_void_p), ("mask", ctypes.c_ulong * 16),
                ("flags", ctypes.c_int), ("restorer", ctypes.c_void_p)]

def action():
    now = Action()
    assert libc.sigaction(int(signal.SIGBUS), None, ctypes.byref(now)) == 0
    return now.handler, now.mask[0], now.flags & ~0x04000000  # the C library's own, SA_RESTORER

def free_slots():
    taken = []
    while (guard := _native.guard(PAGE, 1)) >= 0:
        taken.append(guard)
    for guard in taken:
        _native.unguard(guard)
    return len(taken)

def ends(function):
    "How a fork ends that calls it: minus a signal; and what it wrote to stderr."
    read, write = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        os.dup2(write, 2)
        try:
            function()
        except BaseException as error:
            os.write(2, repr(error).encode())
            os._exit(1)
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as stderr:
        text = stderr.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), text
"""


def run(code, tmp_path, timeout=60):
    # The sanitizer's own handler would report what is to end the process.
    options = f"{os.environ.get('ASAN_OPTIONS', '')}:handle_sigbus=0"
    script = tmp_path / "script.py"  # whose lines a traceback shows
    script.write_text(HEAD + code)
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=timeout,
        cwd=tmp_path, env=environment(ASAN_OPTIONS=options),
    )  # fmt: skip
    assert done.returncode == 0, (done.returncode, done.stdout, done.stderr)
    return done.stdout


@pytest.mark.full
def test_a_cut_file_is_reported_and_the_rows_before_it_are_right(tmp_path):
    code = """
for name in ("native", "torch"):
    for cut in (None, 0, 5, 100 * PAGE, 100 * PAGE + 1234):
        path, array, x = mapped()
        want = bits(score(x.clone(), name))
        with guarded(x) as guard:
            assert not guard.broken
            if cut is not None:
                os.truncate(path, cut)
            got = score(x, name)
            within = guard.broken
        assert guard.broken == within == (cut is not None), (name, cut)
        cut_from, lost = lost_from(array, os.path.getsize(path))
        assert torch.equal(bits(got)[:, :cut_from], want[:, :cut_from]), (name, cut)
        assert all(scores[lost:].isnan().all() for scores in got), (name, cut)
        assert (lost < len(x)) == (cut is not None), (name, cut)
        for dtype in native.DTYPES:
            with guarded(x):
                assert x.view(-1).view(dtype)[-PAGE:].isnan().all() == (cut is not None)
    path, array, x = mapped()
    os.truncate(path, 100 * PAGE)
    with guarded(x[:, 7:9]) as guard:
        assert all(scores[-1].isnan() for scores in score(x[:, 7:9], name))
    assert guard.broken
assert free_slots() == 64
"""
    run(code, tmp_path)


@pytest.mark.full
def test_arrays_of_the_caller_that_are_cut(tmp_path):
    """Whatever is given the array itself, outside of the pipeline."""
    code = """
import fastal
from fastal import diversity as D

def cut(n_classes=100):
    path, array, _ = mapped(4000, n_classes)
    os.truncate(path, 100 * PAGE)
    return array

def updated(reducer, *args):
    before = repr(reducer.state_dict())
    try:
        reducer.update(cut(), 0, *args)
    finally:
        assert repr(reducer.state_dict()) == before
rows = np.ones((50, 100), np.float32)
clusters = D.CosineClusters(centroids=rows[:2])
groups = np.load(mapped(4000, 1000, "groups.npy")[0], mmap_mode="r").view(np.int32)[:, 0]
os.truncate("groups.npy", PAGE)
for call in (
    lambda: fastal.score(cut()),
    lambda: fastal.score(as_tensor(cut(), "")),
    lambda: fastal.score(cut(), on_invalid="skip", backend="torch"),
    lambda: fastal.score(cut()[:, ::-1]),
    lambda: updated(fastal.Selector(5)),
    lambda: updated(fastal.Selector(5, on_invalid="skip")),
    lambda: updated(fastal.Selector(5, lambda x: x[:, 0])),
    lambda: updated(fastal.StratifiedSelector(5), np.zeros(4000, int)),
    lambda: fastal.StratifiedSelector(5).update(np.ones((4000, 100), np.float32), 0, groups),
    lambda: updated(fastal.StratifiedSelector(5, predicted=True)),
    lambda: D.CoreSet(5).update(cut()),
    lambda: D.Deduplicator(rows[:1]).update(cut()),
    lambda: clusters.reducer().update(cut()),
    lambda: clusters.sampler().update(cut()),
    lambda: D.nearest_centroid(cut(), rows[:2]),
    lambda: D.similarities(cut(), rows[:2], on_invalid="skip"),
    lambda: D.nearest_centroid(rows, cut()),
    lambda: D.k_center(rows, 2, labelled=cut()),
    lambda: fastal.select(cut(), 5),
    lambda: fastal.select([cut()], 5),
):
    try:
        call()
    except OSError as error:
        assert "vanished" in str(error), error
    else:
        raise AssertionError(f"taken, line {call.__code__.co_firstlineno}")
assert free_slots() == 64
"""
    run(code, tmp_path)


@pytest.mark.full
def test_cut_at_any_moment_by_another(tmp_path):
    code = """
rng = np.random.default_rng(1)
path, array, x = mapped(2000, 1000)
content = open(path, "rb").read()
want = {name: bits(score(x.clone(), name)) for name in ("native", "torch")}
start = time.perf_counter()
score(x, "native")
takes = time.perf_counter() - start
n_broken = 0
for repeat in range(100):
    name = "torch" if repeat % 20 == 0 else "native"
    with open(path, "wb") as file:
        file.write(content)
    array = np.load(path, mmap_mode="r")
    x = as_tensor(array, path)
    cut = int(rng.integers(len(content) // PAGE)) * PAGE

    def shorten(wait):
        time.sleep(wait)
        os.truncate(path, cut)

    other = threading.Thread(target=shorten, args=(rng.random() * 1.5 * takes,))
    with guarded(x) as guard:
        other.start()
        got = score(x, name)
    other.join()
    n_broken += guard.broken
    lost = torch.stack(list(got)).isnan().all(0)
    assert ((bits(got) == want[name]).all(0) | lost).all(), (name, cut)
    assert guard.broken == bool(lost.any())
    assert not lost[: lost_from(array, cut)[0]].any()
print(n_broken)
assert free_slots() == 64
"""
    assert 0 < int(run(code, tmp_path)) < 100


@pytest.mark.full
def test_more_pages_may_be_lost_than_there_may_be_mappings(tmp_path):
    code = """
n = 70_000
with open("pool.bin", "wb") as file:
    file.truncate(n * PAGE)
array = np.memmap("pool.bin", np.float32, "r")
x = as_tensor(array, "x")
os.truncate("pool.bin", 0)
before = len(open("/proc/self/maps").readlines())
with guarded(x) as guard:
    assert x[:: PAGE // 4].isnan().all()
assert guard.broken
assert len(open("/proc/self/maps").readlines()) - before < n // 100
"""
    run(code, tmp_path)


@pytest.mark.full
def test_other_faults_end_the_process_as_before(tmp_path):
    """That a guarded process lives shows nothing unless one without a guard dies."""
    code = """
path, array, x = mapped()
other_path, other_array, other = mapped(path="other.npy")
os.truncate(path, 100 * PAGE)
os.truncate(other_path, 100 * PAGE)
before = action()

def within(x, function, *arguments):
    with guarded(x) as guard:
        function(*arguments)
    assert guard.broken

def touch(x):
    return float(x[-1, -1])

def after():
    with guarded(other) as guard:
        touch(other)
    assert guard.broken and action() == before
    touch(x)

died = -int(signal.SIGBUS)
for name in ("native", "torch"):
    assert ends(lambda: score(x, name)) == (died, "")
    assert ends(lambda: within(x, score, x, name)) == (0, "")
assert ends(lambda: within(other, touch, x)) == (died, "")
assert ends(lambda: within(x[:-1], touch, x)) == (died, "")  # a row beyond, in the same page
assert ends(lambda: within(x, os.kill, os.getpid(), signal.SIGBUS)) == (died, "")
assert ends(lambda: after()) == (died, "")

# To what was there before: faulthandler, a handler that ignores, one with all that belongs to it.
def with_faulthandler(x, function, *arguments):
    faulthandler.enable()
    within(x, function, *arguments)

status, text = ends(lambda: with_faulthandler(other, touch, x))
assert status == died and "Bus error" in text and "in touch" in text, text
assert ends(lambda: with_faulthandler(x, touch, x)) == (0, "")

def faulthandler_within():
    with guarded(other):
        faulthandler.enable()
        touch(x)

status, text = ends(faulthandler_within)
assert status == died and "Bus error" in text, text

def ignoring(sends):
    signal.signal(signal.SIGBUS, signal.SIG_IGN)
    with guarded(other):
        os.kill(os.getpid(), signal.SIGBUS) if sends else touch(x)

assert ends(lambda: ignoring(False)) == (died, "")
assert ends(lambda: ignoring(True)) == (0, "")

SIGINFO = 4
calls = []

@ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.c_void_p)
def with_info(number, info, context):
    calls.append((number, info[0], info[2] > 0, context is not None))

@ctypes.CFUNCTYPE(None, ctypes.c_int)
def without(number):
    calls.append(number)

def handler_before(handler, flags, want):
    theirs = Action(ctypes.cast(handler, ctypes.c_void_p), flags=flags)
    libc.sigaction(7, ctypes.byref(theirs), None)
    mine = action()
    with guarded(x) as guard:
        assert action() != mine
        getattr(libc, "raise")(7)
        touch(x)
    assert calls == [want] and guard.broken and action() == mine, calls

assert ends(lambda: handler_before(with_info, SIGINFO, (7, 7, False, True))) == (0, "")
assert ends(lambda: handler_before(without, 0, 7)) == (0, "")

# A handler that comes after ours stays, and ours is not put on top of one that may call it.
def handler_after():
    theirs = Action(ctypes.cast(without, ctypes.c_void_p))
    ours = Action()
    with guarded(x):
        libc.sigaction(7, ctypes.byref(theirs), ctypes.byref(ours))
        mine = action()
    assert action() == mine
    with guarded(x):
        assert action() == mine
    libc.sigaction(7, ctypes.byref(ours), None)  # as it found it
    with guarded(x) as guard:
        touch(x)
    assert guard.broken and action() == before

assert ends(handler_after) == (0, "")
"""
    run(code, tmp_path)


@pytest.mark.full
def test_guards_overlap_nest_and_are_given_back(tmp_path):
    code = """
before, python = action(), signal.getsignal(signal.SIGBUS)
path, array, x = mapped()
os.truncate(path, 100 * PAGE)
with guarded(x) as outer, guarded(x[:10]) as apart:
    with guarded(x[2000:]) as inner:
        x[-1].sum()
    with guarded(x[3000:]) as later:
        x[-1].sum()  # is as it was left: lost pages stay so
    assert action() != before
assert outer.broken and inner.broken and not apart.broken and not later.broken
assert action() == before and signal.getsignal(signal.SIGBUS) == python

ctypes.set_errno(0)
errno_libc = ctypes.CDLL(None, use_errno=True)
path, array, x = mapped()
os.truncate(path, 0)
with guarded(x) as guard:
    ctypes.set_errno(77)
    errno_libc.memchr(ctypes.c_void_p(x.data_ptr()), 0, ctypes.c_size_t(PAGE))
    assert ctypes.get_errno() == 77
assert guard.broken

# Two threads, each with a guard of its own, at one file.
for _ in range(20):
    path, array, x = mapped(1000)
    os.truncate(path, 0)
    met, seen = threading.Barrier(2), []

    def look(rows):
        with guarded(x[rows]) as guard:
            met.wait()
            scores = score(x[rows], "native")
        seen.append((guard.broken, all(s.isnan().all() for s in scores)))

    parts = slice(0, 700), slice(300, 1000)
    threads = [threading.Thread(target=look, args=(part,)) for part in parts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [(True, True)] * 2, seen
assert free_slots() == 64

# A fork has the guards of its only thread.
def forked(is_held):
    assert free_slots() == 64 - is_held
    assert (action() != before) == is_held

held, leave = threading.Event(), threading.Event()

def hold():
    with guarded(x):
        held.set()
        leave.wait()

thread = threading.Thread(target=hold, daemon=True)
thread.start()
held.wait()
assert free_slots() == 63
assert ends(lambda: forked(False)) == (0, "")
with guarded(x):
    assert ends(lambda: forked(True)) == (0, "")
leave.set()
thread.join()

for _ in range(100_000):
    with guarded(x):
        pass

def many():
    for _ in range(5000):
        _native.unguard(_native.guard(PAGE, 1))

threads = [threading.Thread(target=many) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert free_slots() == 64
assert action() == before
"""
    run(code, tmp_path)


@pytest.mark.full
def test_what_is_read_beside_the_pool(tmp_path):
    """Files, which are read in chunks, and arrays; cut short, or written to meanwhile."""
    code = """
import fastal
from fastal import diversity
from fastal.sources.files import Files

pool, side = np.random.default_rng(0).standard_normal((50, 20), np.float32), "side.npy"
original, damages = Files.chunks, []

def chunks(self, rows, start=0):
    for chunk in original(self, rows, start):
        yield chunk
        while damages:
            damages.pop()()

def written_to():
    with open(side, "r+b") as file:
        file.seek(12_000_000)
        file.write(bytes(64))

def refusal(function, words):
    try:
        function()
    except (OSError, ValueError) as error:
        assert words in str(error), error
    else:
        raise AssertionError("it was taken")

Files.chunks = chunks
for reads in (
    lambda: diversity.model_outliers(pool, side, 2),
    lambda: diversity.k_center(pool, 2, labelled=side),
):
    for damage, words in ((lambda: os.truncate(side, 2_000_000), "cut short"),
                          (written_to, "changed while")):
        mapped(200_000, 20, side)
        damages.append(damage)
        refusal(reads, "side.npy: " + words)

for reads in (
    lambda side: diversity.k_center(pool, 2, labelled=side),
    lambda side: diversity.CosineClusters(centroids=side),
    lambda side: diversity.nearest_centroid(pool, side),
    lambda side: diversity.nearest_centroid(side, pool),
    lambda side: diversity.similarities(side, pool),
    lambda side: diversity.cluster_outliers(pool, side, 2),
    lambda side: diversity.model_outliers(pool, side, 2),
):
    _, array, _ = mapped(3000, 20, side)
    os.truncate(side, 4096)
    refusal(lambda: reads(array), "a mapped file that was cut short")
"""
    run(code, tmp_path)


@pytest.mark.full
def test_numbers_of_16_bits_that_are_not_aligned(tmp_path):
    """They are copied on the reader's thread."""
    code = """
import json
import fastal
from fastal.pipeline.drive import run

x = torch.randn(20_000, 20).bfloat16()
head = {"x": {"dtype": "BF16", "shape": list(x.shape), "data_offsets": [0, 2 * x.numel()]}}
text = json.dumps(head).encode()
text += b" " * (1 - len(text) % 2)
with open("a.safetensors", "wb") as file:
    file.write(len(text).to_bytes(8, "little") + text + x.view(torch.int16).numpy().tobytes())
pool = fastal.open_pool("a.safetensors")
try:
    for chunk in pool.chunks(1000):
        os.truncate("a.safetensors", 4096)
except ValueError as error:
    assert "a.safetensors: " in str(error) and "cut short" in str(error), error
else:
    raise AssertionError("it was taken")
"""
    run(code, tmp_path)


def test_without_a_free_slot_nothing_is_watched():
    x = torch.zeros(3, 4)
    taken = []
    while (guard := native._native.guard(x.data_ptr(), 1)) >= 0:
        taken.append(guard)
    with native.guarded(x) as unwatched:
        pass
    assert not unwatched.broken
    for guard in taken:
        assert not native._native.unguard(guard)
    assert len(taken) == 64
    for guard in (-1, 0, 64):  # none is taken any more
        assert not native._native.unguard(guard)
        assert not native._native.is_broken(guard)


@pytest.mark.parametrize(
    ("x", "want"),
    [
        (torch.zeros(5, 4), (0, 80)),
        (torch.zeros(5, 4)[1:, 1:3], (20, 56)),
        (torch.zeros(5, 4, dtype=torch.float64).t(), (0, 160)),
        (torch.zeros(1, 4).expand(1000, 4), (0, 16)),
        (torch.tensor(1.0), (0, 4)),
        (torch.zeros(0, 4), None),
        (torch.zeros(5, 4, device="meta"), None),
    ],
)
def test_it_spans_what_the_strides_reach(monkeypatch, x, want):
    calls = []
    stand_in = type(
        "", (), {"guard": lambda *span: calls.append(span) or -1, "unguard": lambda _: False}
    )
    monkeypatch.setattr(native, "_native", stand_in)
    with guarded(x):
        pass
    if want is None:
        assert calls == []
    else:
        offset, length = want
        assert calls == [(x.untyped_storage().data_ptr() + offset, length)]


def test_where_it_is_not_compiled_nothing_is_watched(monkeypatch):
    monkeypatch.setattr(native, "_native", None)
    before = signal.getsignal(signal.SIGBUS)
    with guarded(torch.zeros(3, 4)) as guard:
        pass
    assert not guard.broken
    assert signal.getsignal(signal.SIGBUS) == before
