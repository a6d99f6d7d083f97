"""`posewire serve`: run the application under uvicorn, with a drain that loses no request."""

import asyncio
import ipaddress
import logging
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import cv2
import uvicorn
from fastapi import FastAPI

from posewire.config import Settings
from posewire.engine.engine import load_engine
from posewire.server.app import create_app, create_ops_app
from posewire.server.services import Services
from posewire.telemetry.logs import configure_logging
from posewire.telemetry.metrics import Metrics
from posewire.telemetry.tracing import configure_tracing

log = logging.getLogger(__name__)

# Longer than the idle time of common load balancers (60 s): else they would reuse connections that were just closed.
_KEEP_ALIVE_S = 75

# Connections without a request after this time are closed at the stop.
_LAST_REQUESTS_S = 0.2

# A thread that computes in Python may delay the event loop, which hands out all work, for this long.
_SWITCH_S = 0.0001


class DrainingServer(uvicorn.Server):
    """A server that, after SIGTERM, first reports that it is not ready, and closes the port later.

    Until then it answers requests, with `Connection: close`: clients and load balancers move to other servers, and no
    request is lost. Ctrl-C, or a second SIGTERM, closes the port at once; accepted requests are still answered.
    """

    def __init__(self, config: uvicorn.Config, services: Services) -> None:
        super().__init__(config)
        self._services = services
        self._close_at: float | None = None  # seconds, monotonic

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn's signature
        """Note the signal. uvicorn's own handler would raise it again at the end, which changes the exit code."""
        if sig == signal.SIGTERM and not self._services.draining:
            self._services.draining = True
            self._close_at = time.monotonic() + self._services.settings.drain_s
        elif self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        else:
            self._services.draining = True
            self.should_exit = True

    async def on_tick(self, counter: int) -> bool:
        """Return True to close the port; uvicorn calls this ten times a second."""
        drained = self._close_at is not None and time.monotonic() >= self._close_at
        return await super().on_tick(counter) or drained

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the port, wait for requests on connections that were just accepted, end the streams, then stop as uvicorn does.

        By itself, uvicorn would close connections whose request is in transit, and streams in the middle of a frame.
        """
        for listener in self.servers:
            listener.close()
        await asyncio.sleep(_LAST_REQUESTS_S)
        await self._services.streams.close(within_s=self._services.settings.stream_deadline_ms / 1000 + _LAST_REQUESTS_S)
        await super().shutdown(sockets)


class OpsServer(uvicorn.Server):
    """A server of health and metrics on a port of their own. It ends with the service."""

    def __init__(self, settings: Settings, services: Services) -> None:
        app, port = create_ops_app(services), settings.ops_port or 0
        super().__init__(uvicorn.Config(app, host=settings.host, port=port, log_config=None, access_log=False, server_header=False))

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the service's own server."""
        yield


def _is_not_denial(record: logging.LogRecord) -> bool:
    return record.msg != "ASGI callable returned without completing handshake."


def server_config(app: FastAPI, settings: Settings) -> uvicorn.Config:
    """Return uvicorn's configuration for the application."""
    # uvicorn logs this error for every stream that is refused over HTTP, though ASGI's `websocket.http.response` allows it.
    logging.getLogger("uvicorn.error").addFilter(_is_not_denial)
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=settings.trusted_proxies is not None,
        forwarded_allow_ips=settings.trusted_proxies,
        timeout_keep_alive=_KEEP_ALIVE_S,
        http="httptools",
        ws="websockets-sansio",
        ws_max_size=settings.stream_max_bytes,
        ws_per_message_deflate=False,  # images are compressed already
        # The sum is the idle time: a connection without a response is closed within it.
        ws_ping_interval=settings.stream_idle_s / 2,
        ws_ping_timeout=settings.stream_idle_s / 2,
    )


def serve(settings: Settings) -> int:
    """Serve until a signal; return the exit code, 0 after a clean stop.

    Raises:
        ModelError, DeviceError: before the port is opened.
    """
    # Standard output has the log and nothing else: the image libraries write to standard error.
    configure_logging(settings.log_level, sys.stdout)
    if settings.otlp_endpoint:
        configure_tracing(settings.otlp_endpoint, settings.trace_ratio)
    sys.setswitchinterval(_SWITCH_S)
    cv2.setNumThreads(1)  # images run side by side, one on each core: OpenCV's own threads would compete with them
    app = create_app(settings, load_engine(settings, Metrics(), processes=True))
    services: Services = app.state.services
    if settings.api_keys_file is None and not _is_loopback(settings.host):
        log.warning("ANYONE who reaches %s may use this service: POSEWIRE_API_KEYS_FILE is not set", settings.host)
    server = DrainingServer(server_config(app, settings), services)
    if settings.ops_port is None:
        server.run()
    else:
        ops = OpsServer(settings, services)
        asyncio.run(_serve_both(server, ops, ops.config.bind_socket()))  # exits if the port is in use
    return 0 if server.started else 1


async def _serve_both(server: DrainingServer, ops: OpsServer, bound: socket.socket) -> None:
    """Serve until `server` has ended; `ops` runs before it starts and until after its end."""
    ops_task = asyncio.create_task(ops.serve([bound]), name="ops-server")
    try:
        await server.serve()
    finally:
        ops.should_exit = True
        await ops_task


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
