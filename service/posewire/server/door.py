"""The door: who cannot be let in is told so before anything is made of the request, its body unread."""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import Context

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from posewire.errors import Overloaded
from posewire.server.problems import problem_of
from posewire.server.services import Services

# In a request's scope: the path of its route, which the router does not see; and that it was turned away, which the door logs.
ROUTE = "posewire.route"
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
        self._busy = False  # with turning away
        self._stood: int | None = None  # the scheduling policy of before

    @property
    def shut(self) -> bool:
        """Whether not even one more picture fits."""
        return self._services.admission.full

    def refuse(self) -> Overloaded:
        """What one is told who is turned away; counted and, in time, logged."""
        error = self._services.admission.refusal(1)
        self._services.metrics.count_rejection(error)
        if not self._busy:
            self._busy = True
            self._stood = _stand_back()
            asyncio.get_running_loop().call_later(_TELL_EVERY_S, self._tell, context=Context())  # of no request
        self._turned_away += 1
        return error

    def _tell(self) -> None:
        if not self._turned_away:
            self._busy = False
            _schedule(self._stood)
            return
        log.warning("turned away at the door", extra={"requests": self._turned_away, "in_flight": self._services.admission.in_flight})
        self._turned_away = 0
        asyncio.get_running_loop().call_later(_TELL_EVERY_S, self._tell)


def _stand_back() -> int | None:
    """Let the event loop take no core from a model's run in the middle; the policy of before, for `_schedule`.

    While it refuses it is woken a thousand times a second, and each time a run would lose its core and what is in its caches. It then
    waits for the end of the run's turn, some milliseconds, and refuses all who have come meanwhile.
    """
    try:
        before = os.sched_getscheduler(0)
        batch = os.SCHED_BATCH
    except (AttributeError, OSError):  # not on this system
        return None
    _schedule(batch)
    return before


def _schedule(policy: int | None) -> None:
    if policy is not None:
        with suppress(OSError):  # forbidden to this container: it works without
            os.sched_setscheduler(0, policy | os.SCHED_RESET_ON_FORK, os.sched_param(0))


class AtTheDoor:
    """The door as ASGI, for those whom `Turnstile` lets pass and for servers that have none.

    Who is let in goes on straight to `inside`: the router and what is around it take a tenth of a millisecond.

    Args:
        app: what is behind, for all other requests.
        door: the door.
        inside: answers those that the door is for.
    """

    def __init__(self, app: ASGIApp, door: Door, inside: Callable[[Request], Awaitable[Response]]) -> None:
        self._app = app
        self._door = door
        self._inside = inside

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http" or scope["path"] != self._door.path or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        scope[ROUTE] = self._door.path
        if self._door.shut:
            scope[TURNED_AWAY] = True
            answer = problem_of(self._door.refuse())
        else:
            answer = await self._inside(Request(scope, receive))
        await answer(scope, receive, send)
