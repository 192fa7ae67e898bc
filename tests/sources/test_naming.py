"""Paths, patterns, manifests and URLs, and the files that they stand for."""

import json
import logging
import os
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import fastal
from fastal.commands.convert import convert_pool
from fastal.sources import open_pool
from fastal.sources.expand import expand
from fastal.sources.walk import walk
from tests.support.formats import data, write


def shard(path, first=0, n=3):
    """Writes a file of n rows, each of which holds its number, from `first` on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    x = np.full((n, 4), 0, np.float32)
    x[:, 0] = np.arange(first, first + n)
    if path.suffix == ".npy":
        np.save(path, x)
    elif path.suffix == ".parquet":
        rows = pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), 4)
        pq.write_table(pa.table({"x": rows}), path)
    else:
        rows = pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), 4)
        table = pa.table({"x": rows})
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table)
    return path


def held(pool, **options):
    """The numbers that the rows of a pool hold."""
    source = open_pool(pool, **options)
    return [int(n) for chunk in source.chunks(1000) for n in np.asarray(chunk.x)[:, 0]]


@pytest.fixture
def said(caplog):
    caplog.set_level(logging.WARNING, "fastal")

    def lines():
        found = [record.getMessage() for record in caplog.records]
        caplog.clear()
        return found

    return lines


@pytest.mark.parametrize("suffix", ["parquet", "npy", "arrow"])
def test_a_folder_is_searched_with_its_subfolders(tmp_path, said, suffix):
    shard(tmp_path / f"country=fr/year=2025/part-0.{suffix}", 3)
    shard(tmp_path / f"country=de/part-0.{suffix}", 0)
    shard(tmp_path / f"z.{suffix}", 6)
    (tmp_path / "country=de" / "_SUCCESS").touch()
    (tmp_path / "country=de" / f".part-0.{suffix}.crc").write_bytes(b"crc")
    (tmp_path / "_metadata").write_bytes(b"PAR1")
    (tmp_path / "empty").mkdir()
    assert held(tmp_path) == list(range(9))
    assert not said()


def test_a_zarr_folder_is_one_array(tmp_path, said):
    pool = write("zarr", tmp_path, data())
    np.save(tmp_path / "b.npy", data().x)
    write("npy", tmp_path / "c", data())
    source = open_pool(tmp_path)
    assert [file.file.path for file in source.files] == [
        pool.path, tmp_path / "b.npy", tmp_path / "c/a.npy",
    ]  # fmt: skip
    assert not said()


def test_a_manifest_says_what_its_folder_holds(tmp_path):
    for i, name in enumerate("ab"):
        shard(tmp_path / name / "x.npy", 3 * i)
        shard(tmp_path / name / "ids/x.npy", 90)
        (tmp_path / name / "manifest.json").write_text('{"files": ["x.npy"]}')
    assert held(tmp_path) == list(range(6))
    shard(tmp_path / "c/y.npy", 6)
    words = r"it holds .*c/y\.npy, and a pool of its own, .*a/manifest\.json: name one of them"
    with pytest.raises(ValueError, match=words):
        held(tmp_path)


def test_shards_converted_into_a_subfolder_are_not_read_with_the_pool(tmp_path):
    shard(tmp_path / "country=de/x.npy")
    convert_pool(open_pool(tmp_path), tmp_path / "fast", shard_bytes=1 << 20)
    with pytest.raises(ValueError, match=r"and a pool of its own, .*fast/manifest\.json"):
        held(tmp_path)
    assert held(tmp_path / "fast") == held(tmp_path / "country=de") == [0, 1, 2]


def test_ignored_names_in_a_folder_are_logged(tmp_path, said):
    shard(tmp_path / "data-0.arrow", 0)
    shard(tmp_path / "sub/data-1.arrow", 3)
    for name in (
        "_tmp.arrow", ".hidden.arrow", "cache-1f.arrow", "sub/cache-1f_00000_of_00002.arrow",
        "_temporary/0/part.arrow", ".ipynb_checkpoints/data-0.arrow", "sub/_old/part.arrow",
    ):  # fmt: skip
        shard(tmp_path / name, 90)
    shard(tmp_path / "cache-1f.npy", -3)  # caches of Hugging Face have another suffix
    assert held(tmp_path) == [-3, -2, -1, *range(6)]
    (line,) = said()
    assert "left out" in line and "and 3 more" in line
    assert held([tmp_path / "_tmp.arrow", tmp_path / "data-0.arrow"]) == [90, 91, 92, 0, 1, 2]
    assert not said()
    for name in ("data-0.arrow", "sub/data-1.arrow", "cache-1f.npy"):
        (tmp_path / name).unlink()
    with pytest.raises(
        FileNotFoundError, match=r"or below it; .*\.hidden\.arrow is ignored because of its name"
    ):
        held(tmp_path)


def test_wildcards_match_no_ignored_names(tmp_path, said):
    shard(tmp_path / "data-0.arrow", 0)
    for name in ("_tmp.arrow", ".hidden.arrow", "cache-1f.arrow"):
        shard(tmp_path / name, 90)
    for pattern in ("*.arrow", "**/*.arrow", "?ata-*.arrow", "*"):
        assert held(tmp_path / pattern) == [0, 1, 2]
        lines = said()
        assert bool(lines) == (pattern != "?ata-*.arrow")
        assert all("_tmp.arrow" in line and "hidden" not in line for line in lines)
    for pattern in ("_*.arrow", ".h*.arrow", "cache*.arrow"):
        assert held(tmp_path / pattern) == [90, 91, 92]
    (tmp_path / "data-0.arrow").unlink()
    with pytest.raises(FileNotFoundError, match=r"no file matches; .*_tmp\.arrow is ignored"):
        held(tmp_path / "*.arrow")


def saved_data_set(folder, names, **more):
    for i, name in enumerate(names):
        shard(folder / name, 3 * i)
    state = {"_data_files": [{"filename": name} for name in names], "_fingerprint": "1f", **more}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text("{}")


def test_a_data_set_of_hugging_face_has_the_files_in_its_state_json(tmp_path, said):
    for folder in (tmp_path / "ds", tmp_path / "other/train"):
        saved_data_set(folder, ["data-00000-of-00002.arrow", "data-00001-of-00002.arrow"])
    shard(tmp_path / "ds/old.arrow", 90)
    shard(tmp_path / "ds/cache-1f.arrow", 90)
    shard(tmp_path / "ds/below/more.arrow", 90)
    assert held(tmp_path / "ds") == list(range(6))
    (line,) = said()
    assert "cache-1f.arrow" in line and "old.arrow" in line
    assert held(tmp_path / "other") == list(range(6))
    found, _ = expand([tmp_path / "other"], [".arrow"])
    assert found.read_from == (tmp_path / "other/train/state.json",)
    shard(tmp_path / "other/more.arrow")
    with pytest.raises(ValueError, match=r"and a pool of its own, .*train/state\.json"):
        held(tmp_path / "other")
    (tmp_path / "ds/data-00001-of-00002.arrow").unlink()
    with pytest.raises(FileNotFoundError, match=r"data-00001-of-00002\.arrow: no such file"):
        held(tmp_path / "ds")


def test_a_data_set_of_several_splits_or_of_indices_is_refused(tmp_path):
    for split in ("train", "test"):
        saved_data_set(tmp_path / "ds" / split, ["data.arrow"])
    (tmp_path / "ds/dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    for pool in (tmp_path, tmp_path / "ds"):
        with pytest.raises(ValueError, match=r"several splits, wanted one of .*/train, .*/test"):
            held(pool)
    assert held(tmp_path / "ds/train") == [0, 1, 2]
    more = {"_indices_data_files": [{"filename": "indices.arrow"}]}
    saved_data_set(tmp_path / "indexed", ["dataset.arrow"], **more)
    with pytest.raises(ValueError, match="picked from its files by indices"):
        held(tmp_path / "indexed")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"_data_files": 3}',
        '{"_data_files": [3], "splits": [3]}',
        '{"_data_files": [{}], "splits": {}}',
        '{"_data_files": [{"filename": "\\u0000"}]}',
        "[" * 100_000,
    ],
)
def test_a_state_json_of_another_tool_is_ignored(tmp_path, text):
    shard(tmp_path / "a.npy")
    (tmp_path / "state.json").write_text(text)
    (tmp_path / "dataset_dict.json").write_text(text)
    assert held(tmp_path) == [0, 1, 2]


def test_a_path_that_exists_is_not_a_pattern(tmp_path, said):
    for i, folder in enumerate(["run[1]", "run1", "a*", "ab", "a", "x/run[1]", "x/run1"]):
        shard(tmp_path / folder / "part.npy", 10 * i)
    shard(tmp_path / "run[1]/part[0].npy", 100)
    shard(tmp_path / "run[1]/part0.npy", 200)
    for name, want in (
        ("run[1]/part.npy", 0), ("a*/part.npy", 20), ("*/run[1]/part.npy", 50),
        ("run[1]/part[0].npy", 100), ("run[[]1]/part[0].npy", 100),
    ):  # fmt: skip
        assert held(tmp_path / name)[0] == want, name
    said()
    assert held(tmp_path / "run[1]/*.npy")[::3] == [0, 200, 100]
    assert held(tmp_path / "run[1]")[::3] == [0, 200, 100]
    assert not said()
    shard(tmp_path / "b1/x.npy", 7)
    assert held(tmp_path / "b[1]/*.npy") == [7, 8, 9]
    (line,) = said()
    says = "nothing has this name, so it is a pattern, and matches"
    assert line == f"{tmp_path}/b[1]/*.npy: {says} {tmp_path}/b1"
    assert held(tmp_path / "*/part[0-9].npy")[0] == 200
    assert len(said()) == 1
    with pytest.raises(FileNotFoundError, match=r"c\[1\]/\*\.npy: no file matches"):
        held(tmp_path / "c[1]/*.npy")


def test_a_file_that_matches_a_pattern_twice_is_read_once(tmp_path):
    shard(tmp_path / "a.npy", 0)
    shard(tmp_path / "b/c.npy", 3)
    for pattern in ("**", "**/*", "*", "**/**/*.npy", "./**/*.npy", "b/../**/*.npy"):
        assert held(tmp_path / pattern) == list(range(6)), pattern


def test_patterns_relative_to_the_working_folder(tmp_path, monkeypatch):
    shard(tmp_path / "pool/a.npy", 0)
    shard(tmp_path / "pool/b/c.npy", 3)
    monkeypatch.chdir(tmp_path)
    for name in ("pool/**/*.npy", "p*", "**", "*/", "../{tmp_path.name}/p*/"):
        assert held(name.format(tmp_path=tmp_path)) == list(range(6)), name
    assert [str(file.file) for file in open_pool("p*/*.npy").files] == ["pool/a.npy"]
    assert [str(file.file) for file in open_pool("*").files] == ["pool/a.npy", "pool/b/c.npy"]


def test_links_to_folders_are_followed_once(tmp_path):
    shard(tmp_path / "pool/a.npy", 0)
    shard(tmp_path / "elsewhere/b.npy", 3)
    for name, to in (("here", "."), ("there", "."), ("up", "../pool"), ("z", "../elsewhere")):
        (tmp_path / "pool" / name).symlink_to(to)
    (tmp_path / "pool/z2").symlink_to("../elsewhere")
    assert held(tmp_path / "pool") == list(range(6))
    assert held(tmp_path / "pool/**/*.npy") == list(range(6))
    assert held(tmp_path / "**/b.npy") == [3, 4, 5]
    assert [here.name for here, _, _ in walk(tmp_path / "pool")] == ["pool", "z"]


def test_loops_of_links_below_several_wildcards_end(tmp_path):
    for i in range(40):
        (tmp_path / f"{i}/{i}").mkdir(parents=True)
        (tmp_path / f"{i}/up").symlink_to("..")
        (tmp_path / f"{i}/{i}/up").symlink_to("../..")
    shard(tmp_path / "7/x.npy")
    for pattern in ("**/**/**/*.npy", "**/7/**/x.npy", "**/*/**/*.npy", "7/**/up/**/*.npy"):
        began = time.monotonic()
        assert held(tmp_path / pattern) == [0, 1, 2]
        assert time.monotonic() - began < 5


def test_folders_deeper_than_python_recurses(tmp_path):
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1100):  # more than Python's limit of recursion
        os.mkdir("x", dir_fd=here)
        below = os.open("x", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    shard(tmp_path / "a.npy")
    try:
        assert held(tmp_path) == held(tmp_path / "**/*.npy") == [0, 1, 2]
    finally:
        for path in [here for here, _, _ in walk(tmp_path / "x")][::-1]:
            path.rmdir()


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    shard(tmp_path / "a.npy")
    (tmp_path / "locked").mkdir()
    (tmp_path / "lost+found").mkdir()
    scandir = os.scandir

    def guarded(path):
        if path.name in ("locked", "lost+found"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr("fastal.sources.walk.os.scandir", guarded)
    with pytest.raises(PermissionError, match="locked"):
        held(tmp_path)
    (tmp_path / "locked").rmdir()
    assert held(tmp_path) == [0, 1, 2]


def test_two_names_of_one_file_are_refused(tmp_path):
    """As in the cache of Hugging Face, where equal files are links to one file."""
    blob = shard(tmp_path / "blobs/1f.npy")
    empty = shard(tmp_path / "blobs/2f.npy", n=0)
    pool = tmp_path / "snapshot"
    pool.mkdir()
    for name in ("part-0.npy", "part-2.npy"):
        (pool / name).symlink_to(empty)
    (pool / "part-1.npy").symlink_to(blob)
    assert held(pool) == [0, 1, 2]
    (pool / "part-3.npy").symlink_to(blob)
    words = r"part-1\.npy and .*part-3\.npy are two names of one file, by links to .*1f\.npy"
    for pool_of in (pool, pool / "*.npy", [pool / "part-3.npy", pool / "part-1.npy"]):
        with pytest.raises(ValueError, match=words):
            held(pool_of)
    with pytest.raises(ValueError, match=r"part-1\.npy is named twice"):
        held([pool / "part-1.npy", f"{pool}/../snapshot/part-1.npy"])


def test_files_named_out_of_path_order_are_reported(tmp_path, said):
    """Rows are numbered in path order, so labels in another order would be those of other rows."""
    files = [shard(tmp_path / f"part-{i}.npy", 3 * i) for i in (2, 10)]
    manifest = tmp_path / "m.json"
    manifest.write_text(json.dumps({"files": ["part-2.npy", "part-10.npy"]}))
    (tmp_path / "labels").mkdir()
    for pool in (files, [files[0], tmp_path / "part-1*.npy"], manifest):
        assert held(pool) == [30, 31, 32, 6, 7, 8]
        (line,) = said()
        assert line.endswith(f"named: {files[0]} comes after {files[1]}")
        with pytest.raises(ValueError, match="groups: the rows are numbered in the order of the"):
            fastal.select(pool, groups=[0, 0, 0, 1, 1, 1], per_group=1)
        said()
    for pool in (files[::-1], tmp_path, tmp_path / "part-*.npy"):
        assert held(pool) == [30, 31, 32, 6, 7, 8]
        picks = fastal.select(pool, groups=[0, 0, 0, 1, 1, 1], per_group=1, by=lambda x: x[:, 0])
        assert sorted(picks.rows.tolist()) == [2, 5]
        assert not said()


def test_hive_partitions_are_groups(tmp_path):
    shard(tmp_path / "country=de/part-0.parquet", 0)
    shard(tmp_path / "country=c%C3%B4te%20d/year=2025/part-0.npy", 3)
    shard(tmp_path / "country=__HIVE_DEFAULT_PARTITION__/part-0.arrow", 6)
    pool = open_pool(tmp_path, group_column="country")
    picks = fastal.select(pool, per_group=1, by=lambda x: x[:, 0])
    assert dict(zip(picks.groups, picks.scores.tolist(), strict=True)) == {
        "de": 2, "côte d": 5, None: 8,
    }  # fmt: skip
    rows = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(8, np.float32)), 4)
    pq.write_table(pa.table({"x": rows, "country": ["a", "b"]}), tmp_path / "z.parquet")
    picks = fastal.select(open_pool(tmp_path, group_column="country"), per_group=1)
    assert set(picks.groups) == {"de", "côte d", None, "a", "b"}
    shard(tmp_path / "a.npy", 9)
    with pytest.raises(ValueError, match=r"a\.npy: no array 'country'"):
        open_pool(tmp_path, group_column="country")


@pytest.mark.parametrize("name", ["a\0b.npy", "pool\0"])
def test_a_path_with_a_null_character_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match=r"pool: '.*\\x00.*' is no path"):
        held(str(tmp_path / name))


def test_urls_that_exist_are_not_patterns():
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    for name, n in (("run[1]/a.npy", 2), ("run1/a.npy", 3)):
        with memory.open(f"/naming/{name}", "wb") as file:
            np.save(file, np.zeros((n, 4), np.float32))
    assert open_pool("memory://naming/run[1]/a.npy").n_rows == 2
    assert open_pool("memory://naming/run1/*.npy").n_rows == 3
    for name in ("_temporary/0/b.npy", "_b.npy"):
        memory.copy("/naming/run1/a.npy", f"/naming/run1/{name}")
    assert open_pool("memory://naming/run1/**/*.npy").n_rows == 3
    assert open_pool("memory://naming/run1/_*.npy").n_rows == 3
    with pytest.raises(ValueError, match=r"or a glob: memory://naming/run1/\*\*/\*\.parquet"):
        open_pool("memory://naming/run1")


def test_patterns_match_folders_and_manifests(tmp_path):
    shard(tmp_path / "a.npy", 0)
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/notes.txt").touch()
    shard(tmp_path / "z/x.npy", 3)
    shard(tmp_path / "z/ids.npy", 3)
    (tmp_path / "z/manifest.json").write_text('{"files": [{"path": "x.npy", "rows": 3}]}')
    assert held(tmp_path / "*") == list(range(6))
    (tmp_path / "z/ids.npy").unlink()
    (tmp_path / "logs/notes.txt").unlink()
    assert held(tmp_path / "**/*") == list(range(6))
    (tmp_path / "z/manifest.json").write_text('{"files": [{"path": "x.npy", "rows": 4}]}')
    with pytest.raises(ValueError, match="3 rows, where the manifest says 4"):
        held(tmp_path / "z/*")  # the number of rows in the manifest is checked
    with pytest.raises(FileNotFoundError, match="no file matches"):
        held(tmp_path / "a.npy/**/*.npy")
    with pytest.raises(FileNotFoundError, match="no file matches"):
        held(tmp_path / "l*")


def test_json_files_of_other_tools_are_ignored(tmp_path, said):
    shard(tmp_path / "web" / "a.npy")
    (tmp_path / "web" / "manifest.json").write_text('{"name": "an app"}')
    (tmp_path / "web" / "dataset_info.json").write_text("{}")
    assert held(tmp_path) == [0, 1, 2]
    assert "manifest.json" in said()[0]
    assert held(tmp_path / "web" / "*.npy") == [0, 1, 2]
    shard(tmp_path / "b" / "b.npy", 3)
    (tmp_path / "b" / "dataset_info.json").write_text("{}")
    said()
    assert held(tmp_path / "b" / "*") == [3, 4, 5]
    assert "dataset_info.json" in said()[0]
    with pytest.raises(ValueError, match="wanted a manifest"):
        open_pool(tmp_path / "web")


def test_patterns_of_urls_match_no_ignored_names(tmp_path, said):
    for name in ("c/_runs/a.npy", "c/_runs/_temporary/b.npy", "c/_runs/.c.npy"):
        shard(tmp_path / name)
    shard(tmp_path / "c" / "_runs" / "cache-1.arrow")
    assert held(f"file://{tmp_path}/c/_runs/**/*.npy") == [0, 1, 2]
    with pytest.raises(FileNotFoundError):
        open_pool(f"file://{tmp_path}/c/_runs/*.arrow")
