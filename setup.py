"""What is compiled, and how an editable install is found; pyproject.toml says the rest."""

import os
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.editable_wheel import editable_wheel

SOURCES = Path("kernels/fastal_kernels/native")
# One wheel serves every Python from this version on, but for those without an interpreter lock.
LIMITED = not sysconfig.get_config_var("Py_GIL_DISABLED")

ROOTS = {"fastal": str(Path.cwd()), "fastal_kernels": str(Path("kernels").absolute())}
# An editable install finds the packages as if these folders were the last of sys.path, for these
# names alone. The finder of setuptools comes after sys.path, where Python takes a folder named
# fastal, such as the clone seen from beside it, for a namespace package with nothing in it.
FINDER = f"""import sys
from importlib.machinery import PathFinder

ROOTS = {ROOTS!r}


class CloneFinder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        return PathFinder.find_spec(name, [*sys.path, ROOTS[name]]) if name in ROOTS else None


sys.meta_path.insert(0, CloneFinder)
"""


class InClone:
    """What an editable wheel holds beside its metadata; a strategy of setuptools."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def __call__(self, wheel, files, mapping):  # noqa: ARG002
        """Writes the finder, and the line that runs it when Python starts."""
        wheel.writestr("__editable___fastal_finder.py", FINDER)
        wheel.writestr("__editable__.fastal.pth", "import __editable___fastal_finder\n")


class EditableWheel(editable_wheel):
    """Builds the wheel of `pip install --editable`."""

    def _select_strategy(self, *_):
        return InClone()


setup(
    cmdclass={"editable_wheel": EditableWheel},
    ext_modules=[
        Extension(
            "fastal_kernels.native._native",
            sources=sorted(map(str, SOURCES.glob("*.c"))),
            depends=sorted(map(str, SOURCES.glob("*.h"))),
            define_macros=[("Py_LIMITED_API", "0x030A0000")] if LIMITED else [],
            extra_compile_args=[] if "-O" in os.environ.get("CFLAGS", "") else ["-O3"],
            libraries=["m"],
            py_limited_api=LIMITED,
            optional=True,  # without a compiler, the torch backend does its work
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp310"}} if LIMITED else {},
)
