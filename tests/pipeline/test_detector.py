import hashlib
import json
import math
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import pytest
from onnx import TensorProto, helper

from posewire.backends.device import cpu_plan
from posewire.backends.onnxruntime import OnnxSession
from posewire.backends.preprocess import Preprocessor
from posewire.pipeline.detector import Detector, Letterboxed
from posewire.pipeline.heads.base import detector_head
from posewire.registry.score_curve import ScoreCurve
from posewire.registry.specs import Calibration, DetectorOutput, DetectorSpec, ModelInput, Provenance
from posewire.registry.store import ModelStore
from posewire.types import Detections, FloatArray, Frame
from tests.sample_images import COCO_MINI_VAL, astronaut, landscape

YOLOX_NANO = COCO_MINI_VAL.parent / "models" / "yolox_nano.onnx"
PLAN = cpu_plan(1, "a test")


def made_up(layout: str = "boxes_scores", size: tuple[int, int] = (64, 64), person_class: int = 0, nms_iou: float = 0.5) -> DetectorSpec:
    return DetectorSpec.model_validate(
        {
            **{"name": "made-up", "title": "Made up", "task": "detector", "file": "x", "sha256": "0" * 64, "bytes": 1},
            **{"licence": "none", "card": "x", "provenance": Provenance(made_by="a test", data="none", recipe="none")},
            "input": ModelInput(height=size[0], width=size[1], colour="BGR", mean=(0, 0, 0), std=(1, 1, 1)),
            "output": DetectorOutput.model_validate({"layout": layout, "person_class": person_class}),
            "nms_iou": nms_iou,
        }
    )


@pytest.fixture(scope="module")
def session() -> OnnxSession:
    store = ModelStore()
    return OnnxSession(store.verified_bytes(store.manifest.default("detector")), "detector", PLAN)


def array(values: object) -> FloatArray:
    return np.array(values, np.float64).astype(np.float32)


def test_our_layout_is_corners_and_a_score() -> None:
    boxes, scores = detector_head(made_up()).decode(array([[1, 2, 30, 40, 0.5], [5, 6, 7, 8, 0.25]]))
    assert boxes.tolist() == [[1, 2, 30, 40], [5, 6, 7, 8]]
    assert scores.tolist() == [0.5, 0.25]


@pytest.mark.parametrize(
    ("row", "stride", "cell"),  # 64 x 96 pixels: 8 x 12 cells of 8 pixels, 4 x 6 of 16, 2 x 3 of 32; x first, then y
    [(0, 8, (0, 0)), (3 * 12 + 5, 8, (5, 3)), (95, 8, (11, 7)), (96, 16, (0, 0)), (96 + 2 * 6 + 4, 16, (4, 2)), (120 + 5, 32, (2, 1))],
)
def test_a_yolox_row_is_an_offset_and_a_size_in_strides(row: int, stride: int, cell: tuple[int, int]) -> None:
    raw = np.zeros((96 + 24 + 6, 5 + 3), np.float32)
    raw[row] = [0.25, 0.75, math.log(1.5), math.log(0.5), 0.8, 0.1, 0.5, 0.2]  # the last three: classes
    boxes, scores = detector_head(made_up("yolox", size=(64, 96), person_class=1)).decode(raw)
    cx, cy, w, h = (cell[0] + 0.25) * stride, (cell[1] + 0.75) * stride, 1.5 * stride, 0.5 * stride
    assert boxes[row] == pytest.approx([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], abs=1e-4)
    assert scores[row] == pytest.approx(0.8 * 0.5)
    assert np.flatnonzero(scores).tolist() == [row]


@pytest.mark.parametrize(("colour", "first", "last"), [("RGB", (10 - 1) / 4, (30 - 3) / 8), ("BGR", (30 - 1) / 4, (10 - 3) / 8)])
def test_a_network_s_input_is_in_its_own_order_of_colours(colour: Literal["RGB", "BGR"], first: float, last: float) -> None:
    pixels = np.empty((4, 6, 3), np.uint8)
    pixels[:] = (10, 20, 30)
    pixels[2, 5] = 255
    dark = np.zeros_like(pixels)
    described = ModelInput(height=4, width=6, colour=colour, mean=(1, 2, 3), std=(4, 5, 8))
    out = Preprocessor(described)([pixels, dark])
    assert out.shape == (2, 3, 4, 6)
    assert out.dtype == np.float32
    assert out.flags.c_contiguous
    assert out[0, :, 0, 0].tolist() == pytest.approx([first, (20 - 2) / 5, last])
    assert out[0, :, 2, 5].tolist() == pytest.approx([254 / 4, 253 / 5, 252 / 8])
    assert out[1, :, 0, 0].tolist() == pytest.approx([-1 / 4, -2 / 5, -3 / 8])


def channel_means() -> OnnxSession:
    """A network that gives the means of what it gets, channel by channel: (batch, 1, 3)."""
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, 64, 64])
    means = helper.make_tensor_value_info("means", TensorProto.FLOAT, ["batch", 1, 3])
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["reduced"], axes=[2, 3], keepdims=0),
        helper.make_node("Reshape", ["reduced", "shape"], ["means"]),
    ]
    graph = helper.make_graph(nodes, "means", [images], [means], [helper.make_tensor("shape", TensorProto.INT64, [3], [-1, 1, 3])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return OnnxSession(model.SerializeToString(), "means", PLAN)


@pytest.mark.parametrize(("colour", "order"), [("RGB", [0, 1, 2]), ("BGR", [2, 1, 0])])
def test_the_session_gets_the_manifest_s_colours_mean_and_std(colour: Literal["RGB", "BGR"], order: list[int]) -> None:
    mean, std = (100.0, 0.0, 50.0), (2.0, 1.0, 3.0)
    spec = made_up()
    spec = spec.model_copy(update={"input": spec.input.model_copy(update={"colour": colour, "mean": mean, "std": std})})
    detector = Detector(spec, channel_means())
    images = [detector.preprocess(Frame(pixels)).pixels for pixels in (astronaut(), landscape())]
    for raw, pixels in zip(detector.infer(images), images, strict=True):
        expected = (pixels.mean((0, 1))[order] - mean) / std
        np.testing.assert_allclose(raw, expected[None], rtol=1e-4)


def finish(
    rows: object, session: OnnxSession, *, scale: float = 1.0, min_score: float = 0.3, most: int = 50, size: tuple[int, int] = (64, 64)
) -> Detections:
    frame = Frame(np.zeros((*size, 3), np.uint8))
    return Detector(made_up(), session).postprocess(array(rows).reshape(-1, 5), scale, frame, min_score, most)


APART = [[0, 0, 10, 10, 0.4], [20, 0, 30, 10, 0.9], [40, 0, 50, 10, 0.2], [0, 40, 10, 50, 0.6]]


@pytest.mark.parametrize(
    ("min_score", "most", "scores"),
    [
        (0.3, 50, [0.9, 0.6, 0.4]),
        (0, 50, [0.9, 0.6, 0.4, 0.2]),
        (0, 2, [0.9, 0.6]),
        (0.6, 50, [0.9, 0.6]),
        (0.95, 50, []),
        (0, 0, []),
    ],
)
def test_the_best_are_kept_best_first(session: OnnxSession, min_score: float, most: int, scores: list[float]) -> None:
    found = finish(APART, session, min_score=min_score, most=most)
    assert found.scores.tolist() == [pytest.approx(score) for score in scores]
    by_score = {row[4]: row[:4] for row in APART}
    assert found.boxes_xyxy.tolist() == [by_score[score] for score in scores]
    assert found.boxes_xyxy.dtype == found.scores.dtype == np.float32
    assert found.boxes_xyxy.shape == (len(scores), 4)


def test_calibrated_scores_are_the_curve_s_and_so_is_the_threshold(session: OnnxSession) -> None:
    curve = ScoreCurve(1.5, -0.5)
    spec = made_up()
    output = spec.output.model_copy(update={"calibration": Calibration(scale=curve.scale, shift=curve.shift)})
    detector = Detector(spec.model_copy(update={"output": output}), session)
    frame = Frame(np.zeros((64, 64, 3), np.uint8))
    raw = np.array([0.9, 0.6, 0.4, 0.2], np.float32)
    for least, count in ((0, 4), (float(curve(raw[2:3])[0]) - 1e-3, 3), (float(curve(raw[2:3])[0]) + 1e-3, 2)):
        found = detector.postprocess(array(APART), 1.0, frame, least, 50)
        np.testing.assert_allclose(found.scores, curve(raw)[:count], rtol=1e-5)


def test_of_boxes_that_overlap_the_better_stays(session: OnnxSession) -> None:
    found = finish([[0, 0, 20, 20, 0.5], [1, 0, 21, 20, 0.8], [15, 0, 35, 20, 0.6]], session)
    assert found.boxes_xyxy.tolist() == [[1, 0, 21, 20], [15, 0, 35, 20]]


def test_boxes_are_scaled_back_and_clipped_to_the_image(session: OnnxSession) -> None:
    rows = [[-8, 10, 20, 30, 0.9], [30, 20, 70, 60, 0.8]]
    found = finish(rows, session, scale=0.5, size=(80, 120))
    assert found.boxes_xyxy.tolist() == [[0, 20, 40, 60], [60, 40, 120, 80]]


def test_boxes_outside_the_image_and_without_area_are_dropped(session: OnnxSession) -> None:
    rows = [[50, 0, 60, 20, 0.9], [-30, 0, -10, 20, 0.9], [0, 50, 20, 60, 0.9], [5, 5, 5, 20, 0.9], [9, 9, 4, 4, 0.9], [0, 0, 9, 9, 0.4]]
    found = finish(rows, session, size=(40, 40))
    assert found.boxes_xyxy.tolist() == [[0, 0, 9, 9]]


def test_many_candidates_at_no_threshold_leave_the_best(session: OnnxSession) -> None:
    rows = np.array([[x * 3, y * 3, x * 3 + 2, y * 3 + 2, 0.0] for y in range(50) for x in range(50)])
    rows[:, 4] = np.random.default_rng(2).permutation(np.linspace(0.01, 0.99, len(rows)))
    found = finish(rows, session, min_score=0.0, most=5000, size=(200, 200))
    best = rows[np.argsort(-rows[:, 4])]
    assert len(found.scores) >= 1000
    assert found.boxes_xyxy == pytest.approx(best[: len(found.scores), :4])


def test_the_astronaut_is_found_and_the_landscape_is_empty(session: OnnxSession) -> None:
    detector = Detector(ModelStore().manifest.default("detector"), session)
    images = [Frame(astronaut()), Frame(landscape())]
    prepared = [detector.preprocess(frame) for frame in images]
    raws = detector.infer([p.pixels for p in prepared])
    person, nobody = (detector.postprocess(r, p.scale, f, 0.3, 50) for r, p, f in zip(raws, prepared, images, strict=True))
    assert overlap([30, 0, 430, 512], person.boxes_xyxy[:1]) > 0.6
    assert len(nobody.scores) == 0


def overlap(box_xyxy: list[float], others: FloatArray) -> float:
    """The best IoU of a box with any of the others; 0: there are none."""
    box = np.array(box_xyxy)
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    common = np.clip(sides, 0, None).prod(1)
    areas = (others[:, 2:] - others[:, :2]).prod(1)
    return float((common / ((box[2:] - box[:2]).prod() + areas - common)).max(initial=0))


def people_by_image() -> dict[Path, list[list[float]]]:
    """Corners of the annotated large people of each image."""
    content = json.loads((COCO_MINI_VAL / "person_keypoints.json").read_text())
    names = {image["id"]: image["file_name"] for image in content["images"]}
    people: dict[Path, list[list[float]]] = {}
    for person in content["annotations"]:
        if not person["iscrowd"] and person["area"] > 96 * 96:
            x, y, w, h = person["bbox"]
            people.setdefault(COCO_MINI_VAL / "images" / names[person["image_id"]], []).append([x, y, x + w, y + h])
    return people


def found_large_people(detector: Detector) -> tuple[int, int]:
    """How many of the annotated large people the detector finds, and how many there are."""
    hits = []
    for path, boxes in people_by_image().items():
        frame = Frame(np.asarray(cv2.imread(str(path), cv2.IMREAD_COLOR_RGB), np.uint8))
        prepared: Letterboxed = detector.preprocess(frame)
        found = detector.postprocess(detector.infer([prepared.pixels])[0], prepared.scale, frame, 0.3, 50)
        hits += [overlap(box, found.boxes_xyxy) > 0.5 for box in boxes]
    return sum(hits), len(hits)


annotated = pytest.mark.skipif(not COCO_MINI_VAL.is_dir(), reason="the annotated images are not beside this checkout")


@annotated
@pytest.mark.skipif(not YOLOX_NANO.is_file(), reason="YOLOX-Nano is not beside this checkout")
def test_a_detector_of_another_layout_needs_only_an_entry() -> None:
    content = YOLOX_NANO.read_bytes()
    entry = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content), "nms_iou": 0.65}
    spec = made_up("yolox", size=(416, 416)).model_copy(update=entry)
    found, of = found_large_people(Detector(spec, OnnxSession(content, spec.name, PLAN)))
    assert of == 35
    assert found >= 27  # 30 measured


@annotated
def test_the_shipped_detector_finds_most_large_people(session: OnnxSession) -> None:
    found, of = found_large_people(Detector(ModelStore().manifest.default("detector"), session))
    assert of == 35
    assert found >= 22  # 26 measured
