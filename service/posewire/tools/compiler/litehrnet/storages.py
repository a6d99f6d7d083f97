"""The tensors of a checkpoint as its file describes them, and their values."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from posewire.registry.weights.tensors import DTYPES, Array, MalformedError, from_bfloat16


class Storage(NamedTuple):
    """A sequence of numbers in the file; several tensors may share it."""

    key: str
    dtype: str  # a name in `tensors.DTYPES`
    numel: int  # from the file, not checked


class Tensor(NamedTuple):
    """A view of a storage, in elements. Only the types are checked."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Contents:
    """The contents of a file."""

    tree: object  # dicts, lists, tuples, scalars, Tensor and Opaque
    bytes_of: Callable[[Storage], bytes | memoryview]  # raises MalformedError
    big_endian: bool = False


def values(tensor: Tensor, contents: Contents, room: int) -> Array:
    """Return the values of a tensor, in an array of its own. Nothing outside its storage is read.

    Args:
        tensor: a view of one of the storages of `contents`.
        contents: the file.
        room: bytes that the values may take in memory.

    Returns:
        `tensor.size`, C order, native byte order; the dtype of the storage, but float32 for bfloat16.

    Raises:
        MalformedError: the view exceeds its storage, the storage exceeds the file, or the values exceed `room`.
    """
    dtype = DTYPES[tensor.storage.dtype]
    _check_bounds(tensor, room // (4 if tensor.storage.dtype == "BF16" else dtype.itemsize))
    data = contents.bytes_of(tensor.storage)
    if tensor.storage.numel > len(data) // dtype.itemsize:
        raise MalformedError(f"a storage of {len(data)} bytes is said to hold {tensor.storage.numel} x {dtype.itemsize} bytes")
    if 0 in tensor.size:
        return np.empty(tensor.size, np.float32 if tensor.storage.dtype == "BF16" else dtype)
    if contents.big_endian:
        dtype = dtype.newbyteorder(">")
    # numpy checks size and strides against the buffer too.
    strides = [step * dtype.itemsize for step in tensor.stride]
    view: Array = np.ndarray(tensor.size, dtype, buffer=data, offset=tensor.offset * dtype.itemsize, strides=strides)
    own = view.astype(dtype.newbyteorder("="), order="C")
    return from_bfloat16(own) if tensor.storage.dtype == "BF16" else own


def _check_bounds(tensor: Tensor, limit: int) -> None:
    """Check that the last element is inside the storage, and that there are at most `limit` elements."""
    if len(tensor.size) != len(tensor.stride):
        raise MalformedError(f"{len(tensor.size)} sizes but {len(tensor.stride)} strides")
    if min(tensor.offset, *tensor.size, *tensor.stride, 0) < 0:
        raise MalformedError("a negative size, stride or offset")
    count = 1
    for length in tensor.size:
        # Zeros count as ones: numpy multiplies the other sizes before it notices that the array is empty.
        count *= max(length, 1)
        if count > limit:
            raise MalformedError("more values than a file of this size can hold")
    last = tensor.offset + sum((length - 1) * step for length, step in zip(tensor.size, tensor.stride, strict=True) if length)
    if last >= tensor.storage.numel and 0 not in tensor.size:
        raise MalformedError(f"element {last} of a storage of {tensor.storage.numel} elements")
