"""A torch file (.pt) with a tensor or a dictionary of tensors, mapped. No code in it is run."""

import os
import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO

import torch
from torch import Tensor

from fastal.sources.archive import check_length, check_unique, open_archive
from fastal.sources.array_file import ArrayFile
from fastal.sources.location import Location


class TorchFile(ArrayFile):
    """The tensors that `torch.save` wrote, in its zip format; see `ArrayFile`.

    As in torch, their checksums are not verified.
    """

    @contextmanager
    def _arrays(self) -> Iterator[Mapping[str, Any]]:
        path = os.fspath(self.file.path)
        with self.file.open() as file:
            _check(self.file, file)
            held = _loaded(self.file, path, file)
        arrays = {"": held} if isinstance(held, Tensor) else held
        if not isinstance(arrays, dict):
            raise TypeError(f"wanted a tensor or a dictionary of them, got {type(held).__name__}")
        tensors = [(str(name), x.detach()) for name, x in arrays.items() if isinstance(x, Tensor)]
        check_unique(self.file, (name for name, _ in tensors))
        yield dict(tensors)


def _check(location: Location, file: BinaryIO) -> None:
    """ValueError unless the file is an archive as torch.save writes it."""
    try:
        with open_archive(file) as archive:
            sizes = [(m.filename.lower(), m.file_size) for m in archive.infolist()]
            is_stored = all(m.compress_type == zipfile.ZIP_STORED for m in archive.infolist())
    except zipfile.BadZipFile as error:
        raise ValueError(f"wanted the zip format of torch.save (torch 1.6 on): {error}") from error
    if any(name.endswith("/constants.pkl") for name, _ in sizes):
        raise ValueError(
            f"{location}: wanted tensors, got TorchScript, which is code: it is not run"
        )
    check_unique(location, (name for name, _ in sizes))  # torch ignores the case of letters
    if not is_stored:
        raise ValueError(
            f"{location}: its members are compressed: torch.save stores them uncompressed"
        )
    for name, size in sizes:
        if name.endswith("/data.pkl"):
            check_length(f"{location}: its list of tensors", size)


def _loaded(location: Location, path: str, file: BinaryIO) -> Any:
    """The content of the file as torch loads it, with maps for tensors."""
    try:
        path.encode()
    except UnicodeEncodeError:  # torch needs names in UTF-8
        path = f"/dev/fd/{file.fileno()}"
    try:
        return torch.load(path, "cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        # Its own message advises the user to run the code, so it is not repeated.
        found = re.search(r"GLOBAL (\S+)", str(error))
        holds = f"it holds {found[1]}, and code" if found else "code"
        raise ValueError(
            f"{location}: wanted tensors and plain values only, as torch.save({{name: tensor}}, "
            f"path) writes them: {holds} in a file is never run"
        ) from None
