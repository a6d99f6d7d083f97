"""Safetensors files, read by the package of that name."""

import json
from collections.abc import Mapping
from typing import Final

import numpy as np
from safetensors import SafetensorError, deserialize

from posewire.registry.weights.tensors import DTYPES, Array, MalformedError, from_bfloat16, quoted
from posewire.types import FloatArray

_MAX_HEADER_BYTES: Final = 4 << 20  # ten times the largest Lite-HRNet's


def write_safetensors(arrays: Mapping[str, FloatArray], metadata: Mapping[str, str]) -> bytes:
    """Return the file of float32 arrays: the same bytes for the same arrays; the package does not guarantee the order of metadata."""
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    at = 0
    for name, array in arrays.items():
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [at, at + array.nbytes]}
        at += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + b"".join(array.astype("<f4").tobytes() for array in arrays.values())


def read_safetensors(data: bytes) -> tuple[dict[str, Array], dict[str, str]]:
    """Read a safetensors file.

    Returns:
        The arrays by name, in the order of the header, of the file's dtypes, bfloat16 as float32; and the file's metadata.

    Raises:
        MalformedError: the header is not valid, does not cover the file's bytes exactly once, or has an unsupported dtype.
    """
    length = int.from_bytes(data[:8], "little")
    if length > min(len(data) - 8, _MAX_HEADER_BYTES):
        raise MalformedError(f"the safetensors header has {length} bytes: more than the file, or than {_MAX_HEADER_BYTES}")
    try:
        tensors = dict(deserialize(data))  # type: ignore[no-untyped-call] # the package has no types for it
        header = json.loads(data[8 : 8 + length])
        metadata = header.pop("__metadata__", None) or {}
        return {name: _array(name, **tensors[name]) for name in header}, metadata
    except (SafetensorError, ValueError) as error:  # ValueError: more dimensions than numpy has
        raise MalformedError(f"not a sound safetensors file: {quoted(str(error).removeprefix('Error while deserializing: '))}") from None


def _array(name: str, shape: list[int], dtype: str, data: bytearray) -> Array:
    if dtype not in DTYPES:
        raise MalformedError(f"{quoted(name)} has a dtype that is not supported: {quoted(dtype)}")
    array: Array = np.frombuffer(data, DTYPES[dtype]).reshape(shape)
    return from_bfloat16(array) if dtype == "BF16" else array
