"""Packages that import a public name with its first use, so that importing them is light."""

import sys
import threading
from collections.abc import Collection, Mapping, Sequence
from importlib import import_module
from types import ModuleType
from typing import Any

# One lock for all packages. If two threads import modules of a package in different orders, each
# may wait for a module that the other is importing; Python then raises an error in one of them.
_IMPORTING = threading.RLock()


def import_on_first_use(
    package: str, names: Mapping[str, Sequence[str]], subpackages: Collection[str] = ()
) -> None:
    """Makes the public names of a package attributes that are imported when first read.

    `dir` of the package lists these names and the dunder names, and no modules.

    Args:
        package: `__name__` of the package, called while it is imported.
        names: public names, by the module that defines them.
        subpackages: names of public subpackages.

    Example:
        >>> import fastal
        >>> "score" in dir(fastal), "sources" in dir(fastal)
        (True, False)
    """
    homes = {name: home for home, held in names.items() for name in held}

    class LazyPackage(ModuleType):
        def __getattr__(self, name: str) -> Any:
            if name in subpackages:
                with _IMPORTING:
                    return import_module(f"{package}.{name}")
            if name not in homes:
                raise AttributeError(
                    f"module {package!r} has no attribute {name!r}", name=name, obj=self
                )
            with _IMPORTING:
                value = getattr(import_module(homes[name]), name)
            return self.__dict__.setdefault(name, value)

        def __setattr__(self, name: str, value: object) -> None:
            # Python sets a submodule as an attribute of its package. Where a function has the name
            # of its module, the attribute is the function.
            if not (name in homes and isinstance(value, ModuleType)):
                super().__setattr__(name, value)

        def __reduce__(self) -> tuple[Any, ...]:
            # Engines pickle the functions of a script with the modules that these name.
            return import_module, (package,)

        def __dir__(self) -> list[str]:
            dunders = {name for name in self.__dict__ if name.startswith("__")}
            return sorted(dunders.union(homes, subpackages))

    sys.modules[package].__class__ = LazyPackage
