"""The scripts of examples/ as modules."""

import importlib.util

from tests.support.checkout import ROOT


def example(name):
    """The script of this name, imported anew."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
