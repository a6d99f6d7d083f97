"""The models, their queues and where they run, as one thing that starts, answers and stops."""

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

from posewire.backends.cpu_limit import cpu_limit
from posewire.backends.device import DevicePlan, Runtime, fell_back
from posewire.config import Device, Settings
from posewire.engine.executors import InProcesses, InThreads, Place
from posewire.engine.idle import Solitude
from posewire.engine.ipc import AVAILABLE
from posewire.engine.loading import load_pipeline, plan_device
from posewire.engine.memory_budget import PixelBudget
from posewire.engine.model_queue import Station
from posewire.engine.pipeline import Pipeline
from posewire.engine.pool import run_on
from posewire.engine.share import OwnShare
from posewire.errors import DeadlineExceeded
from posewire.imaging.decode import count_pixels, decode
from posewire.imaging.draw import PictureType, draw_poses, draw_track_ids, encode, sides_of
from posewire.pipeline.detector import Detector
from posewire.pipeline.pose_estimator import PoseEstimator
from posewire.pipeline.pose_pipeline import ImageJob, PartialResult, PosePipeline, Preprocessed
from posewire.registry.choice import choose
from posewire.registry.specs import ModelSpec, WeightsFile
from posewire.registry.store import open_store
from posewire.telemetry.metrics import Metrics, Task
from posewire.types import Detections, Frame, Keypoints, PoseOptions, PoseResult, Priority, Timings, UInt8Array

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
    weights: WeightsFile  # of its files the one that runs
    provider: str  # what it really runs on: ONNX Runtime's name of it, or Posewire's kernels


class Engine:
    """Encoded pictures in, people out. Built by `load_engine`; `start` needs a running event loop.

    Args:
        detector: the person detector.
        pose: the pose model.
        plan: the device.
        settings: limits and batching.
        metrics: is told of everything.
        place: where the models run; None: threads of this process.
        pair: name of the manifest's pair that both models are of; None: they are of no pair.
    """

    def __init__(
        self,
        detector: Detector,
        pose: PoseEstimator,
        plan: DevicePlan,
        settings: Settings,
        metrics: Metrics,
        place: Place | None = None,
        pair: str | None = None,
    ) -> None:
        self.detector = detector
        self.pose = pose
        self.plan = plan
        self.settings = settings
        self.metrics = metrics
        self.pair = pair
        self.models = (
            LoadedModel(detector.spec, detector.spec, detector.session.provider),
            LoadedModel(pose.spec, pose.weights, pose.session.provider),
        )
        self._warm = False
        self._solitude = Solitude()
        self._share = OwnShare()
        # Decoding, cutting and drawing; a picture is a task, so the door bounds the queue.
        self._threads = ThreadPoolExecutor(cpu_limit(), thread_name_prefix="posewire-picture")
        stages = PosePipeline(detector, pose, max_bytes=settings.max_bytes, max_pixels=settings.max_pixels)
        self._place: Place = place or InThreads(stages, plan.workers, self._threads, settings.max_batch)
        most_open = self._place.most_open
        bounded = most_open is not None and most_open * settings.max_pixels <= settings.max_pixels_in_flight
        self._pixels = None if bounded else PixelBudget(settings.max_pixels_in_flight)  # None: they cannot be too many
        window = None if settings.batch_window_ms is None else settings.batch_window_ms / 1000
        # A picture that was let in is never refused half-way: the crop queue holds everyone of all of them.
        pictures = settings.max_in_flight + settings.max_streams  # a stream has one frame in flight
        station = partial(Station, pool=self._place.pool, window=window, metrics=metrics)
        detections: Station[Preprocessed | ImageJob, PartialResult] = station(
            "detector", self._place.look, self._blank_picture, max_queue=pictures
        )
        crops = pictures * settings.max_people
        keypoints: Station[UInt8Array, Keypoints] = station("pose", self._place.place, self._blank_crop, max_queue=crops)
        self.stations = (detections, keypoints)
        self._pipeline = Pipeline(pose, self._place, detections, keypoints, metrics)

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
        return self._warm and self._place.ready and self.alive and not self.failing

    async def start(self) -> None:
        """Serve the queues, and warm and measure the models."""
        for station in self.stations:
            station.start()
        costs = await self._place.start()
        for station in self.stations:
            station.set_costs(costs[station.task])
        self._warm = True

    async def close(self) -> None:
        """Finish what was accepted and free the threads and processes."""
        self._warm = False
        for station in self.stations:
            await station.close()
        await self._place.pool.close()
        await asyncio.to_thread(self._threads.shutdown)

    async def _blank_picture(self) -> Preprocessed | ImageJob:
        side = self.detector.spec.input
        frame = Frame(np.zeros((side.height, side.width, 3), np.uint8))
        return await self._place.open(ImageJob(frame, self.settings.pose_options(), keypoints=False))

    async def _blank_crop(self) -> UInt8Array:
        return np.zeros((self.pose.spec.input.height, self.pose.spec.input.width, 3), np.uint8)

    async def estimate(
        self, data: bytes, options: PoseOptions, *, deadline: float | None = None, priority: Priority = Priority.BULK
    ) -> PoseResult:
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
        with self._counted() as alone:
            picture = ImageJob(data, options, deadline=deadline, exclusive=alone)
            if self._pixels is None:
                return await self._pipeline.run(picture, priority)
            async with _until(deadline), self._pixels.hold(await self._count_pixels(data)):
                result = await self._pipeline.run(picture, priority)
        return replace(result, timings=replace(result.timings, total=time.perf_counter() - started))

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
        with self._counted() as alone:
            async with _until(deadline):
                return await self._pipeline.run(ImageJob(frame, options, deadline=deadline, exclusive=alone), priority)

    async def detect(
        self, frame: Frame, options: PoseOptions, *, deadline: float | None = None, priority: Priority = Priority.BULK
    ) -> tuple[Detections, Timings]:
        """The people that the detector finds, without keypoints: the first half of a frame whose boxes are then chosen.

        Raises:
            DeadlineExceeded, Overloaded, Draining, InferenceFailed: as `estimate`.
        """
        started = time.perf_counter()
        with self._solitude.enter() as alone:
            async with _until(deadline):
                picture = ImageJob(frame, options, keypoints=False, deadline=deadline, exclusive=alone and self._place.alone_pays)
                looked, waited = await self._pipeline.look(picture, priority)
        total = time.perf_counter() - started
        assert looked.found is not None
        return looked.found, Timings(queue=waited, detect=total - waited, total=total)

    async def _count_pixels(self, data: bytes) -> int:
        count = partial(count_pixels, data, max_bytes=self.settings.max_bytes, max_pixels=self.settings.max_pixels)
        return count() if len(data) <= _SHORT_WALK else await self.offload(count)

    @contextmanager
    def _counted(self) -> Iterator[bool]:
        """Count a picture by whether the block ends well; whether to use more than one core for it."""
        ok = False
        try:
            with self._solitude.enter() as alone:
                yield alone and self._place.alone_pays
            ok = True
        finally:
            self.metrics.count_picture(ok=ok)
            if self._place.apart and (share := self._share.count()) is not None:
                self.stations[0].set_share(share)

    def draw(self, data: bytes, result: PoseResult, media_type: PictureType, min_keypoint_score: float | None = None) -> bytes:
        """The picture with everyone drawn on it, encoded; takes milliseconds, so `offload` it.

        Args:
            data: of the picture; it is decoded again, which costs less than to keep all pictures in case they are drawn.
            result: of this engine.
            media_type: of what is returned.
            min_keypoint_score: 0..1, lesser keypoints are not drawn; None: those that the model itself doubts.

        Raises:
            TooLarge: the picture has more pixels a side than the media type can carry.
        """
        frame = decode(data, max_bytes=self.settings.max_bytes, max_pixels=self.settings.max_pixels)
        return encode(self.draw_pixels(frame, result, min_keypoint_score), media_type)

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


def load_engine(settings: Settings, metrics: Metrics, runtime: Runtime | None = None, *, processes: bool = False) -> Engine:
    """Verify the models, choose the device and open the sessions; blocks for a second or so.

    Args:
        settings: of the service.
        metrics: is told of everything.
        runtime: None: ONNX Runtime.
        processes: on a CPU, run the models in processes of their own, as many as `settings.workers` says.

    Raises:
        ModelError: a model is missing, damaged or not what the manifest says.
        DeviceError: the device that was asked for does not load.
        ConfigError: the pose model gives keypoints, and a flip test or another decoding is asked for.
    """
    choice = choose(settings, open_store(settings).manifest)
    # A process that is started later serves these models too, whatever `posewire models use` keeps by then.
    settings = choice.pin(settings)
    plan = plan_device(settings, runtime)
    place: Place | None = None
    if processes and AVAILABLE and plan.device is Device.CPU and settings.workers != 0:
        plan = replace(plan, workers=settings.workers or plan.workers)
        place = InProcesses(settings, plan, runtime, metrics.count_worker_death)
    stages = load_pipeline(settings, plan, runtime)
    engine = Engine(stages.detector, stages.pose, plan, settings, metrics, place, choice.pair)
    metrics.set_limits(workers=plan.workers, pictures=settings.max_in_flight)
    metrics.set_device_fallback(fell_back(settings.device, plan, runtime or onnxruntime))
    for model in engine.models:
        metrics.set_model(model.spec.task, model.spec.name, model.weights.sha256, model.provider)
        told = {"task": model.spec.task, "model": model.spec.name, "file": model.weights.file, "provider": model.provider}
        log.info("model loaded", extra=told)
    return engine
