"""The door in uvicorn's protocol, the usual requests behind it, and what the protocol knows of a client that goes.

Under overload most requests are refused, and a refusal should cost next to nothing. Through the application it takes twice as
long, and little of that is about the request: a task, its context, the middleware. Who is let in with a usual request goes by
`Express`. What is out of the ordinary goes through the application: a page of another site, a trace, a drain.
"""

import asyncio
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from posewire.errors import ServiceError
from posewire.server.auth import bearer_key
from posewire.server.clients import HOLDER
from posewire.server.door import Door
from posewire.server.express import Express, Wish
from posewire.server.middleware import request_id_of
from posewire.server.presence import CONNECTION
from posewire.server.problems import MEDIA_TYPE, problem_body
from posewire.server.services import Services
from posewire.server.wire import message
from posewire.telemetry import tracing
from posewire.telemetry.logs import request_id_var

# What uvicorn's protocol asks of a request that is answered, whose body it then passes over.
_ANSWERED = cast(RequestResponseCycle, SimpleNamespace(response_complete=True, message_event=asyncio.Event()))

# Answers to these are not the door's alone: CORS headers, an interim answer.
_OTHERS = frozenset({b"origin", b"expect"})


class Turnstile(HttpToolsProtocol):
    """For uvicorn's `http`, with an application of `create_app`: refuses at the head of a request as `AtTheDoor` would.

    It tells a request that waits of the end of its connection, which by ASGI's `receive` takes a task for every request.
    """

    def __init__(self, config: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        self._door: Door = config.app.state.door
        self._services: Services = config.app.state.services
        self._path = self._door.path.encode()
        self._gone: Callable[[], None] | None = None  # whom to tell of the connection's end
        self._lost = False

    def watch(self, gone: Callable[[], None]) -> None:
        """As `presence.Connection`'s."""
        self._gone = gone
        self.flow.resume_reading()  # nothing is heard of an end while a large body stands before it
        if self._lost:
            gone()

    def unwatch(self) -> None:
        """As `presence.Connection`'s."""
        self._gone = None

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio's."""
        super().connection_lost(exc)
        self._lost = True
        if self._gone is not None:
            self._gone()

    def on_message_begin(self) -> None:
        """httptools': a request begins."""
        super().on_message_begin()
        cast(dict[str, Any], self.scope)[CONNECTION] = self

    def on_headers_complete(self) -> None:
        """httptools': the head of a request is there."""
        started = time.perf_counter()
        if not self._is_ordinary() or not self._answers(dict(self.headers), started):
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """httptools': a piece of a body."""
        if not isinstance(self.cycle, Express):
            super().on_body(body)
        elif not self.cycle.response_complete:
            self.cycle.take(body)

    def on_message_complete(self) -> None:
        """httptools': the end of a request."""
        if not isinstance(self.cycle, Express):
            super().on_message_complete()
        elif not self.cycle.response_complete:
            self.cycle.go()

    def _is_ordinary(self) -> bool:
        """Whether it is a picture of someone who waits for nothing else on a connection that stays."""
        path, _, _ = self.url.partition(b"?")
        return (
            path == self._path
            and self.parser.get_method() == b"POST"
            and self.parser.should_keep_alive()
            and not self.parser.should_upgrade()
            and (self.cycle is None or self.cycle.response_complete)
            and not self.flow.write_paused
            and not self._services.draining
            and not tracing.is_on()
        )

    def _answers(self, headers: dict[bytes, bytes], started: float) -> bool:
        """Whether nothing more than what is here is needed for an answer, which then comes from here."""
        if len(headers) < len(self.headers) or not self._may_enter(headers):
            return False
        if self._door.shut:
            return _OTHERS.isdisjoint(headers) and self._refuse(headers, started)
        return self._accept(headers, started)

    def _may_enter(self, headers: dict[bytes, bytes]) -> bool:
        """Whether there is nothing to say of who asks."""
        keys = self._services.keys
        if keys is None:
            return True
        key = bearer_key(headers.get(b"authorization", b"").decode("latin-1"))
        holder = None if key is None else keys.holder(key)
        if holder is not None:
            cast(dict[str, Any], self.scope)[HOLDER] = holder
        return holder is not None

    def _refuse(self, headers: dict[bytes, bytes], started: float) -> bool:
        request_id = request_id_of(headers.get(b"x-request-id", b"").decode("latin-1"))
        token = request_id_var.set(request_id)
        error = self._door.refuse()
        body = problem_body(error)
        request_id_var.reset(token)
        whole = message(self.server_state, error.status, MEDIA_TYPE, request_id, body, retry_after_s=error.retry_after_s)
        self.transport.write(whole)
        self.cycle = _ANSWERED
        self.on_response_complete()
        self._services.metrics.observe_request(self._door.path, "POST", error.status, time.perf_counter() - started)
        return True

    def _accept(self, headers: dict[bytes, bytes], started: float) -> bool:
        services, engine = self._services, self._services.engine
        wish = Wish.of(headers, self.url[len(self._path) + 1 :], services.settings)
        if wish is None or engine is None:
            return False
        scope = cast(dict[str, Any], self.scope)
        scope["method"] = "POST"
        try:
            express = Express(wish, scope, services, engine, self.transport, self.server_state, self._answered, started)
        except ServiceError:  # which the application finds too, and tells
            return False
        self.cycle = cast(RequestResponseCycle, express)
        self.watch(express.lose)
        return True

    def _answered(self) -> None:
        self.unwatch()
        self.on_response_complete()
