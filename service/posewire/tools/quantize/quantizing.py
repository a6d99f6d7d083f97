"""Static INT8: convert an ONNX file of float32 to one with QuantizeLinear and DequantizeLinear around chosen operators.

Activations have 8 bits without a sign: ONNX Runtime's kernels for signed ones are slower on x86. Weights have 8 signed bits and one
scale per output channel. Ranges are by minimum and maximum. docs/precision.md compares this recipe with others.
"""

import tempfile
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

import onnx
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from posewire.errors import ModelError
from posewire.types import FloatArray, UInt8Array

_OTHER_OPERATORS = [
    "AveragePool",
    "Concat",
    "GlobalAveragePool",
    "MaxPool",
    "Mul",
    "Add",
    "Reshape",
    "Resize",
    "Slice",
    "Split",
    "Transpose",
]


class Coverage(StrEnum):
    """The operators that are quantized."""

    POINTWISE = "pointwise"  # 1x1 convolutions of maps
    ALL = "all"  # all operators that ONNX Runtime has a kernel for, but sigmoids


class _Reader(CalibrationDataReader):  # type: ignore[misc] # onnxruntime has no types
    def __init__(self, name: str, inputs: Iterator[FloatArray | UInt8Array]) -> None:
        self._batches = ({name: batch} for batch in inputs)

    def get_next(self) -> dict[str, FloatArray | UInt8Array] | None:
        return next(self._batches, None)


def quantize(model: bytes, inputs: Iterator[FloatArray | UInt8Array], coverage: Coverage) -> bytes:
    """Convert a pose model to INT8, for batches of 1; the same images give the same bytes.

    Args:
        model: the bytes of the ONNX file, float32.
        inputs: for calibration, one item each, as when serving.
        coverage: the operators that are quantized.

    Raises:
        ModelError: it is INT8 already, has no operator that could be quantized, or ONNX Runtime cannot quantize it.
        OSError: the disk is full.
    """
    with tempfile.TemporaryDirectory(prefix="posewire-quantize-") as folder:
        target = Path(folder) / "int8.onnx"
        try:
            graph = _simplified(model, Path(folder) / "float32.onnx")
            skipped = _skipped(graph, coverage)
            quantize_static(
                graph,
                target,
                _Reader(graph.graph.input[0].name, inputs),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=["Conv", "Relu", *(_OTHER_OPERATORS if coverage is Coverage.ALL else [])],
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=skipped,
            )
        except (OSError, ModelError):
            raise
        except Exception as error:  # ONNX Runtime raises many types, and each means the same here
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise ModelError(f"ONNX Runtime cannot quantize the model: {reason}") from error
        return target.read_bytes()


def _simplified(model: bytes, path: Path) -> onnx.ModelProto:
    """Return the graph for a batch of 1, with constants and batch norms folded and a name for every node."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 3
    batch = onnx.load_from_string(model).graph.input[0].type.tensor_type.shape.dim[0]
    if batch.dim_param:
        options.add_free_dimension_override_by_name(batch.dim_param, 1)
    onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    graph = onnx.load(path)
    if any(node.op_type in ("QuantizeLinear", "QLinearConv") for node in graph.graph.node):
        raise ModelError("the model is INT8 already; give the float32 file")
    for number, node in enumerate(graph.graph.node):
        node.name = node.name or f"{node.op_type}_{number}"
    return onnx.shape_inference.infer_shapes(graph)


def _skipped(model: onnx.ModelProto, coverage: Coverage) -> list[str]:
    """Return the names of the convolutions that stay float32."""
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    weights = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    sizes = {value.name: tuple(d.dim_value for d in value.type.tensor_type.shape.dim[2:]) for value in model.graph.value_info}
    chosen = [n.name for n in convolutions if coverage is Coverage.ALL or _is_pointwise(n, weights, sizes)]
    if not chosen:
        raise ModelError("the model has no convolution that could be quantized")
    return [node.name for node in convolutions if node.name not in chosen]


def _is_pointwise(node: onnx.NodeProto, weights: dict[str, tuple[int, ...]], sizes: dict[str, tuple[int, ...]]) -> bool:
    """Return True for a 1x1 convolution of a map; in gates the map is one pixel, which takes too little time to matter."""
    groups = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
    return groups == 1 and weights.get(node.input[1], ())[2:] == (1, 1) and sizes.get(node.output[0]) != (1, 1)
