"""Safetensors: eight bytes of length, a JSON header, then the values."""

import json
import math
from collections.abc import Mapping
from typing import Any, Final

from posewire.registry.weights.tensors import DTYPES, Contents, MalformedError, Storage, Tensor, quoted
from posewire.types import FloatArray

_MOST_HEADER_BYTES: Final = 4 << 20  # ten times the largest Lite-HRNet's
_MOST_DIMENSIONS: Final = 32


def write_safetensors(arrays: Mapping[str, FloatArray], metadata: Mapping[str, str]) -> bytes:
    """The file of float32 arrays, the same bytes for the same arrays."""
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    at = 0
    for name, array in arrays.items():
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [at, at + array.nbytes]}
        at += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + b"".join(array.astype("<f4").tobytes() for array in arrays.values())


def read_safetensors(data: bytes) -> Contents:
    """A safetensors file: a dict of tensors by name.

    Raises:
        MalformedError: the header is not valid, or does not describe the file's bytes exactly once.
    """
    length = int.from_bytes(data[:8], "little")
    if length > min(len(data) - 8, _MOST_HEADER_BYTES):
        raise MalformedError(f"the safetensors header has {length} bytes: more than the file, or than {_MOST_HEADER_BYTES}")
    held = memoryview(data)[8 + length :]
    tensors: dict[str, Tensor] = {}
    spans: dict[str, tuple[int, int]] = {}
    for name, entry in _header(data[8 : 8 + length]).items():
        if name != "__metadata__":
            tensors[name], spans[name] = _entry(name, entry)
    at = 0
    for name, (begin, end) in sorted(spans.items(), key=lambda item: item[1]):
        if begin != at:
            raise MalformedError(f"the values of {quoted(name)} begin at {begin}, not at {at}, where the ones before end")
        at = end
    if at != len(held):
        raise MalformedError(f"the safetensors header tells of {at} bytes of values, the file has {len(held)}")
    return Contents(tensors, lambda storage: held[slice(*spans[storage.key])])


def read_metadata(data: bytes) -> dict[str, str]:
    """The `__metadata__` of a file that `read_safetensors` reads: names and texts; empty where there are none.

    Raises:
        MalformedError: the header is not valid.
    """
    length = int.from_bytes(data[:8], "little")
    found = _header(data[8 : 8 + length]).get("__metadata__", {})
    return {key: value for key, value in found.items() if isinstance(value, str)} if isinstance(found, dict) else {}


def _header(text: bytes) -> dict[str, Any]:
    try:
        header = json.loads(text.decode(), object_pairs_hook=_unique)
    except RecursionError:
        raise MalformedError("the safetensors header is nested too deeply") from None
    except ValueError:  # JSON's and UTF-8's
        raise MalformedError("the safetensors header is not JSON") from None
    if not isinstance(header, dict):
        raise MalformedError("the safetensors header is not a JSON object")
    return header


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) != len(pairs):
        raise MalformedError("the safetensors header has a name twice")
    return entries


def _entry(name: str, entry: object) -> tuple[Tensor, tuple[int, int]]:
    match entry:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [begin, end], **rest} if not rest:
            pass
        case _:
            raise MalformedError(f"the safetensors header does not describe {quoted(name)} by dtype, shape and data_offsets")
    if dtype not in DTYPES:
        raise MalformedError(f"{quoted(name)} has an unknown dtype: {quoted(dtype)}")
    # JSON's true is an int to Python.
    if len(shape) > _MOST_DIMENSIONS or any(type(number) is not int or not 0 <= number < 1 << 48 for number in (*shape, begin, end)):
        raise MalformedError(f"{quoted(name)} has a shape or offsets that are not lengths")
    count = math.prod(shape)
    if end - begin != count * DTYPES[dtype].itemsize:
        raise MalformedError(f"{quoted(name)} has {end - begin} bytes for {tuple(shape)} values of {dtype}")
    stride = tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
    return Tensor(Storage(name, dtype, count), 0, tuple(shape), stride), (begin, end)
