"""uvicorn with guarded connections, and with a drain that loses no request and ends in time."""

import asyncio
import logging
import math
import signal
import socket
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING

import uvicorn
from fastapi import FastAPI

from posewire.config import Settings
from posewire.errors import ConfigError
from posewire.server.connections import Connections
from posewire.server.services import Services
from posewire.signals import handle_signal, stop_signals

if TYPE_CHECKING:
    from posewire.server.grpc_server import GrpcServer

log = logging.getLogger(__name__)

# Longer than the idle time of common load balancers (60 s): else they would reuse connections that were just closed.
_KEEP_ALIVE_S = 75

# Connections without a request after this time are closed at the stop.
_LAST_REQUESTS_S = 0.2

# Files that the process opens beside its connections.
_OTHER_FILES = 256

_BACKLOG = 2048

# A port can be opened again at once after a stop. On Windows it always can, and SO_REUSEADDR would let another program take it.
_REUSE: int = getattr(socket, "SO_EXCLUSIVEADDRUSE", socket.SO_REUSEADDR)
_POLL_S = 0.01


def bind(host: str, port: int) -> list[socket.socket]:
    """Return bound sockets, one for each address of the host, which do not listen yet.

    Args:
        host: a name or an address; `::` is every address of both families.
        port: 0: a free one, the same for all addresses.

    Raises:
        ConfigError: the host is not known, or the port is in use.
    """
    sockets: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE):
            # asyncio sets TCP_NODELAY only where the protocol is named; without it answers wait 40 ms for an acknowledgement.
            bound = socket.socket(family, kind, protocol)
            sockets.append(bound)
            bound.setsockopt(socket.SOL_SOCKET, _REUSE, 1)
            if family == socket.AF_INET6:
                bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, host != "::")
            bound.bind((address[0], port or sockets[0].getsockname()[1], *address[2:]))
    except OSError as error:
        for bound in sockets:
            bound.close()
        raise ConfigError(
            f"{_url(host, port)} cannot be opened: {(error.strerror or str(error)).lower()}; choose another port or host"
        ) from None
    return sockets


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def server_config(app: FastAPI, settings: Settings, connections: Connections | None = None) -> uvicorn.Config:
    """Return uvicorn's configuration for the application, with guarded connections."""
    services: Services = app.state.services
    connections = connections or Connections(settings, services.metrics)
    # uvicorn logs this error for every stream that is rejected over HTTP, though ASGI's `websocket.http.response` allows it.
    logging.getLogger("uvicorn.error").addFilter(_is_not_denial)
    return uvicorn.Config(
        connections.track(app),
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=settings.trusted_proxies is not None,
        forwarded_allow_ips=settings.trusted_proxies,
        timeout_keep_alive=_KEEP_ALIVE_S,
        backlog=_BACKLOG,
        interface="asgi3",
        http=connections.protocol(),
        ws="websockets-sansio",
        ws_max_size=settings.stream_max_bytes,
        ws_per_message_deflate=False,  # images are compressed already
        # The sum is the idle time: a connection without a response is closed within it.
        ws_ping_interval=settings.stream_idle_s / 2,
        ws_ping_timeout=settings.stream_idle_s / 2,
    )


def _is_not_denial(record: logging.LogRecord) -> bool:
    return record.msg != "ASGI callable returned without completing handshake."


class GracefulServer:
    """Serves an application until `drain` or `stop` is called.

    A drain first reports that the service is not ready, and closes the port later. Until then requests are answered, with
    `Connection: close`: clients and load balancers move to other servers, and no request is lost. After the closing of the port
    accepted requests have the longest deadline to be answered; then every connection is cut.

    Args:
        app: made by `create_app`.
        settings: of the service.
        sockets: bound.

    Raises:
        ConfigError: the port of gRPC is in use, or gRPC is not installed.
    """

    def __init__(self, app: FastAPI, settings: Settings, sockets: list[socket.socket]) -> None:
        self._services: Services = app.state.services
        self._settings = settings
        self._sockets = sockets
        self._connections = Connections(settings, self._services.metrics)
        self._config = server_config(app, settings, self._connections)
        self._server = uvicorn.Server(self._config)
        self._stop = asyncio.Event()
        self._load_error: BaseException | None = None
        self._grpc = None if settings.grpc_port is None else _grpc_server(self._services)

    @property
    def grpc_port(self) -> int | None:
        """The port of gRPC; None: gRPC is off."""
        return self._grpc.port if self._grpc else None

    @property
    def started(self) -> bool:
        """True if connections are accepted, or were."""
        return self._server.started

    def drain(self) -> None:
        """Report that the service is not ready, and close the port after `drain_s`; at once if it drains already or never was ready."""
        if self._services.draining or self._services.engine is None:
            self.stop()
            return
        self._services.drain.set()
        asyncio.get_running_loop().call_later(self._settings.drain_s, self._stop.set)

    def stop(self) -> None:
        """Close the port and answer what was accepted; a second call ends the service at once."""
        if self._stop.is_set():
            self._server.force_exit = True
            self._connections.abort()
        self._services.drain.set()
        self._stop.set()

    async def serve(self, *, signals: bool = False) -> None:
        """Serve until the end of a drain or of a stop, or until the models cannot be loaded.

        Args:
            signals: drain at SIGTERM and SIGHUP; stop at Ctrl-C and at a second signal.

        Raises:
            PosewireError: the error of the application's `load`.
        """
        _allow_files(self._settings.max_connections * (2 if self._grpc else 1) + _OTHER_FILES)  # gRPC has the same limit for itself
        serving = asyncio.create_task(self._server.serve(self._sockets), name="http-server")
        await asyncio.sleep(0)  # uvicorn has set its handlers of signals; these replace them
        if signals:
            self._handle_signals()
        tasks = [asyncio.create_task(self._announce()), asyncio.create_task(self._stop_when_asked())]
        try:
            await serving
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._connections.abort()
            if self._grpc:
                await self._grpc.stop(within_s=0)
        if self._load_error is not None:
            raise self._load_error

    def _handle_signals(self) -> None:
        handle_signal(signal.SIGINT, self.stop)
        for number in stop_signals():
            handle_signal(number, self.drain)

    async def _announce(self) -> None:
        """Log the addresses when connections are accepted, and accept those of gRPC. Stop if the models cannot be loaded then."""
        while not self.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(_POLL_S)
        if self._grpc:
            await self._grpc.start()
        for listener in self._sockets:
            host, port = listener.getsockname()[:2]
            log.info("Posewire is running on %s", _url(host, port))
        loading = self._services.loading
        if loading is None:
            return
        await asyncio.wait([loading])
        if not loading.cancelled() and (error := loading.exception()) is not None:
            self._load_error = error
            self.stop()

    async def _stop_when_asked(self) -> None:
        await self._stop.wait()
        loop, settings = asyncio.get_running_loop(), self._settings
        longest_s = max(settings.request_timeout_ms, settings.stream_deadline_ms) / 1000
        ends_at = loop.time() + longest_s + 1
        self._connections.stopping = True
        if self.started:
            for listener in self._sockets:
                listener.listen(0)  # later handshakes are not completed, and are refused once the socket is closed
            await asyncio.sleep(_LAST_REQUESTS_S)  # what the backlog holds is accepted, and its requests arrive
            with suppress(TimeoutError):
                async with asyncio.timeout_at(ends_at), asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._services.streams.close(within_s=settings.stream_deadline_ms / 1000 + _LAST_REQUESTS_S))
                    if self._grpc:
                        tasks.create_task(self._grpc.stop(within_s=longest_s))
        self._config.timeout_graceful_shutdown = max(1, math.floor(ends_at - loop.time()))
        self._server.should_exit = True


def _grpc_server(services: Services) -> "GrpcServer":
    try:
        from posewire.server.grpc_server import GrpcServer  # noqa: PLC0415 - an extra
    except ImportError:
        raise ConfigError("POSEWIRE_GRPC_PORT needs gRPC, which is not installed here: pip install 'posewire[grpc]'") from None
    return GrpcServer(services)


def _allow_files(files: int) -> None:
    """Raise the soft limit of open files, as far as the hard limit allows; on Windows there is none."""
    try:
        resource = import_module("resource")
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = files if hard == resource.RLIM_INFINITY else min(files, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
