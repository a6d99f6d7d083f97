"""Where models run: threads of this process. `processes` has the other place."""

import asyncio
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import Generic, NamedTuple, ParamSpec, TypeAlias, TypeVar

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


# Is told of the end of a run, on the event loop: what it gave, or what it raised.
Ended: TypeAlias = Callable[[Ran[Out] | BaseException], None]


def settle(done: asyncio.Future[T], result: T | BaseException) -> None:
    """Give a future its result or its exception, unless it is done."""
    if done.done():
        return
    if isinstance(result, BaseException):
        done.set_exception(result)
    else:
        done.set_result(result)


class ComputePool(ABC):
    """A few workers: a batch is formed only when one of them is free to run it, or when nothing more fits into it.

    One full batch may stand behind the workers, so that the next to be free has work without a word with the event loop.
    Turns are in the order in which they were asked for: neither of two batchers starves.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._busy = 0  # workers, and the place behind them
        self._waiting: deque[tuple[Callable[[], None], Callable[[], bool]]] = deque()

    def ask(self, turn: Callable[[], None], full: Callable[[], bool] = lambda: False) -> None:
        """Ask for a worker.

        Args:
            turn: called when it is one's turn, perhaps at once, with a free worker, or the place behind them all if `full()`;
                what it holds then is given back by `release`.
            full: whether nothing more fits into the batch that is to be run.
        """
        self._waiting.append((turn, full))
        self.look()

    def look(self) -> None:
        """Hand out what is free; to be called when a batch has become full."""
        while self._waiting:
            turn, full = self._waiting[0]
            if self._busy > self.workers or (self._busy == self.workers and not full()):
                return
            self._waiting.popleft()
            self._busy += 1
            turn()

    def release(self) -> None:
        """Give back what a turn has handed out."""
        self._busy -= 1
        self.look()

    @abstractmethod
    def begin(self, function: Callable[[Sequence[In]], Sequence[Out]], items: Callable[[], Sequence[In]], ended: Ended[Out]) -> None:
        """Run `function` on a worker whose turn the caller holds.

        Args:
            function: a batch to as many outputs.
            items: gives the batch, as late as possible; where it gives none, nothing is run.
            ended: told of the end, once, and never before this returns.
        """

    async def run(self, function: Callable[[Sequence[In]], Sequence[Out]], items: Callable[[], Sequence[In]]) -> Ran[Out]:
        """As `begin`, and wait for the end.

        Raises:
            Exception: what the function raised.
        """
        done: asyncio.Future[Ran[Out]] = asyncio.get_running_loop().create_future()
        self.begin(function, items, partial(settle, done))
        return await done

    @abstractmethod
    async def close(self) -> None:
        """Let the workers end when their work is done."""


class ThreadPool(ComputePool):
    """Threads of this process: one interpreter lock for all of them, and no copies."""

    def __init__(self, workers: int) -> None:
        super().__init__(workers)
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix="posewire-model")

    def begin(self, function: Callable[[Sequence[In]], Sequence[Out]], items: Callable[[], Sequence[In]], ended: Ended[Out]) -> None:
        """Run `function` on a thread; `items` is called there."""
        running = asyncio.get_running_loop().run_in_executor(self._executor, _timed, function, items)
        running.add_done_callback(lambda run: ended(asyncio.CancelledError() if run.cancelled() else run.exception() or run.result()))

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
