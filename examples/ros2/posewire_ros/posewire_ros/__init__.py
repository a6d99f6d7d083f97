"""A ROS 2 node that uses a Posewire service."""
