"""The pose head `heatmaps`: the peak of each heatmap, then its sub-pixel place."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

import numpy as np

from posewire.config import Decoding
from posewire.pipeline.heads.base import PoseHead, register_pose_head
from posewire.registry.specs import HeatmapOutput, PoseSpec
from posewire.types import FloatArray

Decode: TypeAlias = Callable[[FloatArray], tuple[FloatArray, FloatArray]]

# Below this a heatmap's value counts as nothing: the logarithm needs a floor.
FLOOR = 1e-10
# At this determinant of the second derivatives and below a surface counts as flat.
PEAKED = 1e-9


class HeatmapsHead(PoseHead):
    """The common part of heads that read heatmaps: their shape, and the mean of the flip test. A subclass decodes.

    Args:
        spec: of the model.
        stride: input pixels a heatmap pixel.
        flip_shift: heatmap pixels by which the mirrored heatmaps are shifted.
        decode: of heatmaps, to heatmap pixels and scores.
        step: input pixels a heatmap pixel in x and in y, by which positions are multiplied.
    """

    def __init__(self, spec: PoseSpec, stride: int, flip_shift: int, decode: Decode, step: FloatArray) -> None:
        self.output_shape = (len(spec.keypoints.names), spec.input.height // stride, spec.input.width // stride)
        self._mirrored = spec.keypoints.mirrored
        self._flip_shift = flip_shift
        self._decode = decode
        self._step = step

    def decode(self, raw: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return keypoints (N, K, 2) in input pixels and scores (N, K) of heatmaps."""
        xy, scores = self._decode(raw)
        return xy * self._step, scores

    def merge_mirrored(self, raw: FloatArray, mirrored: FloatArray) -> FloatArray:
        """Return the mean of the heatmaps and those of the mirrored crops."""
        return (raw + flip_heatmaps(mirrored, self._mirrored, self._flip_shift)) * np.float32(0.5)


@register_pose_head("heatmaps", HeatmapOutput)
class HeatmapHead(HeatmapsHead):
    """Heatmaps (N, K, height / stride, width / stride), 0..1, one for each keypoint.

    Pixel (i, j) of a heatmap lies at (stride * i, stride * j) of the input.
    """

    def __init__(self, spec: PoseSpec, decoding: Decoding, *, flip_test: bool) -> None:  # noqa: ARG002 - the flip test changes no shape
        assert isinstance(spec.output, HeatmapOutput)
        output = spec.output
        # DARK smooths with the Gaussian that the training targets were drawn with.
        decode = decode_quarter if decoding is Decoding.QUARTER else partial(decode_dark, blur_sigma=output.sigma)
        super().__init__(spec, output.stride, output.flip_shift, decode, np.full(2, output.stride, np.float32))


def _peaks(heatmaps: FloatArray) -> tuple[np.ndarray[tuple[int, int], np.dtype[np.intp]], FloatArray]:
    """Return the integer peaks (N, K, 2) x y and their values (N, K) of heatmaps (N, K, h, w)."""
    n, k, h, w = heatmaps.shape
    flat = heatmaps.reshape(n, k, h * w)
    index = flat.argmax(-1)
    scores = np.take_along_axis(flat, index[..., None], -1)[..., 0]
    return np.stack([index % w, index // w], -1), scores


def _patches(heatmaps: FloatArray, peaks: np.ndarray[tuple[int, int], np.dtype[np.intp]], radius: int) -> FloatArray:
    """Return the surroundings of every peak, zero outside the heatmap: (N, K, 2r + 1, 2r + 1)."""
    n, k, h, w = heatmaps.shape
    padded = np.zeros((n, k, h + 2 * radius, w + 2 * radius), np.float32)
    padded[:, :, radius : radius + h, radius : radius + w] = heatmaps
    windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * radius + 1, 2 * radius + 1), axis=(2, 3))
    rows, cols = np.ogrid[:n, :k]
    return windows[rows, cols, peaks[..., 1], peaks[..., 0]]


def decode_quarter(heatmaps: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the peaks, moved by a quarter pixel towards its higher neighbour in x and in y.

    As in the original Lite-HRNet and its forerunners (arXiv 1603.06937); a peak at the border stays where it is.

    Args:
        heatmaps: (N, K, h, w) float32.

    Returns:
        (N, K, 2) float32 x y in heatmap pixels, and the peaks' values (N, K) float32 clipped to 0..1.
    """
    _, _, h, w = heatmaps.shape
    peaks, scores = _peaks(heatmaps)
    patch = _patches(heatmaps, peaks, 1)
    difference = np.stack([patch[..., 1, 2] - patch[..., 1, 0], patch[..., 2, 1] - patch[..., 0, 1]], -1)
    inside = ((peaks > 1) & (peaks < np.array([w, h]) - 1)).all(-1, keepdims=True)
    return (peaks + 0.25 * np.sign(difference) * inside).astype(np.float32), np.clip(scores, 0, 1)


def decode_dark(heatmaps: FloatArray, blur_sigma: float) -> tuple[FloatArray, FloatArray]:
    """Return the peaks of Gaussians that are fitted to the heatmaps' logarithms: DARK (Zhang et al., CVPR 2020, arXiv 1910.06278).

    The heatmap is smoothed about its peak with a Gaussian, then one Newton step is taken on the logarithm's
    second-order expansion, with the derivatives' steps of the original. A step of more than a pixel in x or y is a
    fit to noise and is cut to one pixel; where the surface has no peak, or the peak is at the border, there is no step.

    Args:
        heatmaps: (N, K, h, w) float32.
        blur_sigma: of the smoothing Gaussian, heatmap pixels.

    Returns:
        (N, K, 2) float32 x y in heatmap pixels, and the raw peaks' values (N, K) float32 clipped to 0..1.
    """
    _, _, h, w = heatmaps.shape
    peaks, scores = _peaks(heatmaps)
    blur = smoothing(blur_sigma)
    smooth = blur @ _patches(heatmaps, peaks, blur.shape[1] // 2).astype(np.float64) @ blur.T  # (N, K, 5, 5) about the peak
    step = _newton_step(np.log(np.maximum(smooth, FLOOR)))
    inside = ((peaks > 1) & (peaks < np.array([w, h]) - 2)).all(-1, keepdims=True)
    return (peaks + np.where(inside, step, 0)).astype(np.float32), np.clip(scores, 0, 1)


def smoothing(blur_sigma: float) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Return a Gaussian at five places, (5, 2r + 5) float64: it smooths 2r + 5 pixels into the five in the middle."""
    radius = max(1, round(2.5 * blur_sigma))
    kernel = np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2 * blur_sigma**2))
    blur = np.zeros((5, 2 * radius + 5))
    for row in range(5):
        blur[row, row : row + 2 * radius + 1] = kernel / kernel.sum()
    return blur


def _newton_step(surface: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Return the offset of the peak of a (..., 5, 5) surface from its middle: (..., 2) x y, 0 where it has no peak."""
    s = surface
    middle = s[..., 2, 2]
    dx, dy = (s[..., 2, 3] - s[..., 2, 1]) / 2, (s[..., 3, 2] - s[..., 1, 2]) / 2
    dxx = (s[..., 2, 4] - 2 * middle + s[..., 2, 0]) / 4
    dyy = (s[..., 4, 2] - 2 * middle + s[..., 0, 2]) / 4
    dxy = (s[..., 3, 3] - s[..., 1, 3] - s[..., 3, 1] + s[..., 1, 1]) / 4
    determinant = dxx * dyy - dxy**2
    peaked = (determinant > PEAKED) & (dxx < 0)
    safe = np.where(peaked, determinant, 1)
    step = np.stack([-(dyy * dx - dxy * dy) / safe, -(dxx * dy - dxy * dx) / safe], -1)
    return np.where(peaked[..., None], np.clip(step, -1, 1), 0)


def flip_heatmaps(heatmaps: FloatArray, order: Sequence[int], shift: int) -> FloatArray:
    """Return heatmaps of mirrored crops, mirrored back, with left and right keypoints swapped.

    Args:
        heatmaps: (N, K, h, w) float32 of the mirrored crops.
        order: K indices, `KeypointSet.mirrored`.
        shift: pixels to the right that the result is moved by: the original protocol's alignment is 1.

    Returns:
        (N, K, h, w) float32, to be averaged with the heatmaps of the upright crops.
    """
    mirrored = heatmaps[:, order, :, ::-1].copy()
    if shift:
        mirrored[..., shift:] = mirrored[..., :-shift].copy()
    return mirrored
