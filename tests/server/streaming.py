"""What the tests of streams share: a real uvicorn on a port of this machine, in this process, and messages."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from posewire.engine.engine import Engine
from posewire.server.app import create_app
from posewire.server.http_server import GracefulServer, bind
from posewire.server.services import Services

START = '{"type": "start", "max_people": 1}'


@dataclass(frozen=True, slots=True)
class Listening:
    """A server that listens."""

    app: FastAPI
    server: GracefulServer
    services: Services
    listener: socket.socket
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def connect(self, key: str | None = None, headers: dict[str, str] | None = None) -> connect:
        """A WebSocket to the stream; with an `Origin`, as a browser opens it."""
        headers = (headers or {}) | ({"Authorization": f"Bearer {key}"} if key else {})
        return connect(f"ws://127.0.0.1:{self.port}/v1/stream", compression=None, additional_headers=headers)

    @asynccontextmanager
    async def stream(self, start: str = START, key: str | None = None) -> AsyncIterator[ClientConnection]:
        """A stream that has started."""
        async with self.connect(key) as connection:
            await connection.send(start)
            assert (await message(connection))["type"] == "started"
            yield connection

    def metric(self, name: str, **labels: str) -> float:
        text = self.services.metrics.render()[0].decode()
        found = [
            s.value
            for f in text_string_to_metric_families(text)
            for s in f.samples
            if s.name == name and labels.items() <= s.labels.items()
        ]
        assert found, f"no metric {name} {labels}"
        return sum(found)


Listen = Callable[..., Awaitable[Listening]]


@asynccontextmanager
async def listening(engine: Engine, port: int = 0) -> AsyncIterator[Listening]:
    """Serve an engine until the block ends."""
    app = create_app(engine.settings, engine)
    services: Services = app.state.services
    [listener] = bind("127.0.0.1", port)
    with listener:
        server = GracefulServer(app, engine.settings, [listener])
        serving = asyncio.create_task(server.serve())
        while not server.started and not serving.done():  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.01)
        try:
            yield Listening(app, server, services, listener, listener.getsockname()[1])
        finally:
            server.stop()
            await serving


async def message(connection: ClientConnection) -> dict[str, Any]:
    """The next message, in time."""
    async with asyncio.timeout(30):
        found: dict[str, Any] = json.loads(await connection.recv())
    return found


async def acknowledge(connection: ClientConnection, seq: int) -> None:
    await connection.send(json.dumps({"type": "ack", "seq": seq}))


async def ended(connection: ClientConnection) -> tuple[int, str]:
    """Code and reason of the close that comes, whatever comes before."""

    async def read_on() -> None:
        while True:
            await message(connection)

    with pytest.raises(ConnectionClosed) as caught:
        await read_on()
    assert caught.value.rcvd is not None, "the connection was cut without a close frame"
    return caught.value.rcvd.code, caught.value.rcvd.reason
