"""One picture's way: people, crops, keypoints. Everything that computes runs on a thread; this only awaits."""

import time
from collections.abc import Sequence
from concurrent.futures import Executor

import numpy as np

from posewire.inference.batcher import DynamicBatcher, Served
from posewire.inference.detector import Detector
from posewire.inference.pool import run_on
from posewire.inference.pose import PoseEstimator
from posewire.telemetry.metrics import Metrics
from posewire.types import Crop, Detections, FloatArray, Frame, Keypoints, Pose, PoseOptions, PoseResult, Priority, Timings, UInt8Array
from posewire.vision.geometry import xywh_to_xyxy, xyxy_to_xywh


class Pipeline:
    """Finds and places everyone in a frame.

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
        self, frame: Frame, options: PoseOptions, *, deadline: float | None = None, priority: Priority = Priority.BULK
    ) -> PoseResult:
        """Everyone in the frame.

        People that the detector finds come best first. With the caller's boxes there is one person a box, in the
        caller's order: an answer would otherwise have to be matched to its box again.

        Args:
            frame: one picture.
            options: the caller's choices.
            deadline: in the event loop's time; None: none.
            priority: whose work goes first in the queues.

        Raises:
            DeadlineExceeded: at the deadline at once.
            Overloaded, Draining, InferenceFailed: as the batcher.
        """
        started = time.perf_counter()
        if options.boxes_xywh is None:
            found, detect_wait = await self.detect(frame, options, deadline=deadline, priority=priority)
        else:
            found = Detections(xywh_to_xyxy(options.boxes_xywh), np.ones(len(options.boxes_xywh), np.float32))
            detect_wait = 0.0
        detected = time.perf_counter()
        boxes = xyxy_to_xywh(found.boxes_xyxy) if options.boxes_xywh is None else options.boxes_xywh
        crops = await self._cut(frame, boxes)
        cropped = time.perf_counter()
        pixels = [crop.pixels for crop in crops]
        served = await self._keypoints.submit(pixels, deadline=deadline, priority=priority) if crops else []
        people = self._finish(boxes, found.scores, crops, served)
        if options.boxes_xywh is None:
            people.sort(key=lambda person: -person.score)
        ended = time.perf_counter()
        pose_wait = min((s.waited for s in served), default=0.0)
        timings = Timings(
            queue=detect_wait + pose_wait,
            detect=detected - started - detect_wait,
            crop=cropped - detected,
            pose=ended - cropped - pose_wait,
            total=ended - started,
        )
        self._observe(timings, people, options)
        return PoseResult(frame.width, frame.height, tuple(people), timings)

    async def detect(
        self, frame: Frame, options: PoseOptions, *, deadline: float | None = None, priority: Priority = Priority.BULK
    ) -> tuple[Detections, float]:
        """The people that the detector finds, and the seconds that the picture waited for it.

        Raises:
            DeadlineExceeded, Overloaded, Draining, InferenceFailed: as `run`.
        """
        prepared = await run_on(self._threads, self._detector.prepare, frame)
        [raw] = await self._detections.submit([prepared.pixels], deadline=deadline, priority=priority)
        found = await run_on(
            self._threads, self._detector.finish, raw.output, prepared.scale, frame, options.min_detection_score, options.max_people
        )
        return found, raw.waited

    async def _cut(self, frame: Frame, boxes: FloatArray) -> list[Crop]:
        if not len(boxes):
            return []
        with self._metrics.time_stage("crop"):
            return await run_on(self._threads, self._pose.prepare, frame, boxes)

    def _finish(self, boxes: FloatArray, scores: FloatArray, crops: Sequence[Crop], served: Sequence[Served[Keypoints]]) -> list[Pose]:
        return [
            self._pose.finish(box, float(score), crop, item.output)
            for box, score, crop, item in zip(boxes, scores, crops, served, strict=True)
        ]

    def _observe(self, timings: Timings, people: Sequence[Pose], options: PoseOptions) -> None:
        if options.boxes_xywh is None:
            self._metrics.observe_stage("detect", timings.detect)
        if people:
            self._metrics.observe_stage("pose", timings.pose)
        self._metrics.observe_people(len(people))
