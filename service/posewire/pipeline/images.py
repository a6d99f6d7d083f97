"""The images that a program hands to `PosePipeline`: paths, encoded bytes, numpy arrays and PIL images."""

import sys
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, Union

import numpy as np
import numpy.typing as npt

from posewire.types import FloatArray, Frame, UInt8Array

if TYPE_CHECKING:
    from PIL.Image import Image

ImageSource: TypeAlias = Union[str, PathLike[str], bytes, bytearray, memoryview, UInt8Array, "Image"]
Colour: TypeAlias = Literal["RGB", "BGR"]

_DEEP_MODES = ("I", "F")  # how PIL names images of more than 8 bits a channel


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
    if colour not in ("RGB", "BGR"):
        raise ValueError(f"colour is {colour!r}; it must be 'RGB' or 'BGR'")
    if isinstance(image, (str, PathLike)):
        return Path(image).read_bytes()
    if isinstance(image, (bytes, bytearray, memoryview)):
        return bytes(image)
    if isinstance(image, np.ndarray):
        return _frame_of_array(image, colour)
    pil = sys.modules.get("PIL.Image")  # imported by whoever has made a PIL image
    if pil is not None and isinstance(image, pil.Image):
        return _frame_of_pil(image)
    raise TypeError(f"an image is a path, bytes, an array (H, W, 3) uint8 or a PIL image, not {type(image).__name__}")


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


def _frame_of_array(pixels: npt.NDArray[np.generic], colour: Colour) -> Frame:
    if pixels.dtype != np.uint8:
        raise TypeError(f"an array's dtype is uint8, with channels 0..255, not {pixels.dtype}; convert it first")
    if pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise ValueError(f"an array's shape is (H, W, 3), not {pixels.shape}; convert grey or RGBA images to RGB first")
    rgb = pixels if colour == "RGB" else pixels[..., ::-1]
    return Frame(np.ascontiguousarray(rgb, np.uint8))


def _frame_of_pil(image: "Image") -> Frame:
    """Return a PIL image as `decode` would: EXIF orientation applied, alpha dropped and not blended."""
    from PIL import ImageOps  # noqa: PLC0415 - Pillow is there, since the caller has made an image with it

    if image.mode.startswith(_DEEP_MODES):
        raise ValueError(f"a PIL image has 8 bits a channel, not mode {image.mode!r}; convert it first")
    return Frame(np.array(ImageOps.exif_transpose(image).convert("RGB"), np.uint8))
