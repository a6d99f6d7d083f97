"""The node: images of a topic go to a Posewire service, and people come back as messages."""

import os
import sys
from array import array
from typing import Any, Final

import rclpy
from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Point, Pose, PoseWithCovariance, Quaternion
from rclpy.executors import ExternalShutdownException
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CompressedImage, Image, PointCloud2, PointField
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import ImageMarker

from posewire_ros.conversion import Identities, Messages, detections, keypoints, skeletons
from posewire_ros.images import UnusableImage, as_sent, to_jpeg
from posewire_ros.stream import Answer, ServiceStream

# A parameter can be read by every node of the robot; the environment of a process cannot.
_KEY_VARIABLE: Final = "POSEWIRE_API_KEY"

_QUEUE: Final = 5  # messages that wait for a slow subscriber
_NOTE_EVERY_S: Final = 10.0  # the same note in the log

_PARAMETERS: Final[dict[str, object]] = {
    "url": "http://127.0.0.1:8000",
    "image_topic": "/camera/image_raw/compressed",
    "compressed": True,
    "detections": True,
    "max_people": 0,  # 0: the service's limit
    "min_keypoint_score": 0.3,
}


class PoseNode:
    """Publishes the people of each image that the service answers. `close` it in any case.

    Args:
        node: of rclpy, with no parameters yet.

    Raises:
        ModuleNotFoundError: `detections` is true, and vision_msgs is not installed.
    """

    def __init__(self, node: Any) -> None:
        self._node = node
        self._log = node.get_logger()
        chosen = {name: node.declare_parameter(name, value).value for name, value in _PARAMETERS.items()}
        self._compressed = bool(chosen["compressed"])
        self._messages = _messages(boxes=bool(chosen["detections"]))
        self._identities = Identities()
        self.failed = False
        self._detections = self._publisher("vision_msgs/msg/Detection2DArray", "detections") if chosen["detections"] else None
        self._keypoints = self._publisher("sensor_msgs/msg/PointCloud2", "keypoints")
        self._skeletons = self._publisher("visualization_msgs/msg/ImageMarker", "skeletons")
        options = {"max_people": chosen["max_people"] or None, "min_keypoint_score": chosen["min_keypoint_score"]}
        self._stream = ServiceStream(
            chosen["url"],
            os.environ.get(_KEY_VARIABLE),
            options,
            on_answer=self._publish,
            on_note=lambda text: self._log.warning(text, throttle_duration_sec=_NOTE_EVERY_S),
            on_failure=self._fail,
        )
        kind = CompressedImage if self._compressed else Image
        node.create_subscription(kind, chosen["image_topic"], self._take, qos_profile_sensor_data)

    def close(self) -> None:
        """End the stream; nothing is published any more."""
        self._stream.close()

    def _publisher(self, kind: str, topic: str) -> Any:
        return self._node.create_publisher(self._messages.types[kind], f"~/{topic}", _QUEUE)

    def _take(self, message: Any) -> None:
        data = memoryview(message.data)
        try:
            if self._compressed:
                image = as_sent(data.tobytes())
            else:
                image = to_jpeg(message.encoding, message.width, message.height, message.step, data)
        except UnusableImage as error:
            self._log.error(str(error), throttle_duration_sec=_NOTE_EVERY_S)
            return
        self._stream.offer(image, message.header)

    def _publish(self, answer: Answer) -> None:
        people, header, messages = answer.result.people, answer.header, self._messages
        numbers = [self._identities.number(answer.connection, person.track_id or 0) for person in people]
        if self._detections is not None:
            self._detections.publish(detections(messages, header, people, numbers))
        self._keypoints.publish(keypoints(messages, header, people, numbers, answer.names))
        self._skeletons.publish(skeletons(messages, header, people, answer.names, answer.limbs))

    def _fail(self, reason: str) -> None:
        self._log.fatal(reason)
        self.failed = True
        rclpy.try_shutdown()


def _messages(*, boxes: bool) -> Messages:
    """Return the messages of this ROS installation; vision_msgs is needed for boxes alone."""
    types: dict[str, Any] = {
        "builtin_interfaces/msg/Duration": Duration,
        "geometry_msgs/msg/Point": Point,
        "geometry_msgs/msg/Pose": Pose,
        "geometry_msgs/msg/PoseWithCovariance": PoseWithCovariance,
        "geometry_msgs/msg/Quaternion": Quaternion,
        "sensor_msgs/msg/PointCloud2": PointCloud2,
        "sensor_msgs/msg/PointField": PointField,
        "std_msgs/msg/ColorRGBA": ColorRGBA,
        "visualization_msgs/msg/ImageMarker": ImageMarker,
    }
    if boxes:
        import vision_msgs.msg  # noqa: PLC0415 - not in every installation

        names = ("BoundingBox2D", "Detection2D", "Detection2DArray", "ObjectHypothesis", "ObjectHypothesisWithPose", "Point2D", "Pose2D")
        types |= {f"vision_msgs/msg/{name}": getattr(vision_msgs.msg, name) for name in names}
    return Messages(types, lambda data: array("B", data))


def main(args: list[str] | None = None) -> int:
    """Run the node until Ctrl-C, SIGTERM or a failure that stays; return the exit code."""
    rclpy.init(args=args)
    node = rclpy.create_node("posewire")
    try:
        pose = PoseNode(node)
    except ModuleNotFoundError as error:
        node.get_logger().fatal(f"{error}: install ros-$ROS_DISTRO-vision-msgs, or set the parameter detections to false")
        rclpy.try_shutdown()
        return 1
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        pose.close()
        rclpy.try_shutdown()
    return int(pose.failed)


if __name__ == "__main__":
    sys.exit(main())
