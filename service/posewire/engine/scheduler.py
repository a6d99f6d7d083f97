"""The protocol of schedulers, and the parts that both schedulers share."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from posewire.config import Settings
from posewire.engine.cost_model import CostTable
from posewire.engine.health import Health
from posewire.errors import ServiceError
from posewire.pipeline.pose_pipeline import ImageJob, PartialResult
from posewire.registry.specs import ModelInput
from posewire.telemetry.metrics import Task
from posewire.types import Frame, Priority

log = logging.getLogger(__name__)

# Seconds between trials of a failing model: short at first, then doubled each time.
_FIRST_TRIAL_S = 0.1
_LAST_TRIAL_S = 5.0


@dataclass(frozen=True, slots=True, eq=False)
class Completed:
    """All that was wanted of one image."""

    partial: PartialResult  # nothing remains
    waited: float  # seconds in queues, of all models together
    pose_s: float  # seconds in runs of the pose model


class Scheduler(Protocol):
    """Decides when and where the stages of an image run."""

    @property
    def alive(self) -> bool:
        """True while images are taken from the queues."""

    @property
    def ready(self) -> bool:
        """True if the models are warm and a worker is there to run them."""

    @property
    def stuck(self) -> bool:
        """True if the models are warm, but every worker is stuck, stopped or being replaced."""

    @property
    def failing(self) -> list[Task]:
        """Models whose runs keep failing."""

    @property
    def pending(self) -> int:
        """Images accepted and not finished."""

    @property
    def costs(self) -> Mapping[Task, CostTable]:
        """Seconds of each model's runs, as measured by this start or an earlier one; empty before `start`, and if it did not warm."""

    @property
    def measured_at(self) -> float | None:
        """When the costs were measured, in seconds since 1970; None before `start`."""

    @property
    def max_decoded(self) -> int | None:
        """Images that are in memory as pixels at a time; None: no limit."""

    async def run(self, job: ImageJob, priority: Priority) -> Completed:
        """Run the stages of one image. Cancelling it takes the image out of the queues.

        Raises:
            BadPicture, TooLarge, BadParameter: as `PosePipeline.preprocess`.
            DeadlineExceeded: the job's deadline passed before it was begun.
            Overloaded: the queue is full.
            Draining: `close` was called.
            InferenceFailed: a model's run raised, or its worker died.
        """

    async def start(self) -> None:
        """Start the workers, and warm the models; measure them unless an earlier start did."""

    async def close(self) -> None:
        """Finish what was accepted, refuse the rest and free the workers."""


class Recovery:
    """Runs failing models again until they work: a service that is not ready gets no requests that would show it.

    Args:
        health: of each model.
        trial: a run that includes the model.
    """

    def __init__(self, health: Mapping[Task, Health], trial: Callable[[Task], Awaitable[object]]) -> None:
        self._health = health
        self._trial = trial
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def failing(self) -> list[Task]:
        """Models whose runs keep failing."""
        return [task for task, health in self._health.items() if health.failing.is_set()]

    def start(self) -> None:
        """Watch the models."""
        self._tasks = [asyncio.create_task(self._recover(task), name=f"recovery-{task}") for task in self._health]

    async def close(self) -> None:
        """Stop watching."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _recover(self, task: Task) -> None:
        failing = self._health[task].failing
        while True:
            await failing.wait()
            log.error("a model keeps failing", extra={"task": task})
            pause = _FIRST_TRIAL_S
            while failing.is_set():
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LAST_TRIAL_S)
                with suppress(ServiceError):
                    await self._trial(task)
            log.info("the model works again", extra={"task": task})


def max_images(settings: Settings) -> int:
    """Return the number of images that may wait for a model: all that are admitted, and one frame of each stream."""
    return settings.max_in_flight + settings.max_streams


def trial_job(task: Task, detector_input: ModelInput, settings: Settings) -> ImageJob:
    """A blank image, of which one model is to be run."""
    frame = Frame(np.zeros((detector_input.height, detector_input.width, 3), np.uint8))
    options = settings.pose_options()
    if task == "detector":
        return ImageJob(frame, options, keypoints=False)
    return ImageJob(frame, replace(options, boxes_xywh=np.array([[0, 0, frame.width, frame.height]], np.float32)))
