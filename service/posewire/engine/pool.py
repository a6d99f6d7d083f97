"""Workers that run functions: the interface, and threads of this process; `process_pool` has processes."""

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


# Called on the event loop at the end of a run with its result or its error.
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
    """A few workers that run functions."""

    def __init__(self, workers: int) -> None:
        self.workers = workers

    @abstractmethod
    def begin(
        self,
        function: Callable[[Sequence[In]], Sequence[Out]],
        items: Callable[[], Sequence[In]],
        ended: Ended[Out],
        deadline: float | None = None,
    ) -> None:
        """Run `function` on a worker.

        Args:
            function: a batch to as many outputs.
            items: returns the batch; called as late as possible; if it is empty, nothing is run.
            ended: called once, on the event loop, and never before this returns.
            deadline: seconds, monotonic: a worker that still runs the batch later is stuck. A process is then replaced; a thread
                cannot be ended. None: the pool's own limit.
        """

    async def run(
        self, function: Callable[[Sequence[In]], Sequence[Out]], items: Callable[[], Sequence[In]], deadline: float | None = None
    ) -> Ran[Out]:
        """As `begin`, and wait for the end.

        Raises:
            Exception: what the function raised.
        """
        done: asyncio.Future[Ran[Out]] = asyncio.get_running_loop().create_future()
        self.begin(function, items, partial(settle, done), deadline)
        return await done

    @abstractmethod
    async def close(self) -> None:
        """Let the workers end when their work is done."""


class ThreadPool(ComputePool):
    """Threads of this process.

    Several batchers may share them: a batch is formed only when a thread is free to run it, or when nothing more fits into it. One
    full batch may stand behind the threads, so that the next free one has work at once. Turns are in the order in which they
    were asked for: neither of two batchers starves.
    """

    def __init__(self, workers: int) -> None:
        super().__init__(workers)
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix="posewire-model")
        self._busy = 0  # threads, and the slot behind them
        self._waiting: deque[tuple[Callable[[], None], Callable[[], bool]]] = deque()

    def ask(self, turn: Callable[[], None], full: Callable[[], bool] = lambda: False) -> None:
        """Ask for a worker.

        Args:
            turn: called with a free worker, or with the slot behind them all if `full()`; perhaps at once. What it holds is given
                back by `release`.
            full: True if nothing more fits into the batch that is to be run.
        """
        self._waiting.append((turn, full))
        self.assign()

    def assign(self) -> None:
        """Give free workers to those who asked; to be called when a batch has become full."""
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
        self.assign()

    def begin(
        self,
        function: Callable[[Sequence[In]], Sequence[Out]],
        items: Callable[[], Sequence[In]],
        ended: Ended[Out],
        deadline: float | None = None,  # noqa: ARG002 - a thread cannot be ended
    ) -> None:
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
