"""Runs items of many callers together.

`DynamicBatcher` knows neither images nor ONNX Runtime. It takes single items, runs them in batches on a
`ThreadPool`, and answers every caller with its own output.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import Context
from typing import Generic, TypeVar

from posewire.engine.batch import Batch, BatchObserver, Served, Waiting
from posewire.engine.cost_model import CostTable
from posewire.engine.deadlines import check_deadline, exceeded
from posewire.engine.fair_queue import ClientQueue, FairQueue
from posewire.engine.health import Health
from posewire.engine.pool import Ran, ThreadPool
from posewire.errors import Draining, InferenceFailed
from posewire.types import Priority

In = TypeVar("In")
Out = TypeVar("Out")

log = logging.getLogger(__name__)


class DynamicBatcher(Generic[In, Out]):
    """A bounded queue in front of a function that works on batches.

    A batch is formed when a thread of the pool is free. Its size and its window follow from `costs`. Callers take turns, and live
    streams go first (`FairQueue`). Items whose caller has gone or whose deadline has passed are dropped before any compute.

    Args:
        name: for logs.
        run: maps a batch of inputs to as many outputs; an output may be an exception. Runs on the pool, several at a time.
        pool: where it runs; may be shared with other batchers.
        max_queue: items that may wait.
        costs: of runs; may be replaced at any time by assignment.
        window: seconds that a batch waits for more items after the arrival of its first one; None: by the costs.
        observer: is told of every batch.
        busy: is told the seconds that each batch kept a worker busy.
    """

    def __init__(
        self,
        name: str,
        run: Callable[[Sequence[In]], Sequence[Out | Exception]],
        pool: ThreadPool,
        *,
        max_queue: int,
        costs: CostTable | None = None,
        window: float | None = None,
        observer: BatchObserver,
        busy: Callable[[float], object] = lambda _: None,
    ) -> None:
        self.name = name
        self.costs = costs or CostTable.unknown()
        self.health = Health()
        self._infer = run
        self._pool = pool
        self._window = window
        self._observer = observer
        self._busy = busy
        self._queue: FairQueue[Waiting[In, Out]] = FairQueue(max_queue)
        self._last_arrival = -math.inf  # seconds, monotonic
        self._gap = math.inf  # seconds between arrivals of late
        self._soon = False  # a batch is formed in the event loop's next turn
        self._later: asyncio.TimerHandle | None = None  # when it is formed, while its window is open
        self._asked = False  # for a turn
        self._running = 0  # batches
        self._change = asyncio.Event()  # that `close` waits for
        self._context = Context()  # a batch is of many callers: none of their contexts applies
        self._alive = False
        self._closing = False

    @property
    def alive(self) -> bool:
        """True while batches are formed."""
        return self._alive

    def start(self) -> None:
        """Begin to serve."""
        self._alive = True

    async def close(self) -> None:
        """Refuse new items, finish all that were accepted, and end."""
        self._closing = True
        while self._alive and (self._running or any(not waiting.future.done() for waiting in self._queue)):
            self._change.clear()
            await self._change.wait()
        self._alive = False

    async def submit(self, items: Sequence[In], *, deadline: float | None = None, priority: Priority = Priority.BULK) -> list[Served[Out]]:
        """Hand in items and wait for their outputs, in the same order; they may run in different batches.

        Args:
            items: of one caller.
            deadline: in the event loop's time; None: none.
            priority: which class of work they are.

        Raises:
            Overloaded: the queue cannot take all of them; none was taken.
            Draining: the service is about to stop.
            DeadlineExceeded: at the deadline at once.
            InferenceFailed: the run of one of them raised.
            ServiceError: what the run gave in the place of one of their outputs.
        """
        if self._closing:
            raise Draining
        if not self.alive:
            raise InferenceFailed("the model's queue has died; the service must be restarted")
        check_deadline(deadline)
        if not items:
            return []
        loop, now = asyncio.get_running_loop(), time.monotonic()
        waiting: list[Waiting[In, Out]] = [Waiting(item, loop.create_future(), now, deadline) for item in items]
        client = self._enqueue(waiting, priority)
        end = None if deadline is None else loop.call_at(deadline, _expire, waiting, context=self._context)
        try:
            return [await waiting[0].future] if len(waiting) == 1 else await asyncio.gather(*[w.future for w in waiting])
        finally:
            if end is not None:
                end.cancel()
            self._queue.leave(client)  # a caller was cancelled, or one of its items failed
            for w in waiting:
                w.future.cancel()

    def _enqueue(self, waiting: list[Waiting[In, Out]], priority: Priority) -> ClientQueue[Waiting[In, Out]]:
        client = self._queue.push(waiting, priority)
        now = waiting[0].arrived
        self._gap = now - self._last_arrival if math.isinf(self._gap) else self._gap + (now - self._last_arrival - self._gap) / 8
        self._last_arrival = now
        self._form_soon()
        if self._asked and self._is_full():
            self._pool.assign()
        return client

    def _is_full(self) -> bool:
        return len(self._queue) >= self.costs.full

    def _form_soon(self) -> None:
        """Form a batch in the next turn of the event loop: items that arrive within one turn go together."""
        if self._asked or self._soon or not self._queue:
            return
        if self._later is not None:
            if not self._is_full():
                return
            self._later.cancel()
        self._soon = True
        asyncio.get_running_loop().call_soon(self._form, context=self._context)

    def _form(self) -> None:
        """Ask for a thread for what waits, unless its window is still open."""
        self._soon, self._later = False, None
        if not self._queue:
            return
        window = self.costs.window(self._gap) if self._window is None else self._window
        if window and not self._is_full():
            remaining = min(waiting.arrived for waiting in self._queue) + window - time.monotonic()
            if remaining > 0:
                self._later = asyncio.get_running_loop().call_later(remaining, self._form, context=self._context)
                return
        self._asked = True
        with self._or_end():
            self._pool.ask(self._turn, self._is_full)

    def _turn(self) -> None:
        """Run the next batch on the thread that we hold."""
        self._asked = False
        with self._or_end():
            chosen: list[Waiting[In, Out]] = []
            try:
                chosen = self._take()
            finally:
                if not chosen:
                    self._pool.release()
            if chosen:
                self._run(Batch(self.name, chosen, self.health, self._observer))
            self._form_soon()
        self._change.set()

    @contextmanager
    def _or_end(self) -> Iterator[None]:
        """If the block fails, fail everything that waits: no batch can be formed any more."""
        try:
            yield
        except Exception as error:
            self._alive = False
            log.critical("the queue of %s has died", self.name, exc_info=error)
            for waiting in self._queue:
                if not waiting.future.done():
                    waiting.future.set_exception(InferenceFailed("the model's queue has ended"))
            self._change.set()

    def _take(self) -> list[Waiting[In, Out]]:
        """Choose the items of the next batch."""
        # Leave items for busy workers: one large batch delays its last items.
        size = self.costs.take(len(self._queue), self._pool.workers) if self._queue else 0
        now = asyncio.get_running_loop().time()
        batch: list[Waiting[In, Out]] = []
        while self._queue and len(batch) < size:
            waiting = self._queue.pop()
            if not waiting.future.done() and (waiting.deadline is None or waiting.deadline > now):
                batch.append(waiting)
        return batch

    def _run(self, batch: Batch[In, Out]) -> None:
        def ended(ran: Ran[Out | Exception] | BaseException) -> None:
            self._running -= 1
            self._pool.release()
            if isinstance(ran, Ran):
                self._busy(ran.ended - ran.started)
            try:
                batch.end(ran)
            finally:
                self._change.set()

        self._running += 1
        try:
            batch.begin()
            self._pool.begin(self._infer, batch.items, ended)
        except Exception as error:
            ended(error)


def _expire(waiting: Sequence[Waiting[In, Out]]) -> None:
    for one in waiting:
        if not one.future.done():
            one.future.set_exception(exceeded())
