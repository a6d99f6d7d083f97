"""What is computed for pictures, without a word of queues, threads or processes: open, look, place."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Self

import numpy as np

from posewire.errors import BadParameter, DeadlineExceeded, InferenceFailed, ServiceError
from posewire.imaging.decode import decode
from posewire.imaging.geometry import xyxy_to_xywh
from posewire.pipeline.detector import Detector, Letterboxed
from posewire.pipeline.pose_estimator import PoseEstimator
from posewire.telemetry.metrics import Stage
from posewire.types import Crop, Detections, FloatArray, Frame, Keypoints, Pose, PoseOptions, UInt8Array

log = logging.getLogger(__name__)


class PlacingFailed(InferenceFailed):
    """A run of the pose model raised, in the middle of what else was done for a picture."""


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """One picture of a caller, and what is wanted of it."""

    source: bytes | Frame  # encoded, or upright
    options: PoseOptions
    keypoints: bool = True  # False: the boxes are all that is wanted
    deadline: float | None = None  # seconds, monotonic: it need not be begun later
    alone: bool = False  # no other picture is likely to come before it is done

    def __reduce__(self) -> tuple[type[Self], tuple[Any, ...]]:
        """For pickle, as `PoseOptions`."""
        return type(self), (self.source, self.options, self.keypoints, self.deadline, self.alone)


class Span(NamedTuple):
    """When something was done, in seconds, monotonic; the same clock for all processes of a machine."""

    started: float
    ended: float

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended - self.started


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """A picture that is ready for the detector, or cut by the caller's boxes."""

    picture: Picture
    frame: Frame
    letterboxed: Letterboxed | None  # None: the caller gave boxes
    looked: "Looked"  # so far


@dataclass(frozen=True, slots=True, eq=False)
class Looked:
    """What is known of a picture: the people, and the crops of those whose keypoints are not placed yet."""

    width: int  # pixels
    height: int  # pixels
    found: Detections | None = None  # where they are all that is wanted
    placed: tuple[Pose, ...] = ()  # the first people
    rest: tuple[tuple[FloatArray, float, Crop], ...] = ()  # box (4,) float32 x y w h in picture pixels, its score, and crop of all others
    prepared_s: float = 0.0  # what it took to scale the picture for the detector
    spans: Mapping[Stage, Span] = field(default_factory=dict)  # what was done

    def __reduce__(self) -> tuple[type[Self], tuple[Any, ...]]:
        """For pickle, as `PoseOptions`."""
        return type(self), (self.width, self.height, self.found, self.placed, self.rest, self.prepared_s, self.spans)


class Stages:
    """The two models and all that is around them; safe on any thread.

    Args:
        detector: finds people.
        pose: places their keypoints.
        max_bytes: of an encoded picture.
        max_pixels: of an encoded picture.
    """

    def __init__(self, detector: Detector, pose: PoseEstimator, *, max_bytes: int, max_pixels: int) -> None:
        self.detector = detector
        self.pose = pose
        self._max_bytes = max_bytes
        self._max_pixels = max_pixels

    def open(self, picture: Picture) -> Opened:
        """Decode a picture and make it ready for the first model that sees it.

        Raises:
            BadPicture, TooLarge: as `decode`.
            BadParameter: a box of the caller lies outside the picture or has no area, or there are too many.
        """
        started = time.monotonic()
        source = picture.source
        frame = source if isinstance(source, Frame) else decode(source, max_bytes=self._max_bytes, max_pixels=self._max_pixels)
        decoded = time.monotonic()
        spans: dict[Stage, Span] = {} if isinstance(source, Frame) else {"decode": Span(started, decoded)}
        looked = Looked(frame.width, frame.height, spans=spans)
        boxes = picture.options.boxes_xywh
        if boxes is not None:
            _check_boxes(boxes, picture.options.max_people, frame)
            return Opened(picture, frame, None, self._cut(looked, frame, boxes, np.ones(len(boxes), np.float32)))
        letterboxed = self.detector.prepare(frame)
        return Opened(picture, frame, letterboxed, replace(looked, prepared_s=time.monotonic() - decoded))

    def look(self, opened: Sequence[Opened]) -> list[Looked | Exception]:
        """Find and cut the people of pictures that the detector is to see; what goes wrong with one picture is its own alone."""
        started = time.monotonic()
        alone = len(opened) == 1 and opened[0].picture.alone
        raws = self.detector.infer([one.letterboxed.pixels for one in opened if one.letterboxed is not None], alone=alone)
        return [self._find(one, raw, started) for one, raw in zip(opened, raws, strict=True)]

    def place(self, crops: Sequence[UInt8Array]) -> list[Keypoints]:
        """Keypoints of crops (h, w, 3) uint8 RGB, in crop pixels."""
        return self.pose.infer(crops)

    def see(self, pictures: Sequence[Picture], place_at_once: int) -> list[Looked | Exception]:
        """All stages of some pictures, one after the other on this thread: no hand-over costs anything.

        Args:
            pictures: of any callers.
            place_at_once: people of each whose keypoints are placed; the others' crops are returned.
        """
        opened = [self._opened(picture) for picture in pictures]
        unseen = [one for one in opened if isinstance(one, Opened) and one.letterboxed is not None]
        seen = iter(self.look(unseen) if unseen else [])
        looked = [one if isinstance(one, Exception) else one.looked if one.letterboxed is None else next(seen) for one in opened]
        return [one if isinstance(one, Exception) else self._place_first(one, place_at_once) for one in looked]

    def _opened(self, picture: Picture) -> Opened | Exception:
        if picture.deadline is not None and picture.deadline <= time.monotonic():
            return DeadlineExceeded("the deadline passed before the picture was done")
        try:
            return self.open(picture)
        except ServiceError as error:
            return error
        except Exception:
            return _own("a picture could not be opened")

    def _find(self, opened: Opened, raw: FloatArray, started: float) -> Looked | Exception:
        assert opened.letterboxed is not None
        options = opened.picture.options
        try:
            found = self.detector.finish(raw, opened.letterboxed.scale, opened.frame, options.min_detection_score, options.max_people)
            spans: dict[Stage, Span] = {**opened.looked.spans, "detect": Span(started, time.monotonic())}
            looked = replace(opened.looked, spans=spans)
            if not opened.picture.keypoints:
                return replace(looked, found=found)
            return self._cut(looked, opened.frame, xyxy_to_xywh(found.boxes_xyxy), found.scores)
        except Exception:
            return _own("what follows the detector failed")

    def _cut(self, looked: Looked, frame: Frame, boxes_xywh: FloatArray, scores: FloatArray) -> Looked:
        if not len(boxes_xywh):
            return looked
        started = time.monotonic()
        crops = self.pose.prepare(frame, boxes_xywh)
        spans: dict[Stage, Span] = {**looked.spans, "crop": Span(started, time.monotonic())}
        return replace(looked, rest=tuple(zip(boxes_xywh, scores.tolist(), crops, strict=True)), spans=spans)

    def _place_first(self, looked: Looked, most: int) -> Looked | Exception:
        now, later = looked.rest[:most], looked.rest[most:]
        if not now:
            return looked
        started = time.monotonic()
        try:
            keypoints = self.place([crop.pixels for _, _, crop in now])
        except Exception:
            log.exception("a run of the pose model failed")
            return PlacingFailed("the model could not be run on this picture; try again")
        placed = tuple(self.pose.finish(*person, found) for person, found in zip(now, keypoints, strict=True))
        return replace(looked, rest=later, placed=placed, spans={**looked.spans, "pose": Span(started, time.monotonic())})


def _own(what: str) -> InferenceFailed:
    """For a picture that fails alone; the log has the cause, the caller does not."""
    log.exception(what)
    return InferenceFailed("the model could not be run on this picture; try again")


def _check_boxes(boxes: FloatArray, most: int, frame: Frame) -> None:
    if len(boxes) > most:
        raise BadParameter(f"{len(boxes)} boxes are more than max_people, which is {most}")
    for i, (x, y, w, h) in enumerate(boxes.tolist()):
        if w <= 0 or h <= 0:
            raise BadParameter(f"boxes[{i}] has no area: width {w:g}, height {h:g}")
        if x >= frame.width or y >= frame.height or x + w <= 0 or y + h <= 0:
            raise BadParameter(f"boxes[{i}] lies outside the upright picture of {frame.width} x {frame.height} pixels")
