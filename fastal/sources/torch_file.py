"""A torch file (.pt): a tensor, or a dictionary of them, mapped; no code in it is run."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastal.sources.array_file import ArrayFile


class TorchFile(ArrayFile):
    """Tensors that `torch.save` wrote, in today's format; see `ArrayFile`."""

    @contextmanager
    def _arrays(self) -> Iterator[Mapping[str, Any]]:
        with self.file.path.open("rb") as file:
            # By a name that is UTF-8, as torch wants it, where the file's own is not.
            path = f"/dev/fd/{file.fileno()}" if _is_odd(self.file.path) else self.file.path
            held = torch.load(path, "cpu", weights_only=True, mmap=True)
        arrays = {"": held} if isinstance(held, Tensor) else held
        if not isinstance(arrays, dict):
            raise TypeError(f"wanted a tensor or a dictionary of them, got {type(held).__name__}")
        yield {str(name): x.detach() for name, x in arrays.items() if isinstance(x, Tensor)}


def _is_odd(path: Path) -> bool:
    """Whether the name is no UTF-8."""
    return any("\ud800" <= letter <= "\udfff" for letter in str(path))
