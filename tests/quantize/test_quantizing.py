"""INT8 files: what is in them, and that they still compute the model."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import onnx
import pytest

from posewire.errors import ModelError
from posewire.registry.networks.litehrnet.spec import get_variant
from posewire.tools.compiler.litehrnet.graph import compile_graph
from posewire.tools.quantize.quantizing import Coverage, quantize
from posewire.types import FloatArray
from tests.compiler.test_graph import HEIGHT, WIDTH, images, random_state, run


def tiny_model() -> bytes:
    """The smallest network of the family: one module a stage, of one block."""
    variant = replace(get_variant("naive-litehrnet-18"), modules=(1, 1, 1), blocks=1)
    return bytes(compile_graph(variant, random_state(variant), HEIGHT, WIDTH).SerializeToString())


@pytest.fixture(scope="module")
def model() -> bytes:
    return tiny_model()


def inputs(count: int = 4) -> Iterator[FloatArray]:
    return (images(count)[i : i + 1] for i in range(count))


def quantized_convolutions(content: bytes) -> set[tuple[str, bool]]:
    """Kind of every convolution of a map, and whether its weights are INT8."""
    graph = onnx.load_from_string(content).graph
    makers = {output: node.op_type for node in graph.node for output in node.output}
    found = set()
    for node in graph.node:
        if node.op_type == "Conv":
            groups = next((a.i for a in node.attribute if a.name == "group"), 1)
            kernel = next((list(a.ints) for a in node.attribute if a.name == "kernel_shape"), [1, 1])
            kind = "pointwise" if groups == 1 and kernel == [1, 1] else "other"
            found.add((kind, makers.get(node.input[1]) == "DequantizeLinear"))
    return found


@pytest.mark.parametrize("coverage", Coverage)
def test_the_int8_file_computes_the_model(model: bytes, coverage: Coverage) -> None:
    content = quantize(model, inputs(), coverage)
    assert len(content) < len(model)
    expected = run(onnx.load_from_string(model), images(1))
    found = run(onnx.load_from_string(content), images(1))
    assert found.shape == expected.shape
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.9
    assert not np.array_equal(found, expected)


def test_coverage_says_which_convolutions_become_int8(model: bytes) -> None:
    assert quantized_convolutions(quantize(model, inputs(), Coverage.POINTWISE)) == {("pointwise", True), ("other", False)}
    assert quantized_convolutions(quantize(model, inputs(), Coverage.ALL)) == {("pointwise", True), ("other", True)}


def test_the_same_images_give_the_same_file(model: bytes) -> None:
    assert quantize(model, inputs(), Coverage.POINTWISE) == quantize(model, inputs(), Coverage.POINTWISE)


def test_what_is_int8_already_is_refused(model: bytes) -> None:
    with pytest.raises(ModelError, match="INT8 already"):
        quantize(quantize(model, inputs(), Coverage.POINTWISE), inputs(), Coverage.POINTWISE)


def test_a_model_without_convolutions_is_refused() -> None:
    shape = [1, 3, 8, 8]
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name in ("x", "y")]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "none", ends[:1], ends[1:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    with pytest.raises(ModelError, match="no convolution"):
        quantize(model.SerializeToString(), iter([np.zeros(shape, np.float32)]), Coverage.ALL)
