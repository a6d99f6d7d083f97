"""What `posewire predict` can be asked for."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Tracking:
    """How a video is followed; as `PoseSession`."""

    track: bool
    smooth: bool
    detect_every: int


@dataclass(frozen=True, slots=True)
class PredictOptions:
    """What the command line asked for."""

    as_json: bool
    form: str  # posewire or coco
    out: Path | None
    min_keypoint_score: float | None
    tracking: Tracking  # of videos
