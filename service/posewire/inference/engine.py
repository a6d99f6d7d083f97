"""The models, their queues and their threads as one thing that starts, answers and stops."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import ParamSpec, TypeVar

import numpy as np
import onnxruntime

from posewire.config import Settings
from posewire.errors import DeadlineExceeded
from posewire.inference.cpu import cpu_limit
from posewire.inference.detector import Detector
from posewire.inference.device import DevicePlan, Runtime, choose_device, fell_back
from posewire.inference.feed import ModelFeed, require_fit
from posewire.inference.pipeline import Pipeline
from posewire.inference.pixels import PixelBudget
from posewire.inference.pool import ComputePool, run_on
from posewire.inference.pose import PoseEstimator
from posewire.inference.runtime import kernel_session
from posewire.inference.session import OnnxSession
from posewire.inference.station import Station
from posewire.models.specs import ModelSpec
from posewire.models.store import open_store
from posewire.telemetry.metrics import Metrics, Task
from posewire.types import Detections, FloatArray, Frame, Keypoints, PoseOptions, PoseResult, Priority, Timings, UInt8Array
from posewire.vision.decode import count_pixels, decode
from posewire.vision.draw import PictureType, draw_poses, draw_track_ids, encode, sides_of

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger(__name__)

# A drawn keypoint that the model does not believe in only confuses.
_DRAWN_KEYPOINT_SCORE = 0.2

# A picture of so few bytes has its header read where it is: a thread would take longer to reach.
_SHORT_WALK = 262_144


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
        # Decoding and cutting; a picture is a task, so the door bounds the queue.
        self._threads = ThreadPoolExecutor(cpu_limit(), thread_name_prefix="posewire-picture")
        self._pixels = PixelBudget(settings.max_pixels_in_flight)
        window = None if settings.batch_window_ms is None else settings.batch_window_ms / 1000
        station = partial(Station, pool=self._pool, max_batch=settings.max_batch, window=window, metrics=metrics)
        # A picture that was let in is never refused half-way: the crop queue holds everyone of all of them.
        pictures = settings.max_in_flight + settings.max_streams  # a stream has one frame in flight
        detections: Station[FloatArray] = station("detector", detector, max_queue=pictures)
        keypoints: Station[Keypoints] = station("pose", pose, max_queue=pictures * settings.max_people)
        self.stations: tuple[Station[FloatArray], Station[Keypoints]] = (detections, keypoints)
        self._pipeline = Pipeline(detector, pose, detections.queue, keypoints.queue, self._threads, metrics)

    @property
    def alive(self) -> bool:
        """Whether both queues are served."""
        return all(station.queue.alive for station in self.stations)

    @property
    def failing(self) -> list[Task]:
        """Models whose runs keep failing."""
        return [station.task for station in self.stations if station.queue.health.failing.is_set()]

    @property
    def ready(self) -> bool:
        """Whether the models are warm, served, and work."""
        return self._warm and self.alive and not self.failing

    async def start(self) -> None:
        """Serve the queues, and warm and measure the models."""
        for station in self.stations:
            await station.start()
        self._warm = True

    async def close(self) -> None:
        """Finish what was accepted and free the threads."""
        self._warm = False
        for station in self.stations:
            await station.close()
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
            async with _until(deadline), self._pixels.hold(await self._count_pixels(data)):
                frame, result = await self._pipeline.run(partial(self._decode, data), options, deadline=deadline, priority=priority)
        return Estimate(frame, replace(result, timings=replace(result.timings, total=time.perf_counter() - started)))

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
                return (await self._pipeline.run(lambda: frame, options, deadline=deadline, priority=priority))[1]

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

    async def _count_pixels(self, data: bytes) -> int:
        count = partial(count_pixels, data, max_bytes=self.settings.max_bytes, max_pixels=self.settings.max_pixels)
        return count() if len(data) <= _SHORT_WALK else await self.offload(count)

    def _decode(self, data: bytes) -> Frame:
        with self.metrics.time_stage("decode"):
            return decode(data, max_bytes=self.settings.max_bytes, max_pixels=self.settings.max_pixels)

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
        workers=settings.threads or max(1, cpu_limit() // settings.intra_op_threads),
        intra_op_threads=settings.intra_op_threads,
        memory_bytes=settings.gpu_memory_mb * 1024 * 1024,
        cache=settings.cache_dir,
    )
    log.info("device chosen", extra={"device": plan.device.value, "reason": plan.reason})
    detector = Detector(detector_spec, _opened(detector_model, detector_spec, plan, runtime))
    session = kernel_session(pose_spec, store, plan, settings) or _opened(pose_model, pose_spec, plan, runtime)
    pose = PoseEstimator(pose_spec, session, decoding=settings.decoding, flip_test=settings.flip_test)
    engine = Engine(detector, pose, plan, settings, metrics)
    metrics.set_limits(workers=plan.workers, pictures=settings.max_in_flight)
    metrics.set_device_fallback(fell_back(settings.device, plan, runtime))
    for model in engine.models:
        metrics.set_model(model.spec.task, model.spec.name, model.spec.sha256, model.provider)
        log.info("model loaded", extra={"task": model.spec.task, "model": model.spec.name, "provider": model.provider})
    return engine
