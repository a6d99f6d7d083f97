"""Guards the connections: limits of request heads and of connections, deadlines of heads and of writes, and a close that loses no answer.

A guard stands between the socket and uvicorn's protocol of each connection. It frames the requests with a parser of its own, so
that a head reaches uvicorn only when it is complete and within the limits.

- A head that is too large, too slow or not valid HTTP/1.1 is answered with a problem.
- An `Upgrade` that is not a WebSocket's, such as `h2c`, is ignored, as RFC 9110 (7.8) allows: the request is served as HTTP/1.1.
- A connection whose client does not read is cut after `write_timeout_s`.
- A close lets the client finish sending first, as nginx's `lingering_close` does. A socket that is closed with unread bytes resets
  the connection, and the reset can destroy an answer that the client has not read yet.
- At the limit of connections one is cut for a new one: the longest answered of those that close, else the one that waits longest for
  a request.
"""

import asyncio
from http import HTTPStatus
from typing import Any

import httptools
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from posewire.config import Settings
from posewire.errors import BadRequest, HeadersTooLarge, Overloaded, ServiceError, TargetTooLong, TimedOut
from posewire.server.access_log import log_early_rejection
from posewire.server.headers import common_headers
from posewire.server.middleware import new_request_id
from posewire.server.problems import response_of
from posewire.telemetry.logs import request_id_var
from posewire.telemetry.metrics import Metrics

# The key of ASGI's `state` under which a request finds the guard of its connection.
_STATE = "posewire.connection"

# A closed connection is read on for this long in all, and for this long without a byte; nginx has the same defaults.
_LINGER_S = 30.0
_SILENCE_S = 5.0
# Between requests only a request that is on its way can come; a client's pool of connections may not notice the close at all.
_IDLE_SILENCE_S = 1.0
# While the service stops, a client that reads nothing for this long is cut.
_STOPPING_S = 2.0
_TICK_S = 0.5

# Bytes of a body beyond the largest that any route reads. Then the client has ignored an answer for long, and is cut.
_EXCESS_BYTES = 16_777_216

_END_OF_HEAD = b"\r\n\r\n"


class Connections:
    """The open connections of one service.

    Args:
        settings: the limits.
        metrics: counts connections and rejections.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.settings = settings
        self.metrics = metrics
        self.max_body_bytes = max(settings.max_request_bytes, settings.video_max_bytes) + _EXCESS_BYTES
        self.stopping = False  # closed connections are cut sooner
        metrics.set_limit("connections", settings.max_connections)
        self._open: set[ConnectionGuard] = set()
        self._waiting: dict[ConnectionGuard, None] = {}  # for a request, the longest first
        self._closing: dict[ConnectionGuard, None] = {}  # for the client to notice, the longest first

    def protocol(self) -> type[asyncio.Protocol]:
        """Return the class of these connections' protocols, for uvicorn's setting `http`."""
        connections = self

        class Guarded(ConnectionGuard):
            def __init__(self, **arguments: Any) -> None:
                super().__init__(connections, arguments)

        return Guarded

    def track(self, app: ASGIApp) -> ASGIApp:
        """Return an application that reports the end of each request to the guard of its connection."""

        async def tracked(scope: Scope, receive: Receive, send: Send) -> None:
            guard: ConnectionGuard | None = scope.get("state", {}).get(_STATE)
            try:
                await app(scope, receive, send)
            finally:
                if guard is not None:
                    guard.request_ended()

        return tracked

    def abort(self) -> None:
        """Cut every connection."""
        for guard in list(self._open):
            guard.abort()

    def add(self, guard: "ConnectionGuard") -> bool:
        """Note a new connection. Return False if it must be rejected: all others are at work."""
        if len(self._open) >= self.settings.max_connections and (others := self._closing or self._waiting):
            oldest = next(iter(others))
            self.remove(oldest)
            oldest.abort()
        self._open.add(guard)
        self.metrics.set_connections(len(self._open))
        return len(self._open) <= self.settings.max_connections

    def remove(self, guard: "ConnectionGuard") -> None:
        """Note a lost connection."""
        self._open.discard(guard)
        self.metrics.set_connections(len(self._open))
        self._waiting.pop(guard, None)
        self._closing.pop(guard, None)

    def closes(self, guard: "ConnectionGuard") -> None:
        """Note a connection that is answered, and is only read on."""
        self._waiting.pop(guard, None)
        self._closing[guard] = None

    def waits(self, guard: "ConnectionGuard", waiting: bool) -> None:
        """Note whether a connection waits for a request; above the limit of such connections the oldest is closed."""
        if not waiting:
            self._waiting.pop(guard, None)
        elif guard not in self._waiting:
            self._waiting[guard] = None
            if len(self._waiting) > self.settings.max_idle_connections:
                next(iter(self._waiting)).close()


class _Framing:
    """Frames the requests of a connection: where heads and bodies end, and whether a head is within the limits.

    Args:
        settings: the limits.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._parser = httptools.HttpRequestParser(self)
        # What follows a last request is ignored, as uvicorn does; without this it is an error of that request.
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.heads = 0  # complete ones so far
        self.in_head = self.in_body = False
        self.upgrade: bytes | None = None  # the protocol that the last head asks for
        self.error: ServiceError | None = None
        self._target = b""
        self._header_bytes = 0

    def feed(self, data: bytes) -> bool:
        """Parse bytes. Return True if they ask for another protocol: what follows the head is not HTTP."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            return self.error is None
        except httptools.HttpParserError as error:
            self.error = self.error or BadRequest(f"this is not a valid HTTP/1.1 request: {error}")
        return False

    @property
    def is_websocket(self) -> bool:
        """True if the last head can become a WebSocket."""
        return self.upgrade == b"websocket" and self._parser.get_method() == b"GET"

    def on_message_begin(self) -> None:
        """Of httptools."""
        self.in_head, self.upgrade, self._target, self._header_bytes = True, None, b"", 0

    def on_url(self, part: bytes) -> None:
        """Of httptools."""
        self._target = (self._target + part)[: self._settings.max_target_bytes + 1]
        if len(self._target) > self._settings.max_target_bytes:
            self.error = self.error or TargetTooLong(f"path and query have more than {self._settings.max_target_bytes} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Of httptools."""
        self._header_bytes += len(name) + len(value) + 4
        if name.lower() == b"upgrade":
            self.upgrade = value.strip().lower()
        if self._header_bytes > self._settings.max_header_bytes:
            self.error = self.error or too_many_header_bytes(self._settings)

    def on_headers_complete(self) -> None:
        """Of httptools."""
        self.in_head, self.in_body = False, True
        self.heads += 1
        if self._parser.get_method() == b"CONNECT":
            self.error = self.error or BadRequest("CONNECT is not served: this is no proxy")
        elif self.error is None and not _has_path(self._target):
            self.error = BadRequest("the request's target is not a path")

    def on_message_complete(self) -> None:
        """Of httptools."""
        self.in_body = False


def _has_path(target: bytes) -> bool:
    try:
        return bool(httptools.parse_url(target).path)
    except httptools.HttpParserInvalidURLError:
        return False


def too_many_header_bytes(settings: Settings) -> HeadersTooLarge:
    """Return the error for a head with too many headers."""
    return HeadersTooLarge(f"the headers have more than {settings.max_header_bytes} bytes; send fewer cookies and shorter values")


class ConnectionGuard(asyncio.Protocol):
    """The guard of one connection.

    Args:
        connections: all of them.
        arguments: for uvicorn's protocol.
    """

    def __init__(self, connections: Connections, arguments: dict[str, Any]) -> None:
        self._connections = connections
        self._settings = connections.settings
        self._loop = asyncio.get_running_loop()
        arguments["app_state"] = {**arguments["app_state"], _STATE: self}
        self._inner: asyncio.Protocol = HttpToolsProtocol(**arguments)
        self._framing: _Framing | None = _Framing(self._settings)  # None: the connection is a WebSocket
        self._held = bytearray()  # of a head that is not complete
        self._given = 0  # requests that uvicorn's protocol was given
        self._ended = 0  # of these, the ones that are over
        self._head_bytes = self._body_bytes = 0  # of the message that is being received
        self._rejection: ServiceError | None = None  # to be answered after the requests before it
        self._timer: asyncio.TimerHandle | None = None  # of the head, then of the close
        self._write_timer: asyncio.TimerHandle | None = None
        self._closed_at: float | None = None  # in the event loop's time
        self._silence_s = _SILENCE_S
        self._heard_at = 0.0
        self._unwritten = 0
        self._transport: asyncio.Transport
        self._rejected = False

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Of asyncio."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if not self._connections.add(self):
            self._rejected = True
            open_already = f"{self._settings.max_connections} connections are open, more are not taken"
            self._write_problem(Overloaded(open_already, limit="connections", retry_after_s=1))
            return
        self._inner.connection_made(_GuardedTransport(self, transport))
        self._await_head()
        self._connections.waits(self, waiting=True)

    def data_received(self, data: bytes) -> None:
        """Of asyncio."""
        self._heard_at = self._loop.time()
        if self._closed_at is not None or self._rejection is not None:
            return
        framing = self._framing
        if framing is None:
            self._inner.data_received(data)
            return
        if not self._count(framing, data):
            return
        held = bool(self._held) or not (framing.in_head or framing.in_body)
        if held:
            self._held += data
        if framing.feed(data):
            data = self._upgrade(framing, data, held)
            held = False
            framing = self._framing or framing
        if framing.error is not None:
            self._reject(framing.error)
            return
        self._head_bytes = self._head_bytes + len(data) if framing.in_head else 0
        if self._head_bytes > self._settings.max_header_bytes + self._settings.max_target_bytes:
            self._reject(too_many_header_bytes(self._settings))
            return
        if held and framing.heads == self._given:
            self._await_rest_of_head()
            return
        if held:
            data = bytes(self._held)
        self._held.clear()
        self._give(framing, data)

    def _count(self, framing: _Framing, data: bytes) -> bool:
        """Count the bytes of a body; returns False if they are far too many, and cuts the connection."""
        self._body_bytes = self._body_bytes + len(data) if framing.in_body else 0
        if self._body_bytes <= self._connections.max_body_bytes:
            return True
        self.abort()
        return False

    def _upgrade(self, framing: _Framing, data: bytes, held: bool) -> bytes:
        """Make this a WebSocket, or take a request as HTTP/1.1 that asks for another protocol; returns the bytes for uvicorn."""
        if held:
            data = bytes(self._held)
        if framing.is_websocket:
            self._framing = None
        elif not held:
            framing.error = BadRequest("an upgrade cannot follow another request that is not answered yet")
        else:
            head, end, rest = data.partition(_END_OF_HEAD)
            lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"upgrade:")]
            data = b"\r\n".join(lines) + end + rest
            self._framing = _Framing(self._settings)
            self._framing.heads = framing.heads - 1
            self._framing.feed(data)
        return data

    def _give(self, framing: _Framing, data: bytes) -> None:
        """Give bytes to uvicorn's protocol."""
        self._given = framing.heads
        if not framing.in_head:
            self._cancel_timer()
        self._note_waiting()
        self._inner.data_received(data)
        self._await_rest_of_head()

    def eof_received(self) -> bool | None:
        """Of asyncio."""
        return None if self._rejected else self._inner.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Of asyncio."""
        self._connections.remove(self)
        self._closed_at = self._closed_at or self._loop.time()
        self._cancel_timer()
        if not self._rejected:
            self.resume_writing()
            self._inner.connection_lost(exc)
        self._inner = asyncio.Protocol()  # without the cycle of references the memory is free at once

    def pause_writing(self) -> None:
        """Of asyncio: the client does not read what was written."""
        if self._write_timer is None:
            self._write_timer = self._loop.call_later(self._settings.write_timeout_s, self.abort)
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Of asyncio."""
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None
        self._inner.resume_writing()

    # What uvicorn's protocol and the application call.

    def request_ended(self) -> None:
        """Note the end of a request."""
        self._ended += 1
        if self._rejection is not None:
            self._reject(self._rejection)
        self._await_rest_of_head()
        self._note_waiting()

    @property
    def closing(self) -> bool:
        """True if the connection takes no more bytes from uvicorn's protocol."""
        return self._closed_at is not None or self._transport.is_closing()

    def replace_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Guard another protocol of uvicorn's from now on."""
        assert isinstance(protocol, asyncio.Protocol)
        self._inner = protocol

    def close(self) -> None:
        """Close the connection when everything is written and the client has stopped sending, within limits."""
        if self.closing:
            return
        self._closed_at = self._heard_at = self._loop.time()
        self._held.clear()
        if self._rejection is None and self._framing is not None and not (self._framing.in_head or self._framing.in_body):
            self._silence_s = _IDLE_SILENCE_S
        self._cancel_timer()
        self._connections.closes(self)
        self._unwritten = self._transport.get_write_buffer_size()
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._transport.resume_reading()
        self._timer = self._loop.call_later(_TICK_S, self._linger, self._closed_at)

    def abort(self) -> None:
        """Cut the connection."""
        self._transport.abort()

    def _linger(self, written_at: float) -> None:
        """End the close when the client is silent or too slow; `written_at` is when bytes were last written."""
        now, unwritten = self._loop.time(), self._transport.get_write_buffer_size()
        if unwritten != self._unwritten:
            self._unwritten, written_at = unwritten, now
        limit = self._settings.write_timeout_s if unwritten else _LINGER_S
        if self._connections.stopping:
            limit = min(limit, _STOPPING_S)
        if now - written_at >= limit or (not unwritten and now - max(self._heard_at, written_at) >= self._silence_s):
            self.abort()
            return
        self._timer = self._loop.call_later(_TICK_S, self._linger, written_at)

    def _await_rest_of_head(self) -> None:
        """Start the deadline of a head that has begun, unless requests before it are being answered: then nobody reads it."""
        if self._framing is not None and self._framing.in_head and self._timer is None and self._given == self._ended:
            self._await_head()

    def _await_head(self) -> None:
        self._timer = self._loop.call_later(self._settings.head_timeout_s, self._head_timed_out)

    def _head_timed_out(self) -> None:
        if self._framing is not None and self._framing.in_head:
            self._reject(TimedOut(f"the request's head did not arrive within {self._settings.head_timeout_s:g} seconds"))
        else:
            self.close()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _note_waiting(self) -> None:
        framing = self._framing
        at_work = framing is None or framing.in_body or self._given > self._ended or self._closed_at is not None
        self._connections.waits(self, waiting=not at_work)

    def _reject(self, error: ServiceError) -> None:
        """Answer with a problem, after the requests that came before."""
        self._rejection = error
        if self._given == self._ended:
            self._write_problem(error)

    def _write_problem(self, error: ServiceError) -> None:
        request_id = new_request_id()
        token = request_id_var.set(request_id)
        try:
            self._connections.metrics.count_rejection(error)
            peer = self._transport.get_extra_info("peername")
            log_early_rejection(error, peer[0] if peer else None)
            self._transport.write(_rendered(response_of(error), request_id))
        finally:
            request_id_var.reset(token)
        self.close()


class _GuardedTransport(asyncio.Transport):
    """The transport for uvicorn's protocol: a close and a change of protocol go to the guard.

    Args:
        guard: of the connection.
        transport: of the socket.
    """

    def __init__(self, guard: ConnectionGuard, transport: asyncio.Transport) -> None:
        super().__init__()
        self._guard = guard
        self._transport = transport

    def get_extra_info(self, name: str, default: object = None) -> Any:
        """Of asyncio."""
        return self._transport.get_extra_info(name, default)

    def pause_reading(self) -> None:
        """Of asyncio; while a connection closes it is read to its end."""
        if not self._guard.closing:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Of asyncio."""
        if not self._guard.closing:
            self._transport.resume_reading()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Of asyncio; after a close nothing is written."""
        if not self._guard.closing:
            self._transport.write(data)

    def is_closing(self) -> bool:
        """Of asyncio."""
        return self._guard.closing

    def close(self) -> None:
        """Of asyncio."""
        self._guard.close()

    def abort(self) -> None:
        """Of asyncio."""
        self._guard.abort()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Of asyncio."""
        self._guard.replace_protocol(protocol)


def _rendered(response: Response, request_id: str) -> bytes:
    """Return a response as the bytes of an HTTP/1.1 answer that closes the connection."""
    status = HTTPStatus(response.status_code)
    given = response.raw_headers
    headers = [*given, *common_headers(request_id, {name for name, _ in given}, close=True)]
    head = b"".join(b"%b: %b\r\n" % header for header in headers)
    return b"HTTP/1.1 %d %b\r\n%b\r\n%b" % (status.value, status.phrase.encode(), head, bytes(response.body))
