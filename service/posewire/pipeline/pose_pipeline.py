"""The whole computation for images: preprocess, detect, estimate keypoints. No queues, threads or processes."""

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from posewire.backends.device import DevicePlan, Runtime
from posewire.config import Settings, load_settings
from posewire.errors import BadParameter, DeadlineExceeded, InferenceFailed, ServiceError
from posewire.formats.result import NamedPoseResult
from posewire.imaging.decode import decode
from posewire.imaging.geometry import xyxy_to_xywh
from posewire.imaging.pixels import Colour
from posewire.pipeline.detector import Detector, Letterboxed
from posewire.pipeline.images import ImageSource, to_boxes, to_source
from posewire.pipeline.loading import load_models, plan_device
from posewire.pipeline.pose_estimator import PoseEstimator
from posewire.pipeline.pose_tracker import PoseTracker
from posewire.pipeline.tracking.video import DETECT_EVERY
from posewire.types import (
    Crop,
    Detections,
    FloatArray,
    Frame,
    Keypoints,
    Pose,
    PoseOptions,
    PoseResult,
    Stage,
    Timings,
    UInt8Array,
)

log = logging.getLogger(__name__)

_MAX_BATCH = 16  # images, or crops, of one model run of `PosePipeline.batch`
_STAGES: tuple[Stage, ...] = ("decode", "detect", "crop", "pose")


@dataclass(frozen=True, slots=True, eq=False)
class ImageJob:
    """One image of a caller, and what is asked for."""

    source: bytes | Frame  # encoded, or upright
    options: PoseOptions
    keypoints: bool = True  # False: detections are enough
    deadline: float | None = None  # seconds, monotonic: it need not be begun later
    exclusive: bool = False  # nothing else is likely to run before it is done

    def __reduce__(self) -> tuple[type[Self], tuple[Any, ...]]:
        """For pickle, as `PoseOptions`."""
        return type(self), (self.source, self.options, self.keypoints, self.deadline, self.exclusive)


class Span(NamedTuple):
    """The begin and the end of a stage, in seconds, monotonic; the same clock for all processes of a machine."""

    started: float
    ended: float

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended - self.started


@dataclass(frozen=True, slots=True, eq=False)
class Preprocessed:
    """An image that is ready for the detector, or cut by the caller's boxes."""

    job: ImageJob
    frame: Frame
    letterboxed: Letterboxed | None  # None: the caller gave boxes
    partial: "PartialResult"  # so far


@dataclass(frozen=True, slots=True, eq=False)
class PartialResult:
    """The people of an image so far, and the crops of those whose keypoints are not estimated yet."""

    width: int  # pixels
    height: int  # pixels
    found: Detections | None = None  # where detections are enough
    poses: tuple[Pose, ...] = ()  # the first people
    remaining: tuple[
        tuple[FloatArray, float, Crop], ...
    ] = ()  # box (4,) float32 x y w h in image pixels, its score, and the crop of all others
    prepared_s: float = 0.0  # seconds that it took to scale the image for the detector
    spans: Mapping[Stage, Span] = field(default_factory=dict)  # of the stages that are done

    def __reduce__(self) -> tuple[type[Self], tuple[Any, ...]]:
        """For pickle, as `PoseOptions`."""
        return type(self), (self.width, self.height, self.found, self.poses, self.remaining, self.prepared_s, self.spans)


class PosePipeline:
    """A detector and a pose model: images in, people out. All methods may be called from any thread.

    Example:
        ```python
        pipeline = PosePipeline.load("fast")
        result = pipeline("photo.jpg", max_people=5)
        for person in result.people:
            print(person.score, person.keypoints.xy)
        ```

    Args:
        detector: finds people.
        pose: estimates their keypoints.
        max_bytes: of an encoded image.
        max_pixels: of an encoded image.
        defaults: the options of calls that give none.
        decode_limit: entered while an encoded image is decoded; by several threads at a time, if methods are called from several.
    """

    def __init__(
        self,
        detector: Detector,
        pose: PoseEstimator,
        *,
        max_bytes: int,
        max_pixels: int,
        defaults: PoseOptions = PoseOptions(0.25, 50),  # noqa: B008 - it is frozen
        decode_limit: AbstractContextManager[object] = nullcontext(),  # noqa: B008 - it has no state
    ) -> None:
        self.detector = detector
        self.pose = pose
        self._max_bytes = max_bytes
        self._max_pixels = max_pixels
        self._defaults = defaults
        self._decode_limit = decode_limit

    @staticmethod
    def load(models: str | None = None, device: str | None = None, **settings: object) -> "PosePipeline":
        """Load the models; this takes a second or so.

        Args:
            models: name of a pair of the manifest, such as "fast" or "accurate".
            device: "auto", "cpu", "cuda" or "tensorrt".
            settings: other settings by their names in small letters, such as `pose="litehrnet18-128x96"` or `flip_test=True`. What is not
                given here is as the environment variables `POSEWIRE_...` say, else as docs/settings.md says.

        Raises:
            ConfigError: a setting is unknown or has a bad value.
            ModelError: a model is missing, damaged or not what the manifest says.
            DeviceError: the device that was asked for does not load.
        """
        chosen = load_settings(None, models=models, device=device, **settings)
        plan = plan_device(chosen)
        pipeline = load_pipeline(chosen, plan)
        if not plan.fixed_sizes:  # there a size more costs nothing, and a batch is faster than its items one by one
            for model in (pipeline.detector, pipeline.pose):
                for size in (2, 4, 8, _MAX_BATCH):
                    model.session.open_size(size)
        return pipeline

    def __call__(
        self,
        image: ImageSource,
        *,
        colour: Colour = "RGB",
        boxes: npt.ArrayLike | None = None,
        max_people: int | None = None,
        min_detection_score: float | None = None,
    ) -> NamedPoseResult:
        """Find everyone in an image.

        Args:
            image: a path; the bytes of a JPEG, PNG, WebP or BMP file; an array (H, W, 3) uint8; or a PIL image. EXIF orientation is
                applied, and an alpha channel is dropped.
            colour: the order of an array's channels, "RGB" or "BGR" (as OpenCV reads images).
            boxes: (N, 4) x y w h in pixels of the upright image: the people, so that the detector does not run.
            max_people: how many people at most; None: as the settings say, or as many as there are boxes.
            min_detection_score: 0..1, of the people that the detector finds; None: as the settings say.

        Returns:
            Everyone, best first; with `boxes`, one person a box in their order. Coordinates are in pixels of the upright image. Methods
            of the result convert it to other formats and to data frames.

        Raises:
            TypeError, ValueError: the image, the boxes or the colour are not as described above.
            OSError: the file is not there or cannot be read.
            BadPicture, TooLarge: the file cannot be decoded, or is over the settings' limits.
            BadParameter: a box lies outside the image or has no area, or there are more boxes than `max_people`.
        """
        if boxes is None:
            options = self._options(max_people, min_detection_score)
        else:
            boxes_xywh = to_boxes(boxes)
            options = PoseOptions(0.0, len(boxes_xywh) if max_people is None else max_people, boxes_xywh)
        [result] = self.estimate([ImageJob(to_source(image, colour), options)])
        return self.named(result)

    def batch(
        self,
        images: Iterable[ImageSource],
        *,
        colour: Colour = "RGB",
        max_people: int | None = None,
        min_detection_score: float | None = None,
    ) -> list[NamedPoseResult]:
        """Find everyone in many images, in their order; both models see many images at once.

        Args:
            images: each as in a call.
            colour: as in a call.
            max_people: of one image, as in a call.
            min_detection_score: as in a call.

        Raises:
            Exception: as a call, for the first image that fails. The `image` of a ServiceError is its index.
        """
        options = self._options(max_people, min_detection_score)
        results: list[PoseResult] = []
        jobs: list[ImageJob] = []
        try:
            for image in images:
                jobs.append(ImageJob(to_source(image, colour), options))
                if len(jobs) == _MAX_BATCH:
                    results += self.estimate(jobs)
                    jobs = []
            results += self.estimate(jobs)
        except ServiceError as error:
            if error.status < 500:
                error.image = len(results) + (error.image or 0)
            raise
        return [self.named(result) for result in results]

    def tracker(
        self,
        *,
        fps: float = 30.0,
        smooth: bool = True,
        detect_every: int = DETECT_EVERY,
        max_people: int | None = None,
        min_detection_score: float | None = None,
    ) -> PoseTracker:
        """Return a tracker for the frames of one video.

        Args:
            fps: frames a second of the video, for frames that are given without their time.
            smooth: take the jitter out of the keypoints.
            detect_every: the most frames from one run of the detector to the next; 1: it runs on every frame.
            max_people: as in a call.
            min_detection_score: as in a call.
        """
        options = self._options(max_people, min_detection_score)
        oks_sigmas = self.pose.spec.keypoints.oks_sigmas
        return PoseTracker(self, oks_sigmas, options, fps=fps, smooth=smooth, detect_every=detect_every)

    def named(self, result: PoseResult) -> NamedPoseResult:
        """Return a result with the keypoint set and the name of the pose model."""
        return NamedPoseResult.of(result, self.pose.spec.keypoints, self.pose.spec.name)

    def frame(self, image: ImageSource, colour: Colour = "RGB") -> Frame:
        """Return an image as upright RGB pixels.

        Raises:
            Exception: as a call.
        """
        source = to_source(image, colour)
        return source if isinstance(source, Frame) else self._decode(source)

    def detect_people(self, frame: Frame, options: PoseOptions) -> tuple[Detections, Timings]:
        """Return the people that the detector finds in a frame, without keypoints.

        Raises:
            InferenceFailed: the detector's output could not be read.
        """
        started = time.monotonic()
        [partial] = self.detect_and_crop([ImageJob(frame, options, keypoints=False)])
        if isinstance(partial, ServiceError):
            raise partial
        assert partial.found is not None
        seconds = time.monotonic() - started
        return partial.found, Timings(detect=seconds, total=seconds)

    def estimate_frame(self, frame: Frame, options: PoseOptions) -> PoseResult:
        """Return the people of a frame; with the options' boxes the detector does not run.

        Raises:
            BadParameter: as a call.
        """
        return self.estimate([ImageJob(frame, options)])[0]

    def estimate(self, jobs: Sequence[ImageJob]) -> list[PoseResult]:
        """Run all stages of some images; the detector sees all of them at once, and the pose model everyone's crops.

        Returns:
            One result a job, in their order. `timings` of a stage that ran for many images at once are those of the whole run.

        Raises:
            Exception: the error of the first image that failed. Its `image` is the index, if that image is at fault and not alone.
        """
        begun = time.monotonic()
        partials: list[PartialResult] = []
        for index, partial in enumerate(self.detect_and_crop(jobs)):
            if isinstance(partial, ServiceError):
                if len(jobs) > 1 and partial.status < 500:  # from 500 on the image is not at fault
                    partial.image = index
                raise partial
            partials.append(partial)
        started = time.monotonic()
        crops = [crop.pixels for partial in partials for _, _, crop in partial.remaining]
        keypoints: list[Keypoints] = []
        for at in range(0, len(crops), _MAX_BATCH):
            keypoints += self.estimate_keypoints(crops[at : at + _MAX_BATCH])
        pose, of_crops = Span(started, time.monotonic()), iter(keypoints)
        return [self._result(job, partial, of_crops, pose, begun) for job, partial in zip(jobs, partials, strict=True)]

    def preprocess(self, job: ImageJob) -> Preprocessed:
        """Decode an image and make it ready for the first model that sees it.

        Raises:
            BadPicture, TooLarge: as `decode`.
            BadParameter: a box of the caller lies outside the image or has no area, or there are too many.
        """
        started = time.monotonic()
        source = job.source
        frame = source if isinstance(source, Frame) else self._decode(source)
        decoded = time.monotonic()
        spans: dict[Stage, Span] = {} if isinstance(source, Frame) else {"decode": Span(started, decoded)}
        partial = PartialResult(frame.width, frame.height, spans=spans)
        boxes = job.options.boxes_xywh
        if boxes is not None:
            _check_boxes(boxes, job.options.max_people, frame)
            return Preprocessed(job, frame, None, self._crop(partial, frame, boxes, np.ones(len(boxes), np.float32)))
        letterboxed = self.detector.preprocess(frame)
        return Preprocessed(job, frame, letterboxed, replace(partial, prepared_s=time.monotonic() - decoded))

    def detect(self, preprocessed: Sequence[Preprocessed]) -> list[PartialResult | ServiceError]:
        """Detect and crop the people of images that have no boxes; an image that fails leaves its error in its place."""
        started = time.monotonic()
        exclusive = len(preprocessed) == 1 and preprocessed[0].job.exclusive
        batch = [one.letterboxed.pixels for one in preprocessed if one.letterboxed is not None]
        raws = self.detector.infer(batch, exclusive=exclusive)
        return [self._detections(one, raw, started) for one, raw in zip(preprocessed, raws, strict=True)]

    def estimate_keypoints(self, crops: Sequence[UInt8Array]) -> list[Keypoints]:
        """Return the keypoints of crops (h, w, 3) uint8 RGB, in crop pixels."""
        return self.pose.infer(crops)

    def detect_and_crop(self, jobs: Sequence[ImageJob]) -> list[PartialResult | ServiceError]:
        """Run all stages before the pose model on this thread; with a job's boxes the detector does not see its image.

        Args:
            jobs: of any callers.

        Returns:
            A result for each job, whose crops remain; an image that fails leaves its error in its place.
        """
        preprocessed = [self._preprocess_one(job) for job in jobs]
        pending = [one for one in preprocessed if isinstance(one, Preprocessed) and one.letterboxed is not None]
        detected = iter(self.detect(pending) if pending else [])
        return [
            one if isinstance(one, ServiceError) else one.partial if one.letterboxed is None else next(detected) for one in preprocessed
        ]

    def _decode(self, data: bytes) -> Frame:
        with self._decode_limit:
            return decode(data, max_bytes=self._max_bytes, max_pixels=self._max_pixels)

    def _options(self, max_people: int | None, min_detection_score: float | None) -> PoseOptions:
        return PoseOptions(
            self._defaults.min_detection_score if min_detection_score is None else min_detection_score,
            self._defaults.max_people if max_people is None else max_people,
        )

    def _result(self, job: ImageJob, partial: PartialResult, keypoints: Iterable[Keypoints], pose: Span, begun: float) -> PoseResult:
        """Complete a result with the next of the keypoints."""
        people = [self.pose.postprocess(*person, found) for person, found in zip(partial.remaining, keypoints, strict=False)]
        if job.options.boxes_xywh is None:
            people.sort(key=lambda person: -person.score)
        spans = {**partial.spans, "pose": pose} if people else partial.spans
        decode_s, detect_s, crop_s, pose_s = (spans[stage].seconds if stage in spans else 0.0 for stage in _STAGES)
        timings = Timings(decode_s, 0.0, partial.prepared_s + detect_s, crop_s, pose_s, pose.ended - begun)
        return PoseResult(partial.width, partial.height, tuple(people), timings)

    def _preprocess_one(self, job: ImageJob) -> Preprocessed | ServiceError:
        if job.deadline is not None and job.deadline <= time.monotonic():
            return DeadlineExceeded("the deadline passed before the image was done")
        try:
            return self.preprocess(job)
        except ServiceError as error:
            return error
        except Exception:
            return inference_failed("an image could not be preprocessed")

    def _detections(self, preprocessed: Preprocessed, raw: FloatArray, started: float) -> PartialResult | ServiceError:
        assert preprocessed.letterboxed is not None
        options = preprocessed.job.options
        try:
            found = self.detector.postprocess(
                raw, preprocessed.letterboxed.scale, preprocessed.frame, options.min_detection_score, options.max_people
            )
            spans: dict[Stage, Span] = {**preprocessed.partial.spans, "detect": Span(started, time.monotonic())}
            partial = replace(preprocessed.partial, spans=spans)
            if not preprocessed.job.keypoints:
                return replace(partial, found=found)
            return self._crop(partial, preprocessed.frame, xyxy_to_xywh(found.boxes_xyxy), found.scores)
        except Exception:
            return inference_failed("an image could not be postprocessed after the detector")

    def _crop(self, partial: PartialResult, frame: Frame, boxes_xywh: FloatArray, scores: FloatArray) -> PartialResult:
        if not len(boxes_xywh):
            return partial
        started = time.monotonic()
        crops = self.pose.crop(frame, boxes_xywh)
        spans: dict[Stage, Span] = {**partial.spans, "crop": Span(started, time.monotonic())}
        return replace(partial, remaining=tuple(zip(boxes_xywh, scores.tolist(), crops, strict=True)), spans=spans)


def load_pipeline(
    settings: Settings,
    plan: DevicePlan,
    runtime: Runtime | None = None,
    decode_limit: AbstractContextManager[object] = nullcontext(),  # noqa: B008 - it has no state
) -> PosePipeline:
    """Load the models that the settings name, on a device that is chosen; `decode_limit` is as of `PosePipeline`.

    Raises:
        ModelError, DeviceError, ConfigError: as `load_models`.
    """
    detector, pose = load_models(settings, plan, runtime)
    limits = {"max_bytes": settings.max_bytes, "max_pixels": settings.max_pixels}
    return PosePipeline(detector, pose, **limits, defaults=settings.pose_options(), decode_limit=decode_limit)


def inference_failed(what: str) -> InferenceFailed:
    """Log the cause, and return the error that the caller of one image gets."""
    log.exception(what)
    return InferenceFailed("the model could not be run on this image; try again")


def _check_boxes(boxes: FloatArray, max_people: int, frame: Frame) -> None:
    if len(boxes) > max_people:
        raise BadParameter(f"{len(boxes)} boxes are more than max_people, which is {max_people}")
    for i, (x, y, w, h) in enumerate(boxes.tolist()):
        if w <= 0 or h <= 0:
            raise BadParameter(f"boxes[{i}] has no area: width {w:g}, height {h:g}")
        if x >= frame.width or y >= frame.height or x + w <= 0 or y + h <= 0:
            raise BadParameter(f"boxes[{i}] lies outside the upright image of {frame.width} x {frame.height} pixels")
