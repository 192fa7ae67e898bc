"""A torch file (.pt): a tensor, or a dictionary of them, mapped; no code in it is run."""

import os
import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO

import torch
from torch import Tensor

from fastal.sources.archive import LONGEST_LIST, check_once, members_of
from fastal.sources.array_file import ArrayFile
from fastal.sources.location import Location


class TorchFile(ArrayFile):
    """Tensors that `torch.save` wrote, in today's format; see `ArrayFile`.

    As in torch, their checksums are not looked at.
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
        check_once(self.file, (name for name, _ in tensors))
        yield dict(tensors)


def _check(place: Location, file: BinaryIO) -> None:
    """ValueError for an archive that is not as torch.save writes it."""
    try:
        with members_of(file) as archive:
            sizes = [(m.filename.lower(), m.file_size) for m in archive.infolist()]
            is_stored = all(m.compress_type == zipfile.ZIP_STORED for m in archive.infolist())
    except zipfile.BadZipFile as error:
        raise ValueError(f"wanted what torch.save writes in today's format: {error}") from error
    if any(name.endswith("/constants.pkl") for name, _ in sizes):
        raise ValueError(f"{place}: wanted tensors, got TorchScript, which is code: it is not run")
    check_once(place, (name for name, _ in sizes))  # for torch, in any case of letters
    if not is_stored:
        raise ValueError(f"{place}: its members are compressed: torch.save stores them as they are")
    for name, size in sizes:
        if name.endswith("/data.pkl") and size > LONGEST_LIST:
            raise ValueError(
                f"{place}: its list of tensors has {size:,} bytes, at most {LONGEST_LIST:,} are "
                "read"
            )


def _loaded(place: Location, path: str, file: BinaryIO) -> Any:
    """What torch reads of a file."""
    try:
        path.encode()
    except UnicodeEncodeError:  # torch wants names in UTF-8
        path = f"/dev/fd/{file.fileno()}"
    try:
        return torch.load(path, "cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        # torch's own message advises to run the code.
        found = re.search(r"GLOBAL (\S+)", str(error))
        holds = f"it holds {found[1]}, and code" if found else "code"
        raise ValueError(
            f"{place}: wanted tensors and plain values only, as torch.save({{name: tensor}}, path) "
            f"writes them: {holds} in a file is never run"
        ) from None
