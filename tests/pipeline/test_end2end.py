"""A detector that suppresses by itself and answers class numbers too, as mmdeploy exports it."""

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from posewire.backends.device import CUDA_PROVIDER, DevicePlan, cpu_plan, gpu_plan
from posewire.backends.onnxruntime import OnnxSession
from posewire.config import Device
from posewire.errors import ModelError
from posewire.pipeline.detector import Detector
from posewire.registry.specs import DetectorSpec
from posewire.types import Detections, Frame
from tests.backends.machine import Machine
from tests.compiler.archives import BOXES, end2end_model
from tests.pipeline.test_detector import made_up

CPU = cpu_plan(1, "a test")
GPU = gpu_plan(Device.CUDA, "a test", memory_bytes=1 << 30, cache=Path())
MACHINE = Machine(CUDA_PROVIDER)


def spec() -> DetectorSpec:
    made = made_up("end2end", size=(320, 320))
    return made.model_copy(update={"input": made.input.model_copy(update={"std": (255.0, 255.0, 255.0)})})


def grey(value: int) -> Frame:
    return Frame(np.full((640, 640, 3), value, np.uint8))


def detect(frames: list[Frame], min_score: float, plan: DevicePlan) -> list[Detections]:
    session = OnnxSession(end2end_model(), "made-up", plan, MACHINE)
    detector = Detector(spec(), session)
    prepared = [detector.preprocess(frame) for frame in frames]
    raws = detector.infer([p.pixels for p in prepared])
    return [detector.postprocess(raw, p.scale, frame, min_score, 50) for raw, p, frame in zip(raws, prepared, frames, strict=True)]


@pytest.mark.parametrize("plan", [CPU, GPU], ids=["cpu", "gpu"])
def test_images_of_a_batch_have_their_own_numbers_of_people(plan: DevicePlan) -> None:
    bright, dim, black = detect([grey(255), grey(120), grey(0)], 0.05, plan)
    assert bright.scores.tolist() == pytest.approx([0.9, 0.6, 0.1])
    assert bright.boxes_xyxy.tolist() == [[2.0 * x for x in BOXES[i]] for i in (0, 2, 3)]  # 640 pixels on 320
    assert dim.scores.tolist() == pytest.approx([0.9 * 120 / 255, 0.6 * 120 / 255], rel=1e-3)
    assert black.scores.tolist() == []


def test_the_row_of_zeros_that_ends_the_rows_is_nobody() -> None:
    [found] = detect([grey(0)], 0.0, CPU)
    assert len(found.boxes_xyxy) == 0


def two_outputs(kind: int) -> bytes:
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["a"]), helper.make_node("Cast", ["x"], ["b"], to=kind)],
        "two",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3])],
        [helper.make_tensor_value_info("a", TensorProto.FLOAT, [1, 3]), helper.make_tensor_value_info("b", kind, [1, 3])],
    )
    return bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString())


@pytest.mark.parametrize("kind", [TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL])
def test_an_output_that_is_no_float_is_left_alone(kind: int) -> None:
    values = np.array([[0.25, 0.5, 2.0]], np.float32)
    assert OnnxSession(two_outputs(kind), "two", CPU).run(values).tolist() == values.tolist()


def test_two_outputs_of_floats_are_refused() -> None:
    with pytest.raises(ModelError, match="two has 1 inputs and 2 outputs of floats; one of each is needed"):
        OnnxSession(two_outputs(TensorProto.FLOAT), "two", CPU)
