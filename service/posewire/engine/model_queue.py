"""A model at work: behind its queue, watched, and tried again when it fails."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Generic, TypeVar

from posewire.engine.cost_model import CostTable
from posewire.engine.dynamic_batcher import DynamicBatcher
from posewire.engine.pool import ComputePool
from posewire.errors import ServiceError
from posewire.telemetry.metrics import Metrics, Task

In = TypeVar("In")
Out = TypeVar("Out")

log = logging.getLogger(__name__)

# Seconds between trials of a model that fails: soon at first, then ever more rarely.
_FIRST_TRIAL_S = 0.1
_LAST_TRIAL_S = 5.0


class Station(Generic[In, Out]):
    """A model behind its queue.

    Args:
        task: of the model.
        run: what runs on the pool for a batch.
        trial: an item by which a model that failed is tried again.
        pool: may be shared with other stations.
        max_queue: items that may wait.
        window: seconds that a batch waits for company; None: by what runs cost.
        metrics: is told of everything.
    """

    def __init__(
        self,
        task: Task,
        run: Callable[[Sequence[In]], Sequence[Out | Exception]],
        trial: Callable[[], Awaitable[In]],
        pool: ComputePool,
        *,
        max_queue: int,
        window: float | None,
        metrics: Metrics,
    ) -> None:
        self.task = task
        self._observer = metrics.batches(task)
        self.queue = DynamicBatcher[In, Out](task, run, pool, max_queue=max_queue, window=window, observer=self._observer)
        self._trial = trial
        self._metrics = metrics
        self._measured = CostTable.unknown()
        self._mender: asyncio.Task[None] | None = None

    def set_costs(self, costs: CostTable) -> None:
        """Runs of the model were measured."""
        self.queue.costs = self._measured = costs
        self._observer.padding = costs.padding
        self._metrics.set_run_costs(self.task, costs.seconds)

    def set_share(self, seconds: float) -> None:
        """What every run costs beyond what was measured, for it is handed over and back, was measured anew."""
        self.queue.costs = self._measured.more(a_run=seconds)

    def start(self) -> None:
        """Serve the queue."""
        self.queue.start()
        self._mender = asyncio.create_task(self._mend(), name=f"mender-{self.task}")

    async def close(self) -> None:
        """Finish what was accepted."""
        if self._mender is not None:
            self._mender.cancel()
            await asyncio.gather(self._mender, return_exceptions=True)
        await self.queue.close()

    def note_run(self, size: int) -> None:
        """The model worked, as part of another station's run."""
        self._observer.started(size)
        self.queue.health.note(worked=True)

    def note_failure(self) -> None:
        """The model raised, as part of another station's run."""
        self._observer.failed()
        self.queue.health.note(worked=False)

    async def _mend(self) -> None:
        """Try a failing model again and again: while the service is not ready nobody else would."""
        health = self.queue.health
        while True:
            await health.failing.wait()
            log.error("a model keeps failing", extra={"task": self.task})
            pause = _FIRST_TRIAL_S
            while health.failing.is_set():
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LAST_TRIAL_S)
                with suppress(ServiceError):
                    await self.queue.submit([await self._trial()])
            log.info("the model works again", extra={"task": self.task})
