"""Convert what callers send, images and boxes, into what goes over the wire."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from posewire.errors import BadParameter


@runtime_checkable
class ReadableFile(Protocol):
    """A file that is open in binary mode."""

    def read(self) -> bytes:
        """Return the rest of the content."""


# The bytes of an encoded image (JPEG, PNG, WebP or BMP), or a file that has them.
Picture: TypeAlias = bytes | bytearray | memoryview | str | os.PathLike[str] | ReadableFile
Boxes: TypeAlias = Sequence[Sequence[float] | npt.NDArray[Any]] | npt.NDArray[Any]  # (N, 4): x, y, width, height in pixels

_ENCODE = "encode an array first, for example with cv2.imencode('.jpg', image)[1].tobytes()"


def read_image(image: Picture) -> bytes:
    """Return the bytes of an encoded image; reads a file.

    Raises:
        TypeError: it is neither bytes, nor a path, nor a file in binary mode, such as an array.
        OSError: the file cannot be read.
    """
    if isinstance(image, str | os.PathLike):
        return Path(image).read_bytes()
    if isinstance(image, bytes | bytearray | memoryview):
        return bytes(image)
    content = image.read() if isinstance(image, ReadableFile) else None
    if not isinstance(content, bytes):
        raise TypeError(f"an image is bytes, a path or a file in binary mode, not {type(image).__name__}; {_ENCODE}")
    return content


def frame_bytes(frame: bytes | bytearray | memoryview) -> bytes:
    """Return the bytes of an encoded frame of a stream.

    Raises:
        TypeError: it is anything but bytes, such as an array or a path.
    """
    if not isinstance(frame, bytes | bytearray | memoryview):
        raise TypeError(f"a frame is the bytes of a JPEG, PNG or WebP, not {type(frame).__name__}; read a file first; {_ENCODE}")
    return bytes(frame)


def box_rows(boxes: Boxes) -> list[list[float]]:
    """Return boxes as lists of numbers.

    Raises:
        BadParameter: they are not (N, 4) finite numbers.
    """
    try:
        array = np.asarray(boxes, np.float64)
    except (TypeError, ValueError):
        raise BadParameter("boxes: rows of four numbers are needed: x, y, width, height") from None
    if array.size == 0:
        return []
    if array.ndim != 2 or array.shape[1] != 4 or not np.isfinite(array).all():
        raise BadParameter(f"boxes: an array of (N, 4) finite numbers is needed: x, y, width, height; this has the shape {array.shape}")
    rows: list[list[float]] = array.tolist()
    return rows
