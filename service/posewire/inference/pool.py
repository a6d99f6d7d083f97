"""Threads for model runs, sized by the device and shared by every batcher."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def run_on(threads: Executor, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `function` on a thread of `threads`, away from the event loop."""
    return await asyncio.get_running_loop().run_in_executor(threads, lambda: function(*args, **kwargs))


class ComputePool:
    """A few threads and as many slots: a batch is formed only when a thread is free to run it.

    The slots are handed out in the order in which they were asked for, so that neither of two batchers starves.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._slots = asyncio.Semaphore(workers)
        self._busy = 0
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix="posewire-model")

    @property
    def idle(self) -> int:
        """Threads that are free at this moment."""
        return self.workers - self._busy

    async def acquire(self) -> None:
        """Wait for a free thread and hold it until `release`."""
        await self._slots.acquire()
        self._busy += 1

    def release(self) -> None:
        """Give back the thread that `acquire` handed out."""
        self._busy -= 1
        self._slots.release()

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `function` on a thread whose slot the caller holds."""
        return await run_on(self._executor, function, *args, **kwargs)

    def close(self) -> None:
        """Let the threads end when their work is done."""
        self._executor.shutdown(wait=True)
