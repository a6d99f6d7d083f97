"""The messages of the ROS 2 example as bytes: written in CDR by rosbags by the definitions of ROS, and read back."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from posewire.registry.keypoint_sets import KEYPOINT_SETS
from posewire.schemas.stream import TrackedPerson
from posewire_ros.conversion import POINT, Identities, Messages, detections, keypoints, skeletons

# The fields of vision_msgs 4.1, which ROS distributes apart from its common messages.
VISION = {
    "Point2D": "float64 x\nfloat64 y",
    "Pose2D": "vision_msgs/Point2D position\nfloat64 theta",
    "BoundingBox2D": "vision_msgs/Pose2D center\nfloat64 size_x\nfloat64 size_y",
    "ObjectHypothesis": "string class_id\nfloat64 score",
    "ObjectHypothesisWithPose": "vision_msgs/ObjectHypothesis hypothesis\ngeometry_msgs/PoseWithCovariance pose",
    "Detection2D": "std_msgs/Header header\nvision_msgs/ObjectHypothesisWithPose[] results\nvision_msgs/BoundingBox2D bbox\nstring id",
    "Detection2DArray": "std_msgs/Header header\nvision_msgs/Detection2D[] detections",
}

NAMES = KEYPOINT_SETS["coco-17"].names
LIMBS = KEYPOINT_SETS["coco-17"].skeleton


def typestore() -> Any:
    store = get_typestore(Stores.ROS2_KILTED)
    for name, text in VISION.items():
        store.register(get_types_from_msg(text, f"vision_msgs/msg/{name}"))
    return store


STORE = typestore()
MESSAGES = Messages(STORE.types, lambda data: np.frombuffer(data, np.uint8))
STAMP = MESSAGES.make("builtin_interfaces/msg/Time", sec=1_796_000_000, nanosec=999_999_999)
HEADER = MESSAGES.make("std_msgs/msg/Header", stamp=STAMP, frame_id="camera_optical")


def person(x: float, seen: int = 17) -> TrackedPerson:
    found = [{"name": name, "x": x + i, "y": 2.5 * i, "score": 0.5} for i, name in enumerate(NAMES[:seen])]
    return TrackedPerson.model_validate({"box": [x, 20, 100, 201], "score": 0.75, "keypoints": found, "track_id": 3})


PEOPLE = (person(10), person(200.25, seen=5))

MAKERS: dict[str, Callable[[tuple[TrackedPerson, ...]], Any]] = {
    "vision_msgs/msg/Detection2DArray": lambda people: detections(MESSAGES, HEADER, people, range(7, 7 + len(people))),
    "sensor_msgs/msg/PointCloud2": lambda people: keypoints(MESSAGES, HEADER, people, range(7, 7 + len(people)), NAMES),
    "visualization_msgs/msg/ImageMarker": lambda people: skeletons(MESSAGES, HEADER, people, NAMES, LIMBS),
}


def through_cdr(name: str, people: tuple[TrackedPerson, ...]) -> Any:
    return STORE.deserialize_cdr(STORE.serialize_cdr(MAKERS[name](people), name), name)


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("people", [(), PEOPLE], ids=["nobody", "two people"])
def test_every_message_is_one_of_its_definition_and_has_the_header_of_the_image(name: str, people: tuple[TrackedPerson, ...]) -> None:
    message = through_cdr(name, people)
    assert (message.header.stamp.sec, message.header.stamp.nanosec, message.header.frame_id) == (
        1_796_000_000,
        999_999_999,
        "camera_optical",
    )


def test_boxes_have_their_middle_size_score_and_number() -> None:
    message = through_cdr("vision_msgs/msg/Detection2DArray", PEOPLE)
    assert [found.id for found in message.detections] == ["7", "8"]
    first = message.detections[0]
    assert (first.bbox.center.position.x, first.bbox.center.position.y) == (60, 120.5)
    assert (first.bbox.size_x, first.bbox.size_y) == (100, 201)
    [result] = first.results
    assert (result.hypothesis.class_id, result.hypothesis.score) == ("person", 0.75)
    assert first.header == message.header


def test_keypoints_are_a_row_a_person_and_those_left_out_are_nan() -> None:
    message = through_cdr("sensor_msgs/msg/PointCloud2", PEOPLE)
    assert (message.height, message.width) == (2, 17)
    assert len(message.data) == message.row_step * message.height == message.point_step * 34
    assert {field.name: field.offset for field in message.fields} == {name: POINT.fields[name][1] for name in POINT.names or ()}  # type: ignore[index]
    points = message.data.view(POINT).reshape(2, 17)
    assert points["track_id"].tolist() == [[7] * 17, [8] * 17]
    assert points["x"][0].tolist() == [10 + i for i in range(17)]
    assert points["y"][1, :5].tolist() == [2.5 * i for i in range(5)]
    assert points["score"][1].tolist() == [0.5] * 5 + [0] * 12
    assert all(math.isnan(x) for x in points["x"][1, 5:])


def test_skeletons_have_the_limbs_whose_ends_are_seen() -> None:
    message = through_cdr("visualization_msgs/msg/ImageMarker", PEOPLE)
    seen = [pair for pair in LIMBS if max(pair) < 5]
    assert len(message.points) == len(message.outline_colors) == 2 * (len(LIMBS) + len(seen))
    start, end = LIMBS[0]
    assert [(point.x, point.y) for point in message.points[:2]] == [(10 + start, 2.5 * start), (10 + end, 2.5 * end)]
    assert through_cdr("visualization_msgs/msg/ImageMarker", ()).points == []


def test_people_of_another_connection_have_other_numbers() -> None:
    identities = Identities()
    first = [identities.number(0, track_id) for track_id in (1, 2, 1)]
    second = [identities.number(1, track_id) for track_id in (1, 5)]
    assert first == [1, 2, 1]
    assert second == [3, 4]
