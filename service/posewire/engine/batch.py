"""One batch: items from their queue to their answers."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from opentelemetry.trace import INVALID_SPAN, Span

from posewire.engine.health import Health
from posewire.engine.pool import Ran
from posewire.errors import InferenceFailed, ServiceError
from posewire.telemetry import tracing

In = TypeVar("In")
Out = TypeVar("Out")

log = logging.getLogger(__name__)


class BatchObserver(Protocol):
    """Gets the sizes and times of all batches; called on the event loop and on the pool's threads."""

    def started(self, size: int) -> None:
        """A batch of `size` items starts."""

    def ran(self, seconds: float) -> None:
        """A batch took this long."""

    def waited(self, seconds: float) -> None:
        """An item waited this long before its batch started."""

    def failed(self) -> None:
        """A batch raised."""


@dataclass(frozen=True, slots=True)
class Served(Generic[Out]):
    """One item's output and what it took."""

    output: Out
    waited: float  # seconds in the queue
    started: float  # of the batch's run, seconds, monotonic
    ended: float


@dataclass(slots=True, eq=False)
class Waiting(Generic[In, Out]):
    """One item of a caller, in the queue or in a run."""

    item: In
    future: asyncio.Future[Served[Out]]
    arrived: float  # seconds, monotonic
    deadline: float | None  # in the event loop's time
    span: Span = field(default_factory=tracing.current_span)  # the caller's


class Batch(Generic[In, Out]):
    """Items that run together. Every caller gets an answer, also where the model raises.

    Args:
        name: of the queue, for logs and traces.
        waiting: the items.
        health: of the model.
        observer: is told of the run.
    """

    def __init__(self, name: str, waiting: Sequence[Waiting[In, Out]], health: Health, observer: BatchObserver) -> None:
        self._name = name
        self._waiting = waiting
        self._health = health
        self._observer = observer
        self._present: list[Waiting[In, Out]] = []
        self._span: Span = INVALID_SPAN

    def begin(self) -> None:
        """Begin the trace: the batch is handed to the pool."""
        self._span = tracing.batch(self._name, ((waiting.span, waiting.arrived) for waiting in self._waiting))

    def items(self) -> list[In]:
        """Return the items whose callers are still there; called when the run begins, on any thread."""
        self._present.extend(waiting for waiting in self._waiting if not waiting.future.done())
        if self._present:
            self._observer.started(len(self._present))
        return [waiting.item for waiting in self._present]

    def end(self, ran: Ran[Out | Exception] | BaseException) -> None:
        """Give every caller its own output or error."""
        tracing.end_batch(self._span, ran if isinstance(ran, BaseException) else None)
        if isinstance(ran, BaseException):
            self._fail(ran)
        elif len(ran.outputs) != len(self._present):
            self._fail(RuntimeError(f"{self._name}: {len(ran.outputs)} outputs for {len(self._present)} inputs"))
        elif self._present:
            self._answer(ran)

    def _answer(self, ran: Ran[Out | Exception]) -> None:
        self._health.note(worked=True)
        for waiting, output in zip(self._present, ran.outputs, strict=True):
            if waiting.future.done():
                continue
            if isinstance(output, Exception):
                waiting.future.set_exception(_service_error(output))
            else:
                waiting.future.set_result(Served(output, ran.started - waiting.arrived, ran.started, ran.ended))
        # After the answers: no caller waits on what the observer does.
        self._observer.ran(ran.ended - ran.started)
        for waiting in self._present:
            self._observer.waited(ran.started - waiting.arrived)

    def _fail(self, error: BaseException) -> None:
        log.error("a batch of %s failed", self._name, exc_info=error)
        if not isinstance(error, ServiceError):  # that is about the items
            self._health.note(worked=False)
        for waiting in self._waiting:
            if not waiting.future.done():
                waiting.future.set_exception(_service_error(error))
        self._observer.failed()


def _service_error(error: BaseException) -> ServiceError:
    return error if isinstance(error, ServiceError) else InferenceFailed("the model could not be run on this batch; try again")
