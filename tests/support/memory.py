"""Peak memory of a process of its own, and memory between pages that must not be touched."""

import ctypes
import mmap
import subprocess
import sys

import numpy as np
import torch

from tests.support.checkout import PYTHONPATH

PAGE = mmap.PAGESIZE

# Runs `work()` and prints the highest rise of the process's anonymous memory, without mapped file
# pages, in bytes. It is sampled every millisecond.
MEASURE = """
import sys, threading, time
import numpy as np, torch, fastal

def anonymous():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("RssAnon"))

def measure(work):
    before = peak = anonymous()
    done = threading.Event()
    def sample():
        nonlocal peak
        while not done.is_set():
            peak = max(peak, anonymous())
            time.sleep(0.001)
    sampler = threading.Thread(target=sample)
    sampler.start()
    work()
    done.set()
    sampler.join()
    print(peak - before)
"""


def peak(code, *arguments):
    python = [sys.executable, "-c", MEASURE + code, *map(str, arguments)]
    # With a fixed threshold, glibc returns large arrays to the system when they are freed. Else it
    # would learn to keep them, and its caches would be measured.
    environment = {"PYTHONPATH": PYTHONPATH, "MALLOC_MMAP_THRESHOLD_": str(1 << 20)}
    done = subprocess.run(python, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return max(map(int, done.stdout.split()))


class Guarded:
    """Memory between two pages that must not be touched."""

    def __init__(self, n_pages):
        self.size = n_pages * PAGE
        self._map = mmap.mmap(-1, self.size + 2 * PAGE)
        self._view = np.frombuffer(self._map, np.uint8)
        libc = ctypes.CDLL(None, use_errno=True)
        address = self._view.ctypes.data
        for page in (address, address + PAGE + self.size):
            assert libc.mprotect(ctypes.c_void_p(page), ctypes.c_size_t(PAGE), 0) == 0

    def at_the_start(self, x):
        return self._place(x, PAGE)

    def at_the_end(self, x):
        return self._place(x, PAGE + self.size - x.numel() * x.element_size())

    def _place(self, x, offset):
        n_bytes = x.numel() * x.element_size()
        flat = torch.from_numpy(self._view[offset : offset + n_bytes]).view(x.dtype)
        return flat.view(x.shape).copy_(x)
