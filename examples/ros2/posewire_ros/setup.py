"""The package `posewire_ros`, for colcon (ament_python)."""

from setuptools import setup

NAME = "posewire_ros"

setup(
    name=NAME,
    version="0.1.0",
    packages=[NAME],
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        (f"share/{NAME}/launch", ["launch/pose.launch.py"]),
    ],
    install_requires=["setuptools", "posewire"],
    zip_safe=True,
    maintainer="The Posewire authors",
    maintainer_email="posewire@posewire.example",
    description="Sends the images of a topic to a Posewire service, and publishes the people in them.",
    license="Apache-2.0",
    entry_points={"console_scripts": [f"pose_node = {NAME}.node:main"]},
)
