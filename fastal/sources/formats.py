"""The formats that a pool may have: which reader opens a file, by the suffix of its name."""

from collections.abc import Callable

from fastal.sources.arrow_ipc import ArrowFile
from fastal.sources.hdf5 import Hdf5File
from fastal.sources.location import ZARR, Location
from fastal.sources.npy import NpyFile
from fastal.sources.npz import NpzFile
from fastal.sources.parquet import ParquetFile
from fastal.sources.reader import Columns, Reader
from fastal.sources.safetensors import SafetensorsFile
from fastal.sources.torch_file import TorchFile
from fastal.sources.zarr import ZarrFile

READERS: dict[str, Callable[[Location, Columns], Reader]] = {
    ".npy": NpyFile,
    ".npz": NpzFile,
    ".safetensors": SafetensorsFile,
    ".parquet": ParquetFile,
    ".arrow": ArrowFile,
    ".feather": ArrowFile,
    ".pt": TorchFile,
    ".h5": Hdf5File,
    ".hdf5": Hdf5File,
    ZARR: ZarrFile,
}


def reader_for(file: Location) -> Callable[[Location, Columns], Reader]:
    """The reader of a file's format.

    Raises:
        ValueError: no format has such a suffix.
    """
    if file.suffix not in READERS:
        of_url = f", or a glob: {file}/**/*.parquet" if file.is_remote else ""
        raise ValueError(f"{file}: wanted a file of {', '.join(READERS)}{of_url}")
    return READERS[file.suffix]


def check_ragged(file: Location) -> None:
    """ValueError unless the file's format has lists of lists."""
    if READERS[file.suffix] not in (ParquetFile, ArrowFile):
        raise ValueError(
            f"{file}: ragged: wanted Parquet or Arrow; for other formats, give fastal.items the "
            "rows of all items one after the other, and lengths"
        )
