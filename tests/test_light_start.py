"""What is imported, and when: torch, NumPy and rich come with the first use of a public name."""

import ast
import inspect
import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from unittest import mock

import click
import numpy as np
import pytest

import fastal
from fastal import combine, diversity, report
from tests.support.checkout import ROOT

PACKAGES = [fastal, combine, diversity, report]


def run_python(code, *arguments, flags=("-W", "error"), path=(), cwd=None, check=True):
    """A fresh Python that runs the code: its stdout, as lines."""
    paths = [*map(str, path), str(ROOT), str(ROOT / "kernels")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, *flags, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=cwd)
    assert not check or done.returncode == 0, done.stderr
    return done.stdout.splitlines() if check else done


# Prints the packages that are imported beyond the standard library, and NumPy's and torch's parts.
FOREIGN = """
import sys
def foreign():
    names = {name.partition(".")[0] for name in set(sys.modules) - BEFORE}
    print(*sorted(names - set(sys.stdlib_module_names)))
BEFORE = set(sys.modules)
"""


@pytest.mark.parametrize(
    "code",
    [
        "import fastal",
        "import fastal; dir(fastal), fastal.__all__, fastal.__version__, fastal.__doc__",
        "import fastal; fastal.InvalidRows",
        "import fastal; fastal.diversity, dir(fastal.diversity)",
        "import fastal.diversity",
        "import fastal.adapters, fastal; fastal.adapters",
        "import fastal; fastal.combine, dir(fastal.combine)",
        "from fastal import diversity",
        "import fastal; hasattr(fastal, 'scores')",
    ],
)
def test_importing_fastal_imports_nothing_else(code):
    assert run_python(f"{FOREIGN}\n{code}\nforeign()") == ["fastal"]


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["--help"], 0),
        (["--version"], 0),
        (["--halp"], 2),
        (["choose", "pool.npy"], 2),
        ([], 2),
        (["select", "--help"], 0),
        (["core-set", "-h"], 0),
        (["select", "pool.npy", "--kk", "5"], 2),
        (["select", "pool.npy", "--k", "five"], 2),
        (["select", "pool.npy", "--k", "5", "--by", "doubt"], 2),
        (["select", "pool.npy"], 2),
        (["select", "pool.npy", "--k", "5", "--groups", "predicted"], 2),
        (["cluster", "pool.npy"], 2),
        (["info", "pool.npy"], 2),
    ],
)
def test_help_and_wrong_usage_import_click_alone(arguments, status):
    code = f"{FOREIGN}\nfrom fastal.cli import main\n"
    code += f"try:\n  main({arguments}, prog_name='fastal')\n"
    code += "except SystemExit as ended:\n  print()\n  print(ended.code)\n  foreign()"
    *_, ended, packages = run_python(code)
    assert ended == str(status)
    assert set(packages.split()) <= {"click", "colorama", "fastal", "typing_extensions"}


def test_scoring_imports_what_it_needs():
    code = f"{FOREIGN}\nimport fastal, numpy\nfastal.score(numpy.eye(3))\nforeign()"
    (packages,) = run_python(code)
    assert {"fastal", "fastal_kernels", "numpy", "torch"} <= set(packages.split())
    heavy = {"pyarrow", "ray", "matplotlib", "sklearn", "rich", "click", "fsspec", "h5py", "zarr"}
    assert not heavy & set(packages.split())


@pytest.mark.parametrize("package", PACKAGES)
def test_public_names_are_the_names_of_dir(package):
    for name in package.__all__:
        getattr(package, name)  # by then submodules are imported
    public = {name for name in package.__all__ if not name.startswith("__")}
    assert {name for name in dir(package) if not name.startswith("__")} == public
    assert sorted(package.__all__) == package.__all__
    assert len(set(package.__all__)) == len(package.__all__)


@pytest.mark.parametrize("package", PACKAGES)
def test_editors_see_the_objects_of_run_time(package):
    """The imports that type checkers follow are those that are made with the first use."""
    (block,) = (
        node
        for node in ast.parse(Path(package.__file__).read_text()).body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    seen = {alias.name: node.module for node in block.body for alias in node.names}
    assert seen.keys() == set(package.__all__) - {"__version__"}
    for name, module in seen.items():
        assert getattr(package, name) is getattr(sys.modules[module], name)


@pytest.mark.full
@pytest.mark.parametrize("first", ["fastal.diversity", "fastal.diversity.clustering.clusters"])
def test_a_function_with_the_name_of_its_module_is_the_function(first):
    code = f"import {first}\nfrom fastal.diversity.representative import Representativeness\n"
    code += "import fastal.diversity.model_outliers, fastal.diversity.cluster_outliers\n"
    code += "from fastal import diversity\nfrom fastal.diversity import cluster_outliers\n"
    code += "print(*map(callable, (diversity.representative, diversity.model_outliers,"
    code += " diversity.cluster_outliers, cluster_outliers)))"
    assert run_python(code) == ["True True True True"]


def test_an_unknown_name_is_an_attribute_error_with_a_hint():
    with pytest.raises(AttributeError, match="module 'fastal' has no attribute 'scores'") as caught:
        fastal.scores  # noqa: B018
    assert (caught.value.name, caught.value.obj) == ("scores", fastal)
    with pytest.raises(ImportError, match="cannot import name 'chosen' from 'fastal'"):
        exec("from fastal import chosen")
    done = run_python("import fastal\nfastal.diversity.k_centre", check=False)
    assert "module 'fastal.diversity' has no attribute 'k_centre'" in done.stderr
    assert "torch" not in done.stderr


@pytest.mark.full
def test_star_imports_every_public_name():
    code = "from fastal import *\nfrom fastal.diversity import *\nfrom fastal.combine import *\n"
    code += "import fastal\nfor package in fastal, combine, diversity:\n"
    code += "  assert all(globals()[name] is getattr(package, name) for name in package.__all__)"
    run_python(code)


@pytest.mark.full
def test_errors_are_caught_by_their_public_name():
    code = """
import fastal, numpy
try:
    fastal.score(numpy.full((2, 3), numpy.nan))
except fastal.InvalidRows as error:
    print(error.rows)
"""
    assert run_python(code) == ["[0, 1]"]


@pytest.mark.full
@pytest.mark.parametrize("package", PACKAGES)
def test_packages_are_pickled_by_name(package):
    """As cloudpickle does it with modules that a function of a script names."""
    assert pickle.loads(pickle.dumps(package)) is package


def test_objects_are_pickled_and_loaded_where_nothing_is_imported(tmp_path):
    picks = fastal.select(np.eye(4), 2)
    (tmp_path / "objects").write_bytes(pickle.dumps([picks, fastal.select, diversity.k_center]))
    code = """
import pickle, pathlib
picks, select, k_center = pickle.loads(pathlib.Path("objects").read_bytes())
import fastal
print(picks.rows.tolist(), select is fastal.select, k_center is fastal.diversity.k_center)
"""
    assert run_python(code, cwd=tmp_path) == [f"{picks.rows.tolist()} True True"]


def test_names_are_replaced_and_restored(monkeypatch):
    for package, name in ((fastal, "select"), (diversity, "representative")):
        original = getattr(package, name)
        with monkeypatch.context() as patch:
            patch.setattr(package, name, len)
            assert getattr(package, name) is len
        assert getattr(package, name) is original
        with mock.patch.object(package, name) as fake:
            assert getattr(package, name) is fake
        assert getattr(package, name) is original
        with mock.patch(f"{package.__name__}.{name}") as fake:
            assert getattr(package, name) is fake
        assert getattr(package, name) is original


@pytest.mark.full
def test_names_are_replaced_before_their_first_use():
    code = """
import fastal
from unittest import mock
for package, name in ((fastal, "select"), (fastal.diversity, "representative")):
    with mock.patch.object(package, name) as fake:
        assert getattr(package, name) is fake
    print(getattr(package, name).__name__)
"""
    assert run_python(code) == ["select", "representative"]


@pytest.mark.full
def test_help_shows_the_public_names():
    shown = "\n".join(
        run_python(
            "import fastal\n" + "\n".join(f"help({package.__name__})" for package in PACKAGES)
        )
    )
    for package in PACKAGES:
        assert inspect.getdoc(package) in shown
        for name in set(package.__all__) - {"__version__", "combine", "diversity", "report"}:
            assert f"    {name}(" in shown or f"    class {name}(" in shown, name


# Threads that use all names for the first time at once, each in an order of its own.
RACE = """
import random, sys, threading
import fastal
random.seed(0)
names = [(fastal, name) for name in fastal.__all__]
for package in (fastal.combine, fastal.diversity):
    names += [(package, name) for name in package.__all__]
orders = [random.sample(names, len(names)) for _ in range(8)]
found, errors, together = [], [], threading.Barrier(len(orders))
def use(order):
    together.wait()
    try:
        found.append({name: getattr(package, name) for package, name in order})
    except BaseException as error:
        errors.append(error)
sys.setswitchinterval(1e-5)
threads = [threading.Thread(target=use, args=[order]) for order in orders]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join(60)
assert not errors, errors
assert len(found) == len(orders) and all(one == found[0] for one in found)
"""

# While one thread imports a package, another asks for a name of a module in it. If both imported at
# once, each could wait for a module that the other imports, which Python makes an error in one.
CROSSING = """
import sys, threading
import fastal
class Crossing:
    def find_spec(self, name, path=None, target=None):
        if name == "fastal.ops":
            other.start()
            other.join(0.5)
        importing.append(threading.current_thread())
importing, found = [], []
other = threading.Thread(target=lambda: found.append(fastal.Scores))
sys.meta_path.insert(0, Crossing())
fastal.backend_reasons
assert set(importing) == {threading.main_thread()}
other.join(60)
assert found == [fastal.Scores]
"""


@pytest.mark.full
@pytest.mark.parametrize("code", [RACE, CROSSING], ids=["race", "crossing"])
def test_threads_may_race_on_the_first_use(code):
    run_python(code)


def test_click_is_all_that_the_command_line_imports_at_once():
    """Every module of the room can be imported with click alone; see its docstring."""
    names = [f"fastal.cli.{path.stem}" for path in (ROOT / "fastal" / "cli").glob("*.py")]
    code = f"{FOREIGN}\nimport {', '.join(names).replace('.__init__', '')}\nforeign()"
    (packages,) = run_python(code)
    assert set(packages.split()) <= {"click", "colorama", "fastal", "typing_extensions"}
    assert click.__name__ in packages


def install(folder, wheel):
    """A function that runs Python where the wheel alone is installed, with the standard library."""
    site = folder / "site"
    zipfile.ZipFile(wheel).extractall(site)

    def python(code, cwd, *paths):
        begin = f"import site; site.addsitedir({str(site)!r})\n"
        environment = {"PYTHONPATH": os.pathsep.join(map(str, paths))}
        command = [sys.executable, "-S", "-W", "error", "-c", begin + code]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=cwd)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    return python


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A clone in a folder named fastal."""
    clone = tmp_path_factory.mktemp("parent") / "fastal"
    clone.mkdir()
    for name in ("fastal", "kernels"):
        not_built = shutil.ignore_patterns("*.so", "__pycache__")
        shutil.copytree(ROOT / name, clone / name, ignore=not_built)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, clone)
    return clone


@pytest.mark.parametrize("kind", ["editable", "wheel"])
def test_python_beside_a_clone_named_fastal_finds_fastal(tmp_path, clone, kind):
    build = f"from setuptools import build_meta\nbuild_meta.build_{kind}({str(tmp_path)!r})"
    environment = {**os.environ, "CC": "false"}
    subprocess.run(
        [sys.executable, "-c", build], check=True, capture_output=True, env=environment, cwd=clone
    )
    (wheel,) = tmp_path.glob("*.whl")
    python = install(tmp_path, wheel)
    place = clone if kind == "editable" else tmp_path / "site"
    print_places = "import fastal, fastal_kernels\n"
    print_places += "print(fastal.__file__, fastal_kernels.__path__[0])\nprint(dir(fastal)[0])"
    for cwd in (clone.parent, tmp_path, clone, clone / "fastal"):
        kernels = place / "kernels" if kind == "editable" else place
        found = python(print_places, cwd)
        first = clone if cwd == clone else place  # as for any package: first the current folder
        assert found == [
            f"{first / 'fastal' / '__init__.py'} {kernels / 'fastal_kernels'}", "DrawsScores"
        ]  # fmt: skip
    # Other names of the clone are no packages, and another checkout comes before.
    no_leak = "from importlib.util import find_spec\nprint(*map(find_spec, ['kernels', 'setup']))"
    assert python(no_leak, tmp_path) == ["None None"]
    assert python("import fastal; print(fastal.__file__)", tmp_path, ROOT) == [fastal.__file__]
