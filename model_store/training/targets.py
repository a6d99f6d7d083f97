"""Keypoints as heatmaps, the inverse of `posewire.pipeline.heads.heatmaps`."""

import numpy as np

from posewire.types import FloatArray

# Input pixels a heatmap pixel; heatmap pixel (x, y) is input pixel (4x, 4y), without a half-pixel offset.
STRIDE = 4


def encode(keypoints_xy: FloatArray, height: int, width: int, sigma: float) -> FloatArray:
    """A Gaussian about each keypoint, at its exact place: nothing is rounded, so that decoding gives the place back.

    Args:
        keypoints_xy: (…, K, 2) x y, pixels of the network's input.
        height: of the heatmaps, pixels.
        width: of the heatmaps, pixels.
        sigma: heatmap pixels.

    Returns:
        (…, K, height, width) float32, 0..1; 1 only where a keypoint is at a pixel.
    """
    place = np.asarray(keypoints_xy, np.float32) / STRIDE
    columns = np.exp(-((np.arange(width, dtype=np.float32) - place[..., :1]) ** 2) / (2 * sigma**2))
    rows = np.exp(-((np.arange(height, dtype=np.float32) - place[..., 1:]) ** 2) / (2 * sigma**2))
    return np.asarray(rows[..., :, None] * columns[..., None, :], np.float32)


def within(keypoints_xy: FloatArray, height: int, width: int) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """(…, K): whose nearest heatmap pixel exists; arguments as `encode`'s."""
    place = np.asarray(keypoints_xy, np.float32) / STRIDE
    return np.asarray(((place >= -0.5) & (place <= np.array([width, height]) - 0.5)).all(-1))
