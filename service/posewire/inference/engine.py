"""The models, their queues and their threads as one thing that starts, answers and stops."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from typing import ParamSpec, TypeVar

import numpy as np
import onnxruntime

from posewire.config import Settings
from posewire.errors import BadParameter, DeadlineExceeded
from posewire.inference.batcher import DynamicBatcher
from posewire.inference.cpu import cpu_limit
from posewire.inference.detector import Detector
from posewire.inference.device import DevicePlan, Runtime, choose_device
from posewire.inference.feed import ModelFeed, require_fit
from posewire.inference.pipeline import Pipeline
from posewire.inference.pool import ComputePool, run_on
from posewire.inference.pose import PoseEstimator
from posewire.inference.runtime import kernel_session
from posewire.inference.session import OnnxSession
from posewire.models.specs import ModelSpec
from posewire.models.store import open_store
from posewire.telemetry.metrics import Metrics
from posewire.types import Detections, FloatArray, Frame, Keypoints, PoseOptions, PoseResult, Priority, Timings, UInt8Array
from posewire.vision.decode import decode
from posewire.vision.draw import PictureType, draw_poses, draw_track_ids, encode, sides_of

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger(__name__)

# A drawn keypoint that the model does not believe in only confuses.
_DRAWN_KEYPOINT_SCORE = 0.2


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model as it is served."""

    spec: ModelSpec
    provider: str  # what it really runs on: ONNX Runtime's name of it, or Posewire's kernels


@dataclass(frozen=True, slots=True, eq=False)
class Estimate:
    """A decoded picture and everyone in it."""

    frame: Frame
    result: PoseResult


class Engine:
    """Encoded pictures in, people out. Built by `load_engine`; `start` needs a running event loop.

    Args:
        detector: the person detector.
        pose: the pose model.
        plan: the device.
        settings: limits and batching.
        metrics: is told of everything.
    """

    def __init__(self, detector: Detector, pose: PoseEstimator, plan: DevicePlan, settings: Settings, metrics: Metrics) -> None:
        self.detector = detector
        self.pose = pose
        self.plan = plan
        self.settings = settings
        self.metrics = metrics
        self.models = tuple(LoadedModel(m.spec, m.session.provider) for m in (detector, pose))
        self._warm = False
        self._pool = ComputePool(plan.workers)
        # Decoding and cutting: as many threads as cores; a picture is a task, so the door bounds the queue.
        self._threads = ThreadPoolExecutor(cpu_limit(), thread_name_prefix="posewire-picture")
        window = settings.batch_window_ms / 1000
        max_batch = settings.max_batch or plan.max_batch
        # A picture that was let in is never refused half-way: the crop queue holds everyone of all of them.
        most = settings.max_in_flight + settings.max_streams  # a stream has one frame in flight
        self._detections = DynamicBatcher[UInt8Array, FloatArray](
            "detector",
            detector.infer,
            self._pool,
            max_batch=max_batch,
            max_queue=most,
            max_wait=window,
            observer=metrics.batches("detector"),
        )
        self._keypoints = DynamicBatcher[UInt8Array, Keypoints](
            "pose",
            pose.infer,
            self._pool,
            max_batch=max_batch,
            max_queue=most * settings.max_people,
            max_wait=window,
            observer=metrics.batches("pose"),
        )
        self._pipeline = Pipeline(detector, pose, self._detections, self._keypoints, self._threads, metrics)
        self._max_batch = max_batch

    @property
    def alive(self) -> bool:
        """Whether both queues are served."""
        return self._detections.alive and self._keypoints.alive

    @property
    def ready(self) -> bool:
        """Whether the models are warm and served."""
        return self._warm and self.alive

    async def start(self) -> None:
        """Serve the queues and run every batch size that the sessions see once, so that no caller pays for a first run."""
        started = time.perf_counter()
        self._detections.start()
        self._keypoints.start()
        sizes = [1] if self.plan.one_by_one else range(1, self._max_batch + 1)
        for model in (self.detector, self.pose):
            blank = np.zeros((model.spec.input.height, model.spec.input.width, 3), np.uint8)
            for size in sizes:
                await self._pool.run(model.infer, [blank] * size)
        self._warm = True
        log.info("models are warm", extra={"seconds": round(time.perf_counter() - started, 3), "workers": self.plan.workers})

    async def close(self) -> None:
        """Finish what was accepted and free the threads."""
        self._warm = False
        await self._detections.close()
        await self._keypoints.close()
        await asyncio.to_thread(self._pool.close)
        await asyncio.to_thread(self._threads.shutdown)

    async def estimate(
        self, data: bytes, options: PoseOptions, *, deadline: float | None = None, priority: Priority = Priority.BULK
    ) -> Estimate:
        """Everyone in an encoded picture.

        Args:
            data: JPEG, PNG, WebP or BMP bytes.
            options: the caller's choices.
            deadline: in the event loop's time; None: none.
            priority: whose work goes first in the models' queues.

        Raises:
            BadPicture, TooLarge: as `decode`.
            BadParameter: a box of the caller lies outside the picture or has no area, or there are too many.
            DeadlineExceeded: at the deadline at once.
            Overloaded, Draining, InferenceFailed: as the pipeline.
        """
        started = time.perf_counter()
        with self._counted():
            async with _until(deadline):
                frame = await self.offload(decode, data, max_bytes=self.settings.max_bytes, max_pixels=self.settings.max_pixels)
                decoded = time.perf_counter() - started
                self.metrics.observe_stage("decode", decoded)
                result = await self._run(frame, options, deadline, priority)
        timings = replace(result.timings, decode=decoded, total=time.perf_counter() - started)
        return Estimate(frame, replace(result, timings=timings))

    async def estimate_frame(
        self, frame: Frame, options: PoseOptions, *, deadline: float | None = None, priority: Priority = Priority.BULK
    ) -> PoseResult:
        """Everyone in a picture that is decoded already, such as a frame of a video.

        Args:
            frame: upright.
            options: the caller's choices; with its `boxes_xywh` the detector is skipped.
            deadline: in the event loop's time; None: none.
            priority: whose work goes first in the models' queues.

        Raises:
            BadParameter, DeadlineExceeded, Overloaded, Draining, InferenceFailed: as `estimate`.
        """
        with self._counted():
            async with _until(deadline):
                return await self._run(frame, options, deadline, priority)

    async def detect(
        self, frame: Frame, options: PoseOptions, *, deadline: float | None = None, priority: Priority = Priority.BULK
    ) -> tuple[Detections, Timings]:
        """The people that the detector finds, without keypoints: the first half of a frame whose boxes are then chosen.

        Raises:
            DeadlineExceeded, Overloaded, Draining, InferenceFailed: as `estimate`.
        """
        started = time.perf_counter()
        async with _until(deadline):
            found, waited = await self._pipeline.detect(frame, options, deadline=deadline, priority=priority)
        total = time.perf_counter() - started
        self.metrics.observe_stage("detect", total - waited)
        return found, Timings(queue=waited, detect=total - waited, total=total)

    async def _run(self, frame: Frame, options: PoseOptions, deadline: float | None, priority: Priority) -> PoseResult:
        _check_boxes(options, frame)
        return await self._pipeline.run(frame, options, deadline=deadline, priority=priority)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """Count a picture by whether the block ends well."""
        ok = False
        try:
            yield
            ok = True
        finally:
            self.metrics.count_picture(ok=ok)

    def draw(self, estimate: Estimate, media_type: PictureType, min_keypoint_score: float | None = None) -> bytes:
        """The picture with everyone drawn on it, encoded; takes milliseconds, so `offload` it.

        Args:
            estimate: of this engine.
            media_type: of the result.
            min_keypoint_score: 0..1, lesser keypoints are not drawn; None: those that the model itself doubts.

        Raises:
            TooLarge: the picture has more pixels a side than the media type can carry.
        """
        return encode(self.draw_pixels(estimate.frame, estimate.result, min_keypoint_score), media_type)

    def draw_pixels(self, frame: Frame, result: PoseResult, min_keypoint_score: float | None = None) -> UInt8Array:
        """A frame with everyone drawn on it and their identities, if they have any; (H, W, 3) uint8 RGB."""
        names, skeleton = self.pose.spec.keypoints.names, self.pose.spec.keypoints.skeleton
        threshold = _DRAWN_KEYPOINT_SCORE if min_keypoint_score is None else min_keypoint_score
        pixels = draw_poses(frame.pixels, result.people, skeleton, sides=sides_of(names), min_keypoint_score=threshold)
        draw_track_ids(pixels, result.people)
        return pixels

    async def offload(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run something that takes milliseconds on the picture threads."""
        return await run_on(self._threads, function, *args, **kwargs)


@asynccontextmanager
async def _until(deadline: float | None) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout_at(deadline):
            yield
    except TimeoutError:
        raise DeadlineExceeded("the deadline passed before the picture was done") from None


def _opened(model: bytes, spec: ModelSpec, plan: DevicePlan, runtime: Runtime) -> OnnxSession:
    session = OnnxSession(model, spec.name, plan, runtime)
    require_fit(spec, session)
    return session


def _first_run(session: OnnxSession, spec: ModelSpec) -> str:
    """Run a model once, so that a device that opens it and then fails is found out; the provider that it ran on."""
    session.run(ModelFeed(spec.input)([np.zeros((spec.input.height, spec.input.width, 3), np.uint8)]))
    return session.provider


def _check_boxes(options: PoseOptions, frame: Frame) -> None:
    boxes = options.boxes_xywh
    if boxes is None:
        return
    if len(boxes) > options.max_people:
        raise BadParameter(f"{len(boxes)} boxes are more than max_people, which is {options.max_people}")
    for i, (x, y, w, h) in enumerate(boxes.tolist()):
        if w <= 0 or h <= 0:
            raise BadParameter(f"boxes[{i}] has no area: width {w:g}, height {h:g}")
        if x >= frame.width or y >= frame.height or x + w <= 0 or y + h <= 0:
            raise BadParameter(f"boxes[{i}] lies outside the upright picture of {frame.width} x {frame.height} pixels")


def load_engine(settings: Settings, metrics: Metrics, runtime: Runtime = onnxruntime) -> Engine:
    """Verify the models, choose the device and open the sessions; blocks for a second or so.

    Raises:
        ModelError: a model is missing, damaged or not what the manifest says.
        DeviceError: the device that was asked for does not load.
        ConfigError: the pose model gives keypoints, and a flip test or another decoding is asked for.
    """
    store = open_store(settings)
    manifest = store.manifest
    detector_spec = manifest.get(settings.detector, "detector") if settings.detector else manifest.default("detector")
    pose_spec = manifest.get(settings.pose, "pose") if settings.pose else manifest.default("pose")
    detector_model, pose_model = store.verified_bytes(detector_spec), store.verified_bytes(pose_spec)
    plan = choose_device(
        settings.device,
        runtime,
        lambda plan: _first_run(_opened(pose_model, pose_spec, plan, runtime), pose_spec),
        workers=settings.threads or cpu_limit(),
        memory_bytes=settings.gpu_memory_mb * 1024 * 1024,
        cache=settings.cache_dir,
    )
    log.info("device chosen", extra={"device": plan.device.value, "reason": plan.reason})
    detector = Detector(detector_spec, _opened(detector_model, detector_spec, plan, runtime))
    session = kernel_session(pose_spec, store, plan, settings) or _opened(pose_model, pose_spec, plan, runtime)
    pose = PoseEstimator(pose_spec, session, decoding=settings.decoding, flip_test=settings.flip_test)
    engine = Engine(detector, pose, plan, settings, metrics)
    for model in engine.models:
        metrics.set_model(model.spec.task, model.spec.name, model.spec.sha256, model.provider)
        log.info("model loaded", extra={"task": model.spec.task, "model": model.spec.name, "provider": model.provider})
    return engine
