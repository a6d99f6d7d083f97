"""Where the stages run: threads of this process, or processes of their own."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import Any, Protocol

from posewire.backends.device import DevicePlan, Runtime
from posewire.config import Settings
from posewire.engine import worker
from posewire.engine.cost_model import CostTable
from posewire.engine.dynamic_batcher import DynamicBatcher
from posewire.engine.observer import Unobserved
from posewire.engine.pool import ComputePool, ThreadPool, run_on
from posewire.engine.process_pool import ProcessPool
from posewire.engine.profiler import alone_pays, warm
from posewire.pipeline.pose_pipeline import ImageJob, PartialResult, PosePipeline, Preprocessed
from posewire.telemetry.metrics import Task
from posewire.types import Keypoints, UInt8Array

_ECHOES = 50
_PICTURE_BYTES = 65_536  # as cameras send it


class Place(Protocol):
    """Where the stages run."""

    @property
    def pool(self) -> ComputePool:
        """Whose workers they are."""

    @property
    def look(self) -> Callable[[Sequence[Any]], Sequence[PartialResult | Exception]]:
        """What runs there for a batch of what `open` gives."""

    @property
    def place(self) -> Callable[[Sequence[UInt8Array]], Sequence[Keypoints | Exception]]:
        """What runs there for a batch of crops."""

    @property
    def ready(self) -> bool:
        """Whether there is someone to do the work."""

    @property
    def alone_pays(self) -> bool:
        """Whether a picture that is known to be alone is done sooner."""

    @property
    def apart(self) -> bool:
        """Whether that is not this process."""

    @property
    def most_open(self) -> int | None:
        """Pictures that are decoded at a time; None: as many as are let in."""

    async def open(self, picture: ImageJob) -> Preprocessed | ImageJob:
        """What is handed in to `look`; or an opened picture whose caller gave boxes, which nobody needs to look at.

        Raises:
            ServiceError: as `PosePipeline.preprocess`.
        """

    async def start(self) -> Mapping[Task, CostTable]:
        """Make everything ready; what runs of the models cost."""


class InThreads:
    """Threads of this process. Pictures are opened on threads of their own: on a GPU that is done while the models run.

    Args:
        stages: what is run.
        workers: model runs side by side.
        threads: where pictures are opened.
        max_batch: items of one run.
    """

    ready = True
    apart = False
    most_open = None

    def __init__(self, stages: PosePipeline, workers: int, threads: Executor, max_batch: int) -> None:
        self.pool = ThreadPool(workers)
        self.look: Callable[[Sequence[Any]], Sequence[PartialResult | Exception]] = stages.detect
        self.place: Callable[[Sequence[UInt8Array]], Sequence[Keypoints | Exception]] = stages.estimate_keypoints
        self._stages = stages
        self._threads = threads
        self._max_batch = max_batch
        self.alone_pays = False

    async def open(self, picture: ImageJob) -> Preprocessed:
        """As `PosePipeline.preprocess`."""
        return await run_on(self._threads, self._stages.preprocess, picture)

    async def start(self) -> Mapping[Task, CostTable]:
        """Warm and measure the models."""
        costs = await warm(self._stages, self.pool, self._max_batch)
        [self.alone_pays] = (await self.pool.run(self._alone_pays, lambda: [None])).outputs
        return costs

    def _alone_pays(self, _: Sequence[None]) -> list[bool]:
        return [alone_pays(self._stages.detector)]


class InProcesses:
    """A process a core: on a CPU the models take as long as they do anywhere, and no interpreter lock is shared.

    Args:
        settings: for the processes.
        plan: the CPU, and how many processes.
        runtime: None: ONNX Runtime; another is pickled.
        died: called for each process that dies.
    """

    apart = True

    def __init__(self, settings: Settings, plan: DevicePlan, runtime: Runtime | None, died: Callable[[], None]) -> None:
        self.pool = self._processes = ProcessPool(plan.workers, partial(worker.prepare, settings, plan, runtime), died)
        self.look, self.place = worker.see, worker.place
        self.most_open = plan.workers
        self.alone_pays = False

    @property
    def ready(self) -> bool:
        """Whether one of the processes is there."""
        return self._processes.ready

    async def open(self, picture: ImageJob) -> ImageJob:
        """The picture itself: it is opened where it is looked at."""
        return picture

    async def start(self) -> Mapping[Task, CostTable]:
        """Start the processes; what runs cost there, the way there and back included."""
        tables: list[Mapping[Task, CostTable]] = await self._processes.start()
        way = await self._way()
        [self.alone_pays] = (await self.pool.run(worker.alone_pays_here, lambda: [None])).outputs
        return {task: _together([table[task] for table in tables]).more(a_run=way) for task in tables[0]}

    async def _way(self) -> float:
        """Seconds from handing a picture in to the answer, less what is done with it."""
        batcher = DynamicBatcher[bytes, None]("echo", worker.echo, self.pool, max_queue=1, observer=Unobserved())
        batcher.start()
        picture, times = bytes(_PICTURE_BYTES), []
        for _ in range(_ECHOES):
            started = time.perf_counter()
            await batcher.submit([picture])
            times.append(time.perf_counter() - started)
        await batcher.close()
        return statistics.median(times)


def _together(tables: Sequence[CostTable]) -> CostTable:
    """One table of the sizes that are in all; what is filled up may differ by a process, and the first one's stands for all."""
    sizes = set(tables[0].seconds).intersection(*(table.seconds for table in tables))
    seconds = {size: statistics.median(table.seconds[size] for table in tables) for size in sorted(sizes)}
    return CostTable(seconds, tables[0].padding)
