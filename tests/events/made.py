"""Made motion: people of 17 keypoints who stand, walk, wave, squat and fall. Pixels of a frame of 640x480."""

from collections.abc import Iterable, Sequence

import numpy as np

from posewire.events.watcher import EventWatcher
from posewire.registry.keypoint_sets import KEYPOINT_SETS
from posewire.schemas.events import Event, parse_rules
from posewire.types import Keypoints, Pose, PoseResult

WIDTH, HEIGHT = 640, 480
NAMES = KEYPOINT_SETS["coco-17"].names
FPS = 20

# Someone who stands: x from the middle of the hips, y above the feet, in heights of the person.
STANDING = {
    "nose": (0.0, 0.92), "left_eye": (0.02, 0.94), "right_eye": (-0.02, 0.94), "left_ear": (0.04, 0.93), "right_ear": (-0.04, 0.93),
    "left_shoulder": (0.11, 0.80), "right_shoulder": (-0.11, 0.80), "left_elbow": (0.14, 0.64), "right_elbow": (-0.14, 0.64),
    "left_wrist": (0.15, 0.49), "right_wrist": (-0.15, 0.49), "left_hip": (0.07, 0.50), "right_hip": (-0.07, 0.50),
    "left_knee": (0.07, 0.27), "right_knee": (-0.07, 0.27), "left_ankle": (0.07, 0.03), "right_ankle": (-0.07, 0.03),
}  # fmt: skip


def person(
    x: float = 320,
    feet_y: float = 400,
    height: float = 200,
    *,
    tilt_deg: float = 0,
    squat: float = 0,
    hands: Sequence[str] = (),
    unseen: Sequence[str] = (),
    track_id: int | None = 1,
) -> Pose:
    """A person whose feet are at (x, feet_y); `tilt_deg` turns the body about the feet, `squat` 0..1 lowers the hips, `hands` are up."""
    at = {name: np.array([x, y - 0.27 * squat if y >= 0.5 else y]) for name, (x, y) in STANDING.items()}
    at["left_knee"] += (0.24 * squat, 0)
    at["right_knee"] -= (0.24 * squat, 0)
    for side in hands:
        at[f"{side}_wrist"] = at["nose"] + (0.1, 0.1)
    angle = np.deg2rad(tilt_deg)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    xy = np.array([(x, feet_y) + (turn @ at[name]) * (height, -height) for name in NAMES], np.float32)
    low, high = xy.min(0), xy.max(0)
    scores = np.array([0.1 if name in unseen else 0.9 for name in NAMES], np.float32)
    box = np.array([*low, high[0] - low[0], feet_y - low[1]], np.float32)
    return Pose(box, 0.9, Keypoints(xy, scores), track_id)


def events_of(rules: str, frames: Iterable[Sequence[Pose]], fps: float = FPS) -> list[Event]:
    """The events of frames of made people, the end included."""
    watcher = EventWatcher(parse_rules(rules), NAMES)
    found = []
    for i, people in enumerate(frames):
        found += watcher.step(PoseResult(WIDTH, HEIGHT, tuple(people)), i / fps)
    return found + watcher.end()


def kinds(events: Iterable[Event]) -> list[str]:
    return [event.event for event in events]
