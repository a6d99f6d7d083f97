"""Start the node: `ros2 launch posewire_ros pose.launch.py image_topic:=/camera/image_raw/compressed`."""

from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from launch import LaunchDescription

ARGUMENTS = {
    "url": ("http://127.0.0.1:8000", str, "Address of the Posewire service."),
    "image_topic": ("/camera/image_raw/compressed", str, "Topic of the images."),
    "compressed": ("true", bool, "The topic has sensor_msgs/CompressedImage; false: sensor_msgs/Image."),
    "detections": ("true", bool, "Publish boxes; needs vision_msgs."),
}


def generate_launch_description() -> LaunchDescription:
    """Return the node with its arguments."""
    return LaunchDescription(
        [
            *(DeclareLaunchArgument(name, default_value=value, description=text) for name, (value, _, text) in ARGUMENTS.items()),
            Node(
                package="posewire_ros",
                executable="pose_node",
                name="posewire",
                output="screen",
                parameters=[{name: ParameterValue(LaunchConfiguration(name), value_type=kind) for name, (_, kind, _) in ARGUMENTS.items()}],
                respawn=True,
                respawn_delay=5.0,
            ),
        ]
    )
