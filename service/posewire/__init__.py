"""Posewire: real-time human pose estimation as a service, with Lite-HRNet on ONNX Runtime."""

from importlib.metadata import version

__version__ = version("posewire")
