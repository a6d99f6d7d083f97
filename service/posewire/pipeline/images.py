"""The images that a program hands to `PosePipeline`: paths, encoded bytes, numpy arrays and PIL images."""

from os import PathLike
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from posewire.imaging.pixels import Colour, PixelSource, check_colour, to_rgb
from posewire.types import FloatArray, Frame

ImageSource: TypeAlias = str | PathLike[str] | bytes | bytearray | memoryview | PixelSource


def to_source(image: ImageSource, colour: Colour) -> bytes | Frame:
    """Return an image as `ImageJob` takes it: encoded, or upright RGB pixels.

    Args:
        image: a path; the bytes of a JPEG, PNG, WebP or BMP file (HEIC and AVIF with the extra `heif`); an array (H, W, 3) uint8; or a
            PIL image.
        colour: the order of an array's channels.

    Raises:
        OSError: the file is not there or cannot be read.
        TypeError: the image has another type or dtype.
        ValueError: the array has another shape, the PIL image has more than 8 bits a channel, or there is no such colour.
    """
    check_colour(colour)
    if isinstance(image, (str, PathLike)):
        return Path(image).read_bytes()
    if isinstance(image, (bytes, bytearray, memoryview)):
        return bytes(image)
    pixels = to_rgb(image, colour)
    if pixels is None:
        raise TypeError(f"an image is a path, bytes, an array (H, W, 3) uint8 or a PIL image, not {type(image).__name__}")
    return Frame(pixels)


def to_boxes(boxes: npt.ArrayLike) -> FloatArray:
    """Return boxes as (N, 4) float32: x y w h in pixels of the upright image.

    Raises:
        ValueError: the boxes are not (N, 4) finite numbers.
    """
    array = np.asarray(boxes, np.float32)
    if not array.size:
        return np.empty((0, 4), np.float32)
    if array.ndim != 2 or array.shape[1] != 4 or not np.isfinite(array).all():
        raise ValueError(f"boxes are (N, 4) finite numbers, x y w h in pixels; these have the shape {array.shape}")
    return array
