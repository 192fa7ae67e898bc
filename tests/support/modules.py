"""The modules of the product by name, and what each of them imports."""

import ast

from tests.support.checkout import ROOT

PRODUCT = ROOT / "fastal", ROOT / "kernels" / "fastal_kernels"


def modules(packages=PRODUCT):
    """The file of every module in the folders of some packages, by the module's name."""
    found = {}
    for package in packages:
        for path in sorted(package.rglob("*.py")):
            name = ".".join(path.relative_to(package.parent).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


def imports(path, known):
    """The names of the modules that a file imports, at its top or in a function.

    Args:
        path: the file.
        known: modules; of other names that stand after `from M import`, M is what is imported.
    """
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in known else node.module
