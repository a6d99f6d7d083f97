"""`python -m loadtests.hotpath`: CPU time that the service itself takes for an image that it answers, and for one that it refuses.

No models run (`instant.py`): what is left is uvicorn, the way through the service, the answer, its log line and its metrics,
and the kernel's share of receiving the image. Beside them uvicorn alone, with an application that reads an image and answers
as many bytes: no service behind it can take less.
"""

import asyncio
import json
import statistics
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import uvicorn
import uvloop
from starlette.types import Receive, Scope, Send

from loadtests import sample_images
from loadtests.outcomes import ratio
from loadtests.processes import Server, end_cleanly, start
from loadtests.scenarios import pose_request
from loadtests.wire import Answer, Connection, Target

_OUT = Path("out/loadtests/hotpath")
_CLIENTS = 8
_ROUNDS = 8
_REQUESTS = 2400  # of a round
_PORT = 8760  # and the next two


@dataclass(frozen=True, slots=True)
class Case:
    """The requests, and the servers that get them."""

    name: str
    module: tuple[str, ...]  # the server's, with its arguments
    status: int  # of every answer


_ALONE = Case("uvicorn alone", ("loadtests.hotpath", "--alone"), 200)
_FULL = Case("refused", ("loadtests.instant", "--full"), 503)
_CASES = (_ALONE, Case("answered", ("loadtests.instant",), 200), _FULL)


async def uvicorn_alone(scope: Scope, receive: Receive, send: Send) -> None:
    """Reads an image and answers 1500 bytes."""
    if scope["method"] == "POST":
        while (await receive())["more_body"]:
            pass
    headers = [(b"content-type", b"application/json"), (b"content-length", b"1500")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"x" * 1500})


async def _ask(server: Server, request: bytes, status: int) -> None:
    """A round: all its requests on connections that are kept."""
    connections = [await Connection.open(Target.of(server.url)) for _ in range(_CLIENTS)]

    async def client(connection: Connection) -> None:
        for _ in range(_REQUESTS // _CLIENTS):
            answer: Answer = await connection.ask(request)
            if answer.status != status:
                raise RuntimeError(f"{server.url} answered {answer.status}, not {status}: {answer.body[:200]!r}")

    await asyncio.gather(*map(client, connections))
    for connection in connections:
        connection.close()


async def _measure(servers: dict[Case, Server], request: bytes) -> dict[Case, list[float]]:
    """Microseconds of CPU a request, round by round; the first, which warms, is left out."""
    holder = await Connection.open(Target.of(servers[_FULL].url))
    held = asyncio.create_task(holder.ask(request))  # takes the only place, for ever
    cost_us: dict[Case, list[float]] = {case: [] for case in servers}
    for number in range(-1, _ROUNDS):
        for case in list(servers)[:: 1 if number % 2 else -1]:
            before = servers[case].cpu_s()
            await _ask(servers[case], request, case.status)
            if number >= 0:
                cost_us[case].append(1e6 * (servers[case].cpu_s() - before) / _REQUESTS)
    held.cancel()
    return cost_us


def main() -> None:
    """Print microseconds with their quartiles, and the ratio to uvicorn alone."""
    end_cleanly()
    with ExitStack() as stack:
        servers = {}
        for port, case in enumerate(_CASES, _PORT):
            command = [sys.executable, "-m", *case.module, "--port", str(port)]
            log = _OUT / f"{case.name.replace(' ', '-')}.log"
            servers[case] = stack.enter_context(start(command, f"http://127.0.0.1:{port}", log))
        cost_us = uvloop.run(_measure(servers, pose_request(sample_images.single())))
    for case, values in cost_us.items():
        low, middle, high = (round(v) for v in statistics.quantiles(values, n=4))
        over = {k: v for k, v in ratio(values, cost_us[_ALONE]).items() if k != "pairs"}
        print(json.dumps({case.name: {"cpu_us": middle, "low": low, "high": high, "over uvicorn alone": over}}))


if __name__ == "__main__":
    if "--alone" in sys.argv:
        uvicorn.run(uvicorn_alone, port=int(sys.argv[-1]), log_config=None, access_log=False, lifespan="off")
    else:
        main()
