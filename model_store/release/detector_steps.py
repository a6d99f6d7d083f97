"""A detector's INT8 graph into what Posewire's kernels take."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from model_store.release.detector_graph import STRIDES
from posewire.errors import ModelError
from posewire.kernels.quantized import Boxes, Convolution, Double, Entry, Join, Maxima, Quantized, Step, Sum, require_fit

_OUT: Final = "boxes"
_LEAF: Final = "DequantizeLinear"


def detector_steps(model: bytes, name: str) -> Quantized:
    """The steps and weights of a graph that `compile_detector` and then `quantize_detector` made.

    Args:
        model: the bytes of the ONNX file.
        name: of the model, for errors.

    Raises:
        ModelError: the graph has an operator, or a way to quantize, that the kernels have not.
    """
    network = _Reader(onnx.load_from_string(model).graph).network()
    require_fit(network, name)
    return network


class _Reader:
    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph
        self._constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        self._makers = {name: node for node in graph.node for name in node.output}
        self._quantized = {node.input[0]: node for node in graph.node if node.op_type == "QuantizeLinear"}
        self._steps: list[Step] = []
        self._state: dict[str, npt.NDArray[Any]] = {}
        self._heads: list[str] = []

    def network(self) -> Quantized:
        for node in self._graph.node:
            self._take(node)
        self._steps.append(Boxes(sources=tuple(self._heads), strides=STRIDES[: len(self._heads)], out=_OUT))
        return Quantized(tuple(self._steps), self._state)

    def _take(self, node: onnx.NodeProto) -> None:
        """A node that makes a map of bytes, or a convolution to boxes; what works on their rows is known, and not looked at."""
        out = node.output[0]
        if node.op_type == "Conv" and out not in self._quantized and not self._is_entry(node):
            self._head(node)
        if out not in self._quantized:
            return
        match node.op_type:
            case "Relu":
                self._entry(self._makers[node.input[0]], out)
            case "Conv":
                self._convolution(node, out)
            case "Add":
                first, second = (self._map(name) for name in node.input)
                self._steps.append(Sum(sources=(first, second), out=out, scale=self._scale(out)))
            case "Concat":
                self._require_attributes(node, axis=1)
                self._steps.append(Join(sources=tuple(map(self._map, node.input)), out=out, scale=self._scale(out)))
            case "MaxPool":
                self._require(node, out, kernel_shape=[5, 5], strides=[1, 1], pads=[2] * 4)
                self._steps.append(Maxima(source=self._map(node.input[0]), out=out))
            case "Resize":
                self._require(node, out, mode=b"nearest")
                if list(self._constants[node.input[2]]) != [1, 1, 2, 2]:
                    raise ModelError(f"{out}: the kernels only enlarge a map to twice its size")
                self._steps.append(Double(source=self._map(node.input[0]), out=out))
            case operator:
                raise ModelError(f"{out}: the kernels have no {operator} in INT8")

    def _is_entry(self, node: onnx.NodeProto) -> bool:
        return str(node.input[0]) == str(self._graph.input[0].name)

    def _entry(self, node: onnx.NodeProto, out: str) -> None:
        if node.op_type != "Conv" or not self._is_entry(node):
            raise ModelError(f"{out}: a rectifier that is no part of a convolution in INT8")
        self._require_attributes(node, pads=[1] * 4, strides=[2, 2])
        self._steps.append(Entry(out=out, scale=self._scale(out)))
        self._state[f"{out}.weight"], self._state[f"{out}.bias"] = (self._constants[name] for name in node.input[1:])

    def _convolution(self, node: onnx.NodeProto, out: str) -> None:
        source = self._map(node.input[0])
        weight, scales = self._dequantized(node.input[1])
        bias, _ = self._dequantized(node.input[2])
        side = weight.shape[-1]
        stride = _attributes(node)["strides"][0]
        self._require_attributes(node, pads=[side // 2] * 4, strides=[stride] * 2, group=1, kernel_shape=[side] * 2)
        self._steps.append(Convolution(source=source, out=out, stride=stride, scale=self._scale(out)))
        factor = np.float32(self._scale(source)) * scales.astype(np.float32) / np.float32(self._scale(out))
        self._state |= {f"{out}.weight": weight, f"{out}.bias": bias, f"{out}.factor": factor}

    def _head(self, node: onnx.NodeProto) -> None:
        weight, bias = (self._constants.get(name) for name in node.input[1:])
        if weight is None or bias is None or weight.shape[2:] != (1, 1):
            raise ModelError(f"{node.output[0]}: a convolution to boxes must be 1x1, and in float32")
        prefix = f"{_OUT}.{len(self._heads)}"
        self._state |= {f"{prefix}.weight": np.ascontiguousarray(weight[:, :, 0, 0]), f"{prefix}.bias": bias}
        self._heads.append(self._map(node.input[0]))

    def _map(self, name: str) -> str:
        """The map that a tensor is, after its way through bytes."""
        leaf = self._makers.get(name)
        if leaf is None or leaf.op_type != _LEAF or leaf.input[0] not in self._makers:
            raise ModelError(f"{name} is not in INT8")
        return str(self._makers[leaf.input[0]].input[0])

    def _dequantized(self, name: str) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Whole numbers and their scales, one an output."""
        leaf = self._makers.get(name)
        if leaf is None or leaf.op_type != _LEAF or leaf.input[0] not in self._constants:
            raise ModelError(f"{name} is not in INT8")
        if self._constants[leaf.input[2]].any():
            raise ModelError(f"{name} has zero points, which the kernels do not have")
        return self._constants[leaf.input[0]], self._constants[leaf.input[1]]

    def _scale(self, name: str) -> float:
        node = self._quantized[name]
        if self._constants[node.input[2]].dtype != np.uint8 or self._constants[node.input[2]].any():
            raise ModelError(f"{name} is not of bytes with a zero point of 0, which the kernels need")
        return float(self._constants[node.input[1]])

    def _require(self, node: onnx.NodeProto, out: str, **attributes: object) -> None:
        """The same scale before and after."""
        self._require_attributes(node, **attributes)
        if self._scale(self._map(node.input[0])) != self._scale(out):
            raise ModelError(f"{out}: {node.op_type} changes the scale")

    def _require_attributes(self, node: onnx.NodeProto, **attributes: object) -> None:
        found = _attributes(node)
        if other := [name for name, value in attributes.items() if found.get(name) != value]:
            raise ModelError(f"{node.output[0]}: the kernels have no {node.op_type} with {other[0]} {found.get(other[0])}")


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
