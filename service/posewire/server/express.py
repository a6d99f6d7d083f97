"""The usual request, one picture as the body and JSON as the answer, on a short way from uvicorn's protocol to the engine and back.

ASGI, the middleware and the route take more of the event loop's time than all that happens between receiving a picture and having its
answer (`python -m loadtests.hotpath`), and on a machine whose cores run models that time is theirs. A request that is not usual in any
way goes through the application. The answers are the same, and so is all that is counted and logged.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Self

from starlette.datastructures import QueryParams
from starlette.requests import HTTPConnection
from starlette.types import Scope
from uvicorn.server import ServerState

from posewire.config import Settings
from posewire.engine.engine import Engine
from posewire.errors import BadParameter, ClientGone, DeadlineExceeded, Draining, ServiceError
from posewire.schemas.pose import PoseParams
from posewire.server import pose as images
from posewire.server.bodies import PICTURE_TYPES
from posewire.server.door import ROUTE
from posewire.server.middleware import request_id_of
from posewire.server.problems import MEDIA_TYPE, internal_error, problem_body
from posewire.server.record import record
from posewire.server.services import Services
from posewire.server.wire import message
from posewire.telemetry.logs import request_id_var

_PICTURES: Final = frozenset(name.encode() for name in PICTURE_TYPES)
_JSON: Final = "application/json"
_ACCEPTED: Final = frozenset({b"*/*", _JSON.encode()})
_LONGEST_LENGTH: Final = 12  # digits

# Their answers carry something of their own, or their bodies come in another way.
_UNUSUAL: Final = frozenset({b"origin", b"expect", b"transfer-encoding", b"traceparent"})

_NO_QUERY: Final = QueryParams()

# uvicorn's protocol sets the event of its request; of these nobody waits for it.
_NOBODY_WAITS: Final = asyncio.Event()

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Wish:
    """What a usual request asks for."""

    timeout_s: float
    params: PoseParams
    request_id: str

    @classmethod
    def of(cls, headers: Mapping[bytes, bytes], query: bytes, settings: Settings) -> Self | None:
        """The wish of a POST to the pictures' route; None: it is not usual, which also holds for whatever is wrong with it."""
        length = headers.get(b"content-length", b"")
        if (
            headers.get(b"content-type") not in _PICTURES
            or headers.get(b"accept", b"*/*") not in _ACCEPTED
            or not _UNUSUAL.isdisjoint(headers)
            or not length.isdigit()
            or len(length) > _LONGEST_LENGTH
            or not 0 < int(length) <= settings.max_bytes
            or (settings.trusted_proxies is not None and b"x-forwarded-for" in headers)
        ):
            return None
        choices = _choices(query, headers.get(b"x-request-timeout-ms"), settings.request_timeout_ms)
        if choices is None:
            return None
        return cls(*choices, request_id_of(headers.get(b"x-request-id", b"").decode("latin-1")))


@lru_cache(256)  # a client chooses the same for all its pictures
def _choices(query: bytes, timeout: bytes | None, most_ms: int) -> tuple[float, PoseParams] | None:
    """How long to wait, and the parameters; None: they are wrong or not usual."""
    try:
        params = images.params_of(QueryParams(query) if query else _NO_QUERY)
        timeout_s = images.timeout_s(None if timeout is None else timeout.decode("latin-1"), most_ms)
    except BadParameter:
        return None
    return None if params.boxes is not None else (timeout_s, params)


class Express:
    """One usual request, from the end of its head. To uvicorn's protocol it looks like a `RequestResponseCycle`.

    The client's limit is charged and a place is held at once.

    Args:
        wish: of the client.
        scope: of the request, its key's holder in it.
        services: of the application.
        engine: finds the people.
        transport: of the connection.
        state: of the server.
        answered: is called when the connection is free for the next request.
        started: when the head had come, `time.perf_counter`'s seconds.

    Raises:
        RateLimited, Overloaded: nothing is held.
    """

    def __init__(
        self,
        wish: Wish,
        scope: Scope,
        services: Services,
        engine: Engine,
        transport: asyncio.WriteTransport,
        state: ServerState,
        answered: Callable[[], None],
        started: float,
    ) -> None:
        # uvicorn's protocol reads and sets these.
        self.response_complete = False
        self.disconnected = False
        self.keep_alive = True
        self.message_event = _NOBODY_WAITS
        self._wish = wish
        self._scope = scope
        self._services = services
        self._engine = engine
        self._transport = transport
        self._state = state
        self._answered = answered
        self._started = started
        self._pieces: list[bytes] = []
        self._task: asyncio.Task[None] | None = None
        loop = asyncio.get_running_loop()
        self._deadline = loop.time() + wish.timeout_s
        services.rate_limit.charge(HTTPConnection(scope), 1)
        services.admission.take(1)
        scope[ROUTE] = images.PATH
        self._late = loop.call_at(self._deadline, self._end_late)

    def take(self, piece: bytes) -> None:
        """A piece of the picture; the parser sees to it that they are no longer than was said."""
        self._pieces.append(piece)

    def go(self) -> None:
        """All of the picture is there."""
        self._late.cancel()
        self._task = asyncio.get_running_loop().create_task(self._serve())
        self._state.tasks.add(self._task)
        self._task.add_done_callback(self._after)

    def lose(self) -> None:
        """The client has closed the connection."""
        self.disconnected = True
        if self.response_complete:
            return
        if self._task is None:
            self._refuse(ClientGone())
        else:
            self._task.cancel()

    def _after(self, task: asyncio.Task[None]) -> None:
        self._state.tasks.discard(task)
        if not self.response_complete:  # cancelled, perhaps before it had begun
            self._refuse(ClientGone() if self.disconnected else Draining("the service is stopping; try again at another instance"))

    def _end_late(self) -> None:
        self._refuse(DeadlineExceeded("the deadline passed before the body had arrived"))

    async def _serve(self) -> None:
        request_id_var.set(self._wish.request_id)
        engine, params = self._engine, self._wish.params
        try:
            options = engine.settings.pose_options(params.min_detection_score, params.max_people)
            result = await engine.estimate(b"".join(self._pieces), options, deadline=self._deadline)
            body = images.answer_body(engine, [result], params)
        except ServiceError as error:
            self._refuse(error)
        except Exception:
            log.exception("unhandled error")
            self._refuse(internal_error())
        else:
            self._end(200, _JSON, body)

    def _refuse(self, error: ServiceError) -> None:
        self._services.metrics.count_rejection(error)
        token = request_id_var.set(self._wish.request_id)
        self._end(error.status, MEDIA_TYPE, problem_body(error), error.retry_after_s)
        request_id_var.reset(token)

    def _end(self, status: int, media_type: str, body: bytes, retry_after_s: int | None = None) -> None:
        self._late.cancel()
        self._pieces.clear()
        self.response_complete = True
        self._services.admission.give_back(1)
        if not self.disconnected:
            close = self._services.draining or not self.keep_alive
            whole = message(self._state, status, media_type, self._wish.request_id, body, retry_after_s=retry_after_s, close=close)
            self._transport.write(whole)
            if close:
                self._transport.close()
        seconds = time.perf_counter() - self._started
        self._answered()
        record(self._services, self._scope, status, seconds)
