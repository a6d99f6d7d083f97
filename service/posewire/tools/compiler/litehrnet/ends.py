"""Both ends of the compiled graph: how it takes pictures, and what it gives."""

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper

from posewire.registry.networks.litehrnet.layers import FINEST
from posewire.tools.compiler.litehrnet.builder import OnnxBuilder
from posewire.tools.compiler.litehrnet.decoding import DarkDecoder
from posewire.tools.compiler.litehrnet.options import MEAN, STD, GraphOptions


class GraphEnds:
    """Writes what stands before and behind the network into a graph, for pictures of `height` x `width` pixels."""

    def __init__(self, builder: OnnxBuilder, options: GraphOptions, keypoints: int, height: int, width: int) -> None:
        self._builder = builder
        self._options = options
        self._keypoints = keypoints
        self._height, self._width = height, width

    def picture(self) -> tuple[str, Sequence[float]]:
        """The pictures as maps (N, 3, height, width), and how many times too large their channels are.

        The mean is subtracted here, so that the zeros about a picture that the first convolution sees are the mean's, as in
        training; the division is left to its weights.
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
        """From the network's last maps to the output, in float32."""
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
        """What the graph takes."""
        if self._options.input == "uint8-nhwc":
            return helper.make_tensor_value_info("input", TensorProto.UINT8, [batch, self._height, self._width, 3])
        kind = TensorProto.FLOAT if self._options.input == "float32-nchw" else TensorProto.UINT8
        return helper.make_tensor_value_info("input", kind, [batch, 3, self._height, self._width])

    def output_info(self, batch: int | str) -> onnx.ValueInfoProto:
        """What the graph gives."""
        shape = [3] if self._options.output == "keypoints" else [self._height // FINEST, self._width // FINEST]
        return helper.make_tensor_value_info(self._options.output, TensorProto.FLOAT, [batch, self._keypoints, *shape])
