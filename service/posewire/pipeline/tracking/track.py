"""One person of a video: where they were, where they should be now, and whether they are still there.

(born) -> TENTATIVE -> TRACKED <-> LOST -> (ended)
              |                              ^
              +-- not found again: ended ----+
"""

import math
from dataclasses import dataclass, field
from enum import Enum

import numpy as np

from posewire.types import SEEN_SCORE, FloatArray, Keypoints, Pose

_VELOCITY_S = 0.3  # time over which a new velocity replaces the old one
_COAST_S = 0.7  # time over which a person who is not seen slows down
_DRIFT = 0.5  # growth of the doubt where someone is, in square roots of the box's area a second
_CONFIDENCE_S = 1.0  # time over which what is usual for a person's keypoint scores follows them
_MOST_GROWTH = 1.08  # of a box from one frame to the next
_KEYPOINTS_SHARE = 0.2  # of the box that follows from the keypoints in the next box; the rest is the last box, carried along
# Keypoints of somebody who stands still jitter. A box that jittered with them would give the pose model another crop, and so more jitter.
_STILL_SHIFT = 0.005  # shift of all keypoints from frame to frame that does not move the box, in square roots of its area
_STILL_EDGE = 0.015  # distance of an edge from its place by the keypoints that does not move it, in the same units


class Phase(Enum):
    """Where a track is in its life."""

    TENTATIVE = "tentative"  # found once
    TRACKED = "tracked"  # found at least twice, and seen in the last frame
    LOST = "lost"  # not seen in the last frame


@dataclass(slots=True, eq=False)
class Track:
    """A person with an identity. Times are seconds on the video's clock."""

    track_id: int
    pose: Pose  # as last seen
    detection_score: float  # 0..1, of the detector's last find
    seen_at: float
    phase: Phase = Phase.TENTATIVE
    misses: int = 0  # runs of the detector since it last found the person
    velocity: FloatArray = field(default_factory=lambda: np.zeros(2, np.float32))  # (2,) pixels a second
    confidence: float = 0.0  # what the mean of the person's keypoint scores usually is
    detected: Pose = field(init=False)  # as the detector last found the person: its box, and the keypoints in it

    def __post_init__(self) -> None:
        self.detected = self.pose
        self.confidence = float(self.pose.keypoints.scores.mean())

    @property
    def area(self) -> float:
        """Of the box, square pixels."""
        return float(self.pose.box_xywh[2:].prod())

    def doubt(self, t: float) -> float:
        """How unsure the prediction for a time is, in square roots of the area."""
        return _DRIFT * max(t - self.seen_at, 0.0)

    def shift(self, t: float) -> FloatArray:
        """(2,) pixels that the person should have moved since they were seen."""
        gap = max(t - self.seen_at, 0.0)
        return np.asarray(self.velocity * (_COAST_S * -math.expm1(-gap / _COAST_S)), np.float32)

    def predict(self, t: float) -> Pose:
        """The person as they should be at a time: the last pose, moved."""
        shift = self.shift(t)
        moved = Keypoints(self.pose.keypoints.xy + shift, self.pose.keypoints.scores)
        box = np.concatenate([self.pose.box_xywh[:2] + shift, self.pose.box_xywh[2:]])
        return Pose(box, self.pose.score, moved)

    def see(self, pose: Pose, detection_score: float | None, t: float) -> None:
        """Take in what a frame shows of the person.

        Args:
            pose: theirs.
            detection_score: of the box; None: the box is this track's own prediction.
            t: of the frame.
        """
        gap = max(t - self.seen_at, 1e-3)
        if detection_score is None:
            box = _carry(self.pose, self.detected, pose.keypoints)
            pose = Pose(self.predict(t).box_xywh if box is None else box, pose.score, pose.keypoints)
        else:
            self.detected = pose
            self.detection_score = detection_score
            self.misses = 0
        moved = _median_shift(self.pose.keypoints, pose.keypoints)
        if moved is not None:
            self.velocity += (moved / np.float32(gap) - self.velocity) * np.float32(-math.expm1(-gap / _VELOCITY_S))
        self.confidence += (float(pose.keypoints.scores.mean()) - self.confidence) * -math.expm1(-gap / _CONFIDENCE_S)
        if self.phase is Phase.LOST or (self.phase is Phase.TENTATIVE and detection_score is not None):
            self.phase = Phase.TRACKED
        self.pose, self.seen_at = pose, t


def _carry(last: Pose, detected: Pose, found: Keypoints) -> FloatArray | None:
    """The box of a person whom the detector was not asked about: the last one, moved and scaled as the keypoints were.

    Returns:
        (4,) x y w h; None: the last pose and this one show too few keypoints.
    """
    box = last.box_xywh
    shift = _median_shift(last.keypoints, found)
    if shift is None:
        return None
    size = math.sqrt(float(box[2:].prod()))
    low = box[:2] + np.where(np.abs(shift) < _STILL_SHIFT * size, 0, shift)
    high = low + box[2:]
    expected = _box_of(found, detected)
    if expected is not None:
        low = low + _KEYPOINTS_SHARE * _beyond(expected[:2] - low, _STILL_EDGE * size)
        high = high + _KEYPOINTS_SHARE * _beyond(expected[:2] + expected[2:] - high, _STILL_EDGE * size)
    sides = np.clip(high - low, box[2:] / _MOST_GROWTH, box[2:] * _MOST_GROWTH)
    return np.concatenate([(low + high - sides) / 2, sides]).astype(np.float32)


def _beyond(distance: FloatArray, tolerance: float) -> FloatArray:
    """Return the part of distances that exceeds a tolerance, with their sign."""
    return np.asarray(np.sign(distance) * np.maximum(np.abs(distance) - tolerance, 0), np.float32)


def _box_of(found: Keypoints, detected: Pose) -> FloatArray | None:
    """The box (4,) x y w h that the detector would give keypoints; None: too few are shown there and here.

    Its margins about the keypoints are those of the last detection, scaled as the person was. Margins that are the same for everybody
    would be others than the detector's, and the box would change with each of its runs, though the person stands still. Only keypoints
    that are shown there and here count: one that comes and goes would move an edge of the box.
    """
    common = (detected.keypoints.scores >= SEEN_SCORE) & (found.scores >= SEEN_SCORE)
    if common.sum() < len(found.scores) / 2:
        return None
    there, here = detected.keypoints.xy[common], found.xy[common]
    scale = np.ptp(here, axis=0).max() / max(float(np.ptp(there, axis=0).max()), 1.0)
    low = here.min(0) + (detected.box_xywh[:2] - there.min(0)) * scale
    high = here.max(0) + (detected.box_xywh[:2] + detected.box_xywh[2:] - there.max(0)) * scale
    return np.concatenate([low, high - low]).astype(np.float32)


def _median_shift(before: Keypoints, after: Keypoints) -> FloatArray | None:
    """(2,) pixels that most of the keypoints moved; None: too few are shown by both."""
    common = (before.scores >= SEEN_SCORE) & (after.scores >= SEEN_SCORE)
    if common.sum() < 4:
        return None
    return np.asarray(np.median(after.xy[common] - before.xy[common], axis=0), np.float32)
