"""The streams that are open: how many there may be, and their end when the service stops."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from posewire.errors import Draining, Overloaded, TooManyStreams
from posewire.server.latest_frame import Inbox
from posewire.telemetry.metrics import Metrics


class Streams:
    """Counts the open streams and turns away what is over the limits.

    Args:
        limit: streams at a time.
        client_limit: streams of one client at a time; 0: no limit.
        metrics: is told how many are open.
    """

    def __init__(self, limit: int, client_limit: int, metrics: Metrics) -> None:
        self.limit = limit
        self._client_limit = client_limit
        self._metrics = metrics
        self._inboxes: dict[Inbox, str] = {}  # whose each is
        self._none_open = asyncio.Event()

    @contextmanager
    def enter(self, inbox: Inbox, client: str) -> Iterator[None]:
        """Hold a place for a stream of this client.

        Raises:
            TooManyStreams: it has as many as it may.
            Overloaded: no place is free.
        """
        if self._client_limit and list(self._inboxes.values()).count(client) >= self._client_limit:
            raise TooManyStreams(f"{self._client_limit} streams of this client are open; close one, or try again later", retry_after_s=1)
        if len(self._inboxes) >= self.limit:
            raise Overloaded(f"{self.limit} streams are open, more are not taken; try again later", retry_after_s=1)
        self._inboxes[inbox] = client
        self._metrics.set_streams(len(self._inboxes))
        try:
            yield
        finally:
            del self._inboxes[inbox]
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
