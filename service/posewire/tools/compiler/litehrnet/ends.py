"""The input and the output of the compiled graph."""

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper

from posewire.registry.networks.litehrnet.layers import FINEST
from posewire.tools.compiler.litehrnet.builder import OnnxBuilder
from posewire.tools.compiler.litehrnet.decoding import DarkDecoder
from posewire.tools.compiler.litehrnet.options import MEAN, STD, GraphOptions


class GraphEnds:
    """Adds the input and the output of the network to a graph, for images of `height` x `width` pixels."""

    def __init__(self, builder: OnnxBuilder, options: GraphOptions, keypoints: int, height: int, width: int) -> None:
        self._builder = builder
        self._options = options
        self._keypoints = keypoints
        self._height, self._width = height, width

    def image(self) -> tuple[str, Sequence[float]]:
        """Return the images as maps (N, 3, height, width), and the factors by which their channels are too large.

        The mean is subtracted here: the zero padding of the first convolution is then the mean, as in training. The division
        is folded into the weights of that convolution.
        """
        builder, options = self._builder, self._options
        if options.input == "float32-nchw":
            return builder.maps("input"), (1.0, 1.0, 1.0)
        pixels = builder.node("Cast", "input", to=TensorProto.FLOAT)
        if options.input == "uint8-nhwc":
            pixels = builder.node("Transpose", pixels, perm=[0, 3, 1, 2])
        mean = builder.constant(np.reshape(options.mean or MEAN, (1, 3, 1, 1)), np.float32)
        return builder.maps(builder.node("Sub", pixels, mean)), options.std or STD

    def finish(self, heatmaps: str) -> None:
        """Convert the network's last maps to the output, in float32."""
        builder, options = self._builder, self._options
        heatmaps = builder.float32(heatmaps)
        if options.sigma is None:
            builder.node("Sigmoid" if options.sigmoid else "Identity", heatmaps, output="heatmaps")
            return
        if options.sigmoid:
            heatmaps = builder.node("Sigmoid", heatmaps)
        decoder = DarkDecoder(builder, self._keypoints, self._height // FINEST, self._width // FINEST, options.sigma)
        decoder.decode(heatmaps, FINEST, "keypoints")

    def input_info(self, batch: int | str) -> onnx.ValueInfoProto:
        """Return the type and shape of the input."""
        if self._options.input == "uint8-nhwc":
            return helper.make_tensor_value_info("input", TensorProto.UINT8, [batch, self._height, self._width, 3])
        kind = TensorProto.FLOAT if self._options.input == "float32-nchw" else TensorProto.UINT8
        return helper.make_tensor_value_info("input", kind, [batch, 3, self._height, self._width])

    def output_info(self, batch: int | str) -> onnx.ValueInfoProto:
        """Return the type and shape of the output."""
        shape = [3] if self._options.output == "keypoints" else [self._height // FINEST, self._width // FINEST]
        return helper.make_tensor_value_info(self._options.output, TensorProto.FLOAT, [batch, self._keypoints, *shape])
