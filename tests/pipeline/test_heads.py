"""Heads of somebody else: one file each, from a manifest to the answer. This is that file, for a pose head and a detector head."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import Field

from posewire import ModelError, PosePipeline
from posewire.config import Decoding, load_settings
from posewire.pipeline.heads.base import DetectorHead, PoseHead, register_detector_head, register_pose_head
from posewire.registry.manifest import load_manifest
from posewire.registry.specs import DetectorOutput, DetectorSpec, Output, PoseSpec
from posewire.registry.store import ModelStore
from posewire.tools.adding.adding import Added, Place, add
from posewire.tools.adding.layouts.base import Layout, Probe, Told, register_recogniser
from posewire.tools.adding.recognising import Given
from posewire.tools.adding.trial import SAMPLE
from posewire.types import FloatArray
from tests.pipeline.made_networks import brightness_network, constant_network, entry, write_store

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


@register_recogniser
def diagonal(probe: Probe) -> list[Layout]:
    """Such a file, and one of heatmaps, which has another layout too."""
    match list(probe.shapes().items()):
        case [("steps", (count, 1))]:
            step = {"step": Told(2.0, "a guess")}
            return [Layout("pose", "diagonal", "output steps: (K, 1)", told=step, keypoints=count)]
        case [("maps", (count, _, _))]:
            return [Layout("pose", "diagonal", "output maps", asked={"person_class": "a reason"}, sign="a test", keypoints=count)]
    return []


STEPS = np.arange(17, dtype=np.float32)[:, None]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    row = np.array([[0, 0, 0.875]], np.float32), np.array([[0.5, 0.25, 0]], np.float32)
    line, dot = brightness_network(SIDE, STEPS, np.zeros_like(STEPS)), brightness_network(SIDE, *row)
    return write_store(
        tmp_path,
        entry(tmp_path, "line", line, SIDE, SIDE, task="pose", keypoints="coco-17", output={"layout": "diagonal", "step": 2}),
        entry(tmp_path, "dot", dot, SIDE, SIDE, task="detector", nms_iou=0.5, output={"layout": "centre", "side": 8}),
        defaults={"detector": "dot", "pose": "line"},
    )


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
        ("side = 8", "side = 8\nx = 1", r"models\[1\]\.output\.x: unknown key"),
        ('"diagonal"', '"vertical"', r"models\[0\]\.output\.layout: Input should be 'diagonal', 'heatmaps', .*'keypoints' or 'simcc'"),
        ('"centre"', '"diagonal"', r"models\[1\]\.output\.layout: Input should be 'boxes_scores', 'centre', .* or 'yolox'"),
        ('layout = "centre"\n', "", r"models\[1\]\.output"),
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
    path.write_text(path.read_text().replace('"diagonal"\nstep = 2', '"keypoints"\nsigma = 2'))
    with pytest.raises(ModelError, match=r"line: by the manifest an output is \(17, 3\) \(keypoints\); the file gives \(17, 1\)"):
        PosePipeline.load(device="cpu", model_store=store)


def added(root: Path, content: bytes, **said: Any) -> Added:
    (root / "file.onnx").write_bytes(content)
    place, settings = Place("mine", root / "models", replace=False, licence=None), load_settings({}, device="cpu", cache_dir=root)
    given = Given(colour="RGB", mean=(0, 0, 0), std=(255, 255, 255), **said)
    return add(root / "file.onnx", given, place, ModelStore(installed=place.root), settings, SAMPLE, root / "drawn.jpg")


def test_a_file_of_such_a_head_is_recognised_and_added(tmp_path: Path) -> None:
    found = added(tmp_path, brightness_network(SIDE, STEPS, np.zeros_like(STEPS), "steps"))
    assert found.spec is not None
    assert found.spec.output.model_dump(exclude_none=True) == {"layout": "diagonal", "outputs": (), "step": 2.0}
    assert ("step", "2", "a guess") in {(fact.what, fact.value, fact.how) for fact in found.recognised.facts}


def test_another_head_for_the_shapes_of_heatmaps_is_asked_for_beside_those_that_ship(tmp_path: Path) -> None:
    maps = constant_network(SIDE, SIDE, {"maps": np.zeros((17, 8, 8), np.float32)})
    missing = added(tmp_path, maps).recognised.missing
    assert sorted(missing) == ["--layout", "--person-class", "--sigma"]
    assert "diagonal (a test)" in missing["--layout"]
    assert all(f"{name} (trained with" in missing["--layout"] for name in ("heatmaps", "heatmaps-udp"))
    assert missing["--sigma"].startswith("for heatmaps and heatmaps-udp: heatmap pixels")
    assert missing["--person-class"] == "for diagonal: a reason"
    assert sorted(added(tmp_path, maps, layout="heatmaps").recognised.missing) == ["--sigma"]
