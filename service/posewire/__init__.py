"""Posewire: real-time human pose estimation, as a service and as a library."""

from importlib.metadata import version

__version__ = version("posewire")
