"""The people of a frame as messages of ROS. Nothing here needs ROS: the classes of the messages are given.

So the same code makes messages of rclpy and of every other implementation with the fields of the definitions.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from posewire.schemas.stream import TrackedPerson

# One point of the cloud of keypoints: 20 bytes.
POINT: Final = np.dtype([("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("score", "<f4"), ("track_id", "<i4")])

_DATATYPES: Final = {"<f4": 7, "<i4": 5}  # sensor_msgs/PointField: FLOAT32, INT32
_LINE_LIST: Final = 2  # visualization_msgs/ImageMarker
_LINE_WIDTH: Final = 2.0  # pixels
_GREEN: Final = {"r": 0.1, "g": 0.9, "b": 0.2, "a": 1.0}


@dataclass(frozen=True, slots=True)
class Messages:
    """An implementation of messages."""

    types: Mapping[str, Callable[..., Any]]  # by names such as std_msgs/msg/Header; each takes its fields by keyword
    octets: Callable[[bytes], Any]  # makes the value of a field uint8[]

    def make(self, name: str, /, **fields: object) -> Any:
        """Return a message; `name` is of a type, such as std_msgs/msg/Header."""
        return self.types[name](**fields)


@dataclass(slots=True)
class Identities:
    """Numbers of people that stay different when the service begins its `track_id` anew, as it does with each connection."""

    _connection: int = -1
    _numbers: dict[int, int] = field(default_factory=dict)
    _next: int = 1

    def number(self, connection: int, track_id: int) -> int:
        """Return the number of a person, from 1.

        Args:
            connection: any number that changes with each connection.
            track_id: of the service.
        """
        if connection != self._connection:
            self._connection, self._numbers = connection, {}
        if track_id not in self._numbers:
            self._numbers[track_id], self._next = self._next, self._next + 1
        return self._numbers[track_id]


def detections(messages: Messages, header: object, people: Sequence[TrackedPerson], numbers: Sequence[int]) -> Any:
    """Return `vision_msgs/Detection2DArray`: boxes in pixels of the image, and `id` with the person's number.

    Args:
        messages: an implementation.
        header: of the image: its stamp and its frame_id.
        people: of the frame.
        numbers: one a person.
    """
    make = messages.make
    found = []
    for person, number in zip(people, numbers, strict=True):
        x, y, width, height = person.box
        point = make("vision_msgs/msg/Point2D", x=float(x + width / 2), y=float(y + height / 2))
        centre = make("vision_msgs/msg/Pose2D", position=point, theta=0.0)
        # There is no pose of six dimensions in an image: it stays at its default, with a covariance of zero.
        pose = make(
            "geometry_msgs/msg/Pose",
            position=make("geometry_msgs/msg/Point", x=0.0, y=0.0, z=0.0),
            orientation=make("geometry_msgs/msg/Quaternion", x=0.0, y=0.0, z=0.0, w=1.0),
        )
        hypothesis = make(
            "vision_msgs/msg/ObjectHypothesisWithPose",
            hypothesis=make("vision_msgs/msg/ObjectHypothesis", class_id="person", score=float(person.score)),
            pose=make("geometry_msgs/msg/PoseWithCovariance", pose=pose, covariance=np.zeros(36)),
        )
        box = make("vision_msgs/msg/BoundingBox2D", center=centre, size_x=float(width), size_y=float(height))
        found.append(make("vision_msgs/msg/Detection2D", header=header, results=[hypothesis], bbox=box, id=str(number)))
    return make("vision_msgs/msg/Detection2DArray", header=header, detections=found)


def keypoints(messages: Messages, header: object, people: Sequence[TrackedPerson], numbers: Sequence[int], names: Sequence[str]) -> Any:
    """Return `sensor_msgs/PointCloud2` with a row for each person and a column for each keypoint.

    Its fields are x and y (pixels of the image, x to the right, y down), z (0), score (0..1) and track_id. A keypoint that is left out has
    x and y NaN and score 0.

    Args:
        messages: an implementation.
        header: of the image.
        people: of the frame.
        numbers: one a person.
        names: of the keypoints, which gives the columns.
    """
    points = np.zeros((len(people), len(names)), POINT)
    points["x"] = points["y"] = np.nan
    for row, (person, number) in enumerate(zip(people, numbers, strict=True)):
        points["track_id"][row] = number
        for keypoint in person.keypoints:
            column = names.index(keypoint.name)
            points[row, column] = (keypoint.x, keypoint.y, 0.0, keypoint.score, number)
    fields = [
        messages.make("sensor_msgs/msg/PointField", name=name, offset=4 * i, datatype=_DATATYPES[POINT[name].str], count=1)
        for i, name in enumerate(POINT.names or ())
    ]
    return messages.make(
        "sensor_msgs/msg/PointCloud2",
        header=header,
        height=len(people),
        width=len(names),
        fields=fields,
        is_bigendian=False,
        point_step=POINT.itemsize,
        row_step=POINT.itemsize * len(names),
        data=messages.octets(points.tobytes()),
        is_dense=False,
    )


def skeletons(
    messages: Messages, header: object, people: Sequence[TrackedPerson], names: Sequence[str], limbs: Sequence[tuple[int, int]]
) -> Any:
    """Return `visualization_msgs/ImageMarker`: the limbs of everyone as one list of lines, in pixels of the image.

    Args:
        messages: an implementation.
        header: of the image.
        people: of the frame; nobody: the lines before are removed, for the list is empty.
        names: of the keypoints.
        limbs: pairs of indices into `names`.
    """
    make = messages.make
    points = []
    for person in people:
        at = {names.index(keypoint.name): keypoint for keypoint in person.keypoints}
        for pair in limbs:
            if all(end in at for end in pair):
                points += [make("geometry_msgs/msg/Point", x=float(at[end].x), y=float(at[end].y), z=0.0) for end in pair]
    colour = make("std_msgs/msg/ColorRGBA", **_GREEN)
    return make(
        "visualization_msgs/msg/ImageMarker",
        header=header,
        ns="posewire",
        id=0,
        type=_LINE_LIST,
        action=0,
        position=make("geometry_msgs/msg/Point", x=0.0, y=0.0, z=0.0),
        scale=_LINE_WIDTH,
        outline_color=colour,
        filled=0,
        fill_color=colour,
        lifetime=make("builtin_interfaces/msg/Duration", sec=0, nanosec=0),
        points=points,
        outline_colors=[colour for _ in points],
    )
