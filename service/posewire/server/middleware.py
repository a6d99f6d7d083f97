"""What happens around every request: its id, headers for browsers, its log line, its latency, and an answer when all else fails."""

import asyncio
import logging
import random
import re
import time
from collections.abc import Iterator

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from posewire.errors import ServiceError
from posewire.server.problems import internal_problem
from posewire.server.record import record, route_of
from posewire.server.services import Services
from posewire.telemetry import tracing
from posewire.telemetry.logs import request_id_var, trace_id_var

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")

# Headers for browsers, where the route has not set its own.
SECURE_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"frame-ancestors 'none'"),
)
_CLOSE = (b"connection", b"close")

log = logging.getLogger("posewire.access")


def request_id_of(given: str) -> str:
    """The caller's, where it is a sane one; else a new one."""
    return given if _REQUEST_ID.fullmatch(given) else f"{random.getrandbits(128):032x}"


class RequestContext:
    """Gives every request and stream its id (the caller's, where it is a sane one); measures and logs requests."""

    def __init__(self, app: ASGIApp, services: Services) -> None:
        self._app = app
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        request_id = request_id_of(headers.get("x-request-id", ""))
        trace = _TRACEPARENT.fullmatch(headers.get("traceparent", ""))
        tokens = request_id_var.set(request_id), trace_id_var.set(trace[1] if trace else None)
        try:
            await (self._serve if scope["type"] == "http" else self._app)(scope, receive, send)
        finally:
            request_id_var.reset(tokens[0])
            trace_id_var.reset(tokens[1])

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        status, seconds = 0, 0.0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *self._headers({name for name, _ in message["headers"]})]
            await send(message)

        with tracing.request_span(scope["method"], Headers(scope=scope)) as span:
            trace_id_var.set(tracing.sampled_trace_id(span) or trace_id_var.get())
            try:
                await self._app(scope, receive, send_with_id)
                seconds = time.perf_counter() - started
                await asyncio.sleep(0)  # the answer leaves at the end of a turn of the event loop: not after what is recorded of it
            except Exception:
                log.exception("unhandled error")
                self._services.metrics.count_rejection(ServiceError)
                if not status:
                    await internal_problem()(scope, receive, send_with_id)
            finally:
                tracing.end_request_span(span, scope["method"], route_of(scope), status)
                record(self._services, scope, status, seconds or time.perf_counter() - started, tracing.sampled_trace_id(span))

    def _headers(self, given: set[bytes]) -> Iterator[tuple[bytes, bytes]]:
        """What every answer carries beside the headers that were given to it."""
        yield b"x-request-id", (request_id_var.get() or "").encode()
        if traceparent := tracing.traceparent():
            yield b"traceparent", traceparent.encode()
        yield from (header for header in SECURE_HEADERS if header[0] not in given)
        if self._services.draining and b"connection" not in given:
            # The client must open its next connection elsewhere, before this one is closed under it.
            yield _CLOSE
