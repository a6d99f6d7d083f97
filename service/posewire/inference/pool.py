"""Threads for model runs, sized by the device and shared by every batcher."""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def run_on(threads: Executor, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `function` on a thread of `threads`, away from the event loop."""
    return await asyncio.get_running_loop().run_in_executor(threads, lambda: function(*args, **kwargs))


class ComputePool:
    """A few threads: a batch is formed only when one of them is free to run it, or when nothing more fits into it.

    One full batch may stand behind the threads, so that the next to be free has work without a word with the event loop.
    Turns are in the order in which they were asked for: neither of two batchers starves.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._busy = 0  # threads, and the place behind them
        self._waiting: deque[tuple[asyncio.Future[None], Callable[[], bool]]] = deque()
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix="posewire-model")

    @property
    def idle(self) -> int:
        """Threads that are free at this moment."""
        return max(0, self.workers - self._busy)

    async def acquire(self, full: Callable[[], bool] = lambda: False) -> None:
        """Wait for one's turn and for a free thread, or the place behind them all if `full()`; hold it until `release`."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((turn, full))
        self.look()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release()
            raise

    def look(self) -> None:
        """Hand out what is free; to be called when a batch has become full."""
        while self._waiting:
            turn, full = self._waiting[0]
            if not turn.done():
                if self._busy > self.workers or (self._busy == self.workers and not full()):
                    return
                self._busy += 1
                turn.set_result(None)
            self._waiting.popleft()

    def release(self) -> None:
        """Give back what `acquire` handed out."""
        self._busy -= 1
        self.look()

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `function` on a thread whose turn the caller holds."""
        return await run_on(self._executor, function, *args, **kwargs)

    def close(self) -> None:
        """Let the threads end when their work is done."""
        self._executor.shutdown(wait=True)
