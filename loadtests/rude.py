"""Clients that trickle their image, and clients that vanish: the others must not feel them."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress

import numpy as np

from loadtests import sample_images, schedule
from loadtests.generator import in_turn
from loadtests.report import Result
from loadtests.scenarios import Bench, latency_plot, line, pose_request
from loadtests.wire import Connection, Target, request_bytes

_SLOW = 5.0  # images a second that trickle in
_TRICKLE_S = 4.0
_VANISHING = 20.0  # a second
_POLITE = 0.4  # of the capacity


async def trickle(target: Target, request: bytes, seconds: float, pieces: int = 40) -> int:
    """Send a request in pieces over some seconds; the status of the answer, 0 where the server hung up."""
    reader, writer = await asyncio.open_connection(target.host, target.port)
    try:
        step = -(-len(request) // pieces)
        for start in range(0, len(request), step):
            writer.write(request[start : start + step])
            await writer.drain()
            await asyncio.sleep(seconds / pieces)
        head = await reader.readline()
        return int(head.split()[1]) if head else 0
    except OSError:
        return 0
    finally:
        await _hang_up(writer)


async def vanish(target: Target, request: bytes, after: float) -> None:
    """Send a request whole, or half of it where `after` is 0, and hang up some seconds later without hearing the answer."""
    with suppress(OSError):
        _, writer = await asyncio.open_connection(target.host, target.port)
        writer.write(request if after else request[: len(request) // 2])
        await asyncio.sleep(after)
        writer.transport.abort()
        await _hang_up(writer)


async def _hang_up(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


async def slow(bench: Bench) -> Result:
    """Clients that send their image over seconds, again and again, beside others."""
    request = pose_request(sample_images.single(), deadline_s=10)
    statuses: list[int] = []
    trickle_s = min(_TRICKLE_S, bench.seconds / 3)

    async def client() -> None:
        while True:
            statuses.append(await trickle(bench.target, request, trickle_s))

    clients = round(_SLOW * trickle_s)
    result = await _beside(bench, "slow", client, clients)
    result.shows = f"{clients} clients that trickle their image over {trickle_s:.1f} s, beside others at 40 % of the capacity."
    result.tables["Slow clients"] = [{"requests": len(statuses), "answered with 200": statuses.count(200)}]
    result.checks["slow clients are answered"] = bool(statuses) and statuses.count(200) == len(statuses)
    return result


async def vanishing(bench: Bench) -> Result:
    """20 requests a second whose clients hang up half-way or before the answer, beside others."""
    request = pose_request(sample_images.single())
    random = np.random.default_rng(6)

    async def client() -> None:
        while True:
            await vanish(bench.target, request, float(random.choice([0.0, 0.002, 0.01, 0.03])))
            await asyncio.sleep(float(random.exponential(8 / _VANISHING)))

    result = await _beside(bench, "vanishing", client, 8)
    result.shows = f"About {_VANISHING:g} clients a second that hang up before the answer, beside others at 40 % of the capacity."
    await asyncio.sleep(1)
    left = await metric(bench.target, "posewire_pictures_in_flight")
    result.tables["Afterwards"] = [{"images in flight": left}]
    result.checks["nothing of those who left is in flight"] = left == 0
    return result


async def _beside(bench: Bench, name: str, client: Callable[[], Awaitable[None]], clients: int) -> Result:
    """Polite callers alone, then beside `clients` rude ones, at the same rate."""
    request_of = in_turn([pose_request(sample_images.single())])
    peak = await bench.busy(request_of)
    offsets = schedule.poisson(peak["summary"]["throughput"] * _POLITE, bench.seconds, seed=7)
    alone, _ = await bench.open(offsets, request_of)
    rude = [asyncio.ensure_future(client()) for _ in range(clients)]
    beside, outcomes = await bench.open(offsets, request_of)
    for task in rude:
        task.cancel()
    ended = await asyncio.gather(*rude, return_exceptions=True)
    failed = [e for e in ended if isinstance(e, Exception)]
    if failed:
        raise failed[0]
    result = Result(name, "", raw={"peak": peak, "alone": alone, "beside": beside})
    result.tables["The others"] = [line({"load": "alone"}, alone), line({"load": f"beside {name} clients"}, beside)]
    result.checks["the others are all answered with 200"] = set(beside["summary"]["statuses"]) == {"200"} and not beside["summary"]["lost"]
    ratio = beside["summary"]["ok_ms"]["p90"] / alone["summary"]["ok_ms"]["p90"]
    result.checks[f"the others' p90 is at most twice as long ({ratio:.2f})"] = ratio <= 2
    result.plots.append(latency_plot(f"the others beside {name} clients", outcomes))
    return result


async def metric(target: Target, name: str) -> float:
    """The sum of a metric's series in /metrics.

    Raises:
        RuntimeError: there is none of that name.
    """
    connection = await Connection.open(target)
    answer = await connection.ask(request_bytes("/metrics"))
    connection.close()
    values = re.findall(rf"^{name}(?:\{{[^}}]*\}})? (\S+)$", answer.body.decode(), re.MULTILINE)
    if not values:
        raise RuntimeError(f"/metrics has no {name}")
    return sum(float(value) for value in values)
