"""What `posewire predict` can be asked for."""

from dataclasses import dataclass
from pathlib import Path

from posewire.engine.engine import Engine
from posewire.engine.video_session import PoseSession
from posewire.types import Priority


@dataclass(frozen=True, slots=True)
class Tracking:
    """How a video is followed; as `PoseSession`."""

    track: bool
    smooth: bool
    detect_every: int

    def session(self, engine: Engine, priority: Priority) -> PoseSession:
        """A video's session, with the settings' choices for its frames."""
        options = engine.settings.pose_options()
        return PoseSession(engine, options, track=self.track, smooth=self.smooth, detect_every=self.detect_every, priority=priority)


@dataclass(frozen=True, slots=True)
class PredictOptions:
    """What the command line asked for."""

    as_json: bool
    form: str  # posewire or coco
    out: Path | None
    min_keypoint_score: float | None
    tracking: Tracking  # of videos
