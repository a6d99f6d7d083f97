"""Attacks, each against a service of its own, and what good clients feel of them: one row each."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from loadtests import attackers, sample_images
from loadtests.attackers import ATTACKS, GOOD_ADDRESS, STOP_PATIENCE_S
from loadtests.outcomes import LOST, Outcomes, percentiles_ms
from loadtests.processes import Server, posewire
from loadtests.report import Result, Row, table
from loadtests.wire import Answer, Connection, Target, request_bytes

_RATE = 10.0  # good requests a second
_PATIENCE_S = 15.0  # of a good client: more than the service's own deadline
_READY_EVERY_S = 0.5
_READY_PATIENCE_S = 2.0
_MEMORY_EVERY_S = 0.25
_WARM_UP = 10
# After an attack the service is tried until so many requests in a row are each answered within a time.
_RECOVERED_AFTER = 3
_RECOVERED_S = 2.0
_RECOVERY_PATIENCE_S = 60.0
# POSEWIRE_DRAIN_S, the longest deadline and 2 s.
STOP_S = 1.0 + 10.0 + 2.0


# What is promised of the good requests; 0.99 where it is not said. A worker that was stopped takes the image that it has with it; while
# all are stopped nobody can be answered, and what counts is the recovery.
_PROMISED = {"one-worker-stopped": 0.9, "all-workers-stopped": 0.0}
# The attack ends the service: there is nothing to recover.
_ENDING = ("non-reading-videos",)


@dataclass(slots=True)
class _Seen:
    """Measurements during an attack."""

    good: Outcomes = field(default_factory=Outcomes)
    ready: Counter[int] = field(default_factory=Counter)  # status of /readyz, or LOST
    memory_mb: list[float] = field(default_factory=list)


async def attacks(out: Path, names: Sequence[str], seconds: float, free_port: Callable[[], int]) -> Result:
    """Every attack of these names for so many seconds.

    Args:
        out: folder for the services' logs.
        names: of `attackers.ATTACKS`; none: all.
        seconds: of each attack.
        free_port: finds a port for a service.
    """
    shows = f"Attacks of {seconds:g} s, each on a service of its own with two workers, beside {_RATE:g} good requests/s."
    result = Result("attacks", shows, tables={"Attacks": []})
    for name in names or ATTACKS:
        with posewire(out / name, free_port(), workers="2") as server:
            row = await beside(name, server, seconds)
        result.tables["Attacks"].append(row)
        result.checks |= promises(name, row)
        print("\n".join(table([row])), flush=True)  # an attack that fails must not take with it what was found before
    return result


async def beside(name: str, server: Server, seconds: float) -> Row:
    """One attack against a service, with good clients beside it; the row of the table."""
    target, seen = Target.of(server.url), _Seen()
    for _ in range(_WARM_UP):
        await _ask(target, _good_request(), _PATIENCE_S)
    idle_mb = server.memory_mb()
    watching = [asyncio.create_task(_watch_ready(target, seen)), asyncio.create_task(_watch_memory(server, seen))]
    began = asyncio.Event()
    attack = asyncio.create_task(attackers.attack(name, server, seconds, began))
    await began.wait()
    good = asyncio.create_task(_good_clients(target, seconds, seen.good))
    scene = await attack
    ended = time.perf_counter()
    await good
    recovery_s = None if name in _ENDING else await _recovery(target, ended)
    for task in watching:
        task.cancel()
    await asyncio.gather(*watching, return_exceptions=True)
    statuses = Counter(seen.good.status)
    return {
        "attack": name,
        "good requests": len(seen.good.status),
        "success %": round(100 * statuses[200] / max(1, len(seen.good.status)), 1),
        "p99 ms": percentiles_ms(seen.good.latencies(200))["p99"],
        "others of them": _as_text({status: n for status, n in statuses.items() if status != 200}),
        "memory idle MB": round(idle_mb),
        "memory peak MB": round(max(seen.memory_mb)),
        "/readyz": _as_text(seen.ready),
        "recovered": "(was stopped)" if name in _ENDING else _recovered(recovery_s),
        "stopped": _stopped(scene.figures.get("stop_s")),
        "attackers got": _as_text(scene.answers),
    }


def _recovered(recovery_s: float | None) -> str:
    return f"no, not in {_RECOVERY_PATIENCE_S:g} s" if recovery_s is None else f"yes, after {recovery_s:.1f} s"


def _stopped(stop_s: float | None) -> str | None:
    if stop_s is None:
        return None
    return f"not in {STOP_PATIENCE_S:g} s" if stop_s < 0 else f"after {stop_s:.1f} s"


def _as_text(counts: Mapping[Any, int]) -> str:
    return ", ".join(f"{'no answer' if what == LOST else what} x{n}" for what, n in sorted(counts.items(), key=lambda item: str(item[0])))


def promises(name: str, row: Row) -> dict[str, bool]:
    """The promises of a service under this attack, and whether its row of the table keeps them."""
    promised, got = 100 * _PROMISED.get(name, 0.99), row["attackers got"]
    checks = {f"{name}: at least {promised:g} % of the good requests are answered ({row['success %']} %)": row["success %"] >= promised}
    if name in _ENDING:
        stopped = row["stopped"]
        in_time = stopped.startswith("after") and float(stopped.split()[1]) <= STOP_S
        checks[f"{name}: SIGTERM ends the service within {STOP_S:g} s ({stopped})"] = in_time
    else:
        checks[f"{name}: the service recovers ({row['recovered']})"] = row["recovered"].startswith("yes")
    if "a good video" in got:
        checks[f"{name}: good videos are answered ({got})"] = "a good video: 200" in got
    if name == "upgrade-h2c":
        checks[f"{name}: its requests are served ({got})"] = got.startswith("200 x") and "," not in got
    if name == "refused-uploads":
        checks[f"{name}: no refusal is lost ({got})"] = "no answer" not in got
    return checks


def _good_request() -> bytes:
    return request_bytes(attackers.POSE, sample_images.single())


async def _good_clients(target: Target, seconds: float, outcomes: Outcomes) -> None:
    """A new client a tenth of a second, each on a connection of its own, as one that was not there before the attack."""
    request, started = _good_request(), time.perf_counter()

    async def client(due: float) -> None:
        sent = time.perf_counter()
        answer = await _ask(target, request, _PATIENCE_S)
        outcomes.add(due, sent, answer.ended if answer else time.perf_counter(), answer.status if answer else LOST)

    async with asyncio.TaskGroup() as group:
        for number in range(round(seconds * _RATE)):
            due = started + number / _RATE
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            group.create_task(client(due))


async def _watch_ready(target: Target, seen: _Seen) -> None:
    while True:
        answer = await _ask(target, request_bytes("/readyz"), _READY_PATIENCE_S)
        seen.ready[answer.status if answer else LOST] += 1
        await asyncio.sleep(_READY_EVERY_S)


async def _watch_memory(server: Server, seen: _Seen) -> None:
    while True:
        with suppress(psutil.NoSuchProcess):
            seen.memory_mb.append(server.memory_mb())
        await asyncio.sleep(_MEMORY_EVERY_S)


async def _recovery(target: Target, ended: float) -> float | None:
    """Seconds from the end of the attack to the first of some good answers in a row; None: there were none in time."""
    in_a_row, first = 0, 0.0
    while time.perf_counter() < ended + _RECOVERY_PATIENCE_S:
        answer = await _ask(target, _good_request(), _RECOVERED_S)
        if answer and answer.status == 200:
            first = first if in_a_row else answer.ended
            in_a_row += 1
            if in_a_row == _RECOVERED_AFTER:
                return first - ended
        else:
            in_a_row = 0
            await asyncio.sleep(_READY_EVERY_S)
    return None


async def _ask(target: Target, request: bytes, patience_s: float) -> Answer | None:
    """The answer to a good client; None: the connection failed or its patience ended."""
    connection = None
    try:
        async with asyncio.timeout(patience_s):
            connection = await Connection.open(target, GOOD_ADDRESS)
            return await connection.ask(request)
    except (OSError, TimeoutError):
        return None
    finally:
        if connection is not None:
            connection.close()
