"""The layers, and what may not be imported or shipped."""

import ast
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from fastal_kernels import native

ROOT = Path(__file__).parents[1]

# From the bottom up: a module imports only from lines above its own. `package` means its modules
# too, which may import one another.
LAYERS = [
    ["fastal_kernels", "fastal.version"],
    ["fastal.base"],
    ["fastal.ops"],
    ["fastal.scoring", "fastal.sources"],
    ["fastal.selection"],
    ["fastal.output"],
    ["fastal.pipeline"],
    ["fastal.uncertainty"],
    ["fastal.diversity"],
    ["fastal"],
    ["fastal.commands"],
    ["fastal.report"],
    ["fastal.cli"],
    ["fastal.__main__"],
]


def modules():
    for root in (ROOT / "fastal", ROOT / "kernels" / "fastal_kernels"):
        for path in sorted(root.rglob("*.py")):
            name = ".".join(path.relative_to(root.parent).with_suffix("").parts)
            yield name.removesuffix(".__init__"), path


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found = [f"{node.module}.{alias.name}" for alias in node.names]
            known = dict(modules())
            yield from (name if name in known else node.module for name in found)


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


@pytest.mark.parametrize("name", [name for name, _ in modules()])
def test_imports_run_one_way(name):
    number, entry = layer(name)
    for imported in imports(dict(modules())[name]):
        if imported.partition(".")[0] not in ("fastal", "fastal_kernels"):
            continue
        other_number, other_entry = layer(imported)
        assert other_number < number or other_entry == entry, f"{name} imports {imported}"


def test_every_layer_exists():
    names = {name for name, _ in modules()}
    assert {entry for entries in LAYERS for entry in entries} <= names


def test_the_kernels_know_torch_and_triton_only():
    for name, path in modules():
        foreign = {i.partition(".")[0] for i in imports(path)} - set(sys.stdlib_module_names)
        if name.startswith("fastal_kernels"):
            assert foreign <= {"torch", "triton", "fastal_kernels"}, name
        elif "fastal_kernels" in foreign:
            assert name.startswith("fastal.ops.") or name == "fastal.base.guard", name


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
    ]
    code = f"import sys, fastal; print(*[m for m in {heavy} if m in sys.modules])"
    python = [sys.executable, "-W", "error", "-c", code]
    path = f"{ROOT}:{ROOT / 'kernels'}"
    found = subprocess.run(python, capture_output=True, text=True, env={"PYTHONPATH": path})
    assert found.stdout.split() == [], found.stderr
    assert found.returncode == 0


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
    for name, path in modules():
        stem = name.replace(".", "/")
        want.add(f"{stem}/__init__.py" if path.stem == "__init__" else f"{stem}.py")
    return held, want


@pytest.mark.skipif(bool(native.reasons()), reason="no compiler here")
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
