"""Whether who asked is still there."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol

from fastapi import Request

from posewire.errors import ClientGone

# In a request's scope: the connection that it came by, where the server tells.
CONNECTION = "posewire.connection"


class Connection(Protocol):
    """A connection that can be watched."""

    def watch(self, gone: Callable[[], None]) -> None:
        """Call `gone` when the client closes the connection, perhaps at once."""

    def unwatch(self) -> None:
        """No longer."""


@asynccontextmanager
async def while_there(request: Request) -> AsyncIterator[None]:
    """Ends the block where the client closes the connection; the body must have been read to its end.

    Raises:
        ClientGone: it has.
    """
    presence = asyncio.timeout(None)

    def gone() -> None:
        presence.reschedule(asyncio.get_running_loop().time())

    try:
        async with presence:
            connection: Connection = request.scope.get(CONNECTION) or _Asked(request)
            connection.watch(gone)
            try:
                yield
            finally:
                connection.unwatch()
    except TimeoutError:
        if not presence.expired():
            raise
        raise ClientGone from None


class _Asked:
    """A connection of any ASGI server, which tells who asks, by a task."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._task: asyncio.Task[None] | None = None

    def watch(self, gone: Callable[[], None]) -> None:
        self._task = asyncio.create_task(self._wait(gone))

    def unwatch(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _wait(self, gone: Callable[[], None]) -> None:
        while (await self._request.receive())["type"] != "http.disconnect":
            pass
        gone()
