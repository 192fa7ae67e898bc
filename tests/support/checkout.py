"""The checkout that is tested, and the environment in which a new process imports it."""

import os
from pathlib import Path

from fastal_kernels import native

ROOT = Path(__file__).parents[2]
# `scripts/sanitize` tests kernels that it has compiled in a folder outside the checkout.
KERNELS = Path(native.__file__).parents[2]
PYTHONPATH = f"{ROOT}:{KERNELS}"


def environment(**others):
    """The variables of this process, for one that imports the same code."""
    return {**os.environ, "PYTHONPATH": PYTHONPATH} | others


def compiling():
    """The same for a process in which Triton compiles: it compiles or interprets, never both."""
    variables = environment()
    variables.pop("TRITON_INTERPRET", None)
    return variables
