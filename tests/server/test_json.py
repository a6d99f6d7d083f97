"""The JSON of an answer."""

import numpy as np

from posewire.schemas.pose import ImageOut
from posewire.types import Keypoints, Pose, PoseResult

NAMES = ("nose", "left_eye", "right_eye", "left_ear", "right_ear")


def test_a_keypoint_counts_by_its_score_before_rounding() -> None:
    scores = np.array([0.49999, 0.5, 0.50001, 0, 1], np.float32)
    pose = Pose(np.zeros(4, np.float32), 0.5, Keypoints(np.zeros((5, 2), np.float32), scores))
    [found] = ImageOut.from_result(PoseResult(1, 1, (pose,)), NAMES, 0.5).people
    assert [(keypoint.name, keypoint.score) for keypoint in found.keypoints] == [("left_eye", 0.5), ("right_eye", 0.5), ("right_ear", 1)]


def test_numbers_are_short_and_rounded_as_doubles() -> None:
    xy = np.array([[0.0625, -0.1875], [70.1, 1234.5678], [0, 0], [5, 5], [1e-5, 1]], np.float32)
    pose = Pose(np.array([70.1, 5.25, 300.3333, 500], np.float32), 0.123456, Keypoints(xy, np.full(5, 0.7, np.float32)))
    written = ImageOut.from_result(PoseResult(9, 7, (pose,)), NAMES, 0.0).model_dump_json()
    assert '"box":[70.1,5.25,300.333,500.0],"score":0.1235' in written
    assert '{"name":"nose","x":0.062,"y":-0.188,"score":0.7},{"name":"left_eye","x":70.1,"y":1234.568,"score":0.7}' in written
