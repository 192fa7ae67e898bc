"""Manifests: their content, and hostile ones that are refused."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

import fastal
from fastal.sources import manifest, open_pool

X = np.zeros((5, 3), np.float32)


def refused(path, words, **options):
    with pytest.raises((OSError, ValueError), match=words) as e:
        fastal.select(open_pool(path, **options), 3)
    assert str(path.parent) in str(e.value)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"files": ["a.npy"], "files": ["b.npy"]}', "has the key 'files' twice"),
        ('{"files": [{"path": "a.npy", "path": "b.npy"}]}', "has the key 'path' twice"),
        ('{"files": [{"path": "a.npy", "rows": 5, "rows": 5}]}', "has the key 'rows' twice"),
        ('{"files": [{"path": "a.npy", "columns": {"id": "a", "id": "b"}}]}', "key 'id' twice"),
        ('{"files": [{"path": "a.npy", "rows": true}]}', "wanted a number of rows, got True"),
        ('{"files": [{"path": "a.npy", "rows": 5.0}]}', "wanted a number of rows, got 5.0"),
        ('{"files": [{"path": "a.npy", "rows": -1}]}', "wanted a number of rows, got -1"),
        ('{"files": [{"path": "a.npy", "rows": 4}]}', "5 rows, where the manifest says 4"),
        (r'{"files": ["a\u0000.npy"]}', r"wanted a path, got 'a\\x00\.npy'"),
        (r'{"files": ["\ud800.npy"]}', "no such file|surrogates"),
        ('{"files": ["m.json"]}', r"m\.json: wanted a file of"),
        ('{"files": ["."]}', "wanted a file, got a folder"),
        ('{"files": [{"path": "a.npy", "columns": {"": "b.npy"}}]}', "columns: wanted names"),
        ('{"files": [{"path": "a.npz", "columns": {"id": "b.npy"}}]}', "columns: wanted names"),
        ('{"files": [{"path": "a.npy", "columns": {"id": "none.npy"}}]}', "'id': .*no such file"),
        ('{"files": [{"path": "a.npy", "columns": {"id": "pipe.npy"}}]}', "not a regular file"),
        ('{"files": [{"path": "a.npy", "columns": {"id": "."}}]}', "wanted a file, got a folder"),
        ("[" * 1_000_000, "JSON is nested too deeply"),
        ('{"files":' * 100_000, "JSON is nested too deeply"),
    ],
)
def test_manifests_that_are_refused(tmp_path, text, words):
    for name in ("a.npy", "b.npy"):
        np.save(tmp_path / name, X)
    os.mkfifo(tmp_path / "pipe.npy")
    (tmp_path / "m.json").write_text(text)
    refused(tmp_path / "m.json", words)


def test_a_manifest_must_be_a_regular_file_of_bounded_size(tmp_path, monkeypatch):
    np.save(tmp_path / "a.npy", X)
    path = tmp_path / "manifest.json"
    with path.open("wb") as file:
        file.truncate(5 << 30)
    refused(path, "wanted at most 64 MB of JSON")
    with pytest.raises(ValueError, match="wanted at most 64 MB"):
        open_pool(tmp_path)
    path.unlink()
    for make in (os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero")):
        make(path)
        with pytest.raises(ValueError, match=r"manifest\.json: .*not a regular file"):
            open_pool(tmp_path)
        path.rmdir() if path.is_dir() else path.unlink()
    path.symlink_to(tmp_path / "gone.json")
    with pytest.raises(FileNotFoundError, match="manifest"):
        open_pool(tmp_path)
    path.unlink()
    path.write_text('{"files": ["a.npy"]}')
    monkeypatch.setattr(manifest, "_MOST_BYTES", 20)
    assert open_pool(tmp_path).n_rows == 5
    monkeypatch.setattr(manifest, "_MOST_BYTES", 19)
    refused(path, "wanted at most 0 MB")


def test_a_manifest_with_a_byte_order_mark(tmp_path):
    np.save(tmp_path / "a.npy", X)
    for encoding in ("utf-8-sig", "utf-16", "utf-8"):
        (tmp_path / "m.json").write_text('{"files": ["a.npy"]}', encoding)
        assert open_pool(tmp_path / "m.json").n_rows == 5


@pytest.mark.full
def test_a_manifest_that_needs_too_much_memory_gives_one_line(tmp_path):
    np.save(tmp_path / "a.npy", X)
    (tmp_path / "m.json").write_bytes(b'{"files": [' + b"[]," * 2_000_000 + b"[]]}")
    code = (
        "import resource, sys, fastal.cli, fastal.commands.uncertainty\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + (80 << 20),) * 2)\n"
        "fastal.cli.main(sys.argv[1:])"
    )
    command = [sys.executable, "-c", code, "select", str(tmp_path / "m.json"), "--k", "3"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "needs too much memory" in done.stderr and "Traceback" not in done.stderr


def test_the_manifests_of_a_pool_are_among_its_inputs(tmp_path):
    np.save(tmp_path / "a.npy", X)
    np.save(tmp_path / "b.npy", X)
    for name in "ab":
        (tmp_path / f"{name}.json").write_text(json.dumps({"files": [f"{name}.npy"]}))
    found, _ = fastal.sources.expand.expand([tmp_path / "a.json", tmp_path / "b.json"], [".npy"])
    assert found.read_from == (tmp_path / "a.json", tmp_path / "b.json")
