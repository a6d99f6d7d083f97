"""The options of `posewire predict`."""

from dataclasses import dataclass
from pathlib import Path

from posewire.engine.engine import Engine
from posewire.engine.video_session import PoseSession
from posewire.types import Priority


@dataclass(frozen=True, slots=True)
class Tracking:
    """The options of tracking in a video, as in `PoseSession`."""

    track: bool
    smooth: bool
    detect_every: int

    def session(self, engine: Engine, priority: Priority) -> PoseSession:
        """Return a session for a video, with the options of the settings for its frames."""
        options = engine.settings.pose_options()
        return PoseSession(engine, options, track=self.track, smooth=self.smooth, detect_every=self.detect_every, priority=priority)


@dataclass(frozen=True, slots=True)
class PredictOptions:
    """The options of the command line."""

    as_json: bool
    form: str  # posewire or coco
    out: Path | None
    min_keypoint_score: float | None
    tracking: Tracking  # of videos
