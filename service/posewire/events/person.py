"""One person of one frame, as the rules see it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from posewire.events.geometry import Point
from posewire.schemas.events import PersonPoint
from posewire.types import Pose

# A keypoint with a lower score is not seen. The scores of the models that ship are low: of keypoints at 0.3 most are right.
MIN_KEYPOINT_SCORE = 0.3


@dataclass(frozen=True, slots=True)
class Person:
    """A tracked person."""

    track_id: int
    time_s: float  # of the frame
    points: Mapping[PersonPoint, Point]  # of the part of the box that the frame shows; fractions of the frame
    joints: Mapping[str, Point]  # the keypoints that are seen, by name; pixels of the upright frame

    @classmethod
    def of(cls, pose: Pose, track_id: int, names: tuple[str, ...], time_s: float, width: int, height: int) -> Self:
        """Return a pose of a frame of `width` x `height` pixels whose keypoints have these names."""
        x, y, w, h = pose.box_xywh.tolist()
        left, right = _inside(x, width), _inside(x + w, width)
        top, bottom = _inside(y, height), _inside(y + h, height)
        rows = zip(names, pose.keypoints.xy.tolist(), pose.keypoints.scores.tolist(), strict=True)
        joints = {name: (px, py) for name, (px, py), score in rows if score >= MIN_KEYPOINT_SCORE}
        middle = (left + right) / 2
        return cls(track_id, time_s, {"feet": (middle, bottom), "centre": (middle, (top + bottom) / 2)}, joints)


def _inside(place: float, size: int) -> float:
    """Return a place, in pixels, as a fraction of the frame, not beyond the middle of the frame's first and last pixels.

    The box of someone whose feet are below the frame ends there too; a zone that reaches the edge of the frame must have them inside.
    """
    return min(max(place, 0.5), size - 0.5) / size
