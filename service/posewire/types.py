"""The nouns that travel through Posewire. This module imports numpy and nothing of ours.

Coordinates are pixels of the upright picture (after EXIF orientation): x to the right, y down.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Literal, Self, TypeAlias

import numpy as np
import numpy.typing as npt

UInt8Array: TypeAlias = npt.NDArray[np.uint8]
FloatArray: TypeAlias = npt.NDArray[np.float32]

# How a network takes a batch of pictures: (N, 3, h, w) float32, normalised; or pixels as they are, (N, h, w, 3) or (N, 3, h, w).
InputFormat: TypeAlias = Literal["float32-nchw", "uint8-nhwc", "uint8-nchw"]

# The stages of an image; "encode" is that of the answer.
Stage: TypeAlias = Literal["decode", "detect", "crop", "pose", "encode"]


class Priority(IntEnum):
    """The class of a picture's work: the lesser goes first, but bulk keeps a share of its own."""

    STREAM = 0  # frames of live streams: worth little when late
    BULK = 1  # everything else


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One decoded picture, upright."""

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

    boxes_xyxy: FloatArray  # (N, 4) float32, x0 y0 x1 y1, pixels of the upright picture
    scores: FloatArray  # (N,) float32, 0..1


@dataclass(frozen=True, slots=True, eq=False)
class Crop:
    """One person's cut-out, as the pose model takes it."""

    pixels: UInt8Array  # (h, w, 3) uint8, RGB, at the pose model's input size
    to_picture: FloatArray  # (2, 3) float32, affine: crop pixels -> pixels of the upright picture


@dataclass(frozen=True, slots=True, eq=False)
class Keypoints:
    """The keypoints of one person."""

    xy: FloatArray  # (K, 2) float32; the frame is named where they are made
    scores: FloatArray  # (K,) float32, 0..1


@dataclass(frozen=True, slots=True, eq=False)
class Pose:
    """One person of a picture."""

    box_xywh: FloatArray  # (4,) float32, x y w h, pixels of the upright picture
    score: float  # 0..1: the box's score times the mean of the keypoint scores above 0.2, as COCO's evaluation of top-down networks does
    keypoints: Keypoints  # pixels of the upright picture
    track_id: int | None = None  # of a video: the same person has the same number from frame to frame; None: not tracked

    def __reduce__(self) -> tuple[Callable[..., "Pose"], tuple[bytes, float, int | None]]:
        """For pickle: as one piece, which takes half the time of three arrays."""
        values = np.concatenate([self.box_xywh, self.keypoints.xy.ravel(), self.keypoints.scores], dtype=np.float32)
        return _pose_of, (values.tobytes(), self.score, self.track_id)


def _pose_of(piece: bytes, score: float, track_id: int | None) -> Pose:
    values = np.frombuffer(bytearray(piece), np.float32)
    scores_at = 4 + 2 * (len(values) - 4) // 3
    return Pose(values[:4], score, Keypoints(values[4:scores_at].reshape(-1, 2), values[scores_at:]), track_id)


@dataclass(frozen=True, slots=True)
class Timings:
    """Where one picture's time went, in seconds."""

    decode: float = 0.0
    queue: float = 0.0  # in the batchers' queues, detector and pose together
    detect: float = 0.0
    crop: float = 0.0
    pose: float = 0.0
    total: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class PoseResult:
    """Everyone in one picture, best first."""

    width: int  # pixels
    height: int  # pixels
    people: tuple[Pose, ...]
    timings: Timings = field(default_factory=Timings)


@dataclass(frozen=True, slots=True, eq=False)
class PoseOptions:
    """What the caller may choose for one picture."""

    min_detection_score: float  # 0..1
    max_people: int
    boxes_xywh: FloatArray | None = None  # (N, 4) float32, pixels of the upright picture; None: the detector finds them

    def __reduce__(self) -> tuple[type[Self], tuple[float, int, FloatArray | None]]:
        """For pickle: by the constructor, which takes a fifth of the time that dataclasses take by default."""
        return type(self), (self.min_detection_score, self.max_people, self.boxes_xywh)
