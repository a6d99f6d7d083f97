"""The interleaved run: every server started and warmed, then measured in short slices in rotating order.

While one is measured the others are stopped (SIGSTOP for their whole process tree): they take no core, keep their memory, and
go on at once. Each slice begins with half a second of load that is not counted.
"""

import asyncio
import json
import signal
import statistics
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loadtests import sample_images, schedule
from loadtests.__main__ import free_port
from loadtests.generator import RequestOf, closed_loop, in_turn, open_loop
from loadtests.outcomes import percentiles_ms, ratio, summarise
from loadtests.peers.environments import OWN, Peer, running
from loadtests.processes import Server, metered
from loadtests.report import Result, Row
from loadtests.wire import Answer, Connection, Target

_CLIENTS = 16
_WARM_UP_S = 0.5
# Of the slowest server's capacity: a load that all of them carry.
_EQUAL_LOAD = 0.7
_PATIENCE_S = 60.0


@dataclass(slots=True)
class Runner:
    """A server in the race, and what was measured."""

    peer: Peer
    server: Server
    request_of: RequestOf
    rates: list[float] = field(default_factory=list)  # images a second at saturation, one a round
    p99_ms: list[float] = field(default_factory=list)  # at equal load, one a round
    latencies_s: list[float] = field(default_factory=list)  # at equal load, all rounds
    people: int = 0  # that it found in the image
    bad: int = 0  # requests without a 200
    generator_share: list[float] = field(default_factory=list)

    @property
    def target(self) -> Target:
        """Where it listens."""
        return Target.of(self.server.url)

    @asynccontextmanager
    async def awake(self, seconds: float) -> AsyncIterator[None]:
        """Let it run for the block only, of about so many seconds, and warm it before."""
        self.server.signal(signal.SIGCONT)
        await closed_loop(self.target, _CLIENTS, min(_WARM_UP_S, seconds), self.request_of)
        try:
            yield
        finally:
            self.server.signal(signal.SIGSTOP)

    async def saturate(self, seconds: float) -> None:
        """Images a second with callers that ask again at once."""
        async with self.awake(seconds), metered(self.server) as usage:
            outcomes = await closed_loop(self.target, _CLIENTS, seconds, self.request_of)
        summary = summarise(outcomes, usage.seconds, _PATIENCE_S)
        self.rates.append(summary["goodput"])
        self.generator_share.append(usage.figures()["generator_share"])
        self.bad += summary["requests"] - summary["statuses"].get("200", 0)

    async def steady(self, rate: float, seconds: float, seed: int) -> None:
        """Latency under Poisson arrivals at a rate that is the same for all."""
        async with self.awake(seconds):
            outcomes = await open_loop(self.target, schedule.poisson(rate, seconds, seed), self.request_of)
        good = outcomes.latencies(200)
        self.bad += len(outcomes.status) - len(good)
        self.latencies_s += good.tolist()
        self.p99_ms.append(percentiles_ms(good)["p99"] or float("inf"))


async def race(
    peers: Sequence[Peer], rounds: int, slice_s: float, plain: Path | None, environments: Path, out: Path, people: int = 1
) -> Result:
    """Start all, measure in turn, compare with Posewire; `people` of `sample_images.PEOPLE` are on the image."""
    image = sample_images.single() if people == 1 else sample_images.crowd(people)
    with ExitStack() as stack:
        runners = []
        for peer in peers:
            server = stack.enter_context(running(peer, free_port(), environments, out, plain))
            runner = Runner(peer, server, in_turn([peer.request(image)]))
            runner.people = await _people_answered(runner)
            await closed_loop(runner.target, _CLIENTS, min(4 * _WARM_UP_S, slice_s), runner.request_of)
            server.signal(signal.SIGSTOP)
            runners.append(runner)
        for number in range(rounds):
            for runner in _rotated(runners, number):
                await runner.saturate(slice_s)
        rate = _EQUAL_LOAD * min(statistics.median(runner.rates) for runner in runners)
        for number in range(rounds):
            for runner in _rotated(runners, number):
                await runner.steady(rate, slice_s, seed=number)
    return _result(runners, rate, rounds, slice_s, plain)


def _rotated(runners: Sequence[Runner], by: int) -> list[Runner]:
    by %= len(runners)
    return [*runners[by:], *runners[:by]]


async def _people_answered(runner: Runner) -> int:
    """How many people a server finds: one that finds none would be fast for nothing.

    Raises:
        RuntimeError: none.
        TimeoutError: it did not answer with success.
    """
    async with asyncio.timeout(_PATIENCE_S):
        # Some say that they are up before they have workers, and nothing tells when they do.
        while (answer := await _ask(runner)).status >= 400:  # noqa: ASYNC110
            await asyncio.sleep(0.5)
    body = json.loads(answer.body) if answer.status == 200 else {}
    found = json.loads(body[0]) if isinstance(body, list) else body
    people = len(found.get("images", [{}])[0].get("people", ()))
    if not people:
        raise RuntimeError(f"{runner.peer.name} answered {answer.status} without people: {answer.body[:300]!r}")
    return people


async def _ask(runner: Runner) -> Answer:
    connection = await Connection.open(runner.target)
    try:
        return await connection.ask(runner.request_of(0))
    finally:
        connection.close()


def _result(runners: Sequence[Runner], rate: float, rounds: int, slice_s: float, plain: Path | None) -> Result:
    own = next(runner for runner in runners if runner.peer.name == OWN)
    what = f"the plain export {plain.name}" if plain else "the same two ONNX files"
    result = Result("peers", f"Posewire and others behind {what}: {rounds} rounds of {slice_s:g} s a server, in rotating order.")
    ratios: dict[str, Any] = {}
    rows: list[Row] = []
    for runner in runners:
        found = ratios[runner.peer.name] = ratio(own.rates, runner.rates)
        pooled = percentiles_ms(runner.latencies_s)
        rows.append(
            {
                "server": runner.peer.name,
                "people": runner.people,
                "images/s": round(statistics.median(runner.rates), 1),
                "Posewire is faster by": found["median"],
                "quartiles": f"{found['low']} to {found['high']}",
                f"p50 ms at {rate:.0f}/s": pooled["p50"],
                "p99 ms": pooled["p99"],
                "p99 ms, median of rounds": round(statistics.median(runner.p99_ms), 2),
                "without 200": runner.bad,
                "generator's share": round(statistics.median(runner.generator_share), 3),
            }
        )
    result.tables["Saturation with 16 clients, and latency at equal load (Poisson, 70 % of the slowest)"] = rows
    result.raw = {r.peer.name: {"rates": r.rates, "p99_ms": r.p99_ms, "generator": r.generator_share} for r in runners} | {"ratios": ratios}
    result.checks["all find the same people"] = len({runner.people for runner in runners}) == 1
    others = [runner for runner in runners if runner is not own]
    least = 2.0 if plain else 1.0
    for runner in others:
        median = ratios[runner.peer.name]["median"]
        result.checks[f"at least {least:g} times the images of {runner.peer.name} ({median})"] = median >= least
    if others:
        best = min(statistics.median(runner.p99_ms) for runner in others)
        p99 = statistics.median(own.p99_ms)
        result.checks[f"p99 at equal load ({p99:.1f} ms) is no worse than the best peer's ({best:.1f} ms)"] = p99 <= best
    return result
