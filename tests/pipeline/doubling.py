"""A model that doubles numbers, and a batcher in front of it."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

from posewire.engine.cost_model import CostTable
from posewire.engine.dynamic_batcher import DynamicBatcher
from posewire.engine.pool import ThreadPool

Numbers = DynamicBatcher[int, int]


class Tally:
    """Counts what a batcher tells."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.waits: list[float] = []
        self.failures = 0

    def started(self, size: int) -> None:
        self.sizes.append(size)

    def ran(self, seconds: float) -> None:
        assert seconds >= 0

    def waited(self, seconds: float) -> None:
        self.waits.append(seconds)

    def failed(self) -> None:
        self.failures += 1


class Doubler:
    """Doubles numbers; where it is held, each run stops until `gate` is set. A negative number makes it raise."""

    def __init__(self, *, held: bool = False, error: Callable[[], BaseException] = lambda: ValueError("inner secret")) -> None:
        self.batches: list[list[int]] = []
        self.gate = threading.Event()
        self._error = error
        self._entered: asyncio.Queue[list[int]] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        if not held:
            self.gate.set()

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        self._loop.call_soon_threadsafe(self._entered.put_nowait, list(items))
        assert self.gate.wait(20), "nobody opened the gate"
        if min(items) < 0:
            raise self._error()
        return [2 * item for item in items]

    async def running(self) -> list[int]:
        """The next batch that has begun."""
        return await self._entered.get()


@asynccontextmanager
async def serving(
    model: Callable[[Sequence[int]], Sequence[int]],
    *,
    pool: ThreadPool | None = None,
    costs: CostTable | None = None,
    max_batch: int = 4,
    max_queue: int = 64,
    max_wait: float | None = 0.0,
    tally: Tally | None = None,
) -> AsyncIterator[Numbers]:
    """A batcher that serves for as long as the block runs, 20 seconds at most.

    Unless `costs` says otherwise a run up to `max_batch` costs the more the larger it is, but less than its items alone.
    """
    pool = pool or ThreadPool(1)
    costs = costs or CostTable({size: size**0.7 for size in range(1, max_batch + 1)})
    batcher = Numbers("numbers", model, pool, max_queue=max_queue, costs=costs, window=max_wait, observer=tally or Tally())
    batcher.start()
    try:
        async with asyncio.timeout(20):
            yield batcher
    finally:
        if isinstance(model, Doubler):
            model.gate.set()
        await batcher.close()
        await pool.close()


async def outputs(batcher: Numbers, *items: int, deadline: float | None = None) -> list[int]:
    return [served.output for served in await batcher.submit(items, deadline=deadline)]


async def begin(*calls: Coroutine[Any, Any, list[int]]) -> list[asyncio.Task[list[int]]]:
    """The calls as tasks that have all handed in what they have."""
    tasks = [asyncio.create_task(call) for call in calls]
    await asyncio.sleep(0)
    return tasks


async def give_up(*tasks: asyncio.Task[list[int]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
