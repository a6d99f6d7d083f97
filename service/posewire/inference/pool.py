"""Where models run: threads of this process. `processes` has the other place."""

import asyncio
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextvars import copy_context
from typing import Generic, NamedTuple, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
In = TypeVar("In")
Out = TypeVar("Out")


async def run_on(threads: Executor, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `function` on a thread of `threads`, away from the event loop, in the caller's context."""
    context = copy_context()
    return await asyncio.get_running_loop().run_in_executor(threads, lambda: context.run(function, *args, **kwargs))


class Ran(NamedTuple, Generic[Out]):
    """A run that has ended."""

    outputs: Sequence[Out]
    started: float  # seconds, monotonic
    ended: float


class ComputePool(ABC):
    """A few workers: a batch is formed only when one of them is free to run it, or when nothing more fits into it.

    One full batch may stand behind the workers, so that the next to be free has work without a word with the event loop.
    Turns are in the order in which they were asked for: neither of two batchers starves.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._busy = 0  # workers, and the place behind them
        self._waiting: deque[tuple[asyncio.Future[None], Callable[[], bool]]] = deque()

    async def acquire(self, full: Callable[[], bool] = lambda: False) -> None:
        """Wait for one's turn and for a free worker, or the place behind them all if `full()`; hold it until `release`."""
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

    @abstractmethod
    async def run(self, function: Callable[[Sequence[In]], Sequence[Out]], items: Callable[[], Sequence[In]]) -> Ran[Out]:
        """Run `function` on a worker whose turn the caller holds.

        Args:
            function: a batch to as many outputs.
            items: gives the batch, as late as possible; where it gives none, nothing is run.
        """

    @abstractmethod
    async def close(self) -> None:
        """Let the workers end when their work is done."""


class ThreadPool(ComputePool):
    """Threads of this process: one interpreter lock for all of them, and no copies."""

    def __init__(self, workers: int) -> None:
        super().__init__(workers)
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix="posewire-model")

    async def run(self, function: Callable[[Sequence[In]], Sequence[Out]], items: Callable[[], Sequence[In]]) -> Ran[Out]:
        """Run `function` on a thread; `items` is called there."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, _timed, function, items)

    async def close(self) -> None:
        """Wait for the threads to end."""
        await asyncio.to_thread(self._executor.shutdown, wait=True)


def _timed(function: Callable[[Sequence[In]], Sequence[Out]], items: Callable[[], Sequence[In]]) -> Ran[Out]:
    batch = items()
    started = time.monotonic()
    try:
        outputs = function(batch) if batch else ()
    except StopIteration as error:  # a future refuses to carry it, and nobody would ever hear
        raise RuntimeError("the run raised StopIteration") from error
    return Ran(outputs, started, time.monotonic())
