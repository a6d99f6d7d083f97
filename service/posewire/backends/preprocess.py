"""Batches of images in the format that a network takes."""

from collections.abc import Sequence

import cv2
import numpy as np

from posewire.registry.specs import ModelInput
from posewire.types import FloatArray, InputFormat, UInt8Array


class Preprocessor:
    """Makes batches for a network. It may be called from any thread.

    Args:
        described: the network's input, as the manifest says.
        input_format: how the session takes images; None: as the manifest says.
    """

    def __init__(self, described: ModelInput, input_format: InputFormat | None = None) -> None:
        self._format = input_format or described.format
        self._colour = described.colour
        self._mean = np.array(described.mean, np.float32)
        self._std = np.array(described.std, np.float32)
        self._normalises = bool(self._mean.any() or (self._std != 1).any())

    def __call__(self, batch: Sequence[UInt8Array]) -> FloatArray | UInt8Array:
        """Return images (h, w, 3) uint8 RGB of the network's size as one C-contiguous array.

        `float32-nchw` is (N, 3, h, w) float32, normalised. `uint8-nhwc` is (N, h, w, 3), `uint8-nchw` is (N, 3, h, w), uint8: the network
        normalises them itself. Channels are in the network's order.
        """
        if self._format == "float32-nchw":
            return self._normalised(batch)
        pixels = np.stack([image if self._colour == "RGB" else image[..., ::-1] for image in batch])
        return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)) if self._format == "uint8-nchw" else pixels

    def mirror(self, batch: FloatArray | UInt8Array) -> FloatArray | UInt8Array:
        """Return a batch that was made here, with left and right of every image exchanged."""
        return (batch[:, :, ::-1] if self._format == "uint8-nhwc" else batch[..., ::-1]).copy()

    def _normalised(self, batch: Sequence[UInt8Array]) -> FloatArray:
        height, width, _ = batch[0].shape
        out = np.empty((len(batch), 3, height, width), np.float32)
        for i, pixels in enumerate(batch):
            planes = cv2.split(pixels)  # faster than reading every third byte, channel by channel
            for channel, plane in enumerate(planes if self._colour == "RGB" else planes[::-1]):
                if self._normalises:
                    np.subtract(plane, self._mean[channel], out=out[i, channel])
                    out[i, channel] /= self._std[channel]
                else:
                    out[i, channel] = plane
        return out
