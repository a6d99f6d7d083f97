"""The whole computation for images: preprocess, detect, estimate keypoints. No queues, threads or processes."""

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


class PoseEstimationFailed(InferenceFailed):
    """A run of the pose model raised, in the middle of what else was done for an image."""


@dataclass(frozen=True, slots=True, eq=False)
class ImageJob:
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
class Preprocessed:
    """A picture that is ready for the detector, or cut by the caller's boxes."""

    job: ImageJob
    frame: Frame
    letterboxed: Letterboxed | None  # None: the caller gave boxes
    partial: "PartialResult"  # so far


@dataclass(frozen=True, slots=True, eq=False)
class PartialResult:
    """What is known of a picture: the people, and the crops of those whose keypoints are not estimated yet."""

    width: int  # pixels
    height: int  # pixels
    found: Detections | None = None  # where they are all that is wanted
    poses: tuple[Pose, ...] = ()  # the first people
    remaining: tuple[
        tuple[FloatArray, float, Crop], ...
    ] = ()  # box (4,) float32 x y w h in picture pixels, its score, and crop of all others
    prepared_s: float = 0.0  # what it took to scale the picture for the detector
    spans: Mapping[Stage, Span] = field(default_factory=dict)  # what was done

    def __reduce__(self) -> tuple[type[Self], tuple[Any, ...]]:
        """For pickle, as `PoseOptions`."""
        return type(self), (self.width, self.height, self.found, self.poses, self.remaining, self.prepared_s, self.spans)


class PosePipeline:
    """The two models and all that is around them; safe on any thread.

    Args:
        detector: finds people.
        pose: places their keypoints.
        max_bytes: of an encoded image.
        max_pixels: of an encoded image.
    """

    def __init__(self, detector: Detector, pose: PoseEstimator, *, max_bytes: int, max_pixels: int) -> None:
        self.detector = detector
        self.pose = pose
        self._max_bytes = max_bytes
        self._max_pixels = max_pixels

    def preprocess(self, job: ImageJob) -> Preprocessed:
        """Decode a picture and make it ready for the first model that sees it.

        Raises:
            BadPicture, TooLarge: as `decode`.
            BadParameter: a box of the caller lies outside the picture or has no area, or there are too many.
        """
        started = time.monotonic()
        source = job.source
        frame = source if isinstance(source, Frame) else decode(source, max_bytes=self._max_bytes, max_pixels=self._max_pixels)
        decoded = time.monotonic()
        spans: dict[Stage, Span] = {} if isinstance(source, Frame) else {"decode": Span(started, decoded)}
        partial = PartialResult(frame.width, frame.height, spans=spans)
        boxes = job.options.boxes_xywh
        if boxes is not None:
            _check_boxes(boxes, job.options.max_people, frame)
            return Preprocessed(job, frame, None, self._cut(partial, frame, boxes, np.ones(len(boxes), np.float32)))
        letterboxed = self.detector.prepare(frame)
        return Preprocessed(job, frame, letterboxed, replace(partial, prepared_s=time.monotonic() - decoded))

    def detect(self, preprocessed: Sequence[Preprocessed]) -> list[PartialResult | Exception]:
        """Find and cut the people of pictures that the detector is to see; what goes wrong with one picture is its own alone."""
        started = time.monotonic()
        alone = len(preprocessed) == 1 and preprocessed[0].job.alone
        raws = self.detector.infer([one.letterboxed.pixels for one in preprocessed if one.letterboxed is not None], alone=alone)
        return [self._find(one, raw, started) for one, raw in zip(preprocessed, raws, strict=True)]

    def estimate_keypoints(self, crops: Sequence[UInt8Array]) -> list[Keypoints]:
        """Keypoints of crops (h, w, 3) uint8 RGB, in crop pixels."""
        return self.pose.infer(crops)

    def run(self, jobs: Sequence[ImageJob], max_crops: int) -> list[PartialResult | Exception]:
        """All stages of some pictures, one after the other on this thread: no hand-over costs anything.

        Args:
            jobs: of any callers.
            max_crops: people of each whose keypoints are estimated; the others' crops are returned.
        """
        preprocessed = [self._preprocessed(job) for job in jobs]
        unseen = [one for one in preprocessed if isinstance(one, Preprocessed) and one.letterboxed is not None]
        seen = iter(self.detect(unseen) if unseen else [])
        partial = [one if isinstance(one, Exception) else one.partial if one.letterboxed is None else next(seen) for one in preprocessed]
        return [one if isinstance(one, Exception) else self._estimate_first(one, max_crops) for one in partial]

    def _preprocessed(self, job: ImageJob) -> Preprocessed | Exception:
        if job.deadline is not None and job.deadline <= time.monotonic():
            return DeadlineExceeded("the deadline passed before the picture was done")
        try:
            return self.preprocess(job)
        except ServiceError as error:
            return error
        except Exception:
            return _failed("a picture could not be preprocessed")

    def _find(self, preprocessed: Preprocessed, raw: FloatArray, started: float) -> PartialResult | Exception:
        assert preprocessed.letterboxed is not None
        options = preprocessed.job.options
        try:
            found = self.detector.finish(
                raw, preprocessed.letterboxed.scale, preprocessed.frame, options.min_detection_score, options.max_people
            )
            spans: dict[Stage, Span] = {**preprocessed.partial.spans, "detect": Span(started, time.monotonic())}
            partial = replace(preprocessed.partial, spans=spans)
            if not preprocessed.job.keypoints:
                return replace(partial, found=found)
            return self._cut(partial, preprocessed.frame, xyxy_to_xywh(found.boxes_xyxy), found.scores)
        except Exception:
            return _failed("what follows the detector failed")

    def _cut(self, partial: PartialResult, frame: Frame, boxes_xywh: FloatArray, scores: FloatArray) -> PartialResult:
        if not len(boxes_xywh):
            return partial
        started = time.monotonic()
        crops = self.pose.prepare(frame, boxes_xywh)
        spans: dict[Stage, Span] = {**partial.spans, "crop": Span(started, time.monotonic())}
        return replace(partial, remaining=tuple(zip(boxes_xywh, scores.tolist(), crops, strict=True)), spans=spans)

    def _estimate_first(self, partial: PartialResult, most: int) -> PartialResult | Exception:
        now, later = partial.remaining[:most], partial.remaining[most:]
        if not now:
            return partial
        started = time.monotonic()
        try:
            keypoints = self.estimate_keypoints([crop.pixels for _, _, crop in now])
        except Exception:
            log.exception("a run of the pose model failed")
            return PoseEstimationFailed("the model could not be run on this picture; try again")
        poses = tuple(self.pose.finish(*person, found) for person, found in zip(now, keypoints, strict=True))
        return replace(partial, remaining=later, poses=poses, spans={**partial.spans, "pose": Span(started, time.monotonic())})


def _failed(what: str) -> InferenceFailed:
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
