"""`posewire serve`: run the application until a signal."""

import asyncio
import ipaddress
import logging
import os
import socket
import sys
from contextlib import ExitStack
from functools import partial

import cv2
import uvicorn
from fastapi import FastAPI

from posewire.backends.runtime import onnx_runtime
from posewire.config import Settings
from posewire.engine.engine import load_engine
from posewire.registry.choice import choose
from posewire.registry.store import open_store
from posewire.server.app import create_app, create_ops_app
from posewire.server.http_server import GracefulServer, bind
from posewire.telemetry.logs import configure_logging
from posewire.telemetry.tracing import configure_tracing

log = logging.getLogger(__name__)

# A thread that computes in Python may delay the event loop, which hands out all work, for this long.
_SWITCH_S = 0.0001


def serve(settings: Settings) -> int:
    """Serve until a signal; return the exit code, 0 after a clean stop.

    The port answers before the models are loaded: /livez with 200, and what needs the models with 503.

    Raises:
        ModelError, DeviceError: the models or the device cannot be used.
        ConfigError: the host is not known, a port is in use, or the file of API keys is wrong.
    """
    # Standard output has the log and nothing else: the image libraries write to standard error.
    configure_logging(settings.log_level, sys.stdout)
    if settings.otlp_endpoint:
        configure_tracing(settings.otlp_endpoint, settings.trace_ratio)
    sys.setswitchinterval(_SWITCH_S)
    cv2.setNumThreads(1)  # images run side by side, one on each core: OpenCV's own threads would compete with them
    # What is wrong for sure is an error before the port is open.
    choose(settings, open_store(settings).manifest)
    onnx_runtime()
    with ExitStack() as stack:
        sockets = [stack.enter_context(bound) for bound in bind(settings.host, settings.port)]
        ops_port = settings.ops_port
        ops_sockets = [] if ops_port is None else [stack.enter_context(bound) for bound in bind(settings.host, ops_port)]
        app = create_app(settings, load=partial(load_engine, settings, processes=True))
        if settings.api_keys_file is None and not _is_loopback(settings.host):
            log.warning("ANYONE who reaches %s may use this service: POSEWIRE_API_KEYS_FILE is not set", settings.host)
        code = asyncio.run(_serve(app, settings, sockets, ops_sockets))
    loading = app.state.services.loading
    if loading is not None and loading.cancelled():
        # A thread may still open a model. It cannot be interrupted, and a normal end of the process could free what it uses.
        logging.shutdown()
        sys.stdout.flush()
        os._exit(code)
    return code


async def _serve(app: FastAPI, settings: Settings, sockets: list[socket.socket], ops_sockets: list[socket.socket]) -> int:
    """Serve until a signal; return the exit code. Health and metrics on a port of their own are served until after the end."""
    server = GracefulServer(app, settings, sockets)
    if not ops_sockets:
        await server.serve(signals=True)
    else:
        ops_app = create_ops_app(app.state.services)
        ops = uvicorn.Server(uvicorn.Config(ops_app, log_config=None, access_log=False, server_header=False))
        ops_task = asyncio.create_task(ops.serve(ops_sockets), name="ops-server")
        await asyncio.sleep(0)  # it has set its handlers of signals; the service's replace them
        try:
            await server.serve(signals=True)
        finally:
            ops.should_exit = True
            await ops_task
    return 0 if server.started else 1


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
