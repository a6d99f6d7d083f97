"""Worker processes of the CPU scheduler."""

import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from posewire.backends.device import DevicePlan, Runtime
from posewire.config import Settings

assert sys.platform == "linux"  # mypy skips the rest elsewhere, where nothing imports this module

from posewire.engine import worker
from posewire.engine.cost_model import CostTable
from posewire.engine.process_pool import START_S, ProcessPool
from posewire.engine.profiler import Profile
from posewire.telemetry.metrics import Metrics, Task


class ProcessWorkers:
    """Processes, one for each core: no interpreter lock is shared, and the death of one is not that of the service.

    Args:
        settings: for the processes.
        plan: the CPU, and how many processes.
        runtime: None: ONNX Runtime; another is pickled.
        metrics: counts deaths.
    """

    def __init__(self, settings: Settings, plan: DevicePlan, runtime: Runtime | None, metrics: Metrics) -> None:
        self._prepare = partial(worker.prepare, settings, plan, runtime)
        timeout_s = settings.request_timeout_ms / 1000
        self.pool = ProcessPool(plan.workers, partial(self._prepare, None), metrics.count_worker_death, timeout_s=timeout_s)
        self.run = worker.run_images

    @property
    def ready(self) -> bool:
        """True if a process is there that is neither stuck nor stopped."""
        return self.pool.ready

    async def start(self, known: Profile | None) -> Profile:
        """Start the processes. Each warms its models, and measures them if no profile is known; later ones take the first's profile."""
        self.pool.initializer = partial(self._prepare, known)
        tables: list[Mapping[Task, CostTable]] = await self.pool.start()
        if known is None:
            [pays] = (await self.pool.run(worker.exclusive_pays_here, lambda: [None], time.monotonic() + START_S)).outputs
            profile = Profile(tables[0], pays, time.time())
        else:
            profile = replace(known, costs=tables[0])
        self.pool.initializer = partial(self._prepare, profile)
        return profile
