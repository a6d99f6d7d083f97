"""A sink whose messages wait on disk while the receiver is away."""

import asyncio
import contextlib
import functools
import logging
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

from posewire.errors import PosewireError
from posewire.sinks.base import Message, RefusedError, Report, Transport, UndeliveredError
from posewire.sinks.spool import MAX_BYTES, MAX_MESSAGES, Spool, Waiting

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

_FIRST_PAUSE_S: Final = 0.25
_LONGEST_PAUSE_S: Final = 30.0
_CLOSING_S: Final = 2.0


class SpooledSink:
    """Delivers each message at least once, in order. One whose first attempt may have arrived has `attempt` above 1.

    Args:
        transport: delivers.
        spool: file of the messages that wait.
        name: for reports.
        report: takes a line when the receiver goes away, comes back, or refuses a message, and when old messages are dropped.
        max_messages: that wait; above it the oldest are dropped.
        max_bytes: of all that wait.
        longest_pause_s: between two attempts; pauses grow to it.

    Raises:
        PosewireError: the spool cannot be opened.
    """

    def __init__(
        self,
        transport: Transport,
        spool: Path,
        name: str,
        report: Report,
        *,
        max_messages: int = MAX_MESSAGES,
        max_bytes: int = MAX_BYTES,
        longest_pause_s: float = _LONGEST_PAUSE_S,
    ) -> None:
        self._transport = transport
        self._spool = Spool(spool, max_messages, max_bytes)
        self._name = name
        self._report = report
        self._longest_pause_s = longest_pause_s
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="spool")
        self._arrived = asyncio.Event()
        self._empty = asyncio.Event()
        self._dropped = 0
        self._task = asyncio.create_task(self._run(), name=f"sink {name}")

    async def put(self, message: Message) -> None:
        """Keep the message on disk.

        Raises:
            PosewireError: the disk cannot be written.
        """
        dropped = await self._on_disk(self._spool.put, message.to_json())
        if dropped and not self._dropped:
            self._report(f"{self._name}: too many messages wait: the oldest are dropped")
        self._dropped += dropped
        self._empty.clear()
        self._arrived.set()

    async def close(self) -> None:
        """Deliver for two seconds at most, then end; the rest stays on disk."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._empty.wait(), _CLOSING_S)
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        await self._transport.close()
        await self._on_disk(self._spool.close)
        self._disk.shutdown()

    async def _run(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while True:
            self._arrived.clear()
            try:
                if not await self._deliver_first():
                    self._empty.set()
                    await self._arrived.wait()
                    continue
            except Exception as error:  # whatever it is, the messages wait for a later attempt
                if not isinstance(error, UndeliveredError | PosewireError):
                    log.exception("a sink failed", extra={"sink": self._name})
                if pause_s == _FIRST_PAUSE_S:
                    self._report(f"{self._name}: {error}; {len(self._spool)} messages wait")
                await asyncio.sleep(pause_s * random.uniform(0.75, 1.25))  # noqa: S311 - so that many sinks do not come back at once
                pause_s = min(pause_s * 2, self._longest_pause_s)
                continue
            if pause_s > _FIRST_PAUSE_S:
                self._report(f"{self._name}: it takes messages again")
            pause_s, self._dropped = _FIRST_PAUSE_S, 0

    async def _deliver_first(self) -> bool:
        """Deliver the oldest message; return False if none waits.

        Raises:
            UndeliveredError: the receiver does not take it now.
            PosewireError: the disk cannot be written. The message may be delivered again.
        """
        waiting = await self._on_disk(self._spool.first)
        if waiting is None:
            return False
        try:
            await self._transport.deliver(_message(waiting).delivery(waiting.message_id, waiting.attempts))
        except RefusedError as error:
            self._report(f"{self._name}: {error}; the message {waiting.message_id} is dropped")
        await self._on_disk(self._spool.done, waiting)
        return True

    async def _on_disk(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a call of the spool on the one thread that uses it."""
        return await asyncio.get_running_loop().run_in_executor(self._disk, functools.partial(call, *args, **kwargs))


def _message(waiting: Waiting) -> Message:
    try:
        return Message.from_json(waiting.body)
    except (ValueError, KeyError, TypeError):
        raise RefusedError("another version of Posewire has written it in a form that this one does not read") from None
