"""The data types that all rooms share. This module imports numpy, and nothing of Posewire.

Coordinates are pixels of the upright image (after EXIF orientation): x to the right, y down.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final, Literal, Self, TypeAlias

import numpy as np
import numpy.typing as npt

UInt8Array: TypeAlias = npt.NDArray[np.uint8]
FloatArray: TypeAlias = npt.NDArray[np.float32]

# The input of a network: (N, 3, h, w) float32, normalised; or raw pixels, (N, h, w, 3) or (N, 3, h, w) uint8.
InputFormat: TypeAlias = Literal["float32-nchw", "uint8-nhwc", "uint8-nchw"]

# The stages of an image; "encode" is that of the answer.
Stage: TypeAlias = Literal["decode", "detect", "crop", "pose", "encode"]

# off: not enabled. connecting: not connected yet. live: frames come. waiting: the source is away and is tried again. ended: a file is
# at its end. failed: it is not tried again before it is changed.
CameraState: TypeAlias = Literal["off", "connecting", "live", "waiting", "ended", "failed"]


# A keypoint with a lower score is a guess of the network. It is not drawn by default, it does not count in its person's score, and the
# tracker compares and follows without it. COCO's evaluation of the original Lite-HRNet leaves it out of the person's score, too.
SEEN_SCORE: Final = 0.2


class Priority(IntEnum):
    """The priority of an image: lower values run first, but a share is reserved for `BULK`."""

    STREAM = 0  # frames of live streams: late results have little value
    BULK = 1  # everything else


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One decoded image, upright."""

    pixels: UInt8Array  # (H, W, 3) uint8, RGB

    @property
    def width(self) -> int:
        """Pixels."""
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        """Pixels."""
        return int(self.pixels.shape[0])


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """The people that a detector found, best first."""

    boxes_xyxy: FloatArray  # (N, 4) float32, x0 y0 x1 y1, pixels of the upright image
    scores: FloatArray  # (N,) float32, 0..1


@dataclass(frozen=True, slots=True, eq=False)
class Crop:
    """The crop of one person, as the input of the pose model."""

    pixels: UInt8Array  # (h, w, 3) uint8, RGB, at the pose model's input size
    to_image: FloatArray  # (2, 3) float32, affine: crop pixels -> pixels of the upright image


@dataclass(frozen=True, slots=True, eq=False)
class Keypoints:
    """The keypoints of one person."""

    xy: FloatArray  # (K, 2) float32; the function that returns them names the coordinate frame
    scores: FloatArray  # (K,) float32, 0..1


@dataclass(frozen=True, slots=True, eq=False)
class Pose:
    """One person of an image."""

    box_xywh: FloatArray  # (4,) float32, x y w h, pixels of the upright image
    score: float  # 0..1: the box's score times the mean of the keypoint scores above 0.2, as COCO's evaluation of top-down networks does
    keypoints: Keypoints  # pixels of the upright image
    track_id: int | None = None  # in a video, the same person has the same number in each frame; None: not tracked

    def __reduce__(self) -> tuple[Callable[..., "Pose"], tuple[bytes, float, int | None]]:
        """Pickle the arrays as one, which is faster than three."""
        values = np.concatenate([self.box_xywh, self.keypoints.xy.ravel(), self.keypoints.scores], dtype=np.float32)
        return _pose_of, (values.tobytes(), self.score, self.track_id)


def _pose_of(data: bytes, score: float, track_id: int | None) -> Pose:
    values = np.frombuffer(bytearray(data), np.float32)
    scores_at = 4 + 2 * (len(values) - 4) // 3
    return Pose(values[:4], score, Keypoints(values[4:scores_at].reshape(-1, 2), values[scores_at:]), track_id)


@dataclass(frozen=True, slots=True)
class Timings:
    """The time of each stage of one image, in seconds."""

    decode: float = 0.0
    queue: float = 0.0  # in the queues of the detector and the pose model together
    detect: float = 0.0
    crop: float = 0.0
    pose: float = 0.0
    total: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class PoseResult:
    """Everyone in one image, best first."""

    width: int  # pixels
    height: int  # pixels
    people: tuple[Pose, ...]
    timings: Timings = field(default_factory=Timings)


@dataclass(frozen=True, slots=True, eq=False)
class PoseOptions:
    """The caller's options for one image."""

    min_detection_score: float  # 0..1
    max_people: int
    boxes_xywh: FloatArray | None = None  # (N, 4) float32, pixels of the upright image; None: the detector finds them

    def __reduce__(self) -> tuple[type[Self], tuple[float, int, FloatArray | None]]:
        """Pickle by the constructor, which is faster than the default of dataclasses."""
        return type(self), (self.min_detection_score, self.max_people, self.boxes_xywh)
