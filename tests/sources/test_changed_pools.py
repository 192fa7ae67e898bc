"""A changed pool is detected, even if its sizes and newest times are the same as before."""

import os
import shutil
import time

import numpy as np
import pytest
import zarr

import fastal
from fastal.selection.stratified import StratifiedSelector
from fastal.sources import open_pool
from fastal.sources.location import Location
from tests.support.forks import logits_of
from tests.support.formats import data, write

TICK = 0.03  # the clock of a file system has a finer resolution


def keeping_times(change):
    """Changes the content of a file, but not its size and modification time."""

    def changed(path):
        content, stat = path.read_bytes(), path.stat()
        time.sleep(TICK)
        change(path, content[:-1] + bytes([content[-1] ^ 1]))
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        assert (path.stat().st_size, path.stat().st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)

    return changed


def replaced(path, content):
    other = path.with_name("other")
    other.write_bytes(content)
    other.replace(path)


def written_over(path, content):
    with path.open("r+b") as file:  # as cp writes it
        file.write(content)


def unpacked(path, content):
    path.unlink()
    path.write_bytes(content)  # the new file may get the same inode


CHANGES = [replaced, written_over, unpacked]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("part", ["x", "id"])
def test_a_checkpoint_is_refused_after_a_file_was_replaced_with_the_same_time(
    tmp_path, monkeypatch, interrupting, change, part
):
    np.save(tmp_path / "x.npy", logits_of())
    np.save(tmp_path / "id.npy", np.arange(len(logits_of())))
    (tmp_path / "m.json").write_text(
        '{"files": [{"path": "x.npy", "columns": {"id": "id.npy"}}], "id_column": "id"}'
    )
    arguments = (str(tmp_path / "m.json"), 9)
    options = {"checkpoint": tmp_path / "saved", "chunk_bytes": 25_600}
    interrupting(fastal.Selector)(5)
    with pytest.raises(KeyboardInterrupt):
        fastal.select(*arguments, **options)
    keeping_times(change)(tmp_path / f"{part}.npy")
    with pytest.raises(ValueError, match=r"x\.npy was replaced since, or touched \(its mode, "):
        fastal.select(*arguments, **options, resume=True)


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_replaced_with_the_same_time_while_it_is_read_is_an_error(tmp_path, change):
    np.save(path := tmp_path / "x.npy", logits_of())
    pool = open_pool(path)
    chunks = pool.chunks(100)
    assert pool.check(next(chunks).start, lost=False)
    keeping_times(change)(path)
    with pytest.raises(ValueError, match=r"x\.npy: changed while it was being read"):
        pool.check(next(chunks).start, lost=False)


def chunks_of(folder):
    return sorted(p for p in (folder / "c").rglob("*") if p.is_file())


def swapped(folder):
    one, other, *_ = chunks_of(folder)
    one.rename(folder.parent / "aside")
    other.rename(one)
    (folder.parent / "aside").rename(other)


def older(folder):
    keeping_times(written_over)(chunks_of(folder)[0])


@pytest.mark.parametrize("change", [swapped, older])
def test_a_change_of_any_file_of_a_zarr_folder_is_an_error(tmp_path, change):
    array = zarr.create_array(tmp_path / "a.zarr", shape=(40, 4), chunks=(10, 4), dtype="f4")
    array[:] = np.random.default_rng(0).normal(size=(40, 4))
    (tmp_path / "link.zarr").mkdir()
    shutil.copy(tmp_path / "a.zarr/zarr.json", tmp_path / "link.zarr")
    (tmp_path / "link.zarr/c").symlink_to(tmp_path / "a.zarr/c")
    files = [Location(f"{tmp_path}/{name}.zarr") for name in ("a", "link")]
    before = [file.stamp() for file in files]
    pool = open_pool(tmp_path / "a.zarr")
    time.sleep(TICK)
    change(tmp_path / "a.zarr")
    for file, stamp in zip(files, before, strict=True):
        assert file.stamp()[:2] == stamp[:2]
        assert file.stamp() != stamp
    with pytest.raises(ValueError, match=r"a\.zarr: changed while it was being read"):
        list(pool.chunks(10))


def test_a_file_that_changes_while_it_is_opened_is_an_error(tmp_path, monkeypatch):
    np.save(path := tmp_path / "x.npy", logits_of())
    check = Location.check

    def changing(file):
        check(file)
        stamp = Location.stamp

        def once(file):
            monkeypatch.setattr(Location, "stamp", stamp)
            found = stamp(file)
            keeping_times(replaced)(path)
            return found

        monkeypatch.setattr(Location, "stamp", once)

    monkeypatch.setattr(Location, "check", changing)
    pool = open_pool(path)
    with pytest.raises(ValueError, match="changed while it was being read"):
        pool.check(0, lost=False)


def test_reading_a_pool_does_not_change_its_fingerprint(tmp_path):
    """Reading, copying and linking do not change the times in a stamp."""
    for name in ("npy", "npz", "zarr", "hdf5", "parquet list", "arrow fixed", "pt", "safetensors"):
        pool = write(name, tmp_path / name.replace(" ", "-"), data())
        before = Location(str(pool.path)).stamp()
        time.sleep(TICK)
        source = open_pool(pool.path, **pool.options)
        fastal.select(source, 3)
        copy = shutil.copytree if pool.path.is_dir() else shutil.copy2
        copy(pool.path, tmp_path / "copy")
        (tmp_path / "link").symlink_to(pool.path.parent)
        assert Location(str(pool.path)).stamp() == before
        for left in ("copy", "link"):
            path = tmp_path / left
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def test_a_change_of_a_remote_file_is_reported(tmp_path, interrupting):
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")

    def put(x):
        with memory.open("/changed/x.npy", "wb") as file:
            np.save(file, x)

    put(logits_of())
    options = {"checkpoint": tmp_path / "saved", "chunk_bytes": 25_600}
    interrupting(fastal.Selector)(5)
    with pytest.raises(KeyboardInterrupt):
        fastal.select("memory://changed/x.npy", 9, **options)
    time.sleep(TICK)
    put(logits_of()[::-1])
    with pytest.raises(ValueError, match=r"the file memory://changed/x\.npy has changed"):
        fastal.select("memory://changed/x.npy", 9, **options, resume=True)


def test_skipped_files_are_restored_on_resume(tmp_path, interrupting):
    for i in range(30):
        (tmp_path / f"bad-{i:02}.npy").write_text("no array")
    np.save(tmp_path / "good.npy", logits_of())
    options = {"checkpoint": tmp_path / "saved", "chunk_bytes": 25_600}
    interrupting(StratifiedSelector)(5)
    pool = open_pool(tmp_path / "*.npy", on_bad_file="skip")
    names = [str(tmp_path / f"bad-{i:02}.npy") for i in range(30)]
    assert [skipped.file for skipped in pool.skipped] == names
    labels = {"groups": np.arange(len(logits_of())) % 3, "per_group": 3}
    with pytest.raises(KeyboardInterrupt):
        fastal.select(pool, **labels, **options)
    pool = open_pool(tmp_path / "*.npy", on_bad_file="skip")
    picks = fastal.select(pool, **labels, **options, resume=True)
    assert [skipped.file for skipped in pool.skipped] == names
    assert len(picks.rows) == 9


def test_skipping_files_takes_linear_time(tmp_path):
    """A skipped file is found by its name, without a search through all of them."""
    looks = 0

    class Counted(str):
        __slots__ = ()

        def __eq__(self, other):
            nonlocal looks
            looks += 1
            return str.__eq__(self, other)

        __hash__ = str.__hash__

    np.save(tmp_path / "good.npy", logits_of(0, 50))
    bad = [f"{tmp_path}/bad-{i:03}.npy" for i in range(200)]
    pool = open_pool([*bad, tmp_path / "good.npy"], on_bad_file="skip")
    pool.skipped = [skipped._replace(file=Counted(skipped.file)) for skipped in pool.skipped]
    assert len(list(pool.chunks(1))) == 50
    assert looks == 0
