"""The facade of the engine: starts, runs and stops the models; it knows nothing of queues."""

import asyncio
import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import ParamSpec, TypeVar

from posewire.backends.cpu_limit import cpu_limit
from posewire.backends.device import DevicePlan, Runtime, fell_back
from posewire.backends.runtime import onnx_runtime
from posewire.config import Device, Settings
from posewire.engine.cost_model import CostTable
from posewire.engine.cpu_scheduler import CpuScheduler, ThreadWorkers
from posewire.engine.deadlines import until
from posewire.engine.gpu_scheduler import GpuScheduler
from posewire.engine.memory_budget import PixelBudget
from posewire.engine.pool import run_on
from posewire.engine.profile_cache import ProfileCache, identity_of
from posewire.engine.scheduler import Completed, Scheduler
from posewire.imaging.decode import count_pixels, decode
from posewire.imaging.draw import ImageType, draw_poses, draw_track_ids, encode
from posewire.pipeline.detector import Detector
from posewire.pipeline.loading import plan_device
from posewire.pipeline.look import look_of
from posewire.pipeline.pose_estimator import PoseEstimator
from posewire.pipeline.pose_pipeline import ImageJob, PosePipeline, load_pipeline
from posewire.registry.choice import choose
from posewire.registry.specs import ModelSpec, WeightsFile
from posewire.registry.store import open_store
from posewire.telemetry import tracing
from posewire.telemetry.metrics import Metrics, Task
from posewire.types import SEEN_SCORE, Detections, Frame, PoseOptions, PoseResult, Priority, Stage, Timings, UInt8Array

if sys.platform == "linux":
    from posewire.engine.ipc import AVAILABLE
    from posewire.engine.process_workers import ProcessWorkers

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger(__name__)

# The header of an image of fewer bytes is read on the event loop: to reach a thread would take longer.
_SHORT_BYTES = 262_144


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model as it is served."""

    spec: ModelSpec
    weights: WeightsFile  # the file that runs
    provider: str  # what it runs on: ONNX Runtime's name of it, or Posewire's kernels


class Engine:
    """Encoded images in, people out. Built by `load_engine`; `start` needs a running event loop.

    Args:
        detector: the person detector.
        pose: the pose model.
        plan: the device.
        settings: limits and batching.
        metrics: is told of everything.
        scheduler: where the models run; None: threads of this process on a CPU, batches on a GPU.
        pair: name of the manifest's pair that both models are of; None: they are of no pair.
    """

    def __init__(
        self,
        detector: Detector,
        pose: PoseEstimator,
        plan: DevicePlan,
        settings: Settings,
        metrics: Metrics,
        scheduler: Scheduler | None = None,
        pair: str | None = None,
    ) -> None:
        self.detector = detector
        self.pose = pose
        self.plan = plan
        self.settings = settings
        self.metrics = metrics
        self.pair = pair
        keypoints = pose.spec.keypoints
        self._look = look_of(keypoints)
        self.models = (
            LoadedModel(detector.spec, detector.spec, detector.session.provider),
            LoadedModel(pose.spec, pose.weights, pose.session.provider),
        )
        self._threads = ThreadPoolExecutor(cpu_limit(), thread_name_prefix="posewire-image")
        self.scheduler = scheduler or scheduler_in_threads(detector, pose, plan, settings, metrics)
        decoded = self.scheduler.max_decoded
        bounded = decoded is not None and decoded * settings.max_pixels <= settings.max_pixels_in_flight
        # None: the workers cannot have too many.
        self._pixels = None if bounded else PixelBudget(settings.max_pixels_in_flight, metrics.observe_pixel_wait)

    @property
    def alive(self) -> bool:
        """True while images are taken from the queues."""
        return self.scheduler.alive

    @property
    def failing(self) -> list[Task]:
        """Models whose runs keep failing."""
        return self.scheduler.failing

    @property
    def stuck(self) -> bool:
        """True if the models are warm, but every worker is stuck, stopped or being replaced."""
        return self.scheduler.stuck

    @property
    def ready(self) -> bool:
        """True if the models are warm, served, and work."""
        return self.scheduler.ready and self.alive and not self.failing

    @property
    def pending(self) -> int:
        """Images that the models are not done with."""
        return self.scheduler.pending

    @property
    def costs(self) -> Mapping[Task, CostTable]:
        """Seconds of each model's runs, as measured by `start` or by an earlier start on this machine."""
        return self.scheduler.costs

    @property
    def measured_at(self) -> float | None:
        """When the costs were measured, in seconds since 1970; None before `start`."""
        return self.scheduler.measured_at

    async def start(self) -> None:
        """Start the workers, and warm the models; measure them unless an earlier start did."""
        await self.scheduler.start()

    async def close(self) -> None:
        """Finish what was accepted and free the threads and processes."""
        await self.scheduler.close()
        await asyncio.to_thread(self._threads.shutdown)

    async def estimate(
        self, data: bytes, options: PoseOptions, *, deadline: float | None = None, priority: Priority = Priority.BULK
    ) -> PoseResult:
        """Find everyone in an encoded image.

        Args:
            data: JPEG, PNG, WebP or BMP bytes.
            options: the caller's choices.
            deadline: in the event loop's time; None: none.
            priority: the class of the work: streams go first.

        Raises:
            BadPicture, TooLarge: as `decode`.
            BadParameter: a box of the caller lies outside the image or has no area, or there are too many.
            DeadlineExceeded: at the deadline at once.
            Overloaded, Draining, InferenceFailed: as `Scheduler.run`.
        """
        started = time.monotonic()
        job = ImageJob(data, options, deadline=deadline)
        with self._counted():
            async with until(deadline):
                if self._pixels is None:
                    completed = await self.scheduler.run(job, priority)
                else:
                    async with self._pixels.hold(await self._count_pixels(data)):
                        completed = await self.scheduler.run(job, priority)
            return self._result(job, completed, started)

    async def estimate_frame(
        self, frame: Frame, options: PoseOptions, *, deadline: float | None = None, priority: Priority = Priority.BULK
    ) -> PoseResult:
        """Find everyone in an image that is decoded already, such as a frame of a video.

        Args:
            frame: upright.
            options: the caller's choices; with its `boxes_xywh` the detector is skipped.
            deadline: in the event loop's time; None: none.
            priority: the class of the work: streams go first.

        Raises:
            BadParameter, DeadlineExceeded, Overloaded, Draining, InferenceFailed: as `estimate`.
        """
        started = time.monotonic()
        job = ImageJob(frame, options, deadline=deadline)
        with self._counted():
            async with until(deadline):
                completed = await self.scheduler.run(job, priority)
            return self._result(job, completed, started)

    async def detect(
        self, frame: Frame, options: PoseOptions, *, deadline: float | None = None, priority: Priority = Priority.BULK
    ) -> tuple[Detections, Timings]:
        """Find people without keypoints: the first half of a frame whose boxes are then chosen.

        Raises:
            DeadlineExceeded, Overloaded, Draining, InferenceFailed: as `estimate`.
        """
        started = time.monotonic()
        async with until(deadline):
            completed = await self.scheduler.run(ImageJob(frame, options, keypoints=False, deadline=deadline), priority)
        seconds = self._report(completed)
        assert completed.partial.found is not None
        return completed.partial.found, Timings(queue=completed.waited, detect=seconds["detect"], total=time.monotonic() - started)

    async def _count_pixels(self, data: bytes) -> int:
        count = partial(count_pixels, data, max_bytes=self.settings.max_bytes, max_pixels=self.settings.max_pixels)
        return count() if len(data) <= _SHORT_BYTES else await self.offload(count)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """Count an image as answered if the block ends without an error, else as failed."""
        ok = False
        try:
            yield
            ok = True
        finally:
            self.metrics.count_image(ok=ok)

    def _result(self, job: ImageJob, completed: Completed, started: float) -> PoseResult:
        """Return the answer. People whom the detector found come best first, those in the caller's boxes in the order of the boxes."""
        seconds = self._report(completed)
        image = completed.partial
        people = image.poses if job.options.boxes_xywh is not None else tuple(sorted(image.poses, key=lambda person: -person.score))
        self.metrics.observe_people(len(people))
        decode, detect, crop, pose = (seconds.get(stage, 0.0) for stage in ("decode", "detect", "crop", "pose"))
        return PoseResult(
            image.width, image.height, people, Timings(decode, completed.waited, detect, crop, pose, time.monotonic() - started)
        )

    def _report(self, completed: Completed) -> dict[Stage, float]:
        """Observe and trace the stages that ran; returns the seconds of each."""
        image = completed.partial
        seconds = {stage: span.seconds for stage, span in image.spans.items()}
        if "detect" in seconds:
            seconds["detect"] += image.prepared_s
        if "pose" in seconds:
            seconds["pose"] = completed.pose_s
        for stage, span in image.spans.items():
            self.metrics.observe_stage(stage, seconds[stage])
            tracing.past(stage, span.started, span.ended)
        return seconds

    def draw(self, data: bytes, result: PoseResult, media_type: ImageType, min_keypoint_score: float | None = None) -> bytes:
        """Draw everyone on an image and encode it; takes milliseconds, so `offload` it.

        Args:
            data: of the image; it is decoded again: to keep the pixels of all images would cost more.
            result: of this engine.
            media_type: of what is returned.
            min_keypoint_score: 0..1, keypoints with a lower score are not drawn; None: 0.2.

        Raises:
            TooLarge: the image has more pixels a side than the media type can carry.
        """
        frame = decode(data, max_bytes=self.settings.max_bytes, max_pixels=self.settings.max_pixels)
        return encode(self.draw_pixels(frame, result, min_keypoint_score), media_type)

    def draw_pixels(self, frame: Frame, result: PoseResult, min_keypoint_score: float | None = None) -> UInt8Array:
        """Draw everyone on a frame, with their identities, if they have any; returns (H, W, 3) uint8 RGB."""
        threshold = SEEN_SCORE if min_keypoint_score is None else min_keypoint_score
        pixels = draw_poses(frame.pixels, result.people, self._look, min_keypoint_score=threshold)
        draw_track_ids(pixels, result.people)
        return pixels

    async def offload(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function that takes milliseconds on a thread."""
        return await run_on(self._threads, function, *args, **kwargs)


def scheduler_in_threads(
    detector: Detector,
    pose: PoseEstimator,
    plan: DevicePlan,
    settings: Settings,
    metrics: Metrics,
    profiles: ProfileCache | None = None,
    *,
    warms: bool = True,
) -> Scheduler:
    """Return the plan's scheduler over models of this process; `profiles` and `warms` are as of the schedulers."""
    pipeline = PosePipeline(detector, pose, max_bytes=settings.max_bytes, max_pixels=settings.max_pixels)
    if plan.device is not Device.CPU:
        return GpuScheduler(pipeline, plan, settings, metrics, warms=warms)
    workers = ThreadWorkers(pipeline, plan.workers, settings.max_batch, warms=warms)
    return CpuScheduler(workers, detector.spec.input, settings, metrics, profiles)


def has_processes() -> bool:
    """Return True if models can run in processes of their own: only Linux has what they need. Elsewhere threads run them."""
    return sys.platform == "linux" and AVAILABLE


def load_engine(
    settings: Settings, metrics: Metrics, runtime: Runtime | None = None, *, processes: bool = False, warms: bool = True
) -> Engine:
    """Verify the models, choose the device and open the sessions; blocks for about a second.

    Args:
        settings: of the service.
        metrics: is told of everything.
        runtime: None: ONNX Runtime.
        processes: on a CPU, run the models in processes of their own, as many as `settings.workers` says.
        warms: False: the start neither warms nor measures the models, so that a few images are done sooner; for threads alone.

    Raises:
        ModelError: a model is missing, damaged or not what the manifest says.
        DeviceError: the device that was asked for does not load.
        ConfigError: the head of the pose model cannot do the decoding or the flip test.
    """
    choice = choose(settings, open_store(settings).manifest)
    # A process that is started later serves these models too, even if `posewire models use` has changed the choice by then.
    settings = choice.pin(settings)
    plan = plan_device(settings, runtime)
    in_processes = processes and has_processes() and plan.device is Device.CPU and settings.workers != 0
    if in_processes:
        plan = replace(plan, workers=settings.workers or plan.workers)
    pipeline = load_pipeline(settings, plan, runtime)
    profiles: ProfileCache | None = None
    if plan.device is Device.CPU and runtime is None:  # the costs of a stand-in are not those of the machine
        identity = identity_of(pipeline, plan, settings, processes=in_processes)
        profiles = ProfileCache(settings.cache_dir / "profiles", identity, settings.max_batch)
    if sys.platform == "linux" and in_processes:
        workers = ProcessWorkers(settings, plan, runtime, metrics)
        scheduler: Scheduler = CpuScheduler(workers, choice.detector.input, settings, metrics, profiles)
    else:
        scheduler = scheduler_in_threads(pipeline.detector, pipeline.pose, plan, settings, metrics, profiles, warms=warms)
    engine = Engine(pipeline.detector, pipeline.pose, plan, settings, metrics, scheduler, choice.pair)
    metrics.set_workers(plan.workers)
    metrics.set_device_fallback(fell_back(settings.device, plan, runtime or onnx_runtime()))
    for model in engine.models:
        metrics.set_model(model.spec.task, model.spec.name, model.weights.sha256, model.provider)
        fields = {"task": model.spec.task, "model": model.spec.name, "file": model.weights.file, "provider": model.provider}
        log.info("model loaded", extra=fields)
    return engine
