"""The service with model runs that raise: `python -m loadtests.faulty --port PORT`.

The faults come through `load_engine`'s parameter for another ONNX Runtime; the service's code is as it is. A route of ours
tells how many asyncio tasks there are, which nobody can see from outside.
"""

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from loadtests.faults import FAULT_RATE, FaultyRuntime
from posewire.config import load_settings
from posewire.engine.engine import load_engine
from posewire.server.app import create_app
from posewire.server.http_server import server_config
from posewire.telemetry.logs import configure_logging
from posewire.telemetry.metrics import Metrics

_SPARED_S = 5.0


def faulty_app(rate: float, armed: Path, spared_s: float = 0.0) -> FastAPI:
    """The application over an engine whose model runs raise at `rate` once it is ready; the rest is as `FaultyRuntime`'s."""
    settings = load_settings()
    engine = load_engine(settings, Metrics(), FaultyRuntime(rate, armed, spared_s), processes=True)
    app = create_app(settings, engine)
    inner = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with inner(app):
            armed.touch()  # noqa: ASYNC240 - takes microseconds
            yield

    app.router.lifespan_context = lifespan

    @app.get("/loadtests/inside")
    async def inside() -> dict[str, int]:
        return {"tasks": len(asyncio.all_tasks())}

    return app


if __name__ == "__main__":
    os.environ["POSEWIRE_PORT"] = sys.argv[sys.argv.index("--port") + 1]
    configure_logging("error", sys.stdout)
    with tempfile.TemporaryDirectory() as folder:
        app = faulty_app(FAULT_RATE, Path(folder) / "armed", _SPARED_S)
        uvicorn.Server(server_config(app, load_settings())).run()
