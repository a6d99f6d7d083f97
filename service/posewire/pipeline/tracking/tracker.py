"""Identities: which person of this frame is which of the frames before, and when the detector must run again.

The detector is slow and misses people; the pose model is quick and follows a person from box to box. So the detector
runs every few frames, sooner where something changes, and in between the boxes come from the keypoints.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from posewire.imaging.geometry import xyxy_to_xywh
from posewire.pipeline.tracking.matching import assign, box_iou, covered, extent, oks
from posewire.pipeline.tracking.one_euro import size_of
from posewire.pipeline.tracking.track import Phase, Track
from posewire.types import Detections, FloatArray, Pose


@dataclass(frozen=True, slots=True)
class TrackPolicy:
    """When the detector runs, and the thresholds of tracks."""

    min_detection_score: float = 0.4  # from which a new person is begun
    max_people: int = 50
    detect_every: int = 5  # frames
    soon: int = 3  # frames to the next run of the detector after someone was lost, came in or overlaps another
    detect_every_s: float = 1.0  # where frames come slowly
    lost_s: float = 2.0  # a person who is not seen for longer is gone
    max_misses: int = 4  # runs of the detector without a find, after which a person whom the pose model still follows counts as lost

    @property
    def faint_score(self) -> float:
        """From which a detection confirms someone who is followed already."""
        return self.min_detection_score / 2


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """The boxes of a frame for the pose model."""

    boxes_xywh: FloatArray  # (N, 4) float32, pixels
    detection_scores: tuple[float | None, ...]  # None: the box is a track's prediction


_NOBODY = Detections(np.empty((0, 4), np.float32), np.empty(0, np.float32))

_LEAST_IOU = 0.3  # of a detection and a prediction of the same person
_LEAST_SIMILARITY = 0.2  # of a pose and a track of the same person
_SAME = 0.6  # similarity above which two poses are one person seen twice
_COVERED = 0.5  # share of the smaller box within the other above which a prediction follows somebody else
_OVERLAP = 0.3  # IoU above which two people may be taken for one another
_USUAL_SHARE = 0.7  # a pose of less than this share of a person's usual keypoint score shows something else
_MOST_WIDENED = 0.05  # part of its size by which a predicted box grows at most


class Tracker:
    """The people of one video. For each frame: `due`, `candidates`, the pose model, `update`; times never go back.

    Args:
        sigmas: (K,) of the keypoint set, as `KeypointSet.oks_sigmas`.
        policy: thresholds.
    """

    def __init__(self, sigmas: Sequence[float], policy: TrackPolicy | None = None) -> None:
        self.policy = policy or TrackPolicy()
        self.tracks: list[Track] = []
        self._sigmas = np.array(sigmas, np.float32)
        self._next_id = 1
        self._frames_since_detection = 0
        self._detected_at = -math.inf

    def due(self, t: float) -> bool:
        """Return True where the detector should run on the frame of time `t`, seconds."""
        policy = self.policy
        every = policy.soon if self._unsettled() else policy.detect_every
        # With nobody to follow, the detector is all that a frame costs.
        return not self.tracks or self._frames_since_detection + 1 >= every or t - self._detected_at >= policy.detect_every_s

    def candidates(self, t: float, found: Detections | None, size: tuple[int, int]) -> Candidates:
        """The boxes to place keypoints in: what the detector found, and the predictions of those that it did not find.

        Args:
            t: of the frame, seconds.
            found: people of at least `policy.faint_score`; None: the detector did not run.
            size: width and height of the frame, pixels.
        """
        predicted = [track.predict(t).box_xywh for track in self.tracks]
        found = self._without_faint_parts(found) if found is not None else _NOBODY
        detected = xyxy_to_xywh(found.boxes_xyxy)
        pairs = dict(assign(box_iou(detected, np.array(predicted, np.float32).reshape(-1, 4)), _LEAST_IOU))
        followed: list[tuple[FloatArray, float | None]] = []
        fresh: list[tuple[FloatArray, float | None]] = []
        for row, (box, score) in enumerate(zip(detected, found.scores.tolist(), strict=True)):
            if row in pairs:
                followed.append((box, score))
            elif score >= self.policy.min_detection_score or self._near_lost(box, t):
                fresh.append((box, score))
        for i, track in enumerate(self.tracks):
            if i not in pairs.values() and track.phase is not Phase.LOST and _inside(predicted[i], size):
                followed.append((_widen(predicted[i], float(np.linalg.norm(track.shift(t)))), None))
        chosen = (followed + fresh)[: self.policy.max_people]  # who is followed already comes first
        return Candidates(np.array([box for box, _ in chosen], np.float32).reshape(-1, 4), tuple(score for _, score in chosen))

    def update(self, t: float, poses: Sequence[Pose], candidates: Candidates, size: tuple[int, int], *, detected: bool) -> list[Track]:
        """Take in one frame.

        Args:
            t: of the frame, seconds.
            poses: one a candidate, with a box score of 1.
            candidates: the boxes that the poses are from.
            size: width and height of the frame, pixels.
            detected: the detector ran.

        Returns:
            The tracks that this frame shows, in the order of their ids.
        """
        scores = candidates.detection_scores
        self._frames_since_detection = 0 if detected else self._frames_since_detection + 1
        if detected:
            self._detected_at = t
            for track in self.tracks:
                track.misses += 1
        similarity = np.array(
            [[self._similarity(pose, s, track, t) for track in self.tracks] for pose, s in zip(poses, scores, strict=True)]
        )
        pairs = assign(similarity.reshape(len(poses), len(self.tracks)), _LEAST_SIMILARITY)
        seen: list[Track] = []
        for row, column in sorted(pairs, key=lambda pair: scores[pair[0]] is None):  # the detector's word before a prediction
            track, pose, score = self.tracks[column], poses[row], scores[row]
            sure = score is not None or track.misses == 0
            if self._shows(track, pose, score) and not self._duplicate(pose, seen, sure=sure):
                track.see(pose, score, t)
                seen.append(track)
        self._begin(t, {row: pose for row, pose in enumerate(poses) if row not in dict(pairs)}, scores, seen)
        self._end_of_frame(t, seen, size, detected=detected)
        return sorted((track for track in seen if track in self.tracks), key=lambda track: track.track_id)

    def _without_faint_parts(self, found: Detections) -> Detections:
        """Less those faint detections that lie in a better one: parts of a person, or the person with what they stand at."""
        boxes, scores = xyxy_to_xywh(found.boxes_xyxy), found.scores
        faint = scores < self.policy.min_detection_score
        kept = [i for i in range(len(boxes)) if not (faint[i] and any(covered(boxes[i], better) > _COVERED for better in boxes[~faint]))]
        return Detections(found.boxes_xyxy[kept], scores[kept])

    def _unsettled(self) -> bool:
        if any(track.phase is not Phase.TRACKED for track in self.tracks):
            return True
        boxes = np.array([track.pose.box_xywh for track in self.tracks], np.float32).reshape(-1, 4)
        return bool((np.triu(box_iou(boxes, boxes), 1) > _OVERLAP).any())

    def _near_lost(self, box: FloatArray, t: float) -> bool:
        """Return True where someone who was lost may be in a box."""
        centre = box[:2] + box[2:] / 2
        for track in self.tracks:
            if track.phase is Phase.LOST:
                at = track.predict(t).box_xywh
                away = np.linalg.norm(centre - at[:2] - at[2:] / 2)
                if away < math.sqrt(track.area) * (1 + track.doubt(t)):
                    return True
        return False

    def _similarity(self, pose: Pose, detection_score: float | None, track: Track, t: float) -> float:
        """Half OKS, half IoU, 0..1: IoU alone confuses people who cross, OKS alone loses those whom the pose model places badly."""
        predicted = track.predict(t)
        if detection_score is None:
            own, there = extent(pose.keypoints), extent(predicted.keypoints)
        else:
            own, there = pose.box_xywh, predicted.box_xywh
        overlap = 0.0 if own is None or there is None else float(box_iou(own[None], there[None])[0, 0])
        alike = oks(pose.keypoints, predicted.keypoints, track.area, self._sigmas, track.doubt(t))
        return overlap if alike is None else (overlap + alike) / 2

    def _shows(self, track: Track, pose: Pose, detection_score: float | None) -> bool:
        if detection_score is not None:
            return True
        return track.misses <= self.policy.max_misses and float(pose.keypoints.scores.mean()) >= _USUAL_SHARE * track.confidence

    def _duplicate(self, pose: Pose, seen: Sequence[Track], *, sure: bool) -> bool:
        """Return True where someone who was seen already has this pose; or their box, unless the detector is `sure` that there are two."""
        for track in seen:
            alike = oks(pose.keypoints, track.pose.keypoints, track.area, self._sigmas)
            if alike is not None and alike > _SAME:
                return True
            if not sure and covered(pose.box_xywh, track.pose.box_xywh) > _COVERED:
                return True
        return False

    def _begin(self, t: float, poses: Mapping[int, Pose], scores: Sequence[float | None], seen: list[Track]) -> None:
        """Begin tracks for the poses, by index, of detections that are nobody's, and add them to `seen`."""
        for row, pose in poses.items():
            score = scores[row]
            if score is not None and score >= self.policy.min_detection_score and not self._duplicate(pose, seen, sure=True):
                track = Track(self._next_id, pose, score, t)
                self._next_id += 1
                self.tracks.append(track)
                seen.append(track)

    def _end_of_frame(self, t: float, seen: Sequence[Track], size: tuple[int, int], *, detected: bool) -> None:
        staying = []
        for track in self.tracks:
            if track not in seen:
                if track.phase is Phase.TENTATIVE and detected:
                    continue
                if track.phase is Phase.TRACKED:
                    track.phase = Phase.LOST
            elif track.phase is Phase.TENTATIVE and detected and track.misses:
                continue
            if t - track.seen_at <= self.policy.lost_s and _inside(track.predict(t).box_xywh, size):
                staying.append(track)
        self.tracks = staying


def person_of(track: Track) -> Pose:
    """The track as it is answered: its score is the detector's last times the keypoints', as for an image."""
    return replace(track.pose, score=track.detection_score * track.pose.score, track_id=track.track_id)


def _widen(box: FloatArray, moved: float) -> FloatArray:
    """A predicted box, larger by the pixels that the person should have moved: the prediction is as unsure as they are quick.

    The box of a person who stands still stays as it is: in another crop the pose model would place the keypoints a little elsewhere.
    """
    size = box[2:] * (1 + min(moved / max(size_of(box), 1.0), _MOST_WIDENED))
    return np.concatenate([box[:2] + (box[2:] - size) / 2, size])


def _inside(box: FloatArray, size: tuple[int, int]) -> bool:
    """Return True where a box's centre lies in the image."""
    x, y = (float(v) for v in box[:2] + box[2:] / 2)
    return 0 <= x < size[0] and 0 <= y < size[1]
