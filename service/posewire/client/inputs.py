"""Convert what callers send, images and boxes, into what goes over the wire."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt
import simplejpeg

from posewire.errors import BadParameter
from posewire.imaging.pixels import Colour, PixelSource, to_rgb


@runtime_checkable
class ReadableFile(Protocol):
    """A file that is open in binary mode."""

    def read(self) -> bytes:
        """Return the rest of the content."""


# The bytes of an encoded image (JPEG, PNG, WebP or BMP), or a file that has them, or pixels.
Image: TypeAlias = bytes | bytearray | memoryview | str | os.PathLike[str] | ReadableFile | PixelSource
Boxes: TypeAlias = Sequence[Sequence[float] | npt.NDArray[Any]] | npt.NDArray[Any]  # (N, 4): x, y, width, height in pixels

_ENCODE = "encode an array first, for example with cv2.imencode('.jpg', image)[1].tobytes()"

# Pixels are sent as JPEG with full colour resolution: a third of the bytes of a PNG, and a fifth of the time to encode. On COCO's images
# keypoints move by 0.1 % of the person's size (median; 0.5 % at the 95th percentile).
_JPEG_QUALITY = 95
_JPEG_SUBSAMPLING = "444"


def read_image(image: Image, colour: Colour) -> bytes:
    """Return the bytes of an encoded image; reads a file, and encodes pixels as JPEG.

    Args:
        image: encoded bytes, a path, a file in binary mode, an array (H, W, 3) uint8 or a PIL image.
        colour: the order of an array's channels.

    Raises:
        TypeError: it is none of these, or the array has another dtype.
        ValueError: the array has another shape, the PIL image has more than 8 bits a channel, or there is no such colour.
        OSError: the file cannot be read.
    """
    pixels = to_rgb(image, colour)
    if pixels is not None:
        encoded: bytes = simplejpeg.encode_jpeg(pixels, _JPEG_QUALITY, "RGB", _JPEG_SUBSAMPLING)
        return encoded
    if isinstance(image, str | os.PathLike):
        return Path(image).read_bytes()
    if isinstance(image, bytes | bytearray | memoryview):
        return bytes(image)
    content = image.read() if isinstance(image, ReadableFile) else None
    if not isinstance(content, bytes):
        raise TypeError(
            f"an image is bytes, a path, a file in binary mode, an array (H, W, 3) uint8 or a PIL image, not {type(image).__name__}"
        )
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
