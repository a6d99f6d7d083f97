"""`python -m loadtests.cost`: CPU time that a client takes for a request, the generator's and httpx's in turn.

The server is a process that answers at once: what is measured is the client.
"""

import asyncio
import json
import multiprocessing
import statistics
import time
from contextlib import suppress
from multiprocessing.connection import Connection as Pipe

import httpx
import uvloop

from loadtests import sample_images
from loadtests.generator import closed_loop, in_turn
from loadtests.outcomes import ratio
from loadtests.scenarios import pose_request
from loadtests.wire import Target

_CLIENTS = 16
_ROUNDS = 6
_REQUESTS = 300
_ANSWER = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1500\r\n\r\n"' + b"x" * 1498 + b'"'


async def _serve(ready: Pipe, length: int) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                await reader.readexactly(length)
                writer.write(_ANSWER)
        writer.close()

    listener = await asyncio.start_server(answer, "127.0.0.1", 0)
    ready.send(listener.sockets[0].getsockname()[1])
    await asyncio.Event().wait()


def _run_server(ready: Pipe, length: int) -> None:
    uvloop.run(_serve(ready, length))


async def _generator(port: int, image: bytes) -> int:
    return len((await closed_loop(Target("127.0.0.1", port), _CLIENTS, 0.5, in_turn([pose_request(image)]))).status)


async def _httpx(port: int, image: bytes) -> int:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:

        async def ask() -> None:
            for _ in range(_REQUESTS // _CLIENTS):
                await client.post("/v1/pose", content=image, headers={"Content-Type": "image/jpeg"})

        await asyncio.gather(*(ask() for _ in range(_CLIENTS)))
    return _REQUESTS // _CLIENTS * _CLIENTS


def main() -> None:
    """Print milliseconds of CPU a request, and the ratio."""
    image = sample_images.single()
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=_run_server, args=(theirs, len(image)), daemon=True)
    server.start()
    port = ours.recv()
    cost_ms: dict[str, list[float]] = {"generator": [], "httpx": []}
    for number in range(-1, _ROUNDS):
        for name, load in (("generator", _generator), ("httpx", _httpx)):
            before = time.process_time()
            requests = uvloop.run(load(port, image))
            if number >= 0:
                cost_ms[name].append(1000 * (time.process_time() - before) / requests)
    server.terminate()
    figures = {name: round(statistics.median(values), 3) for name, values in cost_ms.items()}
    print(json.dumps({"cpu_ms_a_request": figures, "httpx over generator": ratio(cost_ms["httpx"], cost_ms["generator"])}))


if __name__ == "__main__":
    main()
