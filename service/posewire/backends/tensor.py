"""Pictures as networks take them."""

from collections.abc import Sequence

import cv2
import numpy as np

from posewire.types import FloatArray, UInt8Array


def network_input(batch: Sequence[UInt8Array], colour: str, mean: FloatArray, std: FloatArray) -> FloatArray:
    """Pictures as a network takes them.

    Args:
        batch: N pictures (h, w, 3) uint8, RGB.
        colour: "RGB" or "BGR", the network's order.
        mean: (3,) float32 in the network's order.
        std: (3,) float32 in the network's order.

    Returns:
        (N, 3, h, w) float32, C-contiguous, normalised.
    """
    height, width, _ = batch[0].shape
    out = np.empty((len(batch), 3, height, width), np.float32)
    normalised = mean.any() or (std != 1).any()
    for i, pixels in enumerate(batch):
        planes = cv2.split(pixels)  # three times as fast as reading every third byte, channel by channel
        for channel, plane in enumerate(planes if colour == "RGB" else planes[::-1]):
            if normalised:
                np.subtract(plane, mean[channel], out=out[i, channel])
                out[i, channel] /= std[channel]
            else:
                out[i, channel] = plane
    return out


def raw_input(batch: Sequence[UInt8Array], colour: str, *, channels_first: bool) -> UInt8Array:
    """Pictures as a network takes them that normalises by itself.

    Args:
        batch: N pictures (h, w, 3) uint8, RGB.
        colour: "RGB" or "BGR", the network's order.
        channels_first: (N, 3, h, w), not (N, h, w, 3).

    Returns:
        uint8, C-contiguous.
    """
    pixels = np.stack([picture if colour == "RGB" else picture[..., ::-1] for picture in batch])
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)) if channels_first else pixels
