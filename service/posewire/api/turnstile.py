"""The door in uvicorn's protocol, and what the protocol knows of a client that goes.

Under overload most requests are refused, and a refusal should cost next to nothing. Through the application it takes twice as
long, and little of that is about the request: a task, its context, the middleware. What is out of the ordinary goes that way all
the same: a page of another site, a trace, a drain.
"""

import asyncio
import time
from collections.abc import Callable
from http import HTTPStatus
from types import SimpleNamespace
from typing import Any, cast

from starlette.datastructures import Headers
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from posewire.api.access import bearer_key
from posewire.api.door import Door
from posewire.api.middleware import SECURE_HEADERS, request_id_of
from posewire.api.presence import CONNECTION
from posewire.api.problems import MEDIA_TYPE, problem_body
from posewire.api.services import Services
from posewire.errors import Overloaded
from posewire.telemetry import tracing
from posewire.telemetry.logs import request_id_var

# What uvicorn's protocol asks of a request that is answered, whose body it then passes over.
_ANSWERED = cast(RequestResponseCycle, SimpleNamespace(response_complete=True, message_event=asyncio.Event()))

_SECURE = b"".join(b"%b: %b\r\n" % header for header in SECURE_HEADERS)
_HEAD = f"HTTP/1.1 {Overloaded.status} {HTTPStatus(Overloaded.status).phrase}\r\n".encode() + _SECURE
_OWN = b"content-type: " + MEDIA_TYPE.encode() + b"\r\nretry-after: %d\r\nx-request-id: %b\r\ncontent-length: %d\r\n\r\n"

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
        if not self._door.shut or not self._is_ordinary() or not self._may_enter(headers := Headers(raw=self.headers)):
            super().on_headers_complete()
            return
        request_id = request_id_of(headers.get("x-request-id", ""))
        token = request_id_var.set(request_id)
        error = self._door.refuse()
        body = problem_body(error)
        request_id_var.reset(token)
        defaults = b"".join([b"%b: %b\r\n" % header for header in self.server_state.default_headers])
        own = _OWN % (error.retry_after_s, request_id.encode(), len(body))
        self.transport.write(b"".join((_HEAD, defaults, own, body)))
        self.cycle = _ANSWERED
        self.on_response_complete()
        self._services.metrics.observe_request(self._door.path, "POST", error.status, time.perf_counter() - started)

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

    def _may_enter(self, headers: Headers) -> bool:
        """Whether there is nothing to say of who asks but that it is full."""
        if not _OTHERS.isdisjoint(name for name, _ in headers.raw):
            return False
        keys = self._services.keys
        key = bearer_key(headers.get("authorization", ""))
        return keys is None or (key is not None and keys.holder(key) is not None)
