"""SIGTERM in the middle of everything, as a rollout sends it."""

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator

import httpx
from prometheus_client.parser import text_string_to_metric_families
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.sample_images import ASTRONAUT
from tests.server.support import eventually
from tests.server_process import Server, serve

REQUESTS, STREAMS = 50, 10


async def in_the_service(server: Server, metric: str) -> float:
    async with httpx.AsyncClient(base_url=server.url, timeout=30) as client:
        families = text_string_to_metric_families((await client.get("/metrics")).text)
    return next(sample.value for family in families for sample in family.samples if sample.name == metric)


async def request(server: Server, go_on: asyncio.Event) -> int:
    """An image whose second half is sent when told; the status of its answer."""
    image = ASTRONAUT.read_bytes()

    async def halves() -> AsyncIterator[bytes]:
        yield image[: len(image) // 2]
        await go_on.wait()
        yield image[len(image) // 2 :]

    async with httpx.AsyncClient(timeout=60) as client:
        answer = await client.post(f"{server.url}/v1/pose", content=halves(), headers={"Content-Type": "image/jpeg"})
        assert answer.json()["images"][0]["people"]
        return answer.status_code


async def stream(server: Server) -> int:
    """Frames until the service ends the stream; the close code."""
    image = ASTRONAUT.read_bytes()
    async with connect(f"{server.url.replace('http', 'ws', 1)}/v1/stream") as socket:
        await socket.send(json.dumps({"type": "start"}))
        try:
            while True:
                await socket.send(image)
                message = json.loads(await socket.recv())
                if message["type"] == "result":
                    await socket.send(json.dumps({"type": "ack", "seq": message["seq"]}))
        except ConnectionClosed:
            assert socket.close_code is not None
            return socket.close_code


async def test_sigterm_finishes_every_request_and_tells_streams_to_reconnect() -> None:
    with serve(max_in_flight="256", drain_s="0.5", request_timeout_ms="30000") as server:
        go_on = asyncio.Event()
        async with asyncio.timeout(120), asyncio.TaskGroup() as clients:
            requests = [clients.create_task(request(server, go_on)) for _ in range(REQUESTS)]
            streams = [clients.create_task(stream(server)) for _ in range(STREAMS)]

            async def all_are_running() -> bool:
                halves = await in_the_service(server, "posewire_body_bytes_in_flight") // (len(ASTRONAUT.read_bytes()) // 2)
                return halves >= REQUESTS and await in_the_service(server, "posewire_streams_active") == STREAMS

            await eventually(all_are_running)
            server.process.send_signal(signal.SIGTERM)
            told = time.monotonic()
            go_on.set()
        assert [task.result() for task in requests] == [200] * REQUESTS
        assert [task.result() for task in streams] == [1012] * STREAMS
        assert await asyncio.to_thread(server.process.wait, 30) == 0
        assert time.monotonic() - told < 30  # the Deployment's terminationGracePeriodSeconds
