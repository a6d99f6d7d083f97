"""Scale images down by area interpolation (docs/kernels.md)."""

from functools import cache
from typing import Final

import cv2
import numpy as np

from posewire.errors import ModelError
from posewire.native.library import Kernels, load_kernels
from posewire.types import UInt8Array

# The number of floats of a `Cover` in shrink.h.
_COVER: Final = 5


def area_resize(pixels: UInt8Array, height: int, width: int, out: UInt8Array) -> None:
    """Scale an image down: each new pixel is the mean of the area that it covers. Without the kernels OpenCV's INTER_AREA does the same.

    Args:
        pixels: (H, W, 3) uint8.
        height: of the new image, pixels, at most H.
        width: of the new image, pixels, at most W.
        out: (height, width, 3) uint8, receives the new image; may be a part of a wider image.
    """
    kernels = _kernels()
    half = pixels.shape[:2] == (2 * height, 2 * width)  # OpenCV has a special, faster path for this
    if kernels is None or half:
        out[:] = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
        return
    if pixels.strides[1:] != (3, 1):
        pixels = np.ascontiguousarray(pixels)
    scratch = np.empty(3 * pixels.shape[1] + 1 + _COVER * width, np.float32)
    source = pixels.ctypes.data, pixels.strides[0], pixels.shape[0], pixels.shape[1]
    kernels.shrink(*source, out.ctypes.data, out.strides[0], height, width, scratch.ctypes.data)


@cache
def _kernels() -> Kernels | None:
    try:
        return load_kernels()
    except ModelError:
        return None
