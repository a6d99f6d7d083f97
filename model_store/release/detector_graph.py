"""The small person detector's checkpoint into an ONNX graph, without torch.

The network is that of `model_store/checkpoints/detector.pt`: strides 8, 16 and 32, no anchors. How wide it is, and how many blocks
it has, is read from the weights.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, TensorProto, helper

from posewire.errors import ModelError
from posewire.models.litehrnet.builder import OnnxBuilder
from posewire.models.litehrnet.checkpoint import require
from posewire.models.litehrnet.norms import scale_and_shift
from posewire.types import FloatArray

_STRIDES = (8, 16, 32)
_LARGEST = 6.0  # the logarithm of a box's side in strides is cut here, as in training
_EPSILON = 1e-5  # of torch's batch norm
_COLUMNS = 5  # a score's logit, the centre's offset, the logarithms of the sides


def compile_detector(state: Mapping[str, npt.NDArray[Any]], height: int, width: int, *, plain: bool = False) -> ModelProto:
    """A graph of `images` (batch, 3, height, width) float32 BGR 0..255 to `boxes_scores` (batch, cells, 5).

    A row is x0 y0 x1 y1 in pixels of the input and a score 0..1; cells are in the order of the strides, then rows.

    Args:
        state: tensors of a checkpoint, as `read_checkpoint` returns them.
        height: pixels, a multiple of 32.
        width: pixels, a multiple of 32.
        plain: batch norms and the division by 255 stay operators of their own; else they go into the weights.

    Raises:
        ModelError: the tensors are not this network's, or a size does not fit.
    """
    if height <= 0 or width <= 0 or height % _STRIDES[-1] or width % _STRIDES[-1]:
        raise ModelError(f"a detector's input must be multiples of {_STRIDES[-1]} pixels high and wide, not {height} x {width}")
    network = _Network(require(state, {name: array.shape for name, array in state.items()}), plain)
    outputs = network.outputs("images")
    network.require_all_used()
    rows = [_boxes(network.build, raw, height, width, stride) for raw, stride in zip(outputs, _STRIDES, strict=True)]
    network.build.node("Concat", *rows, output="boxes_scores", axis=1)
    cells = sum((height // s) * (width // s) for s in _STRIDES)
    source = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, height, width])
    result = helper.make_tensor_value_info("boxes_scores", TensorProto.FLOAT, ["batch", cells, _COLUMNS])
    return network.build.model("persondet", [source], [result])


class _Network:
    """Builds the parts by the names that their weights have."""

    def __init__(self, state: Mapping[str, FloatArray], plain: bool) -> None:
        self.build = OnnxBuilder()
        self._state = state
        self._plain = plain
        self._used: set[str] = set()

    def require_all_used(self) -> None:
        """Raise ModelError for weights that no part has asked for."""
        surplus = sorted(set(self._state) - self._used)
        if surplus:
            raise ModelError(f"not the detector's weights: {len(surplus)} unexpected ({', '.join(surplus[:5])})")

    def outputs(self, images: str) -> list[str]:
        """Maps (batch, 5, h, w) of the three strides."""
        if self._plain:
            images = self.build.node("Div", images, self.build.constant(255.0))
        c3 = self._stage("s3", self._stage("stem", images))
        c4 = self._stage("s4", c3)
        p5 = self._conv("l5", self._stage("s5", c4))
        p4 = self._cross("t4", self._join(self._conv("l4", c4), self.build.upsample(p5, 2, 2)))
        p3 = self._cross("t3", self._join(self._conv("l3", c3), self.build.upsample(p4, 2, 2)))
        n4 = self._cross("b4", self._join(self._conv("d4", p3, 2), p4))
        n5 = self._cross("b5", self._join(self._conv("d5", n4, 2), p5))
        heads = [self._conv(f"h.{i}", x) for i, x in enumerate((p3, n4, n5))]
        return [
            self.build.conv(x, self._take(f"o.{i}.weight").astype(np.float64), self._take(f"o.{i}.bias").astype(np.float64))
            for i, x in enumerate(heads)
        ]

    def _stage(self, key: str, x: str) -> str:
        """Convolutions that halve, then blocks, as the weights have them."""
        index = 0
        while f"{key}.{index}.0.weight" in self._state:
            x = self._conv(f"{key}.{index}", x, 2)
            index += 1
        x = self._cross(f"{key}.{index}", x)
        return self._pooled(f"{key}.{index + 1}", x) if f"{key}.{index + 1}.a.0.weight" in self._state else x

    def _cross(self, key: str, x: str) -> str:
        """Half of the channels pass residual blocks, half pass by."""
        y, index = self._conv(f"{key}.a", x), 0
        while f"{key}.m.{index}.a.0.weight" in self._state:
            y = self.build.node("Add", y, self._conv(f"{key}.m.{index}.b", self._conv(f"{key}.m.{index}.a", y)))
            index += 1
        return self._conv(f"{key}.c", self._join(y, self._conv(f"{key}.b", x)))

    def _pooled(self, key: str, x: str) -> str:
        """Maxima of 1, 5, 9 and 13 cells side by side."""
        scales = [self._conv(f"{key}.a", x)]
        for _ in range(3):
            scales.append(self.build.node("MaxPool", scales[-1], kernel_shape=[5, 5], strides=[1, 1], pads=[2] * 4))
        return self._conv(f"{key}.b", self._join(*scales))

    def _join(self, *maps: str) -> str:
        return self.build.node("Concat", *maps, axis=1)

    def _conv(self, key: str, x: str, stride: int = 1) -> str:
        """Convolution, batch norm, rectifier."""
        weight, norm = self._take(f"{key}.0.weight").astype(np.float64), f"{key}.1"
        parts = [self._take(f"{norm}.{part}") for part in ("weight", "bias", "running_mean", "running_var")]
        if self._plain:
            y = self.build.conv(x, weight, None, stride=stride)
            y = self.build.node("BatchNormalization", y, *map(self.build.constant, parts), epsilon=_EPSILON)
        else:
            scale, shift = scale_and_shift(self._state, norm)
            by = scale / 255 if x == "images" else scale  # what lies outside is 0 before and after the division
            y = self.build.conv(x, weight * by[:, None, None, None], shift, stride=stride)
        return self.build.node("Relu", y)

    def _take(self, name: str) -> FloatArray:
        if name not in self._state:
            raise ModelError(f"not the detector's weights: {name!r} is missing")
        self._used.add(name)
        return self._state[name]


def _boxes(build: OnnxBuilder, raw: str, height: int, width: int, stride: int) -> str:
    """Rows (batch, cells, 5) out of a map (batch, 5, h, w)."""
    ys, xs = np.mgrid[: height // stride, : width // stride]
    centres = (np.stack([xs, ys], -1).reshape(1, -1, 2) + 0.5) * stride
    flat = build.node("Reshape", raw, build.constant([0, _COLUMNS, -1], np.int64))
    score, offset, sides = build.split(build.node("Transpose", flat, perm=[0, 2, 1]), [1, 2, 2], axis=2)
    centre = build.node("Add", build.node("Mul", offset, build.constant(stride)), build.constant(centres))
    cut = build.node("Clip", sides, "", build.constant(_LARGEST))
    half = build.node("Mul", build.node("Exp", cut), build.constant(stride / 2))
    corners = [build.node(operator, centre, half) for operator in ("Sub", "Add")]
    return build.node("Concat", *corners, build.node("Sigmoid", score), axis=2)
