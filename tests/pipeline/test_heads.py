"""Heads of somebody else: one file each, from a manifest to the answer. This is that file, for a pose head and a detector head."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from pydantic import Field

from posewire import ModelError, PosePipeline
from posewire.config import Decoding
from posewire.pipeline.heads.base import DetectorHead, PoseHead, register_detector_head, register_pose_head
from posewire.registry.manifest import load_manifest
from posewire.registry.specs import DetectorOutput, DetectorSpec, Output, PoseSpec
from posewire.types import FloatArray

SIDE = 32  # pixels of both networks' inputs
IMAGE = np.full((320, 320, 3), 255, np.uint8)


class DiagonalOutput(Output):
    step: float = Field(gt=0)  # input pixels


@register_pose_head("diagonal", DiagonalOutput)
class DiagonalHead(PoseHead):
    """(N, K, 1): how many steps from the top left a keypoint lies on the diagonal."""

    def __init__(self, spec: PoseSpec, decoding: Decoding, *, flip_test: bool) -> None:
        assert isinstance(spec.output, DiagonalOutput)
        self._step = np.float32(spec.output.step)
        self.output_shape = (len(spec.keypoints.names), 1)

    def decode(self, raw: FloatArray) -> tuple[FloatArray, FloatArray]:
        return np.repeat(raw * self._step, 2, -1), np.full(raw.shape[:2], 0.5, np.float32)

    def merge_mirrored(self, raw: FloatArray, mirrored: FloatArray) -> FloatArray:
        return (raw + mirrored) * np.float32(0.5)


class CentreOutput(DetectorOutput):
    side: int = Field(gt=0)  # input pixels


@register_detector_head("centre", CentreOutput)
class CentreHead(DetectorHead):
    """(A, 3): a centre, 0..1 of the input, and a score; all boxes have one size."""

    one_by_one = False

    def __init__(self, spec: DetectorSpec) -> None:
        assert isinstance(spec.output, CentreOutput)
        self._size = np.array([spec.input.width, spec.input.height], np.float32)
        self._half = np.float32(spec.output.side / 2)

    def decode(self, raw: FloatArray) -> tuple[FloatArray, FloatArray]:
        centre = raw[:, :2] * self._size
        return np.concatenate([centre - self._half, centre + self._half], 1), raw[:, 2]


def affine_of_brightness(scale: FloatArray, shift: FloatArray) -> bytes:
    """A network (batch, 3, SIDE, SIDE) -> (batch, *scale.shape): the image's mean, times `scale`, plus `shift`."""
    constants: dict[str, Any] = {"scale": scale[None], "shift": shift[None], "shape": np.array([-1, 1, 1], np.int64)}
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Reshape", ["mean", "shape"], ["column"]),
        helper.make_node("Mul", ["column", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "shift"], ["out"]),
    ]
    graph = helper.make_graph(
        nodes,
        "toy",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["batch", *scale.shape])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(model.SerializeToString())


def entry(root: Path, name: str, task: str, content: bytes, rest: str) -> str:
    (root / f"{name}.onnx").write_bytes(content)
    return f"""
[[models]]
name = "{name}"
task = "{task}"
title = "Toy"
file = "{name}.onnx"
sha256 = "{hashlib.sha256(content).hexdigest()}"
bytes = {len(content)}
licence = "CC0-1.0"
card = "{name}.md"
provenance = {{ made_by = "a test", data = "none", recipe = "none" }}
input = {{ height = {SIDE}, width = {SIDE}, colour = "RGB", mean = [0, 0, 0], std = [255, 255, 255] }}
{rest}
"""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    steps = np.arange(17, dtype=np.float32)[:, None]
    row = np.array([[0, 0, 0.875]], np.float32), np.array([[0.5, 0.25, 0]], np.float32)
    text = '[defaults]\ndetector = "dot"\npose = "line"\n'
    text += entry(
        tmp_path,
        "line",
        "pose",
        affine_of_brightness(steps, np.zeros_like(steps)),
        'keypoints = "coco17"\noutput = { layout = "diagonal", step = 2 }',
    )
    text += entry(tmp_path, "dot", "detector", affine_of_brightness(*row), 'nms_iou = 0.5\noutput = { layout = "centre", side = 8 }')
    (tmp_path / "manifest.toml").write_text(text)
    return tmp_path


def test_heads_of_one_file_each_serve_an_image(store: Path) -> None:
    pipeline = PosePipeline.load(device="cpu", model_store=store)
    [person] = pipeline(IMAGE).people
    # An input pixel is 10 of the image: the box of 8 pixels has its centre at (16, 8).
    assert person.box_xywh.tolist() == [120, 40, 80, 80]
    assert person.score == pytest.approx(0.875 * 0.5)
    # The crop of 32 pixels shows 1.25 times the box: its pixel is 100 / 32 of the image, its top left is at (110, 30).
    expected = np.array([[110, 30]]) + 2 * np.arange(17)[:, None] * 100 / 32
    assert person.keypoints.xy == pytest.approx(expected, abs=0.01)


def test_many_images_go_through_both_heads_as_one_batch(store: Path) -> None:
    pipeline = PosePipeline.load(device="cpu", model_store=store)
    results = pipeline.batch([IMAGE, IMAGE // 2, IMAGE])
    assert [len(result.people) for result in results] == [1, 1, 1]
    assert results[1].people[0].score == pytest.approx(0.875 * 0.5 * 127 / 255, rel=1e-4)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("step = 2", "step = 0", r"models\[0\]\.output\.step: .*greater than 0"),
        ("step = 2", "pace = 2", r"models\[0\]\.output\.pace: unknown key"),
        ("side = 8", "side = 8, x = 1", r"models\[1\]\.output\.x: unknown key"),
        ('"diagonal"', '"vertical"', r"models\[0\]\.output\.layout: Input should be 'heatmaps', .*'keypoints'.* or 'diagonal'"),
        ('"centre"', '"diagonal"', r"models\[1\]\.output\.layout: Input should be 'boxes_scores', 'yolox'"),
        ('layout = "centre", ', "", r"models\[1\]\.output"),
    ],
)
def test_a_bad_output_is_refused_with_its_key(store: Path, old: str, new: str, says: str) -> None:
    path = store / "manifest.toml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ModelError, match=says):
        load_manifest(path)


def test_an_output_of_another_shape_than_the_head_s_is_refused(store: Path) -> None:
    path = store / "manifest.toml"
    path.write_text(path.read_text().replace('"diagonal", step = 2', '"keypoints", sigma = 2'))
    with pytest.raises(ModelError, match=r"line: by the manifest an output is \(17, 3\) \(keypoints\); the file gives \(17, 1\)"):
        PosePipeline.load(device="cpu", model_store=store)
