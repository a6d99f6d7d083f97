"""People who walk through a made-up video, a detector and a pose model that see them, and a tracker that follows them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from posewire.pipeline.tracking.tracker import Tracker, TrackPolicy
from posewire.registry.keypoint_sets import KEYPOINT_SETS
from posewire.types import Detections, FloatArray, Keypoints, Pose

SIZE = (640, 480)  # of the image, pixels
SIGMAS = KEYPOINT_SETS["coco-17"].oks_sigmas

# A standing person in units of their box.
_STANDING = np.array(
    [
        *((0.5, 0.08), (0.55, 0.06), (0.45, 0.06), (0.6, 0.08), (0.4, 0.08)),
        *((0.75, 0.2), (0.25, 0.2), (0.85, 0.38), (0.15, 0.38), (0.9, 0.52), (0.1, 0.52)),
        *((0.65, 0.52), (0.35, 0.52), (0.65, 0.74), (0.35, 0.74), (0.65, 0.96), (0.35, 0.96)),
    ],
    np.float32,
)


@dataclass(frozen=True)
class Walker:
    """One person: where their box's centre is at a time, and whether they can be seen."""

    at: Callable[[float], tuple[float, float]]  # seconds -> x, y, pixels
    seen: Callable[[float], bool] = lambda _: True
    size: tuple[float, float] = (60, 160)  # width and height, pixels

    def box(self, t: float) -> FloatArray:
        """x y w h."""
        x, y = self.at(t)
        w, h = self.size
        return np.array([x - w / 2, y - h / 2, w, h], np.float32)

    def keypoints(self, t: float) -> Keypoints:
        """All well seen."""
        box = self.box(t)
        return Keypoints(box[:2] + _STANDING * box[2:], np.full(17, 0.8, np.float32))


@dataclass
class Film:
    """Runs a tracker over walkers; the pose model shows the visible walker nearest to a box, or rubbish."""

    walkers: list[Walker]
    policy: TrackPolicy = field(default_factory=TrackPolicy)
    looks: int = 0

    def __post_init__(self) -> None:
        self.tracker = Tracker(SIGMAS, self.policy)
        self.rng = np.random.default_rng(0)

    def run(self, times: Iterable[float]) -> list[dict[int, int]]:
        """For each frame the identity that each walker (by index) was given."""
        return [self.frame(t) for t in times]

    def frame(self, t: float) -> dict[int, int]:
        visible = [w for w in self.walkers if w.seen(t) and 0 <= w.at(t)[0] < SIZE[0]]
        found = None
        if self.tracker.due(t):
            self.looks += 1
            boxes = np.array([w.box(t) for w in visible], np.float32).reshape(-1, 4)
            found = Detections(np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1), np.full(len(boxes), 0.8, np.float32))
        candidates = self.tracker.candidates(t, found, SIZE)
        poses = [self._pose(box, visible, t) for box in candidates.boxes_xywh]
        tracks = self.tracker.update(t, poses, candidates, SIZE, detected=found is not None)
        answer = {}
        for track in tracks:
            centre = track.pose.box_xywh[:2] + track.pose.box_xywh[2:] / 2
            nearest = min(range(len(self.walkers)), key=lambda i: float(np.linalg.norm(centre - self.walkers[i].at(t))))
            answer[nearest] = track.track_id
        assert len(answer) == len(tracks), "two identities for one person"
        return answer

    def _pose(self, box: FloatArray, visible: list[Walker], t: float) -> Pose:
        centre = box[:2] + box[2:] / 2
        there = [w for w in visible if np.linalg.norm(centre - w.at(t)) < 0.6 * w.size[0]]
        if not there:
            rubbish = (centre + self.rng.normal(0, 20, (17, 2))).astype(np.float32)
            return Pose(box, 0.0, Keypoints(rubbish, np.full(17, 0.05, np.float32)))
        best = min(there, key=lambda w: float(np.linalg.norm(centre - w.at(t))))
        exact = best.keypoints(t)
        shaken = (exact.xy + self.rng.normal(0, 1, (17, 2))).astype(np.float32)
        return Pose(box, 0.8, Keypoints(shaken, exact.scores))


def frames_at(rate: float, seconds: float) -> list[float]:
    """Times of a video's frames."""
    return [i / rate for i in range(round(rate * seconds))]
