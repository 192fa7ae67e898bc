"""The packages that write a format, which may not be installed."""

from typing import Any


def check_writable(name: str, suffix: str) -> None:
    """Checks that the package for a format is installed.

    Raises:
        ModuleNotFoundError: it is not; the message begins with `name`, the argument.
    """
    if suffix == ".parquet":
        pyarrow_for(name)


def pyarrow_for(name: Any) -> Any:
    """The package pyarrow, with its module for Parquet; see `check_writable` for the error."""
    try:
        import pyarrow.parquet
    except ImportError:
        raise ModuleNotFoundError(
            f"{name}: Parquet needs pyarrow: pip install 'fastal[arrow]'", name="pyarrow"
        ) from None
    return pyarrow


def pandas_for(name: str) -> Any:
    """The package pandas.

    Raises:
        ModuleNotFoundError: it is not installed; the message begins with `name`, the method.
    """
    try:
        import pandas  # type: ignore[import-untyped, unused-ignore]
    except ImportError:
        raise ModuleNotFoundError(
            f"{name} needs pandas: pip install pandas", name="pandas"
        ) from None
    return pandas
