"""From arrays of any library to torch tensors, and from results to the caller's kind of array.

Neither direction copies memory, except in the cases that `as_tensor` names.
"""

import re
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from fastal.base.items import Items


def is_array(x: object) -> bool:
    """Whether `x` is an array: it has DLPack's `__dlpack__` or NumPy's `__array__`."""
    return hasattr(x, "__dlpack__") or hasattr(x, "__array__")


def is_traced() -> bool:
    """Whether `torch.compile` or `torch.jit.trace` is recording operators for later use."""
    return torch.compiler.is_compiling() or _is_jit_tracing()


def as_tensor(x: Any, name: str) -> Tensor:
    """`x` as a tensor on its own device, which shares the memory of `x` if torch can address it.

    Two kinds of input are copied: NumPy arrays in foreign byte order, unaligned, or with strides
    that torch lacks; and tensors that are a lazy conjugate or negative. The memory may be
    read-only: the tensor must never be written to.

    Args:
        x: an array of any library.
        name: the argument's name, for messages.

    Raises:
        TypeError: `x` is no array, its dtype is not numeric, or it is a tensor without memory.
    """
    if _is_jit_tracing():
        raise TypeError(f"{name}: torch.jit.trace would record the result as a constant")
    tensor = traceable(x, name)
    if not torch.compiler.is_compiling():
        _check_memory(tensor, name)
    return tensor


def traceable(x: Any, name: str) -> Tensor:
    """As `as_tensor`, but `x` may have no memory yet: for operators that are being recorded."""
    if isinstance(x, Tensor):
        if x.layout != torch.strided or x.device.type == "meta" or x.is_nested:
            kind = "nested" if x.is_nested else x.layout
            raise TypeError(f"{name}: wanted a dense tensor, got {kind} on {x.device}")
        return x.detach().resolve_conj().resolve_neg()  # raw memory does not show these two bits
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError(f"{name}: masked arrays are ambiguous here; fill them with NaN first")
    if isinstance(x, np.ndarray):
        return _from_numpy(x, name)
    if hasattr(x, "__dlpack__"):
        try:
            return from_dlpack(x)
        except (BufferError, RuntimeError, TypeError) as error:
            raise TypeError(f"{name}: torch cannot import it: {error}") from error
    if hasattr(x, "__array__"):
        return _from_numpy(_produced(x, name), name)
    raise TypeError(f"{name}: wanted an array (torch, NumPy, DLPack), got {type(x).__name__}")


def _is_jit_tracing() -> bool:
    return bool(torch.jit.is_tracing())  # type: ignore[attr-defined, no-untyped-call]


def _check_memory(x: Tensor, name: str) -> None:
    """Raises TypeError unless all of a tensor is in its own memory: C code gets the address."""
    if not x.numel() or x.device.type not in ("cpu", "cuda"):
        return
    last = sum((n - 1) * stride for n, stride in zip(x.shape, x.stride(), strict=True))
    needed = (x.storage_offset() + last + 1) * x.element_size()
    try:
        storage = x.untyped_storage()
        # A tensor that only traces shapes has a storage on another device, whose address warns.
        held = storage.nbytes() if storage.device == x.device and storage.data_ptr() else 0
    except RuntimeError:  # a wrapper around other tensors
        held = 0
    if held < needed:
        raise TypeError(
            f"{name}: wanted a tensor that is in memory; this {type(x).__name__} has {held:,} of "
            f"{needed:,} bytes: its storage was freed or cut, or it only traces shapes or wraps "
            "another tensor"
        )


def memory_of(x: Any, name: str) -> Tensor:
    """The memory of an array of any dtype, as a tensor. The tensor is empty if `x` is no array.

    Of items, it is the memory of their values.
    """
    if isinstance(x, Items):
        return memory_of(x.values, name)
    if not is_array(x):
        return torch.empty(0, dtype=torch.uint8, device="cpu")
    if not isinstance(x, np.ndarray):
        return as_tensor(x, name)
    spans = [(n - 1) * stride for n, stride in zip(x.shape, x.strides, strict=True)]
    if not x.size:
        return torch.empty(0, dtype=torch.uint8, device="cpu")
    first = x.__array_interface__["data"][0] + sum(span for span in spans if span < 0)
    return torch.from_numpy(np.asarray(_Memory(x, first, sum(map(abs, spans)) + x.itemsize)))


def as_sliceable(x: Any, name: str) -> Any:
    """`x` itself if it has a shape and slices; else the tensor or NumPy array that it exports."""
    if isinstance(x, (Tensor, np.ndarray)) or hasattr(x, "__array_namespace__"):
        return x
    return as_tensor(x, name) if hasattr(x, "__dlpack__") else _produced(x, name)


def converter_for(x: Any) -> Callable[[Tensor], Any]:
    """A function that converts result tensors to arrays of the library and on the device of `x`.

    Objects without an array type of their own get tensors if they export DLPack, else NumPy arrays.
    """
    if isinstance(x, np.ndarray) or not hasattr(x, "__dlpack__"):
        return _to_numpy
    device = as_tensor(x, "array").device
    if isinstance(x, Tensor) or not hasattr(x, "__array_namespace__"):
        return partial(_to_device, device=device)
    namespace = x.__array_namespace__()
    name = getattr(namespace, "__name__", "")
    if sys.modules.get(name) is namespace:
        namespace = name  # a module cannot be pickled
    return partial(_to_namespace, namespace=namespace, device=device)


def _to_numpy(result: Tensor) -> NDArray[Any]:
    return result.cpu().numpy()


def _to_device(result: Tensor, device: torch.device) -> Tensor:
    return result.to(device)


def _to_namespace(result: Tensor, namespace: Any, device: torch.device) -> Any:
    if isinstance(namespace, str):
        namespace = import_module(namespace)
    array = namespace.from_dlpack(result.to(device))
    kept = as_tensor(array, "result")
    if kept.dtype != result.dtype and not torch.equal(kept.to(result), result):
        # JAX, for one, has 64-bit integers only if they were enabled.
        raise ValueError(f"{namespace.__name__}: its {kept.dtype} cannot hold these row numbers")
    return array


class _Addressable:
    """Lends a read-only NumPy array to torch as a writable one, which spares torch's warning."""

    def __init__(self, x: NDArray[Any]) -> None:
        interface = dict(x.__array_interface__)
        interface["data"] = (interface["data"][0], False)
        self.__array_interface__ = interface
        self._owner = x


class _Memory:
    """Lends the memory of a NumPy array to torch, as bytes."""

    def __init__(self, x: NDArray[Any], first: int, n_bytes: int) -> None:
        self.__array_interface__ = {
            "data": (first, False), "shape": (n_bytes,), "typestr": "|u1", "version": 3
        }  # fmt: skip
        self._owner = x


def _produced(x: Any, name: str) -> NDArray[Any]:
    """The NumPy array that a table, or another object with `__array__`, exports.

    Raises:
        TypeError: a table has integers beside other numbers. Its ids would count as a class.
    """
    # pandas and Polars; pyarrow.
    dtypes = getattr(x, "dtypes", None) if hasattr(x, "columns") else None
    if dtypes is None and hasattr(x, "column_names"):
        dtypes = x.schema.types
    if dtypes is not None:
        names = x.column_names if hasattr(x, "column_names") else list(x.columns)
        is_whole = [_is_whole(dtype) for dtype in dtypes]
        if any(is_whole) and not all(is_whole):
            whole = [repr(of) for of, is_one in zip(names, is_whole, strict=True) if is_one]
            raise TypeError(
                f"{name}: a table of scores that has integers too, in {', '.join(whole[:5])}"
                f"{', ...' if len(whole) > 5 else ''}; wanted columns of scores alone"
            )
    return np.asarray(x)


def _is_whole(dtype: Any) -> bool:
    """Whether a table's dtype, of any library, is one of integers or bools."""
    return re.match("u?int|bool", str(dtype).lower()) is not None


def _from_numpy(x: NDArray[Any], name: str) -> Tensor:
    if x.dtype.kind not in "biufc" or x.dtype.char in "gG":  # g: C's long double
        raise TypeError(f"{name}: wanted float16, float32 or float64, got dtype {x.dtype}")
    if not x.dtype.isnative:
        x = x.astype(x.dtype.newbyteorder("="))
    if any(stride < 0 or stride % x.itemsize for stride in x.strides) or not x.flags.aligned:
        x = x.copy(order="C")  # ascontiguousarray would not copy empty arrays
    if not x.flags.writeable:
        x = np.asarray(_Addressable(x))
    return torch.from_numpy(x)
