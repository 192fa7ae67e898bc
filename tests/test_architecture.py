"""The layers, and what may not be imported or shipped."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile

import pytest

from fastal_kernels import native
from tests.support import checkout
from tests.support.checkout import PYTHONPATH, ROOT
from tests.support.modules import imports, modules

# From the bottom up: a module imports only from lines above its own. `package` means its modules
# too, which may import one another.
LAYERS = [
    ["fastal_kernels", "fastal.version"],
    ["fastal.base"],
    ["fastal.ops"],
    ["fastal.scoring", "fastal.sources"],
    ["fastal.output"],
    ["fastal.picks"],
    ["fastal.selection"],
    ["fastal.pipeline"],
    ["fastal.distributed"],
    ["fastal.uncertainty"],
    ["fastal.labelled"],
    ["fastal.diversity"],
    ["fastal.combine"],
    ["fastal.simulation"],
    ["fastal.report.page"],
    ["fastal.report"],
    ["fastal"],
    ["fastal.commands"],
    ["fastal.report.plots"],
    ["fastal.report.demo"],
    ["fastal.cli"],
    ["fastal.__main__"],
    ["fastal.adapters"],
    ["fastal.testing"],
]


MODULES = modules()
PUBLIC = ["fastal", "fastal.combine", "fastal.diversity"]
PAGE = ["picks.html", "report.css", "report.html", "report.js"]


def layer(name):
    """The number of the layer, and the entry of LAYERS that the module belongs to."""
    candidates = [
        (len(entry), number, entry)
        for number, entries in enumerate(LAYERS)
        for entry in entries
        if name == entry or (name.startswith(f"{entry}.") and entry != "fastal")
    ]
    assert candidates, f"{name} stands in no layer"
    return max(candidates)[1:]


def imports_upward(name, known):
    """The imports of a module that its layer does not allow."""
    number, entry = layer(name)
    for imported in imports(known[name], known):
        if imported.partition(".")[0] in ("fastal", "fastal_kernels"):
            other_number, other_entry = layer(imported)
            if other_number >= number and other_entry != entry:
                yield imported


def foreign_imports(name, known):
    """The imports of a module that only others may have: of the kernels, and in the kernels."""
    for imported in imports(known[name], known):
        top = imported.partition(".")[0]
        if name.startswith("fastal_kernels"):
            if top not in {"torch", "triton", "fastal_kernels", *sys.stdlib_module_names}:
                yield imported
        elif top == "fastal_kernels" and not re.match(r"fastal\.(ops\.|base\.memory_guard$)", name):
            yield imported


def private_imports(name, known):
    """The imports that a user's own code should not have: an adapter or a check may become that.

    A plugin, `fastal.adapters.TOOL_plugin`, also imports the adapter of its tool.
    """
    public = [*PUBLIC, *re.findall(r"(.+)_plugin$", name)]
    for imported in imports(known[name], known):
        is_of_testing = name.startswith("fastal.testing") and imported.startswith("fastal.testing")
        is_ours = imported.partition(".")[0] in ("fastal", "fastal_kernels")
        if is_ours and imported not in public and not is_of_testing:
            yield imported


@pytest.mark.parametrize("name", MODULES)
def test_imports_run_one_way(name):
    assert not list(imports_upward(name, MODULES))


@pytest.mark.parametrize(
    "name", [name for name in MODULES if name.startswith(("fastal.adapters.", "fastal.testing"))]
)
def test_adapters_and_checks_import_public_names_alone(name):
    assert not list(private_imports(name, MODULES))


def test_every_layer_exists():
    assert {entry for entries in LAYERS for entry in entries} <= set(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_the_kernels_import_torch_and_triton_only_and_few_import_them(name):
    assert not list(foreign_imports(name, MODULES))


UPWARD = [
    "import fastal.cli",
    "import numpy, fastal.cli as command_line",
    "from fastal import cli",
    "from fastal.cli import main",
    "from fastal.cli.options import main",
    "def later():\n    from fastal.cli import main",
    "if TYPE_CHECKING:\n    from fastal.cli import main",
]
FOREIGN = ["import numpy", "from numpy.linalg import norm", "from fastal.base import errors"]


def planted(tmp_path, module, code):
    """The product's modules, and in one of them a line more."""
    path = tmp_path / MODULES[module].name
    path.write_text(f"{MODULES[module].read_text()}\n{code}\n")
    return {**MODULES, module: path}


@pytest.mark.parametrize("code", UPWARD)
@pytest.mark.parametrize("module", ["fastal.base.arrays", "fastal.pipeline.drive"])
def test_a_planted_upward_import_is_found(tmp_path, module, code):
    (found,) = imports_upward(module, planted(tmp_path, module, code))
    assert found.startswith("fastal.cli")


@pytest.mark.parametrize("module", ["fastal.adapters.transformers", "fastal.testing.scores"])
@pytest.mark.parametrize(
    "code", ["import fastal.ops", "from fastal.base.errors import InvalidRows"]
)
def test_a_planted_private_import_is_found(tmp_path, module, code):
    (found,) = private_imports(module, planted(tmp_path, module, code))
    assert found in code.split()


def test_a_planted_import_of_an_adapter_is_found(tmp_path):
    known = planted(tmp_path, "fastal.cli", "from fastal.adapters import transformers")
    assert list(imports_upward("fastal.cli", known)) == ["fastal.adapters.transformers"]


@pytest.mark.parametrize("code", FOREIGN)
def test_a_planted_foreign_import_of_a_kernel_is_found(tmp_path, code):
    known = planted(tmp_path, "fastal_kernels.topk", code)
    assert len(list(foreign_imports("fastal_kernels.topk", known))) == 1


def test_a_planted_import_of_the_kernels_is_found(tmp_path):
    known = planted(tmp_path, "fastal.cli", "from fastal_kernels import native")
    assert list(foreign_imports("fastal.cli", known)) == ["fastal_kernels.native"]


def test_a_planted_relative_import_is_found(tmp_path):
    known = planted(tmp_path, "fastal.cli", "from .options import pool")
    with pytest.raises(AssertionError, match="relative import"):
        list(imports_upward("fastal.cli", known))


def imports_of_tests(path):
    """The test modules that a file of the tests imports."""
    names = imports(path, modules([ROOT / "tests"]))
    return [n for n in names if n.startswith("tests") and not n.startswith("tests.support.")]


def test_tests_share_helpers_through_support_only(tmp_path):
    for path in sorted((ROOT / "tests").rglob("*.py")):
        assert not imports_of_tests(path), path
    for code in ("from tests.ops import test_ranks", "import tests.conftest"):
        (tmp_path / "test_x.py").write_text(f"from tests.support.matrices import DTYPES\n{code}")
        assert len(imports_of_tests(tmp_path / "test_x.py")) == 1


def test_files_that_the_scripts_and_the_texts_name_exist():
    texts = [*sorted((ROOT / "scripts").iterdir()), ROOT / "CONTRIBUTING.md"]
    named = {f for text in texts for f in re.findall(r"tests/\w+/[\w/]+\.py", text.read_text())}
    assert "tests/kernels/test_native.py" in named
    assert all((ROOT / name).exists() for name in named), named


def test_importing_fastal_is_light():
    heavy = [
        "triton",
        "fastal_kernels",
        "pyarrow",
        "ray",
        "matplotlib",
        "sklearn",
        "rich",
        "click",
        "fsspec",
        "h5py",
        "zarr",
        "transformers",
    ]
    code = f"import sys, fastal; print(*[m for m in {heavy} if m in sys.modules])"
    python = [sys.executable, "-W", "error", "-c", code]
    found = subprocess.run(python, capture_output=True, text=True, env={"PYTHONPATH": PYTHONPATH})
    assert found.stdout.split() == [], found.stderr
    assert found.returncode == 0


@pytest.mark.full
def test_without_triton_the_tests_still_import():
    """Triton is a dependency on Linux alone; None in sys.modules is a module that is missing."""
    code = """
import sys
sys.modules["triton"] = None
import tests.conftest as conftest
assert "triton" not in {name for name, *_ in conftest.VARIANTS}
assert "kernels/test_kernels.py" in conftest.collect_ignore
"""
    python = [sys.executable, "-c", code]
    done = subprocess.run(python, capture_output=True, text=True, env=checkout.environment())
    assert done.returncode == 0, done.stderr


def test_the_name_kernels_stays_free():
    assert not (ROOT / "kernels" / "__init__.py").exists()


def built(tmp_path, **environment):
    """The wheel of a copy of the checkout, since building leaves files behind."""
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    copy = tmp_path / "checkout"
    copy.mkdir()
    not_built = shutil.ignore_patterns("*.so", "__pycache__")
    for name in ("fastal", "kernels", "tests"):
        shutil.copytree(ROOT / name, copy / name, ignore=not_built)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    environment = {**os.environ, "CFLAGS": "-O0", **environment}  # which is compiled sooner
    subprocess.run([*pip, "--wheel-dir", tmp_path, copy], check=True, env=environment)
    (wheel,) = tmp_path.glob("fastal-*.whl")
    return wheel


def contents(wheel):
    held = {n for n in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in n}
    want = {"fastal/py.typed", "fastal_kernels/py.typed"}
    want |= {f"fastal/report/page/{name}" for name in PAGE}
    want.add("fastal/adapters/fiftyone_plugin/fiftyone.yml")
    for name, path in MODULES.items():
        stem = name.replace(".", "/")
        want.add(f"{stem}/__init__.py" if path.stem == "__init__" else f"{stem}.py")
    return held, want


@pytest.mark.skipif(bool(native.reasons()), reason="no compiler here")
@pytest.mark.full
def test_the_wheel_holds_the_packages_and_serves_every_python(tmp_path):
    wheel = built(tmp_path)
    held, want = contents(wheel)
    (compiled,) = held - want
    assert want <= held
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        assert compiled.startswith("fastal_kernels/native/_native.")
    else:
        assert re.fullmatch(r"fastal_kernels/native/_native\.(abi3\.so|pyd)", compiled)
        assert "-cp310-abi3-" in wheel.name


@pytest.mark.full
def test_without_a_compiler_the_wheel_lacks_the_native_kernels_and_says_so(tmp_path):
    wheel = built(tmp_path, CC="false")
    held, want = contents(wheel)
    assert held == want
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    code = """
import fastal, numpy
print(fastal.__file__, fastal.backend_reasons()["native"])
print(fastal.select(numpy.array([[0., 3.], [1., 1.]]), 1).rows)
"""
    environment = {"PYTHONPATH": str(tmp_path / "installed")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment,
        cwd=tmp_path,
    )  # fmt: skip
    assert str(tmp_path) in done.stdout, done.stderr
    assert "not compiled when fastal was installed: that takes gcc" in done.stdout
    assert "[1]" in done.stdout
