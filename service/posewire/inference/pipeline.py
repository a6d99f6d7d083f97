"""One picture's way: people, crops, keypoints. Everything that computes runs on a thread; this only awaits."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import Self

import numpy as np

from posewire.errors import BadParameter
from posewire.inference.batcher import DynamicBatcher, Served
from posewire.inference.detector import Detector, Letterboxed
from posewire.inference.pool import run_on
from posewire.inference.pose import PoseEstimator
from posewire.telemetry import tracing
from posewire.telemetry.metrics import Metrics
from posewire.types import Crop, Detections, FloatArray, Frame, Keypoints, Pose, PoseOptions, PoseResult, Priority, Timings, UInt8Array
from posewire.vision.geometry import xyxy_to_xywh


class Pipeline:
    """Finds and places everyone in a picture, with few hand-overs between threads: each costs a tenth of a millisecond.

    Args:
        detector: its `prepare` and `finish`; its `infer` is behind `detections`.
        pose: its `prepare` and `finish`; its `infer` is behind `keypoints`.
        detections: the queue in front of the detector, over pictures of all callers.
        keypoints: the queue in front of the pose model, over crops of all callers.
        threads: where pictures are scaled and cut.
        metrics: is told of every stage.
    """

    def __init__(
        self,
        detector: Detector,
        pose: PoseEstimator,
        detections: DynamicBatcher[UInt8Array, FloatArray],
        keypoints: DynamicBatcher[UInt8Array, Keypoints],
        threads: Executor,
        metrics: Metrics,
    ) -> None:
        self._detector = detector
        self._pose = pose
        self._detections = detections
        self._keypoints = keypoints
        self._threads = threads
        self._metrics = metrics

    async def run(
        self, load: Callable[[], Frame], options: PoseOptions, *, deadline: float | None = None, priority: Priority = Priority.BULK
    ) -> tuple[Frame, PoseResult]:
        """Everyone in a picture.

        People that the detector finds come best first. With the caller's boxes there is one person a box, in the
        caller's order: an answer would otherwise have to be matched to its box again.

        Args:
            load: gives the picture, on a thread.
            options: the caller's choices.
            deadline: in the event loop's time; None: none.
            priority: whose work goes first in the queues.

        Raises:
            BadParameter: a box of the caller lies outside the picture or has no area, or there are too many.
            DeadlineExceeded: at the deadline at once.
            Overloaded, Draining, InferenceFailed: as the batcher.
        """
        started = time.perf_counter()
        opened = await run_on(self._threads, self._open, load, options)
        cut, detect, detect_wait = opened.cut, 0.0, 0.0
        if opened.letterboxed is not None:
            begun = time.perf_counter()
            with tracing.stage("detect"):
                here = copy_context()  # so that what is traced on the thread belongs to this request
                [found] = await self._detections.submit(
                    [opened.letterboxed.pixels],
                    lambda raw: here.run(self._find, opened, options, raw),
                    deadline=deadline,
                    priority=priority,
                )
            cut, detect_wait = found.output, found.waited
            detect = time.perf_counter() - begun - detect_wait - cut.seconds
        begun = time.perf_counter()
        pixels = [crop.pixels for crop in cut.crops]
        with tracing.stage("pose"):
            served = await self._keypoints.submit(pixels, deadline=deadline, priority=priority)
        people = self._finish(cut, served)
        if opened.letterboxed is not None:
            people.sort(key=lambda person: -person.score)
        ended = time.perf_counter()
        wait = min((s.waited for s in served), default=0.0)
        pose = ended - begun - wait
        timings = Timings(opened.decoded, detect_wait + wait, opened.prepared + detect, cut.seconds, pose, ended - started)
        self._observe(timings, people, options)
        return opened.frame, PoseResult(opened.frame.width, opened.frame.height, tuple(people), timings)

    def _open(self, load: Callable[[], Frame], options: PoseOptions) -> "_Opened":
        """Load the picture and make it ready for the first model that sees it: one visit to a thread."""
        started = time.perf_counter()
        with tracing.stage("decode"):
            frame = load()
        decoded = time.perf_counter()
        boxes = options.boxes_xywh
        if boxes is not None:
            _check_boxes(boxes, options.max_people, frame)
            return _Opened(frame, decoded - started, None, 0.0, self._cut(frame, boxes, np.ones(len(boxes), np.float32)))
        letterboxed = self._detector.prepare(frame)
        return _Opened(frame, decoded - started, letterboxed, time.perf_counter() - decoded, _Cut.nobody())

    async def detect(
        self, frame: Frame, options: PoseOptions, *, deadline: float | None = None, priority: Priority = Priority.BULK
    ) -> tuple[Detections, float]:
        """The people that the detector finds, and the seconds that the picture waited for it.

        Raises:
            DeadlineExceeded, Overloaded, Draining, InferenceFailed: as `run`.
        """
        prepared = await run_on(self._threads, self._detector.prepare, frame)
        people = partial(self._people, prepared.scale, frame, options)
        [found] = await self._detections.submit([prepared.pixels], people, deadline=deadline, priority=priority)
        return found.output, found.waited

    def _people(self, scale: float, frame: Frame, options: PoseOptions, raw: FloatArray) -> Detections:
        return self._detector.finish(raw, scale, frame, options.min_detection_score, options.max_people)

    def _find(self, opened: "_Opened", options: PoseOptions, raw: FloatArray) -> "_Cut":
        assert opened.letterboxed is not None
        found = self._people(opened.letterboxed.scale, opened.frame, options, raw)
        return self._cut(opened.frame, xyxy_to_xywh(found.boxes_xyxy), found.scores)

    def _cut(self, frame: Frame, boxes: FloatArray, scores: FloatArray) -> "_Cut":
        if not len(boxes):
            return _Cut.nobody()
        started = time.perf_counter()
        with self._metrics.time_stage("crop"), tracing.stage("crop"):
            crops = self._pose.prepare(frame, boxes)
        return _Cut(boxes, scores, crops, time.perf_counter() - started)

    def _finish(self, cut: "_Cut", served: Sequence[Served[Keypoints]]) -> list[Pose]:
        return [
            self._pose.finish(box, float(score), crop, item.output)
            for box, score, crop, item in zip(cut.boxes_xywh, cut.scores, cut.crops, served, strict=True)
        ]

    def _observe(self, timings: Timings, people: Sequence[Pose], options: PoseOptions) -> None:
        if options.boxes_xywh is None:
            self._metrics.observe_stage("detect", timings.detect)
        if people:
            self._metrics.observe_stage("pose", timings.pose)
        self._metrics.observe_people(len(people))


@dataclass(frozen=True, slots=True, eq=False)
class _Cut:
    """People cut out of a picture."""

    boxes_xywh: FloatArray  # (N, 4) float32, pixels of the upright picture
    scores: FloatArray  # (N,) float32, 0..1
    crops: Sequence[Crop]
    seconds: float

    @classmethod
    def nobody(cls) -> Self:
        return cls(np.empty((0, 4), np.float32), np.empty(0, np.float32), (), 0.0)


@dataclass(frozen=True, slots=True, eq=False)
class _Opened:
    """A picture that is ready for the detector, or cut by the caller's boxes."""

    frame: Frame
    decoded: float  # seconds that loading took
    letterboxed: Letterboxed | None  # None: the caller gave boxes
    prepared: float  # seconds that letterboxing took
    cut: _Cut


def _check_boxes(boxes: FloatArray, most: int, frame: Frame) -> None:
    if len(boxes) > most:
        raise BadParameter(f"{len(boxes)} boxes are more than max_people, which is {most}")
    for i, (x, y, w, h) in enumerate(boxes.tolist()):
        if w <= 0 or h <= 0:
            raise BadParameter(f"boxes[{i}] has no area: width {w:g}, height {h:g}")
        if x >= frame.width or y >= frame.height or x + w <= 0 or y + h <= 0:
            raise BadParameter(f"boxes[{i}] lies outside the upright picture of {frame.width} x {frame.height} pixels")
