"""The usual answer, written as text, beside what the schemas make of the same people."""

import json

import numpy as np
import pytest

from posewire.schemas.pose import ImageOut, ModelNames, PoseResponse
from posewire.server.answers import pose_response
from posewire.types import Keypoints, Pose, PoseResult, Timings

NAMES = ("nose", 'a "quoted" one', "100 %s", "%d", "naïve")


def person(rng: np.random.Generator) -> Pose:
    xy = rng.normal(0, 3000, (len(NAMES), 2)).astype(np.float32)
    xy[0] = [0.0625, -0.1875]  # halfway between two thousandths
    return Pose(rng.uniform(-1, 5000, 4).astype(np.float32), rng.random(), Keypoints(xy, rng.random(len(NAMES)).astype(np.float32)))


@pytest.mark.parametrize("min_keypoint_score", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("people", [0, 1, 3])
def test_it_is_what_the_schemas_make(people: int, min_keypoint_score: float) -> None:
    rng = np.random.default_rng(people)
    for _ in range(50):
        results = [
            PoseResult(int(rng.integers(1, 9000)), 7, tuple(person(rng) for _ in range(people)), Timings(*rng.exponential(0.01, 6)))
            for _ in range(2)
        ]
        written = pose_response('a"b', "some-detector", "some%pose", results, NAMES, min_keypoint_score)
        pictures = [ImageOut.from_result(result, NAMES, min_keypoint_score) for result in results]
        expected = PoseResponse(request_id='a"b', model=ModelNames(detector="some-detector", pose="some%pose"), images=pictures)
        assert json.loads(written) == json.loads(expected.model_dump_json())


def test_a_keypoint_counts_by_its_score_before_rounding() -> None:
    scores = np.array([0.49999, 0.5, 0.50001, 0, 1], np.float32)
    pose = Pose(np.zeros(4, np.float32), 0.5, Keypoints(np.zeros((5, 2), np.float32), scores))
    written = pose_response("", "d", "p", [PoseResult(1, 1, (pose,))], NAMES, 0.5)
    [found] = json.loads(written)["images"][0]["people"]
    assert [keypoint["score"] for keypoint in found["keypoints"]] == [0.5, 0.5, 1]
