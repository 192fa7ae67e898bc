"""Archives of arrays: checksums are verified; damaged and ambiguous archives are refused."""

import io
import os
import resource
import struct
import warnings
import zipfile
import zlib

import fsspec
import numpy as np
import pytest
import safetensors.numpy
import torch

import fastal
from fastal.base.arrays import as_tensor
from fastal.sources import archive, npy, open_pool
from tests.support.formats import C, Pool, data, write
from tests.support.fuzz_kinds import read_all

DATA = data(n=3000)
CHUNK = 4 * C * 100


def flip(path, of, at):
    """Flips a bit of a value in a file, given the value's bytes."""
    content = bytearray(path.read_bytes())
    content[content.index(of) + at] ^= 0x40
    path.write_bytes(content)


def rows_of(pool, rows=100, start=0, **options):
    chunks = open_pool(pool, **options).chunks(rows, start)
    return np.concatenate([np.asarray(as_tensor(chunk.x, "x")) for chunk in chunks])


@pytest.mark.parametrize(
    "name", ["x", "logits"]
)  # the data are unaligned with the first name, aligned with the second
@pytest.mark.parametrize("row", [0, 1500, 2999])
def test_a_flipped_bit_is_an_error_before_the_rows_end(tmp_path, name, row):
    path = tmp_path / "a.npz"
    np.savez(path, **{name: DATA.x})
    flip(path, DATA.x[row].tobytes(), 1)
    for options in ({}, {"chunk_bytes": CHUNK}):
        with pytest.raises(ValueError, match=rf"a\.npz: '{name}' is damaged: .*CRC-32"):
            fastal.select(path, 3, **options)
    for start in (1, 1600, 2999):
        with pytest.raises(ValueError, match="damaged"):
            rows_of(path, start=start)


def test_the_rows_before_a_wrong_checksum_are_not_skipped(tmp_path):
    bad, good = tmp_path / "a.npz", tmp_path / "b.npy"
    np.save(good, DATA.x)
    for save in (np.savez, np.savez_compressed):
        save(bad, x=DATA.x)
        if save is np.savez:
            flip(bad, DATA.x[2900].tobytes(), 1)
        else:
            content = bytearray(bad.read_bytes())
            content[len(content) - 2000] ^= 1
            bad.write_bytes(content)
        source = open_pool([bad, good], on_bad_file="skip")
        with pytest.raises(ValueError, match=r"a\.npz: 'x' is damaged"):
            fastal.select(source, 3, chunk_bytes=CHUNK, on_invalid="skip")
        source = open_pool([bad, good], on_bad_file="skip")
        picks = fastal.select(
            source, 3
        )  # one chunk has all rows, so none was counted before the error
        assert picks.rows.tolist() == [3000 + row for row in fastal.select(DATA.x, 3).rows]
        assert [(skipped.file, skipped.from_row) for skipped in source.skipped] == [(str(bad), 0)]


@pytest.mark.parametrize("name", ["npz", "npz compressed"])
def test_checksums_of_ids_and_groups_are_verified(tmp_path, name):
    path, options, _ = write(name, tmp_path, DATA)
    source = open_pool(path, **options)
    first = source.ids(np.array([7]))
    assert (
        first == source.ids(np.array([7])) == [DATA.ids[7]]
    )  # the second call does not verify it again
    for column, words in (("id", "'id' is damaged"), ("group", "'group' is damaged")):
        write(name, tmp_path, DATA)
        with zipfile.ZipFile(path) as held:
            member = held.getinfo(f"{column}.npy")
        with path.open("r+b") as file:
            file.seek(member.header_offset + 30 + len(member.filename) + member.compress_size // 2)
            byte = file.read(1)
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte[0] ^ 1]))
        with pytest.raises(ValueError, match=words):
            read_all(Pool(path, options))


def test_a_checksum_is_computed_once(tmp_path, monkeypatch):
    np.savez(tmp_path / "a.npz", x=DATA.x)
    source = open_pool(tmp_path / "a.npz")
    list(source.chunks(100))
    monkeypatch.setattr(zlib, "crc32", None)
    assert sum(len(chunk.x) for chunk in source.chunks(100, 1000)) == 2000


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_arrays_in_fortran_order(tmp_path, save, monkeypatch):
    x = np.asfortranarray(DATA.x)
    save(tmp_path / "a.npz", x=x)
    fsspec.filesystem("memory").pipe("/fortran/a.npz", (tmp_path / "a.npz").read_bytes())
    for pool in (tmp_path / "a.npz", "memory://fortran/a.npz"):
        for rows, start in ((100, 0), (5000, 0), (77, 1234)):
            np.testing.assert_array_equal(rows_of(pool, rows, start), DATA.x[start:])
        assert fastal.select(pool, 9).rows.tolist() == fastal.select(DATA.x, 9).rows.tolist()
    monkeypatch.setattr(npy, "_MOST_IN_MEMORY", x.nbytes - 1)
    refused = [*([tmp_path / "a.npz"] if save is np.savez_compressed else []), pool]
    for pool in refused:
        with pytest.raises(ValueError, match=r"a\.npz: .*Fortran order .* 83,999 bytes"):
            open_pool(pool)
    if save is np.savez:  # the array is mapped after its checksum was verified
        np.testing.assert_array_equal(rows_of(tmp_path / "a.npz"), DATA.x)
        flip(tmp_path / "a.npz", DATA.x[:, 3].tobytes(), 2000)
        with pytest.raises(ValueError, match="'x' is damaged"):
            rows_of(tmp_path / "a.npz")


def archive_of(path, names, method=zipfile.ZIP_STORED, x=DATA.x):
    member = io.BytesIO()
    np.save(member, x)
    with zipfile.ZipFile(path, "w", method) as held, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in names:
            held.writestr(name, member.getvalue())
    return path


@pytest.mark.parametrize("names", [["x.npy", "x.npy"], ["x", "x.npy"], ["y.npy", "x", "x"]])
def test_a_name_that_is_there_twice_is_refused(tmp_path, names):
    path = archive_of(tmp_path / "a.npz", names)
    for column in ("x", "y", None):
        with pytest.raises(ValueError, match=r"a\.npz: it holds 'x' 2 times"):
            open_pool(path, column=column)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compression_methods_are_refused(tmp_path, method):
    path = archive_of(tmp_path / "a.npz", ["x.npy"], method)
    with pytest.raises(ValueError, match=r"a\.npz: 'x\.npy' is compressed by bzip2 or LZMA"):
        open_pool(path)


def test_wrong_sizes_in_the_directory_are_refused(tmp_path):
    whole = archive_of(tmp_path / "a.npz", ["x.npy"], zipfile.ZIP_DEFLATED).read_bytes()
    entry = whole.index(b"PK\1\2")
    for offset, size in (
        (24, 2**31),
        (20, 2**31),
        (24, 100),
    ):  # offsets of the two sizes: expanded and compressed
        content = bytearray(whole)
        content[entry + offset : entry + offset + 4] = struct.pack("<I", size)
        (tmp_path / "a.npz").write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.npz: .*(bytes|damaged)"):
            open_pool(tmp_path / "a.npz")
    archive_of(tmp_path / "a.npz", ["x.npy"], x=DATA.x[:9])
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as held:
        held.writestr("y.npy", held.read("x.npy") + b"more")
    with pytest.raises(ValueError, match=r"the header of 'y' says 380 bytes, 384 are there"):
        open_pool(tmp_path / "a.npz", column="y")


@pytest.mark.parametrize("suffix", ["npz", "pt", "safetensors"])
def test_long_lists_of_contents_are_refused(tmp_path, suffix, monkeypatch):
    path = tmp_path / f"a.{suffix}"
    many = {f"v{i}": np.arange(3.0) for i in range(100)}
    if suffix == "npz":
        np.savez(path, **many)
    elif suffix == "pt":
        torch.save({name: torch.from_numpy(value) for name, value in many.items()}, path)
    else:
        path.write_bytes(safetensors.numpy.save(many))
    monkeypatch.setattr(archive, "LONGEST_LIST", 2000)
    with pytest.raises(ValueError, match=rf"a\.{suffix}: .* bytes, at most 2,000 are read"):
        open_pool(path)


def test_a_file_takes_one_descriptor(tmp_path):
    vectors = {f"v{i}": np.arange(3.0) for i in range(300)}
    np.savez(tmp_path / "a.npz", x=DATA.x, **vectors)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with (tmp_path / "a.npz").open() as file:
        resource.setrlimit(resource.RLIMIT_NOFILE, (file.fileno() + 20, hard))
    try:
        assert open_pool(tmp_path / "a.npz").n_rows == len(DATA.x)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
