"""One picture's way: people, crops, keypoints. Nothing is computed here; this only awaits."""

import time
from collections.abc import Container, Mapping

from posewire.engine.executors import Place
from posewire.engine.model_queue import Station
from posewire.pipeline.pose_estimator import PoseEstimator
from posewire.pipeline.pose_pipeline import ImageJob, PartialResult, PoseEstimationFailed, Preprocessed, Span
from posewire.telemetry import tracing
from posewire.telemetry.metrics import Metrics
from posewire.types import Keypoints, PoseResult, Priority, Stage, Timings, UInt8Array

_STAGES: tuple[Stage, ...] = ("decode", "detect", "crop", "pose")


class Pipeline:
    """Finds and places everyone in a picture, with few hand-overs: each costs a tenth of a millisecond.

    Args:
        pose: its `finish`.
        place: where the stages run; opens pictures.
        detections: in front of the detector, over pictures of all callers.
        keypoints: in front of the pose model, over crops of all callers.
        metrics: is told of every stage.
    """

    def __init__(
        self,
        pose: PoseEstimator,
        place: Place,
        detections: Station[Preprocessed | ImageJob, PartialResult],
        keypoints: Station[UInt8Array, Keypoints],
        metrics: Metrics,
    ) -> None:
        self._pose = pose
        self._place = place
        self._detections = detections
        self._keypoints = keypoints
        self._metrics = metrics

    async def run(self, picture: ImageJob, priority: Priority) -> PoseResult:
        """Everyone in a picture.

        People that the detector finds come best first. With the caller's boxes there is one person a box, in the
        caller's order: an answer would otherwise have to be matched to its box again.

        Args:
            picture: and the caller's choices.
            priority: whose work goes first in the queues.

        Raises:
            BadPicture, TooLarge, BadParameter: as `PosePipeline.preprocess`.
            DeadlineExceeded: at the deadline at once.
            Overloaded, Draining, InferenceFailed: as the batcher.
        """
        started = time.monotonic()
        looked, waited = await self.look(picture, priority)
        spans, people = dict(looked.spans), list(looked.poses)
        if looked.remaining:
            begun = time.monotonic()
            pixels = [crop.pixels for _, _, crop in looked.remaining]
            served = await self._keypoints.queue.submit(pixels, deadline=picture.deadline, priority=priority)
            people += [self._pose.postprocess(*person, item.output) for person, item in zip(looked.remaining, served, strict=True)]
            wait = min(item.waited for item in served)
            waited += wait
            # Where some people were placed before: from the first to the last.
            spans["pose"] = Span(spans["pose"].started if "pose" in spans else begun + wait, time.monotonic())
        if picture.options.boxes_xywh is None:
            people.sort(key=lambda person: -person.score)
        if "pose" in spans:
            self._tell("pose", spans["pose"])
        self._metrics.observe_people(len(people))
        decode, detect, crop, pose = (spans[stage].seconds if stage in spans else 0.0 for stage in _STAGES)
        timings = Timings(decode, waited, looked.prepared_s + detect, crop, pose, time.monotonic() - started)
        return PoseResult(looked.width, looked.height, tuple(people), timings)

    async def look(self, picture: ImageJob, priority: Priority) -> tuple[PartialResult, float]:
        """The boxes of a picture, and the keypoints that cost no further hand-over; and the seconds that it waited for them.

        Raises:
            ServiceError: as `run`.
        """
        opened = await self._place.open(picture)
        if isinstance(opened, Preprocessed):
            self._tell_all(opened.partial.spans)
            if opened.letterboxed is None:
                return opened.partial, 0.0
        try:
            [served] = await self._detections.queue.submit([opened], deadline=picture.deadline, priority=priority)
        except PoseEstimationFailed:
            self._keypoints.note_failure()
            raise
        looked = served.output
        self._tell_all(looked.spans, looked.prepared_s, opened.partial.spans if isinstance(opened, Preprocessed) else {})
        if looked.poses:
            self._keypoints.note_run(len(looked.poses))
        return looked, served.waited

    def _tell_all(self, spans: Mapping[Stage, Span], prepared_s: float = 0.0, told: Container[Stage] = ()) -> None:
        """Of what was done, but for what was told, and for poses: more of them may be to come."""
        for stage, span in spans.items():
            if stage != "pose" and stage not in told:
                self._tell(stage, span, prepared_s if stage == "detect" else 0.0)

    def _tell(self, stage: Stage, span: Span, more_s: float = 0.0) -> None:
        self._metrics.observe_stage(stage, span.seconds + more_s)
        tracing.past(stage, span.started, span.ended)
