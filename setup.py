"""The compiled part of the package; pyproject.toml says the rest."""

import os
import sysconfig
from pathlib import Path

from setuptools import Extension, setup

SOURCES = Path("kernels/fastal_kernels/native")
# One wheel serves every Python from this version on, but for those without an interpreter lock.
LIMITED = not sysconfig.get_config_var("Py_GIL_DISABLED")

setup(
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
