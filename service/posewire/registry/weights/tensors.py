"""A tensor as a checkpoint describes it, and its values: nothing outside its storage is read, whatever the file says."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]

DTYPES: Final[Mapping[str, np.dtype[Any]]] = MappingProxyType(
    {
        "F64": np.dtype("<f8"),
        "F32": np.dtype("<f4"),
        "F16": np.dtype("<f2"),
        "BF16": np.dtype("<u2"),  # numpy has no bfloat16: the upper half of a float32
        "I64": np.dtype("<i8"),
        "I32": np.dtype("<i4"),
        "I16": np.dtype("<i2"),
        "I8": np.dtype("i1"),
        "U8": np.dtype("u1"),
        "BOOL": np.dtype("?"),
    }
)


class MalformedError(Exception):
    """The file is not what its format promises; the message is one line, without the file's name."""


@dataclass(frozen=True, slots=True)
class Storage:
    """A run of numbers in the file; several tensors may look at one."""

    key: str
    dtype: str  # a name in DTYPES
    numel: int  # what the file says: not checked


@dataclass(frozen=True, slots=True)
class Tensor:
    """A view of a storage, as the file says: nothing is checked but the types. In elements, not bytes."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Contents:
    """What a file holds, before anyone looks for a state dict in it."""

    tree: object  # dicts, lists, tuples, scalars, Tensor and Opaque
    bytes_of: Callable[[Storage], bytes | memoryview]  # raises MalformedError
    big_endian: bool = False


def quoted(text: str) -> str:
    """A name from a file, short and on one line."""
    return repr(text if len(text) <= 80 else f"{text[:77]}...")


def values(tensor: Tensor, contents: Contents, room: int) -> Array:
    """The values of a tensor, in an array of its own.

    Args:
        tensor: a view of one of the storages of `contents`.
        contents: the file.
        room: bytes that the values may take in memory.

    Returns:
        `tensor.size`, C order, native byte order; the dtype of the storage, but float32 for bfloat16.

    Raises:
        MalformedError: the view leaves its storage, the storage its file, or the values the room.
    """
    dtype = DTYPES[tensor.storage.dtype]
    _check_bounds(tensor, room // (4 if tensor.storage.dtype == "BF16" else dtype.itemsize))
    held = contents.bytes_of(tensor.storage)
    if tensor.storage.numel > len(held) // dtype.itemsize:
        raise MalformedError(f"a storage of {len(held)} bytes is said to hold {tensor.storage.numel} x {dtype.itemsize} bytes")
    if 0 in tensor.size:
        return np.empty(tensor.size, np.float32 if tensor.storage.dtype == "BF16" else dtype)
    if contents.big_endian:
        dtype = dtype.newbyteorder(">")
    # numpy checks size and strides against the buffer too.
    strides = [step * dtype.itemsize for step in tensor.stride]
    view: Array = np.ndarray(tensor.size, dtype, buffer=held, offset=tensor.offset * dtype.itemsize, strides=strides)
    own = view.astype(dtype.newbyteorder("="), order="C")
    return (own.astype(np.uint32) << np.uint32(16)).view(np.float32) if tensor.storage.dtype == "BF16" else own


def _check_bounds(tensor: Tensor, most: int) -> None:
    """The last element is inside what the file calls the storage, and there are at most `most` of them."""
    if len(tensor.size) != len(tensor.stride):
        raise MalformedError(f"{len(tensor.size)} sizes but {len(tensor.stride)} strides")
    if min(tensor.offset, *tensor.size, *tensor.stride, 0) < 0:
        raise MalformedError("a negative size, stride or offset")
    count = 1
    for length in tensor.size:
        # Zeros count as ones: numpy multiplies the other sizes before it sees that there is nothing.
        count *= max(length, 1)
        if count > most:
            raise MalformedError("more values than a file of this size can hold")
    last = tensor.offset + sum((length - 1) * step for length, step in zip(tensor.size, tensor.stride, strict=True) if length)
    if last >= tensor.storage.numel and 0 not in tensor.size:
        raise MalformedError(f"element {last} of a storage of {tensor.storage.numel} elements")
