"""A builder of ONNX graphs, node by node."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from posewire.errors import ModelError

OPSET = 17
IR_VERSION = 9  # of ONNX 1.14: every ONNX Runtime since 1.15 reads it

Array = npt.NDArray[np.float64]


class OnnxBuilder:
    """Collects nodes and constants; every method that adds a node returns the name of its output.

    Args:
        half: maps and weights are float16, not float32.
    """

    def __init__(self, *, half: bool = False) -> None:
        self.half = half
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, npt.NDArray[Any]] = {}
        self._count = 0

    def constant(self, values: npt.ArrayLike, dtype: npt.DTypeLike | None = None) -> str:
        """Add a constant tensor; None: of the type of the maps.

        Raises:
            ModelError: a value is too large for float16.
        """
        dtype = dtype or (np.float16 if self.half else np.float32)
        with np.errstate(over="ignore"):
            stored = np.array(values, dtype, order="C")
        if dtype is np.float16 and not np.isfinite(stored).all():
            raise ModelError("a weight of this checkpoint is too large for float16: compile it with precision fp32")
        name = self._name("constant")
        self._constants[name] = stored
        return name

    def maps(self, x: str) -> str:
        """Convert a float32 tensor to the type of the maps."""
        return self.node("Cast", x, to=TensorProto.FLOAT16) if self.half else x

    def float32(self, x: str) -> str:
        """Convert a map to float32."""
        return self.node("Cast", x, to=TensorProto.FLOAT) if self.half else x

    def node(self, operator: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Add a node with one output; an empty input name omits an optional input."""
        result = output or self._name(operator)
        self._nodes.append(helper.make_node(operator, list(inputs), [result], **attributes))
        return result

    def split(self, x: str, sizes: Sequence[int], *, axis: int = 1) -> list[str]:
        """Split a tensor along an axis; 1: its channels."""
        results = [self._name("split") for _ in sizes]
        self._nodes.append(helper.make_node("Split", [x, self.constant(sizes, np.int64)], results, axis=axis))
        return results

    def conv(self, x: str, weight: Array, bias: Array | None, *, stride: int = 1, groups: int = 1) -> str:
        """Add a convolution by (O, C / groups, k, k), padded so that only the stride changes the size."""
        kernel = weight.shape[-1]
        inputs = [x, self.constant(weight)] + ([] if bias is None else [self.constant(bias)])
        return self.node("Conv", *inputs, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[kernel // 2] * 4, group=groups)

    def upsample(self, x: str, rows: int, columns: int) -> str:
        """Repeat every pixel `rows` times down and `columns` times across."""
        if rows == columns == 1:
            return x
        scales = self.constant([1, 1, rows, columns], np.float32)
        return self.node("Resize", x, "", scales, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")

    def model(self, name: str, inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[onnx.ValueInfoProto]) -> onnx.ModelProto:
        """Return the whole graph, checked."""
        constants = [numpy_helper.from_array(values, key) for key, values in self._constants.items()]
        graph = helper.make_graph(self._nodes, name, list(inputs), list(outputs), constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="posewire")
        onnx.checker.check_model(model)
        return model

    def _name(self, kind: str) -> str:
        self._count += 1
        return f"{kind.lower()}_{self._count}"
