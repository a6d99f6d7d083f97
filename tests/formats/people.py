"""Made people, so that every coordinate is known."""

import numpy as np

from posewire.formats.base import FormatOptions, ImagePoses
from posewire.formats.result import NamedPoseResult
from posewire.registry.keypoint_sets import KEYPOINT_SETS, KeypointSet
from posewire.types import Keypoints, Pose, PoseResult, Timings

COCO = KEYPOINT_SETS["coco-17"]
MPII = KEYPOINT_SETS["mpii-16"]
WIDTH, HEIGHT = 200, 100


def person(x: float = 50.0, *, keypoints: KeypointSet = COCO, score: float = 0.8, track_id: int | None = None) -> Pose:
    """A person whose keypoint i is at (x + i, 10 + 2 i) with the score 0.5 + i / 100, and whose box is (x - 5, 5, 40, 60)."""
    i = np.arange(len(keypoints.names))
    xy = np.stack([x + i, 10 + 2 * i], -1).astype(np.float32)
    return Pose(np.asarray([x - 5, 5, 40, 60], np.float32), score, Keypoints(xy, (0.5 + i / 100).astype(np.float32)), track_id)


def result(*people: Pose) -> PoseResult:
    return PoseResult(WIDTH, HEIGHT, people, Timings(total=0.02))


def named(*people: Pose, keypoints: KeypointSet = COCO) -> NamedPoseResult:
    return NamedPoseResult.of(result(*people), keypoints, "a-model")


def options(keypoints: KeypointSet = COCO, min_keypoint_score: float = 0.0, *, normalized: bool = False) -> FormatOptions:
    return FormatOptions(keypoints, "a-model", min_keypoint_score, normalized)


def image(*people: Pose, name: int | str = "a.jpg") -> ImagePoses:
    return ImagePoses(name, result(*people))
