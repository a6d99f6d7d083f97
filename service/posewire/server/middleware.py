"""ASGI middleware around every request: its id, its headers, its record, and an answer when all else fails."""

import asyncio
import logging
import random
import re
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from posewire.errors import ClientGone
from posewire.server.access_log import record, route_of
from posewire.server.headers import REQUEST_ID, common_headers
from posewire.server.problems import internal_error, reject
from posewire.server.services import Services
from posewire.telemetry import tracing
from posewire.telemetry.logs import request_id_var, trace_id_var

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")

log = logging.getLogger("posewire.access")


def new_request_id() -> str:
    """Return a random id for a request."""
    return f"{random.getrandbits(128):032x}"


def request_id_of(headers: Headers) -> str:
    """Return the caller's `X-Request-Id` where it is valid, else a random one."""
    given = headers.get(REQUEST_ID, "")
    return given if _REQUEST_ID.fullmatch(given) else new_request_id()


def trace_id_of(headers: Headers) -> str | None:
    """Return the trace id of the caller's `traceparent`; None: it sent none that is valid."""
    trace = _TRACEPARENT.fullmatch(headers.get("traceparent", ""))
    return trace[1] if trace else None


class RequestContext:
    """ASGI middleware that gives every request and every WebSocket an id, and its answer the headers of `common_headers`.

    The id is the caller's `X-Request-Id` where it is valid, else a random one.

    Every answer over HTTP is measured and logged, also one to the handshake of a WebSocket. A WebSocket that is accepted is not:
    its route counts it (`posewire_streams_active`, `posewire_frames_*`) and logs its end.

    Args:
        app: the next application.
        services: of the application.
    """

    def __init__(self, app: ASGIApp, services: Services) -> None:
        self._app = app
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        request_id = request_id_of(headers)
        tokens = request_id_var.set(request_id), trace_id_var.set(trace_id_of(headers))
        try:
            if scope["type"] == "http":
                await self._serve(scope, receive, send, headers, request_id)
            else:
                await self._shake_hands(scope, receive, send, request_id)
        finally:
            request_id_var.reset(tokens[0])
            trace_id_var.reset(tokens[1])

    async def _serve(self, scope: Scope, receive: Receive, send: Send, headers: Headers, request_id: str) -> None:
        started = time.perf_counter()
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = self._completed(message["headers"], request_id)
            await send(message)

        with tracing.request_span(scope["method"], headers) as span:
            trace_id_var.set(tracing.sampled_trace_id(span) or trace_id_var.get())
            try:
                await self._app(scope, receive, send_with_headers)
            except Exception:
                log.exception("unhandled error")
                answer = reject(self._services.metrics, scope, internal_error())
                if not status:
                    await answer(scope, receive, send_with_headers)
            finally:
                tracing.end_request_span(span, scope["method"], route_of(scope), status)
                record(self._services, scope, status, time.perf_counter() - started, tracing.sampled_trace_id(span))

    async def _shake_hands(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        """Serve a WebSocket; record its handshake if it is answered over HTTP."""
        started = time.perf_counter()
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "websocket.accept":  # it has `Connection: Upgrade`
                given = [*message.get("headers", ())]
                message["headers"] = [*given, *common_headers(request_id, {name for name, _ in given})]
            elif message["type"] == "websocket.http.response.start":
                status = message["status"]
                message["headers"] = self._completed(message["headers"], request_id)
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        finally:
            if status:
                record(self._services, scope, status, time.perf_counter() - started)

    def _completed(self, given: Iterable[tuple[bytes, bytes]], request_id: str) -> list[tuple[bytes, bytes]]:
        """Return the headers of an answer with those of every answer.

        While the service drains, the client must open its next connection elsewhere, before the service closes this one.
        """
        headers = [*given]
        return [*headers, *common_headers(request_id, {name for name, _ in headers}, close=self._services.draining)]


@asynccontextmanager
async def cancel_on_disconnect(receive: Receive) -> AsyncIterator[None]:
    """Cancel a block when the client closes the connection. The request's body must have been read to its end.

    Raises:
        ClientGone: the client has closed the connection.
    """

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        timeout.reschedule(0)  # a moment that has passed: now

    try:
        async with asyncio.timeout(None) as timeout:
            watcher = asyncio.create_task(watch(), name="disconnect")
            try:
                yield
            finally:
                watcher.cancel()
    except TimeoutError:
        if not timeout.expired():
            raise
        raise ClientGone from None
