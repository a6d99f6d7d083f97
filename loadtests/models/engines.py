"""Networks as four runtimes run them: one thread, one item."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnxruntime
import openvino
from ai_edge_litert.interpreter import Interpreter

from posewire.backends.cpu_kernels import folded, network
from posewire.backends.cpu_kernels.session import KernelSession
from posewire.backends.device import cpu_plan
from posewire.backends.onnxruntime import OnnxSession
from posewire.pipeline.detector import Detector
from posewire.registry.specs import DetectorSpec, PoseSpec
from posewire.types import FloatArray

# A tensor in, the outputs that were asked for.
Run: TypeAlias = Callable[[Any], Sequence[FloatArray]]


def onnx_runtime(path: Path) -> Run:
    """An ONNX file in ONNX Runtime, as Posewire runs it on a CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_free_dimension_override_by_name("batch", 1)
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda tensor: session.run(None, {name: tensor})


def kernels(spec: PoseSpec, weights: bytes) -> Run:
    """Our network on Posewire's own kernels, which take pixels."""
    session = KernelSession(
        network.plan(folded.read(weights, spec.name), spec.input.height, spec.input.width, spec.input.mean, spec.input.std)
    )
    return lambda pixels: [session.run(pixels)]


def detector(spec: DetectorSpec, model: bytes) -> Detector:
    """A person detector in ONNX Runtime, as Posewire runs it on one thread of a CPU."""
    sizes = {"height": spec.input.height, "width": spec.input.width}
    return Detector(spec, OnnxSession(model, spec.name, cpu_plan(1, "compared on one thread"), sizes=sizes))


def open_vino(path: Path, precision: str, outputs: Sequence[int] | None = None) -> Run:
    """A file that OpenVINO reads.

    Args:
        path: ONNX, OpenVINO's IR or TensorFlow Lite.
        precision: "f32" or "bf16".
        outputs: which; what only the others need is not computed. None: all.
    """
    model = read(path)
    if outputs is not None:
        model = openvino.Model([model.outputs[i] for i in outputs], model.get_parameters(), "some")
    settings = {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": 1,
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,  # else every process sits on the first core
    }
    compiled = openvino.Core().compile_model(model, "CPU", settings)
    request, count = compiled.create_infer_request(), len(compiled.outputs)

    def run(tensor: Any) -> Sequence[FloatArray]:
        found = request.infer({0: tensor}, share_inputs=True, share_outputs=True)
        return [found[i] for i in range(count)]

    return run


def lite_rt(path: Path, outputs: Sequence[int]) -> Run:
    """A TensorFlow Lite file in LiteRT with XNNPACK, which computes every output, also those that are not asked for."""
    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    source = interpreter.get_input_details()[0]["index"]
    wanted = [interpreter.get_output_details()[i]["index"] for i in outputs]

    def run(tensor: Any) -> Sequence[FloatArray]:
        interpreter.set_tensor(source, tensor)
        interpreter.invoke()
        return [interpreter.get_tensor(index) for index in wanted]

    return run


def read(path: Path, sides: Sequence[int] = ()) -> Any:
    """A model as OpenVINO reads it, at a batch of 1.

    Args:
        path: ONNX, OpenVINO's IR or TensorFlow Lite.
        sides: height and width, for a file that leaves them open.
    """
    model = openvino.Core().read_model(path)
    shape = model.input(0).partial_shape
    if not shape.is_dynamic:
        return model
    if shape[0].is_dynamic:
        shape[0] = 1
    still_open = [i for i in range(len(shape)) if shape[i].is_dynamic]
    for i, side in zip(still_open, sides, strict=False):
        shape[i] = side
    model.reshape(shape)
    return model


def cost(path: Path, outputs: Sequence[int] | None = None, sides: Sequence[int] = ()) -> tuple[float, float]:
    """Millions of multiply-accumulates of one run (convolutions and matrix products), and of parameters.

    `sides` is as `read`'s.
    """
    model = read(path, sides)
    if outputs is not None:
        model = openvino.Model([model.outputs[i] for i in outputs], model.get_parameters(), "some")
    macs, parameters = 0, 0
    for node in model.get_ops():
        kind = node.get_type_name()
        if kind == "Constant" and node.get_element_type().is_real():
            parameters += int(np.prod(node.get_output_shape(0)))
        elif kind in ("Convolution", "GroupConvolution", "MatMul"):
            weights = node.input(1).get_shape()
            per_output = weights[-2] if kind == "MatMul" else int(np.prod(weights[1 if kind == "Convolution" else 2 :]))
            macs += int(np.prod(node.get_output_shape(0))) * int(per_output)
    return macs / 1e6, parameters / 1e6
