"""A node that plays a camera and a reader; run by test_node.py in an environment with ROS 2.

    python peer.py IMAGE raw|compressed

It sends the image again and again, until the node `posewire` has answered on both topics, and prints what came as JSON.
"""

import json
import sys
import time
from array import array
from pathlib import Path
from typing import Any

import cv2
import rclpy
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CompressedImage, Image, PointCloud2
from visualization_msgs.msg import ImageMarker

WITHIN_S = 120


def image_of(path: Path, kind: str, number: int) -> Any:
    if kind == "compressed":
        message = CompressedImage(format="jpeg", data=array("B", path.read_bytes()))
    else:
        read = cv2.imread(str(path), cv2.IMREAD_COLOR)
        assert read is not None
        pixels = cv2.cvtColor(read, cv2.COLOR_BGR2RGB)
        height, width, channels = pixels.shape
        data = array("B", pixels.tobytes())
        message = Image(encoding="rgb8", width=width, height=height, step=width * channels, data=data)
    message.header.frame_id = "camera_optical"
    message.header.stamp.sec, message.header.stamp.nanosec = number, 5
    return message


def main() -> None:
    path, kind = Path(sys.argv[1]), sys.argv[2]
    rclpy.init()
    node = rclpy.create_node("peer")
    got: dict[str, Any] = {}
    node.create_subscription(PointCloud2, "/posewire/keypoints", lambda message: got.setdefault("keypoints", message), 5)
    node.create_subscription(ImageMarker, "/posewire/skeletons", lambda message: got.setdefault("skeletons", message), 5)
    publisher = node.create_publisher(type(image_of(path, kind, 0)), "/images", qos_profile_sensor_data)
    number, end = 0, time.monotonic() + WITHIN_S
    while len(got) < 2 and time.monotonic() < end:
        number += 1
        publisher.publish(image_of(path, kind, number))
        rclpy.spin_once(node, timeout_sec=0.2)
    stamps = {name: message.header.stamp for name, message in got.items()}
    told: dict[str, Any] = {"sent": number, "headers": {n: [s.sec, s.nanosec, got[n].header.frame_id] for n, s in stamps.items()}}
    if len(got) == 2:
        told |= {"height": got["keypoints"].height, "width": got["keypoints"].width, "points": len(got["skeletons"].points)}
    sys.stdout.write(json.dumps(told))
    node.destroy_node()
    rclpy.try_shutdown()


if __name__ == "__main__":
    main()
