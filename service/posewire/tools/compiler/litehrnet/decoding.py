"""DARK as nodes of a graph: the same as `posewire.pipeline.heads.heatmaps.decode_dark`."""

import numpy as np
from onnx import TensorProto

from posewire.pipeline.heads.heatmaps import FLOOR, PEAKED, smoothing
from posewire.tools.compiler.litehrnet.builder import Array, OnnxBuilder

# The points at which the smoothed surface is read: (row, column) of the 5 x 5 pixels around the peak, without the peak.
_POINTS = ((2, 3), (2, 1), (3, 2), (1, 2), (2, 4), (2, 0), (4, 2), (0, 2), (3, 3), (1, 3), (3, 1), (1, 1))
# dx, dy, dxx, dyy and dxy from the logarithms at those points, minus that at the peak.
_DERIVATIVES = np.zeros((len(_POINTS), 5))
_DERIVATIVES[0:2, 0] = 1 / 2, -1 / 2
_DERIVATIVES[2:4, 1] = 1 / 2, -1 / 2
_DERIVATIVES[4:6, 2] = 1 / 4
_DERIVATIVES[6:8, 3] = 1 / 4
_DERIVATIVES[8:12, 4] = 1 / 4, -1 / 4, -1 / 4, 1 / 4


class DarkDecoder:
    """Adds the decoding of heatmaps (N, keypoints, height, width) float32 to a graph."""

    def __init__(self, builder: OnnxBuilder, keypoints: int, height: int, width: int, sigma: float) -> None:
        self._node = builder.node
        self._split = builder.split
        self._builder = builder
        self._keypoints, self._height, self._width = keypoints, height, width
        self._blur = smoothing(sigma)  # (5, size)
        self._margin = self._blur.shape[1] // 2

    def decode(self, heatmaps: str, stride: int, output: str) -> None:
        """Add `output`, (N, keypoints, 3) float32: x y in pixels of the input, `stride` for one of the heatmap, and the score 0..1."""
        node, number = self._node, self._number
        flat = node("Reshape", heatmaps, self._whole([0, self._keypoints, self._height * self._width]))
        index = node("ArgMax", flat, axis=2, keepdims=1)  # the first of equals, as numpy's
        y = node("Div", index, self._whole(self._width))
        x = node("Sub", index, node("Mul", y, self._whole(self._width)))
        score = node("Clip", node("GatherElements", flat, index, axis=2), number(0), number(1))
        peak = node("Cast", node("Concat", x, y, axis=2), to=TensorProto.FLOAT)
        step, peaked = self._newton_step(self._surroundings(heatmaps, x, y))
        trusted = node("And", peaked, self._inside(peak))
        refined = node("Add", peak, node("Where", trusted, step, number(0)))
        node("Concat", node("Mul", refined, number(stride)), score, axis=2, output=output)

    def _number(self, values: object) -> str:
        return self._builder.constant(np.asarray(values), np.float32)

    def _whole(self, values: object) -> str:
        return self._builder.constant(np.asarray(values), np.int64)

    def _surroundings(self, heatmaps: str, x: str, y: str) -> str:
        """Return the pixels around every peak, row by row, zero outside the heatmap: (N, K, size * size)."""
        node, margin, size = self._node, self._margin, self._blur.shape[1]
        height, width = self._height + 2 * margin, self._width + 2 * margin
        padded = node("Pad", heatmaps, self._whole([0, 0, margin, margin, 0, 0, margin, margin]))
        flat = node("Reshape", padded, self._whole([0, self._keypoints, height * width]))
        first = node("Add", node("Mul", y, self._whole(width)), x)
        rows, columns = np.mgrid[:size, :size]
        window = node("Add", first, self._whole((rows * width + columns).reshape(1, 1, -1)))
        return node("GatherElements", flat, window, axis=2)

    def _newton_step(self, pixels: str) -> tuple[str, str]:
        """Return the step (N, K, 2) x y, at most a pixel, and True if the surface has a peak (N, K, 1)."""
        node, number = self._node, self._number
        dx, dy, dxx, dyy, dxy = self._split(node("MatMul", self._logarithms(pixels), number(_DERIVATIVES)), [1] * 5, axis=2)
        determinant = node("Sub", node("Mul", dxx, dyy), node("Mul", dxy, dxy))
        peaked = node("And", node("Greater", determinant, number(PEAKED)), node("Less", dxx, number(0)))
        along_x = node("Sub", node("Mul", dxy, dy), node("Mul", dyy, dx))
        along_y = node("Sub", node("Mul", dxy, dx), node("Mul", dxx, dy))
        step = node("Div", node("Concat", along_x, along_y, axis=2), node("Where", peaked, determinant, number(1)))
        return node("Clip", step, number(-1), number(1)), peaked

    def _logarithms(self, pixels: str) -> str:
        """Return the logarithm of the smoothed surface at `_POINTS`, minus that at the peak: (N, K, points)."""
        node, number = self._node, self._number
        weights, middle_weights = self._weights(_POINTS), self._weights(((2, 2),))
        around, middle = (node("Max", node("MatMul", pixels, number(w)), number(FLOOR)) for w in (weights, middle_weights))
        # On a flat top the differences are smaller than the rounding of float32: there the differences are summed directly.
        rise = node("Div", node("MatMul", pixels, number(weights - middle_weights)), middle)
        flat = node("And", node("Less", node("Abs", rise), number(0.5)), node("Greater", middle, number(10 * FLOOR)))
        return node("Log", node("Where", flat, node("Add", rise, number(1)), node("Div", around, middle)))

    def _weights(self, points: tuple[tuple[int, int], ...]) -> Array:
        """Return the weights that smooth the pixels around a peak at some points: (size * size, points)."""
        return np.stack([np.outer(self._blur[row], self._blur[column]).ravel() for row, column in points], 1)

    def _inside(self, peak: str) -> str:
        """Return True where a peak (N, K, 2) is far enough from the border for a step: (N, K, 1)."""
        node = self._node
        low = node("Sub", peak, self._number(1))
        high = node("Sub", self._number([self._width - 2, self._height - 2]), peak)
        return node("Greater", node("ReduceMin", node("Min", low, high), axes=[2], keepdims=1), self._number(0))
