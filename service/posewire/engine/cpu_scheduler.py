"""On a CPU an image runs to completion in one worker: a process, or a thread of this process."""

import asyncio
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from posewire.config import Settings
from posewire.engine.cost_model import CostTable
from posewire.engine.deadlines import check_deadline
from posewire.engine.fair_queue import FairQueue
from posewire.engine.health import Health
from posewire.engine.image_run import ImageRun, run_image
from posewire.engine.pool import ComputePool, Ran, ThreadPool, settle
from posewire.engine.profile_cache import ProfileCache
from posewire.engine.profiler import Profile, exclusive_pays, restore, warm
from posewire.engine.scheduler import Completed, Recovery, max_images, trial_job
from posewire.errors import Draining, InferenceFailed, ServiceError
from posewire.pipeline.pose_pipeline import ImageJob, PosePipeline
from posewire.registry.specs import ModelInput
from posewire.telemetry import tracing
from posewire.telemetry.metrics import Metrics, Task
from posewire.types import Priority

# Images handed over for each worker: while it runs one, its next one lies in the channel already.
_IN_HAND = 2

# Images in a row that met no other one: after these the next one is likely to be undisturbed too.
_UNDISTURBED = 8


class Workers(Protocol):
    """Where images run."""

    @property
    def pool(self) -> ComputePool:
        """The workers."""

    @property
    def ready(self) -> bool:
        """True if a worker is there that can run an image."""

    async def start(self, known: Profile | None) -> Profile:
        """Start the workers, and warm the models; measure them if no profile is known."""

    def run(self, jobs: Sequence[ImageJob], /) -> Sequence[ImageRun]:
        """Run images on a worker of `pool`."""


class ThreadWorkers:
    """Threads of this process. One that is stuck cannot be ended: its caller gets an error at the deadline, but the thread stays lost.

    Args:
        pipeline: shared by all threads.
        count: of threads.
        max_batch: crops of one run of the pose model at most.
        warms: False: the models are neither warmed nor measured, for a few images.
    """

    ready = True

    def __init__(self, pipeline: PosePipeline, count: int, max_batch: int, *, warms: bool = True) -> None:
        self.pool = ThreadPool(count)
        self._pipeline = pipeline
        self._max_batch = max_batch
        self._warms = warms

    async def start(self, known: Profile | None) -> Profile:
        """Warm the models; measure them if no profile is known."""
        if not self._warms:
            return Profile.unmeasured()
        if known is not None:
            return await restore(self._pipeline, self.pool, known)
        costs = await warm(self._pipeline, self.pool, {"detector": 1, "pose": self._max_batch})
        [pays] = (await self.pool.run(lambda _: [exclusive_pays(self._pipeline.detector)], lambda: [None])).outputs
        return Profile(costs, pays, time.time())

    def run(self, jobs: Sequence[ImageJob], /) -> Sequence[ImageRun]:
        """Run images, one after the other, on this thread."""
        return [run_image(self._pipeline, job, self._max_batch) for job in jobs]


@dataclass(slots=True, eq=False)
class _Waiting:
    job: ImageJob
    done: asyncio.Future[Completed]
    arrived: float  # seconds, monotonic

    def claim(self) -> list[ImageJob]:
        """The image, unless its caller has gone."""
        return [] if self.done.done() else [self.job]


class CpuScheduler:
    """Hands images over to the next free worker: live streams first, then in the order of their arrival.

    Args:
        workers: where images run.
        detector_input: of the detector, for trials.
        settings: limits.
        metrics: is told of every run.
        profiles: has the profile of an earlier start, and keeps that of this one; None: every start measures.
    """

    def __init__(
        self, workers: Workers, detector_input: ModelInput, settings: Settings, metrics: Metrics, profiles: ProfileCache | None = None
    ) -> None:
        self._workers = workers
        self._profiles = profiles
        self._metrics = metrics
        self._queue: FairQueue[_Waiting] = FairQueue(max_images(settings))
        self._in_hand = 0
        self._undisturbed = 0
        self._change = asyncio.Event()  # that `close` waits for
        self._started = self._closing = False
        self._profile: Profile | None = None
        self._health: dict[Task, Health] = {"detector": Health(), "pose": Health()}
        self._models = {task: metrics.batches(task) for task in self._health}
        self._recovery = Recovery(self._health, lambda task: self.run(trial_job(task, detector_input, settings), Priority.BULK))
        self.pending = 0
        self.max_decoded = workers.pool.workers

    @property
    def alive(self) -> bool:
        """True from `start` to the end of `close`."""
        return self._started

    @property
    def ready(self) -> bool:
        """True if the models are warm and a worker is there."""
        return self._profile is not None and self._workers.ready

    @property
    def stuck(self) -> bool:
        """True if the models are warm, but every worker is stuck, stopped or being replaced."""
        return self._profile is not None and not self._workers.ready

    @property
    def failing(self) -> list[Task]:
        """Models whose runs keep failing."""
        return self._recovery.failing

    @property
    def measured_at(self) -> float | None:
        """When the costs were measured, in seconds since 1970; None before `start`."""
        return self._profile.measured_at if self._profile else None

    @property
    def costs(self) -> Mapping[Task, CostTable]:
        """Seconds of each model's runs, as measured by this start or an earlier one."""
        return self._profile.costs if self._profile else {}

    async def start(self) -> None:
        """Start the workers, and warm the models; measure them unless an earlier start did."""
        self._started = True
        self._recovery.start()
        known = self._profiles.load() if self._profiles else None
        profile = await self._workers.start(known)
        if self._profiles and profile.costs and known is None:
            self._profiles.save(profile)
        for task, costs in profile.costs.items():
            self._models[task].padding = costs.padding
            self._metrics.set_run_costs(task, costs.seconds)
        self._profile = profile

    async def close(self) -> None:
        """Finish what was accepted, and end the workers."""
        self._closing = True
        await self._recovery.close()
        while self._started and self.pending:
            self._change.clear()
            await self._change.wait()
        self._started, self._profile = False, None
        await self._workers.pool.close()

    async def run(self, job: ImageJob, priority: Priority) -> Completed:
        """As `Scheduler.run`."""
        loop = asyncio.get_running_loop()
        if self._closing:
            raise Draining
        if not self._started:
            raise InferenceFailed("the model's queue is not served")
        check_deadline(job.deadline)
        self._undisturbed = 0 if self.pending else self._undisturbed + 1
        if self._undisturbed > _UNDISTURBED and self._profile and self._profile.exclusive_pays:
            job = replace(job, exclusive=True)
        waiting = _Waiting(job, loop.create_future(), time.monotonic())
        client = self._queue.push([waiting], priority)
        self.pending += 1
        self._hand_over()
        try:
            completed = await waiting.done
        finally:
            self.pending -= 1
            self._queue.leave(client)
            self._change.set()
        tracing.past("queue", waiting.arrived, waiting.arrived + completed.waited)
        return completed

    def _hand_over(self) -> None:
        while self._queue and self._in_hand < _IN_HAND * self._workers.pool.workers:
            waiting = self._queue.pop()
            deadline = math.inf if waiting.job.deadline is None else waiting.job.deadline
            if waiting.done.done() or deadline <= asyncio.get_running_loop().time():
                continue  # whoever waits for it is told of the deadline by the engine
            self._in_hand += 1
            try:
                self._workers.pool.begin(self._workers.run, waiting.claim, partial(self._end, waiting), waiting.job.deadline)
            except Exception as error:
                self._end(waiting, error)

    def _end(self, waiting: _Waiting, ran: Ran[ImageRun] | BaseException) -> None:
        """Answer the caller of an image, and report what ran."""
        self._in_hand -= 1
        self._hand_over()
        self._change.set()
        if isinstance(ran, BaseException):
            settle(waiting.done, ran if isinstance(ran, ServiceError) else InferenceFailed("the model could not be run; try again"))
            return
        self._metrics.add_worker_busy(ran.ended - ran.started)
        for run in ran.outputs:
            waited = ran.started - waiting.arrived
            if isinstance(run.outcome, ServiceError):
                settle(waiting.done, run.outcome)
            else:
                pose = run.outcome.spans.get("pose")
                settle(waiting.done, Completed(run.outcome, waited, pose.seconds if pose else 0.0))
            self._models["detector" if waiting.job.options.boxes_xywh is None else "pose"].waited(waited)
            self._report(run)

    def _report(self, image: ImageRun) -> None:
        for run in image.runs:
            self._health[run.task].note(worked=run.worked)
            model = self._models[run.task]
            model.started(run.size)
            if run.worked:
                model.ran(run.seconds)
            else:
                model.failed()
