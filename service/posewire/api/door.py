"""The door: who cannot be let in is told so before anything is made of the request, its body unread."""

import asyncio
import logging
from contextvars import Context

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from posewire.api.problems import problem_of
from posewire.api.services import Services

# In the scope of a request that was turned away here, the route's path: `RequestContext` leaves its log line to the door.
TURNED_AWAY = "posewire.turned_away"

# Under overload a line for each would be most of the log, and a good part of the work.
_TELL_EVERY_S = 1.0

log = logging.getLogger("posewire.access")


class Door:
    """Turns requests to one route away while the service is full, and logs how many, once a second at most.

    A request that brings several pictures may still be refused when they are known (`Admission.enter`).

    Args:
        services: their admission is asked.
        path: of the route whose every request brings a picture at least.
    """

    def __init__(self, services: Services, path: str) -> None:
        self.path = path
        self._services = services
        self._turned_away = 0  # since the last log line

    @property
    def shut(self) -> bool:
        """Whether not even one more picture fits."""
        return self._services.admission.full

    def refuse(self) -> Response:
        """What one is told who is turned away; counted and, in time, logged."""
        error = self._services.admission.refusal(1)
        self._services.metrics.count_rejection(error)
        if not self._turned_away:
            asyncio.get_running_loop().call_later(_TELL_EVERY_S, self._tell, context=Context())  # of no request
        self._turned_away += 1
        return problem_of(error)

    def _tell(self) -> None:
        log.warning("turned away at the door", extra={"requests": self._turned_away, "in_flight": self._services.admission.in_flight})
        self._turned_away = 0


class AtTheDoor:
    """The door as ASGI, for those whom `Turnstile` lets pass and for servers that have none.

    Args:
        app: what is behind.
        door: the door.
    """

    def __init__(self, app: ASGIApp, door: Door) -> None:
        self._app = app
        self._door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if self._door.shut and scope["type"] == "http" and scope["path"] == self._door.path and scope["method"] == "POST":
            scope[TURNED_AWAY] = self._door.path
            await self._door.refuse()(scope, receive, send)
        else:
            await self._app(scope, receive, send)
