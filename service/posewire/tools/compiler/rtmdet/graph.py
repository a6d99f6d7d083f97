"""RTMDet-nano as an ONNX graph from pixels to boxes, for images of any size."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper

from posewire.registry.networks.rtmdet import MEAN, STD, STRIDES, Activation, Conv, Csp, DetectorVariant, Layers, Pyramid
from posewire.registry.weights.norms import EPSILON, scale_and_shift
from posewire.tools.compiler.litehrnet.builder import Array, OnnxBuilder
from posewire.types import FloatArray

_COLUMNS = 5  # x0 y0 x1 y1 score
_STAGES = 4


def compile_detector(variant: DetectorVariant, state: Mapping[str, FloatArray], *, plain: bool = False) -> onnx.ModelProto:
    """Compile the network to an ONNX graph from `images` to `boxes_scores`.

    `images` is (batch, height, width, 3) uint8, RGB 0..255, letterboxed; height and width are multiples of 32. `boxes_scores` is
    (batch, cells, 5) float32: x0 y0 x1 y1 in pixels of the input, and a score 0..1; cells are in the order of the strides, then rows.
    All three sizes are open: ONNX Runtime computes the grids in advance if the sizes are set
    (`add_free_dimension_override_by_name` for `batch`, `height` and `width`).

    Args:
        variant: has the activations.
        state: a checkpoint's tensors, of the shapes of `spec.parameters`.
        plain: batch norms and the normalisation of the image stay operators of their own; else they are folded into the weights.
    """
    return _Compiler(variant, state, plain).compile()


class _Compiler:
    def __init__(self, variant: DetectorVariant, state: Mapping[str, FloatArray], plain: bool) -> None:
        self._layers = Layers(variant)
        self._state = state
        self._plain = plain
        self._build = OnnxBuilder()

    def compile(self) -> onnx.ModelProto:
        maps = self._backbone(self._image())
        levels = [self._convs(out, x) for out, x in zip(self._layers.outputs, self._neck(*maps), strict=True)]
        rows = [self._rows(level, x, stride) for level, (x, stride) in enumerate(zip(levels, STRIDES, strict=True))]
        self._build.node("Concat", *rows, output="boxes_scores", axis=1)
        source = helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", "height", "width", 3])
        result = helper.make_tensor_value_info("boxes_scores", TensorProto.FLOAT, ["batch", "cells", _COLUMNS])
        return self._build.model(self._layers.variant.name, [source], [result])

    def _image(self) -> str:
        """(batch, 3, height, width) RGB minus the mean: the padding of the first convolution is then the mean, as in training."""
        build = self._build
        pixels = build.node("Transpose", build.node("Cast", "images", to=TensorProto.FLOAT), perm=[0, 3, 1, 2])
        centred = build.node("Sub", pixels, build.constant(np.reshape(MEAN, (1, 3, 1, 1))))
        return build.node("Div", centred, build.constant(np.reshape(STD, (1, 3, 1, 1)))) if self._plain else centred

    def _backbone(self, x: str) -> tuple[str, str, str]:
        """Return the maps of strides 8, 16 and 32."""
        first, *others = self._layers.stem
        # The network was trained on BGR. The division by the standard deviation is folded into the weights.
        by = np.ones(3) if self._plain else 1 / np.array(STD)
        x = self._conv(first, x, self._state[f"{first.key}.conv.weight"].astype(np.float64)[:, ::-1] * by[:, None, None])
        x = self._convs(others, x)
        maps = []
        for number in range(_STAGES):
            down, pyramid, csp = self._layers.stage(number)
            x = self._convs(down, x)
            if pyramid:
                x = self._pyramid(pyramid, x)
            x = self._csp(csp, x)
            maps.append(x)
        return maps[1], maps[2], maps[3]

    def _neck(self, fine: str, middle: str, coarse: str) -> tuple[str, str, str]:
        """Combine the maps from the coarsest to the finest, then from the finest to the coarsest."""
        layers, build = self._layers, self._build
        reduced = [self._conv(layers.reduce[0], coarse)]
        down = self._csp(layers.top_down[0], self._concat(build.upsample(reduced[0], 2, 2), middle))
        reduced.append(self._conv(layers.reduce[1], down))
        first = self._csp(layers.top_down[1], self._concat(build.upsample(reduced[1], 2, 2), fine))
        second = self._csp(layers.bottom_up[0], self._concat(self._convs(layers.downsamples[0], first), reduced[1]))
        third = self._csp(layers.bottom_up[1], self._concat(self._convs(layers.downsamples[1], second), reduced[0]))
        return first, second, third

    def _rows(self, level: int, x: str, stride: int) -> str:
        """Return the rows (batch, cells, 5) of a level's map."""
        build = self._build
        *score_convs, score = self._layers.head(level, "cls")
        *box_convs, box = self._layers.head(level, "reg")
        scores = build.node("Sigmoid", self._conv(score, self._convs(score_convs, x)))
        # Distances from a cell's point to the box's sides, in strides, become offsets of the corners, in pixels.
        signs = np.array([-1.0, -1.0, 1.0, 1.0]) * stride
        weight, bias = (self._state[f"{box.key}.{part}"].astype(np.float64) for part in ("weight", "bias"))
        offsets = build.conv(self._convs(box_convs, x), weight * signs[:, None, None, None], bias * signs)
        corners = build.node("Add", offsets, self._points(offsets, stride))
        flat = build.node("Reshape", build.node("Concat", corners, scores, axis=1), build.constant([0, _COLUMNS, -1], np.int64))
        return build.node("Transpose", flat, perm=[0, 2, 1])

    def _points(self, like: str, stride: int) -> str:
        """(1, 4, h, w): x y x y of each cell's point, pixels of the input."""
        build = self._build
        axes = []
        for axis, shape in ((3, [1, 1, 1, -1]), (2, [1, 1, -1, 1])):
            count = build.node("Gather", build.node("Shape", like), build.constant(axis, np.int64))
            numbers = build.node("Range", build.constant(0, np.int64), count, build.constant(1, np.int64))
            pixels = build.node("Mul", build.node("Cast", numbers, to=TensorProto.FLOAT), build.constant(stride))
            axes.append(build.node("Reshape", pixels, build.constant(shape, np.int64)))
        xs, ys = axes
        zeros = build.node("Mul", build.node("Add", xs, ys), build.constant(0.0))
        xs, ys = build.node("Add", xs, zeros), build.node("Add", ys, zeros)
        return build.node("Concat", xs, ys, xs, ys, axis=1)

    def _csp(self, csp: Csp, x: str) -> str:
        main, short, blocks, final = self._layers.csp_convs(csp)
        y = self._conv(main, x)
        for block in blocks:
            z = self._convs(block, y)
            y = self._build.node("Add", y, z) if csp.add else z
        concatenated = self._concat(y, self._conv(short, x))
        if csp.attention:
            concatenated = self._attention(f"{csp.key}.attention.fc", concatenated)
        return self._conv(final, concatenated)

    def _attention(self, key: str, x: str) -> str:
        """Multiply channels by weights 0..1, computed from their means."""
        weight, bias = (self._state[f"{key}.{part}"].astype(np.float64) for part in ("weight", "bias"))
        means = self._build.node("GlobalAveragePool", x)
        gates = self._build.node("HardSigmoid", self._build.conv(means, weight, bias), alpha=1 / 6, beta=0.5)
        return self._build.node("Mul", x, gates)

    def _pyramid(self, pyramid: Pyramid, x: str) -> str:
        before, after = self._layers.pyramid_convs(pyramid)
        maps = [self._conv(before, x)]
        for _ in range(3):
            maps.append(self._build.node("MaxPool", maps[-1], kernel_shape=[5, 5], strides=[1, 1], pads=[2] * 4))
        return self._conv(after, self._concat(*maps))

    def _concat(self, *maps: str) -> str:
        return self._build.node("Concat", *maps, axis=1)

    def _convs(self, convs: Sequence[Conv], x: str) -> str:
        for conv in convs:
            x = self._conv(conv, x)
        return x

    def _conv(self, conv: Conv, x: str, weight: Array | None = None) -> str:
        build = self._build
        if conv.activation is None:
            w, b = (self._state[f"{conv.key}.{part}"].astype(np.float64) for part in ("weight", "bias"))
            return build.conv(x, w, b)
        kernel = self._state[f"{conv.key}.conv.weight"].astype(np.float64) if weight is None else weight
        norm = f"{conv.key}.bn"
        if self._plain:
            y = build.conv(x, kernel, None, stride=conv.stride, groups=conv.groups)
            parts = (self._state[f"{norm}.{part}"] for part in ("weight", "bias", "running_mean", "running_var"))
            y = build.node("BatchNormalization", y, *map(build.constant, parts), epsilon=EPSILON)
        else:
            scale, shift = scale_and_shift(self._state, norm)
            y = build.conv(x, kernel * scale[:, None, None, None], shift, stride=conv.stride, groups=conv.groups)
        return self._activation(y, conv.activation)

    def _activation(self, x: str, activation: Activation) -> str:
        if activation == "relu":
            return self._build.node("Relu", x)
        return self._build.node("Mul", x, self._build.node("Sigmoid", x))
