"""A model at work: behind its queue, measured, watched, and tried again when it fails."""

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Generic, Protocol, TypeVar

import numpy as np

from posewire.errors import ServiceError
from posewire.inference.batcher import DynamicBatcher
from posewire.inference.pool import ComputePool
from posewire.inference.warmup import Sizes, measure
from posewire.models.specs import ModelSpec
from posewire.telemetry.metrics import Metrics, Task
from posewire.types import UInt8Array

Out = TypeVar("Out")
Out_co = TypeVar("Out_co", covariant=True)

log = logging.getLogger(__name__)

# Seconds between trials of a model that fails: soon at first, then ever more rarely.
_FIRST_TRIAL_S = 0.1
_LAST_TRIAL_S = 5.0


class Model(Protocol[Out_co]):
    """A detector or a pose model."""

    @property
    def session(self) -> Sizes:
        """What runs it."""

    @property
    def spec(self) -> ModelSpec:
        """Its manifest entry."""

    def infer(self, batch: Sequence[UInt8Array]) -> Sequence[Out_co]:
        """Pictures at the input size to as many outputs."""


class Station(Generic[Out]):
    """A model behind its queue.

    Args:
        task: of the model.
        model: its `infer` runs on the pool.
        pool: may be shared with other stations.
        max_batch: items of one run.
        max_queue: items that may wait.
        window: seconds that a batch waits for company; None: by what runs cost.
        metrics: is told of everything.
    """

    def __init__(
        self,
        task: Task,
        model: Model[Out],
        pool: ComputePool,
        *,
        max_batch: int,
        max_queue: int,
        window: float | None,
        metrics: Metrics,
    ) -> None:
        self.task = task
        self.queue = DynamicBatcher[UInt8Array, Out](
            task, model.infer, pool, max_queue=max_queue, window=window, observer=metrics.batches(task)
        )
        self._model = model
        self._pool = pool
        self._max_batch = max_batch
        self._metrics = metrics
        self._blank = np.zeros((model.spec.input.height, model.spec.input.width, 3), np.uint8)
        self._mender: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Serve the queue and run every batch size that will be used, so that no caller pays for a first run."""
        self.queue.start()
        started = time.perf_counter()
        self.queue.costs = await measure(self._infer_blank, self._model.session, self._pool, self._max_batch)
        seconds = self.queue.costs.seconds
        self._metrics.set_run_costs(self.task, seconds)
        fields = {
            "model": self._model.spec.name,
            "run_ms": {size: round(cost * 1000, 2) for size, cost in seconds.items()},
            "full_batch": self.queue.costs.full,
            "seconds": round(time.perf_counter() - started, 3),
        }
        log.info("model is warm", extra=fields)
        self._mender = asyncio.create_task(self._mend(), name=f"mender-{self.task}")

    async def close(self) -> None:
        """Finish what was accepted."""
        if self._mender is not None:
            self._mender.cancel()
            await asyncio.gather(self._mender, return_exceptions=True)
        await self.queue.close()

    def _infer_blank(self, size: int) -> None:
        self._model.infer([self._blank] * size)

    async def _mend(self) -> None:
        """Try a failing model again and again: while the service is not ready nobody else would."""
        health = self.queue.health
        while True:
            await health.failing.wait()
            log.error("a model keeps failing", extra={"model": self._model.spec.name})
            pause = _FIRST_TRIAL_S
            while health.failing.is_set():
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LAST_TRIAL_S)
                with suppress(ServiceError):
                    await self.queue.submit([self._blank])
            log.info("the model works again", extra={"model": self._model.spec.name})
