"""Posewire: real-time human pose estimation, as a service and as a library.

    from posewire import PosePipeline

    pipeline = PosePipeline.load()
    result = pipeline("photo.jpg")

Names are imported at their first use, so that `import posewire` takes no time.
"""

import os
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from posewire.client import AsyncPoseClient as AsyncPoseClient
    from posewire.client import PoseClient as PoseClient
    from posewire.errors import BadParameter as BadParameter
    from posewire.errors import BadPicture as BadPicture
    from posewire.errors import ConfigError as ConfigError
    from posewire.errors import DeviceError as DeviceError
    from posewire.errors import InferenceFailed as InferenceFailed
    from posewire.errors import ModelError as ModelError
    from posewire.errors import PosewireError as PosewireError
    from posewire.errors import ServiceError as ServiceError
    from posewire.errors import TooLarge as TooLarge
    from posewire.formats.result import NamedPoseResult as NamedPoseResult
    from posewire.pipeline.pose_pipeline import PosePipeline as PosePipeline
    from posewire.pipeline.pose_tracker import PoseTracker as PoseTracker
    from posewire.types import Keypoints as Keypoints
    from posewire.types import Pose as Pose
    from posewire.types import PoseResult as PoseResult
    from posewire.types import Timings as Timings

# ONNX Runtime reads this at its import. Without it, it reports its use to its maker, and keeps an identifier of the machine in ~/.cache.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

__version__ = version("posewire")

_MODULES = {
    "posewire.client": ("AsyncPoseClient", "PoseClient"),
    "posewire.errors": (
        *("BadParameter", "BadPicture", "ConfigError", "DeviceError", "InferenceFailed", "ModelError", "PosewireError"),
        *("ServiceError", "TooLarge"),
    ),
    "posewire.formats.result": ("NamedPoseResult",),
    "posewire.pipeline.pose_pipeline": ("PosePipeline",),
    "posewire.pipeline.pose_tracker": ("PoseTracker",),
    "posewire.types": ("Keypoints", "Pose", "PoseResult", "Timings"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULE_OF])
