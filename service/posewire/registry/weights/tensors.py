"""The common parts of the readers of weights."""

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]

# By the names of safetensors. numpy has no bfloat16: its bits are the upper half of a float32.
DTYPES: Final[Mapping[str, np.dtype[Any]]] = {
    name: np.dtype(code)
    for name, code in zip(
        ("F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "BOOL"),
        ("<f8", "<f4", "<f2", "<u2", "<i8", "<i4", "<i2", "i1", "u1", "?"),
        strict=True,
    )
}


class MalformedError(Exception):
    """The file violates its format; the message is one line, without the file's name."""


def quoted(text: str) -> str:
    """Return a text from a file, short and on one line."""
    return repr(text if len(text) <= 80 else f"{text[:77]}...")


def from_bfloat16(upper_halves: Array) -> Array:
    """Return bfloat16 values as float32, of the same shape; numpy holds them as uint16."""
    return (upper_halves.astype(np.uint32) << np.uint32(16)).view(np.float32)
