"""Checks that a machine has what Triton needs, before anything that needs it is imported.

This module imports only the standard library. If the machine lacks something, one sentence says so.
"""

import ctypes
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

PACKAGES = ("torch", "triton", "numpy")
_SOURCE = "#include <Python.h>\n#include <dlfcn.h>\n#include <stdlib.h>\n"


def missing(device: str) -> str | None:
    """A sentence that says what is missing and how to get it; None if nothing is missing."""
    checks = [_packages] if device == "cpu" else [_packages, _compiler, _driver, _assembler]
    return next((problem for check in checks if (problem := check())), None)


def _packages() -> str | None:
    absent = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if not absent:
        return None
    return (
        f"{sys.executable} has no {' and no '.join(absent)}: install it, or set PYTHON to the "
        "Python that has it"
    )


def _compiler() -> str | None:
    """Checks the compiler: Triton builds a C extension when the first kernel is launched."""
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None or shutil.which(compiler) is None:
        named = f"; CC names {compiler}, which does not exist" if compiler else ""
        return f"Triton needs a C compiler: install gcc or clang, or set CC{named}"
    include = _include()
    if not (include / "Python.h").is_file():
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        return (
            f"Triton needs Python's headers: {include}/Python.h does not exist; install "
            f"python{version}-dev (Debian, Ubuntu) or python{version}-devel (Fedora, RHEL)"
        )
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "probe.c")
        source.write_text(_SOURCE)
        command = [compiler, source, "-shared", "-fPIC", f"-I{include}", "-o", f"{folder}/probe.so"]
        problem = _failure(command)
    return problem and f"Triton needs a working C compiler: {compiler} fails with {problem}"


def _include() -> Path:
    """The folder in which Triton expects Python's headers."""
    scheme = sysconfig.get_default_scheme()  # on Debian, that of locally installed packages
    scheme = "posix_prefix" if scheme == "posix_local" else scheme
    return Path(sysconfig.get_paths(scheme)["include"])


def _driver() -> str | None:
    if Path("/dev/kfd").exists():  # AMD's, whose libraries come with torch
        return None
    folder = os.environ.get("TRITON_LIBCUDA_PATH")
    library = str(Path(folder, "libcuda.so.1")) if folder else "libcuda.so.1"
    try:
        ctypes.CDLL(library)
    except OSError as error:
        return (
            f"Triton needs the GPU's driver: {error}; install NVIDIA's driver, or give the "
            "container its GPUs (docker run --gpus all)"
        )
    return None


def _assembler() -> str | None:
    if Path("/dev/kfd").exists():
        return None
    found = importlib.util.find_spec("triton")
    folder = Path(found.origin or "").parent if found else Path()
    ptxas = os.environ.get("TRITON_PTXAS_PATH") or folder / "backends" / "nvidia" / "bin" / "ptxas"
    problem = _failure([ptxas, "--version"])
    return problem and (
        f"Triton needs NVIDIA's assembler: {ptxas} fails with {problem}; reinstall triton, or set "
        "TRITON_PTXAS_PATH"
    )


def _failure(command: list[str | Path]) -> str | None:
    """The error of a command in one line; None if it succeeds."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{type(error).__name__}: {error}"
    lines = (done.stderr or done.stdout).strip().splitlines()
    errors = [line for line in lines if "error" in line.lower()] or lines
    return None if done.returncode == 0 else (errors or [f"exit status {done.returncode}"])[0][:300]
