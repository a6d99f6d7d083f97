"""On a GPU the stages of many images run in batches: each model has a queue, and images are preprocessed on threads meanwhile."""

import asyncio
import math
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from posewire.backends.cpu_limit import cpu_limit
from posewire.backends.device import DevicePlan
from posewire.config import Settings
from posewire.engine.batch import Served
from posewire.engine.cost_model import CostTable
from posewire.engine.dynamic_batcher import DynamicBatcher
from posewire.engine.pool import ThreadPool, run_on
from posewire.engine.profiler import warm
from posewire.engine.scheduler import Completed, Recovery, max_images, trial_job
from posewire.errors import Draining
from posewire.pipeline.pose_pipeline import ImageJob, PartialResult, PosePipeline, Preprocessed, Span
from posewire.telemetry.metrics import Metrics, Task
from posewire.types import Keypoints, Priority, UInt8Array


class GpuScheduler:
    """Batches the detector over images of all callers, and the pose model over their crops.

    Args:
        pipeline: the models.
        plan: the device.
        settings: limits and batching.
        metrics: is told of every batch.
        warms: False: the models are neither warmed nor measured, for a few images.
    """

    max_decoded = None
    stuck = False  # nothing shows it for a thread; the callers of its images get an error at their deadlines

    def __init__(self, pipeline: PosePipeline, plan: DevicePlan, settings: Settings, metrics: Metrics, *, warms: bool = True) -> None:
        self._pipeline = pipeline
        self._warms = warms
        self._max_batch = settings.max_batch
        self._metrics = metrics
        self._threads = ThreadPoolExecutor(cpu_limit(), thread_name_prefix="posewire-preprocess")
        self._pool = ThreadPool(plan.workers)
        self._models = {"detector": metrics.batches("detector"), "pose": metrics.batches("pose")}
        window = None if settings.batch_window_ms is None else settings.batch_window_ms / 1000
        # An image that was admitted is never refused half-way: the crop queue holds everyone of all images.
        images = max_images(settings)
        self.detections: DynamicBatcher[Preprocessed, PartialResult] = DynamicBatcher(
            "detector",
            pipeline.detect,
            self._pool,
            max_queue=images,
            window=window,
            observer=self._models["detector"],
            busy=metrics.add_worker_busy,
        )
        self.keypoints: DynamicBatcher[UInt8Array, Keypoints] = DynamicBatcher(
            "pose",
            pipeline.estimate_keypoints,
            self._pool,
            max_queue=images * settings.max_people,
            window=window,
            observer=self._models["pose"],
            busy=metrics.add_worker_busy,
        )
        self._recovery = Recovery(
            {"detector": self.detections.health, "pose": self.keypoints.health},
            lambda task: self.run(trial_job(task, pipeline.detector.spec.input, settings), Priority.BULK),
        )
        self.costs: Mapping[Task, CostTable] = {}
        self.measured_at: float | None = None
        self.ready = False
        self.pending = 0
        self._closing = False
        self._ended = asyncio.Event()  # an image was finished, that `close` waits for

    @property
    def alive(self) -> bool:
        """True while both queues form batches."""
        return self.detections.alive and self.keypoints.alive

    @property
    def failing(self) -> list[Task]:
        """Models whose runs keep failing."""
        return self._recovery.failing

    async def start(self) -> None:
        """Serve the queues, and warm and measure the models."""
        self.detections.start()
        self.keypoints.start()
        self._recovery.start()
        if self._warms:
            await self._warm()
        self.measured_at = time.time()
        self.ready = True

    async def _warm(self) -> None:
        self.costs = await warm(self._pipeline, self._pool, {"detector": self._max_batch, "pose": self._max_batch})
        self.detections.costs, self.keypoints.costs = self.costs["detector"], self.costs["pose"]
        for task, costs in self.costs.items():
            self._models[task].padding = costs.padding
            self._metrics.set_run_costs(task, costs.seconds)

    async def close(self) -> None:
        """Finish what was accepted, and end the threads."""
        self.ready, self._closing = False, True
        await self._recovery.close()
        while self.pending:
            self._ended.clear()
            await self._ended.wait()
        await self.detections.close()
        await self.keypoints.close()
        await self._pool.close()
        await asyncio.to_thread(self._threads.shutdown)

    async def run(self, job: ImageJob, priority: Priority) -> Completed:
        """As `Scheduler.run`."""
        if self._closing:
            raise Draining
        self.pending += 1
        try:
            partial, waited = await self._detect(job, priority)
            return await self._estimate_keypoints(partial, waited, job.deadline, priority)
        finally:
            self.pending -= 1
            self._ended.set()

    async def _detect(self, job: ImageJob, priority: Priority) -> tuple[PartialResult, float]:
        """Return the boxes and crops of an image, and the seconds that it waited for the detector."""
        preprocessed = await run_on(self._threads, self._pipeline.preprocess, job)
        if preprocessed.letterboxed is None:
            return preprocessed.partial, 0.0
        [served] = await self.detections.submit([preprocessed], deadline=job.deadline, priority=priority)
        return served.output, served.waited

    async def _estimate_keypoints(self, partial: PartialResult, waited: float, deadline: float | None, priority: Priority) -> Completed:
        if not partial.remaining:
            return Completed(partial, waited, 0.0)
        submitted = time.monotonic()
        crops = [crop.pixels for _, _, crop in partial.remaining]
        served = await self.keypoints.submit(crops, deadline=deadline, priority=priority)
        poses = tuple(self._pipeline.pose.postprocess(*person, one.output) for person, one in zip(partial.remaining, served, strict=True))
        span = Span(min(one.started for one in served), max(one.ended for one in served))
        seconds = _seconds(served)
        spans = {**partial.spans, "pose": span}
        completed = replace(partial, poses=poses, remaining=(), spans=spans)
        return Completed(completed, waited + span.ended - submitted - seconds, seconds)


def _seconds(served: Iterable[Served[Keypoints]]) -> float:
    """Return how long at least one of the items' runs was under way, in seconds."""
    total, latest = 0.0, -math.inf
    for started, ended in sorted({(one.started, one.ended) for one in served}):
        total += max(0.0, ended - max(started, latest))
        latest = max(latest, ended)
    return total
