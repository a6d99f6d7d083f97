"""Thousands of damaged inputs against one service, with good images between them: nothing may fail but the inputs."""

import asyncio
import http.client
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import count, takewhile
from pathlib import Path
from typing import NamedTuple

from loadtests.hostile import calls, framing, images, videos
from loadtests.hostile.verdict import fault_of
from loadtests.outcomes import LOST
from loadtests.processes import Server, posewire
from loadtests.report import Result, Row
from loadtests.rude import metric
from loadtests.wire import Target

_SIDE_BY_SIDE = 4
_GOOD_EVERY = 100
_PATIENCE_S = 120.0
_SHOWN = 20  # faults in the report; the JSON has all


class Counts(NamedTuple):
    """How many inputs of each kind."""

    images: int = 47_000
    videos: int = 500
    requests: int = 5_000
    calls: int = 5_000


class _Found(NamedTuple):
    statuses: Counter[str]
    faults: list[str]
    seconds: float


async def hostile(out: Path, counts: Counts, minutes: float, port: int) -> Result:
    """Damaged images, videos and requests, and calls by Schemathesis.

    Args:
        out: folder for the service's log.
        counts: how many of each kind.
        minutes: a kind that takes longer ends early; the table says how many were sent.
        port: of the service.
    """
    # Videos are sent side by side as well: what is turned away is not tested.
    with posewire(out, port, workers="2", log_level="warning", max_videos=str(_SIDE_BY_SIDE), camera_sources="/nowhere") as server:
        target = Target.of(server.url)
        good, workers, memory_mb = _people(target), _pids(server), server.memory_mb()
        found = {
            "damaged images": await asyncio.to_thread(_each, target, counts.images, minutes, _image),
            "damaged videos": await asyncio.to_thread(_each, target, counts.videos, minutes, _video),
            "damaged HTTP": await asyncio.to_thread(_each, target, counts.requests, minutes, _request),
            "calls that keep the schema": await asyncio.to_thread(_calls, target, counts.calls - counts.calls // 2, broken=False),
            "calls that break the schema": await asyncio.to_thread(_calls, target, counts.calls // 2, broken=True),
        }
        deaths = await metric(target, "posewire_worker_deaths_total")
        result = Result("hostile", "Inputs that were damaged from seeds, beside good images, against a service with two workers.")
        result.tables["Inputs"] = [_row(name, each) for name, each in found.items() if each.statuses]
        result.tables["The service"] = [{"memory before MB": round(memory_mb), "after MB": round(server.memory_mb()), "deaths": deaths}]
        result.checks = {f"{name}: nothing failed": not each.faults for name, each in found.items() if each.statuses}
        result.checks["no worker died"] = deaths == 0 and _pids(server) == workers
        result.checks["a good image is answered as before"] = _people(target) == good
    result.raw = {name: each.faults for name, each in found.items()}
    faults: list[Row] = [{"kind": name, "fault": fault.replace("|", "/")} for name, each in found.items() for fault in each.faults]
    result.tables["Faults"] = faults[:_SHOWN]
    return result


def _row(name: str, found: _Found) -> Row:
    answers = ", ".join(f"{status} x{times}" for status, times in sorted(found.statuses.items()))
    sent = found.statuses.total()
    return {"input": name, "sent": sent, "answers": answers, "faults": len(found.faults), "seconds": round(found.seconds)}


def _image(target: Target, number: int) -> tuple[list[int], str | None]:
    media_type, data = images.mutated(number)
    return _judged(target, "/v1/pose", data, media_type)


def _video(target: Target, number: int) -> tuple[list[int], str | None]:
    return _judged(target, "/v1/video", videos.mutated(number), "video/mp4")


def _request(target: Target, number: int) -> tuple[list[int], str | None]:
    try:
        replies = framing.exchange(target, framing.request(number))
    except (TimeoutError, framing.NotHttp) as error:
        return [LOST], f"{type(error).__name__}: {error}"
    faults = [fault for reply in replies if (fault := fault_of(*reply, framing.PAGES))]
    return [reply.status for reply in replies] or [LOST], faults[0] if faults else None


def _each(target: Target, wanted: int, minutes: float, send: Callable[[Target, int], tuple[list[int], str | None]]) -> _Found:
    """Send every number below `wanted`, some at a time, with good images between them."""
    began, statuses, faults = time.monotonic(), Counter[str](), list[str]()
    good = _people(target) if wanted else None

    def one(number: int) -> tuple[list[int], str | None]:
        if number % _GOOD_EVERY == 0 and _people(target) != good:
            return [LOST], "a good image was answered in another way"
        return send(target, number)

    def in_time() -> Iterator[int]:
        return takewhile(lambda number: number < wanted and time.monotonic() < began + 60 * minutes, count())

    with ThreadPoolExecutor(_SIDE_BY_SIDE) as threads:
        # `map` would draw all numbers at once: in parts the time ends it.
        numbers = in_time()
        while part := [number for _, number in zip(range(10 * _SIDE_BY_SIDE), numbers, strict=False)]:
            for number, (answers, fault) in zip(part, threads.map(one, part), strict=True):
                statuses.update("no answer" if status == LOST else str(status) for status in answers)
                faults += [f"{number}: {fault}"] if fault else []
    return _Found(statuses, faults, time.monotonic() - began)


def _calls(target: Target, wanted: int, *, broken: bool) -> _Found:
    began = time.monotonic()
    statuses, faults = calls.call(target, wanted, broken=broken) if wanted else (Counter[int](), [])
    return _Found(Counter({str(status): times for status, times in statuses.items()}), faults, time.monotonic() - began)


def _post(target: Target, path: str, body: bytes, content_type: str) -> tuple[int, str, bytes]:
    with closing(http.client.HTTPConnection(target.host, target.port, timeout=_PATIENCE_S)) as connection:
        connection.request("POST", path, body, {"Content-Type": content_type})
        answer = connection.getresponse()
        return answer.status, answer.headers.get("Content-Type", ""), answer.read()


def _judged(target: Target, path: str, body: bytes, content_type: str) -> tuple[list[int], str | None]:
    try:
        answer = _post(target, path, body, content_type)
    except (OSError, http.client.HTTPException) as error:
        return [LOST], f"{type(error).__name__}: {error}"
    return [answer[0]], fault_of(*answer)


def _people(target: Target) -> str:
    """The answer to a good image, without the request's id and its times."""
    status, _, body = _post(target, "/v1/pose", images.sources()["png"], "image/png")
    return f"{status} {json.loads(body)['images'][0]['people'] if status == 200 else body!r}"


def _pids(server: Server) -> list[int]:
    return [process.pid for process in server.workers()]
