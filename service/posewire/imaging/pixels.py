"""Pixels of images that a program holds in memory: numpy arrays and PIL images."""

import sys
from typing import TYPE_CHECKING, Literal, TypeAlias, Union

import numpy as np
import numpy.typing as npt

from posewire.types import UInt8Array

if TYPE_CHECKING:
    from PIL.Image import Image

PixelSource: TypeAlias = Union[UInt8Array, "Image"]
Colour: TypeAlias = Literal["RGB", "BGR"]

_DEEP_MODES = ("I", "F")  # how PIL names images of more than 8 bits a channel


def check_colour(colour: Colour) -> None:
    """Raise ValueError if there is no such order of channels."""
    if colour not in ("RGB", "BGR"):
        raise ValueError(f"colour is {colour!r}; it must be 'RGB' or 'BGR'")


def to_rgb(image: object, colour: Colour) -> UInt8Array | None:
    """Return the upright pixels of an array or a PIL image, (H, W, 3) uint8 RGB; None: it is neither.

    Args:
        image: an array (H, W, 3) uint8, or a PIL image.
        colour: the order of an array's channels.

    Raises:
        TypeError: the array has another dtype.
        ValueError: the array has another shape, the PIL image has more than 8 bits a channel, or there is no such colour.
    """
    check_colour(colour)
    if isinstance(image, np.ndarray):
        return _rgb_of_array(image, colour)
    pil = sys.modules.get("PIL.Image")  # imported by whoever has made a PIL image
    return _rgb_of_pil(image) if pil is not None and isinstance(image, pil.Image) else None


def _rgb_of_array(pixels: npt.NDArray[np.generic], colour: Colour) -> UInt8Array:
    if pixels.dtype != np.uint8:
        raise TypeError(f"an array's dtype is uint8, with channels 0..255, not {pixels.dtype}; convert it first")
    if pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise ValueError(f"an array's shape is (H, W, 3), not {pixels.shape}; convert grey or RGBA images to RGB first")
    rgb = pixels if colour == "RGB" else pixels[..., ::-1]
    return np.ascontiguousarray(rgb, np.uint8)


def _rgb_of_pil(image: "Image") -> UInt8Array:
    """Return the pixels as `decode` would: EXIF orientation applied, alpha dropped and not blended."""
    from PIL import ImageOps  # noqa: PLC0415 - Pillow is there, since the caller has made an image with it

    if image.mode.startswith(_DEEP_MODES):
        raise ValueError(f"a PIL image has 8 bits a channel, not mode {image.mode!r}; convert it first")
    return np.array(ImageOps.exif_transpose(image).convert("RGB"), np.uint8)
