"""The streams that are open: how many there may be, and their end when the service stops."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from posewire.api.inbox import Inbox
from posewire.errors import Draining, Overloaded
from posewire.telemetry.metrics import Metrics


class Streams:
    """Counts the open streams and turns away what is over the limit."""

    def __init__(self, limit: int, metrics: Metrics) -> None:
        self.limit = limit
        self._metrics = metrics
        self._inboxes: set[Inbox] = set()
        self._none_open = asyncio.Event()

    @contextmanager
    def enter(self, inbox: Inbox) -> Iterator[None]:
        """Hold a place for a stream.

        Raises:
            Overloaded: no place is free.
        """
        if len(self._inboxes) >= self.limit:
            raise Overloaded(f"{self.limit} streams are open, more are not taken; try again later", retry_after_s=1)
        self._inboxes.add(inbox)
        self._metrics.set_streams(len(self._inboxes))
        try:
            yield
        finally:
            self._inboxes.discard(inbox)
            self._metrics.set_streams(len(self._inboxes))
            if not self._inboxes:
                self._none_open.set()

    async def close(self, within_s: float) -> None:
        """End every stream after the frame that it is answering, and wait until all have ended, or `within_s` seconds."""
        for inbox in self._inboxes:
            inbox.end(Draining("the service is stopping; connect again"))
        if self._inboxes:
            self._none_open.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._none_open.wait(), within_s)
