"""The port is open before the models are loaded."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpx
import pytest
from fastapi import FastAPI
from websockets.asyncio.client import connect

from posewire.config import load_settings
from posewire.engine.engine import Engine
from posewire.errors import ModelError
from posewire.server.app import create_app
from posewire.server.http_server import GracefulServer, bind
from posewire.telemetry.metrics import Metrics
from tests.conftest import MakeEngine
from tests.server.streaming import ended
from tests.server.support import JPEG, assert_problem, eventually, people_of

Load = Callable[[Metrics], Engine]


@asynccontextmanager
async def loading(load: Load, **settings: object) -> AsyncIterator[tuple[GracefulServer, asyncio.Task[None], str]]:
    """A server that accepts connections while it loads; its task, and its host and port."""
    chosen = load_settings({}, **settings)
    app: FastAPI = create_app(chosen, load=load)
    [listener] = bind("127.0.0.1", 0)
    with listener:
        server = GracefulServer(app, chosen, [listener])
        serving = asyncio.create_task(server.serve())
        while not server.started and not serving.done():  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.01)
        try:
            yield server, serving, f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.stop()
            await asyncio.gather(serving, return_exceptions=True)


async def test_until_the_models_are_loaded_all_that_needs_them_is_answered_with_503(make_engine: MakeEngine, astronaut: bytes) -> None:
    loaded = threading.Event()

    def load(_: Metrics) -> Engine:
        assert loaded.wait(60)
        return make_engine()

    async with loading(load) as (_, _, host), httpx.AsyncClient(base_url=f"http://{host}", timeout=60) as client:
        try:
            assert (await client.get("/livez")).status_code == 200
            assert_problem(await client.get("/readyz"), 503, "not-ready", "being loaded")
            assert "<html" in (await client.get("/")).text
            assert "posewire_ready 0.0" in (await client.get("/metrics")).text
            assert (await client.get("/v1/models")).json()["models"] == []
            for path, headers in (("/v1/pose", JPEG), ("/v1/video", {"Content-Type": "video/mp4"})):
                answer = await client.post(path, content=astronaut, headers=headers)
                assert_problem(answer, 503, "not-ready", "try again")
                assert answer.headers["Retry-After"] == "1"
            async with connect(f"ws://{host}/v1/stream") as connection:
                code, reason = await ended(connection)
            assert code == 1013  # try again later
            assert "not loaded yet" in reason
        finally:
            loaded.set()

        async def ready() -> bool:
            return (await client.get("/readyz")).status_code == 200

        await eventually(ready)
        assert len(people_of(await client.post("/v1/pose", content=astronaut, headers=JPEG))) == 1
        assert len((await client.get("/v1/models")).json()["models"]) == 2


async def test_models_that_cannot_be_loaded_end_the_server_with_their_error() -> None:
    asked = threading.Event()

    def load(_: Metrics) -> Engine:
        assert asked.wait(60)
        raise ModelError("the weights are damaged")

    async with loading(load) as (_, serving, host), httpx.AsyncClient(base_url=f"http://{host}") as client:
        try:
            assert (await client.get("/livez")).status_code == 200
        finally:
            asked.set()
        with pytest.raises(ModelError, match="damaged"):
            await asyncio.wait_for(serving, 60)


async def test_models_that_do_not_start_end_the_server_with_their_error(make_engine: MakeEngine) -> None:
    class Broken(Engine):
        async def start(self) -> None:
            raise ModelError("the first run fails")

    def load(metrics: Metrics) -> Engine:
        made = make_engine()
        return Broken(made.detector, made.pose, made.plan, made.settings, metrics)

    async with loading(load) as (_, serving, _):
        with pytest.raises(ModelError, match="first run"):
            await asyncio.wait_for(serving, 60)


async def test_a_stop_waits_neither_for_the_models_nor_for_the_drain() -> None:
    never = threading.Event()

    def load(_: Metrics) -> Engine:
        never.wait(60)
        raise AssertionError("nobody waits for this")

    async with loading(load, drain_s=600) as (server, serving, _):
        server.drain()
        await asyncio.wait_for(serving, 30)
        assert not never.is_set()
    never.set()
