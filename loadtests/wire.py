"""HTTP/1.1 on a persistent connection, with as little work for the client as Python allows.

Client and service share the machine's cores: what the client takes is missing there (`python -m loadtests.cost`).
"""

import asyncio
import time
from dataclasses import dataclass
from typing import NamedTuple, cast
from urllib.parse import urlsplit

import httptools


@dataclass(frozen=True, slots=True)
class Target:
    """A server of this machine."""

    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> "Target":
        """From an address such as http://127.0.0.1:8000.

        Raises:
            ValueError: it is not one of this machine: these loads are never sent elsewhere.
        """
        parts = urlsplit(url)
        if parts.scheme != "http" or parts.hostname not in ("127.0.0.1", "localhost") or parts.port is None:
            raise ValueError(f"{url} is not http://127.0.0.1:PORT; loads are sent to this machine only")
        return cls(parts.hostname, parts.port)


class Answer(NamedTuple):
    """An answer that has arrived whole."""

    status: int
    body: bytes
    ended: float  # seconds, perf_counter, at its last byte: uvloop's own clock stands still within a turn and counts whole milliseconds
    retry_after_s: float  # 0: not told


def request_bytes(path: str, body: bytes = b"", content_type: str = "image/jpeg", **headers: str) -> bytes:
    """A POST of `body`, or a GET where there is none; `x_name` in `headers` is X-Name."""
    lines = [f"{'POST' if body else 'GET'} {path} HTTP/1.1", "Host: 127.0.0.1"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if body:
        lines += [f"Content-Type: {content_type}", f"Content-Length: {len(body)}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Connection(asyncio.Protocol):
    """One request at a time. `open` makes it."""

    def __init__(self) -> None:
        self.usable = True
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[Answer] | None = None
        self._body: list[bytes] = []
        self._retry_after_s = 0.0
        self._parser = httptools.HttpResponseParser(self)

    @classmethod
    async def open(cls, target: Target, source: str | None = None) -> "Connection":
        """Connect.

        Args:
            target: where to.
            source: address to come from, one of this machine's: limits for each client tell clients apart by it.

        Raises:
            OSError: nobody listens.
        """
        local = None if source is None else (source, 0)
        _, connection = await asyncio.get_running_loop().create_connection(cls, target.host, target.port, local_addr=local)
        return connection

    async def ask(self, request: bytes) -> Answer:
        """Send a request and wait for its answer.

        Raises:
            ConnectionError: the server closed the connection or sent what is not HTTP.
        """
        if not self.usable:
            raise ConnectionResetError("the connection is closed")
        try:
            return await self.begin(request)
        except asyncio.CancelledError:
            self.close()
            raise

    def begin(self, request: bytes) -> asyncio.Future[Answer]:
        """Send a request on a connection that is usable; the answer to come, or a `ConnectionError`."""
        self._waiting = self._loop.create_future()
        if self._transport is not None:
            self._transport.write(request)
        return self._waiting

    def close(self) -> None:
        """Close without a word: an answer that is under way is lost."""
        self.usable = False
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio's."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but class

    def data_received(self, data: bytes) -> None:
        """asyncio's."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(ConnectionError(f"not an HTTP answer: {error}"))
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio's."""
        self.usable = False
        self._fail(ConnectionResetError(f"the server closed the connection: {exc}"))

    def on_header(self, name: bytes, value: bytes) -> None:
        """httptools'."""
        if name.lower() == b"retry-after" and value.isdigit():
            self._retry_after_s = float(value)

    def on_body(self, body: bytes) -> None:
        """httptools'."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """httptools'."""
        answer = Answer(self._parser.get_status_code(), b"".join(self._body), time.perf_counter(), self._retry_after_s)
        self._body.clear()
        self._retry_after_s = 0.0
        self.usable = self.usable and self._parser.should_keep_alive()
        # A parser that has seen `Connection: close` takes no further message; a new one costs a microsecond.
        self._parser = httptools.HttpResponseParser(self)
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(answer)

    def _fail(self, error: ConnectionError) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(error)
