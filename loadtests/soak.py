"""Minutes of usual load with faults of every kind; afterwards nothing may be lost or left behind."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from loadtests import sample_images, schedule
from loadtests.faults import FAULT_RATE
from loadtests.generator import in_turn, open_loop
from loadtests.outcomes import Outcomes, summarise
from loadtests.overload import memory_growth
from loadtests.processes import Server, metered, posewire
from loadtests.report import Plot, Result
from loadtests.rude import metric, vanish
from loadtests.scenarios import DEADLINE_S, Bench, latency_plot, pose_request
from loadtests.wire import Connection, Target, request_bytes

_USUAL_LOAD = 0.5
_CORRUPT_A_SECOND = 2.0
_VANISHING_A_SECOND = 2.0
# The stretch in which caches and arenas find their size: this share of the soak.
_SETTLED = 0.25
_REST_S = 5.0
_KILL_EVERY_S = 60.0


async def soak(out: Path, minutes: float, port: int) -> Result:
    """The faulty server under usual load, with corrupt images and clients that vanish."""
    with posewire(out, port, module="loadtests.faulty", pose_runtime="onnxruntime") as server:
        bench = Bench(server, 5.0, out)
        request_of = in_turn([pose_request(image) for image in (*[sample_images.single()] * 3, sample_images.crowd(2))])
        peak = await bench.busy(request_of)
        await asyncio.sleep(_REST_S)
        before = await _inside(server, bench.target)
        seconds = 60 * minutes
        async with metered(server) as usage:
            good, corrupt, vanished = await _storm(server, request_of, peak["summary"]["throughput"] * _USUAL_LOAD, seconds)
        await asyncio.sleep(_REST_S)
        after = await _inside(server, bench.target)
        growth = memory_growth(usage.memory_mb, _SETTLED * seconds, seconds)
    result = Result("soak", f"{minutes:g} minutes at 50 % of the capacity; 1 % of the model runs raise, 2 corrupt images and 2 vanishing")
    result.shows += " clients a second; every minute one of the service's processes is killed."
    summary = summarise(good, seconds, DEADLINE_S)
    result.tables["Requests"] = [
        {"kind": "good images", "sent": summary["requests"], "statuses": json.dumps(summary["statuses"]), "lost": summary["lost"]},
        {
            "kind": "corrupt images",
            "sent": len(corrupt.status),
            "statuses": json.dumps(_count(corrupt)),
            "lost": _count(corrupt).get("0", 0),
        },
        {"kind": "clients that vanished", "sent": vanished, "statuses": "", "lost": None},
    ]
    result.tables["Latency of good images, ms"] = [summary["ok_ms"]]
    result.tables["Left behind"] = [{"what": what, "before": before[what], "after": after[what]} for what in before]
    result.tables["Machine"] = [usage.figures() | {"memory growth": round(growth, 4)}]
    result.checks = _checks(summary, corrupt, before, after, growth)
    result.raw = {"summary": summary, "before": before, "after": after, "usage": usage.figures(), "memory_mb": usage.memory_mb}
    result.plots = [
        latency_plot("latency of good images", good),
        Plot("memory", "s", "MiB", {"server": ([i / 2 for i in range(len(usage.memory_mb))], usage.memory_mb)}),
    ]
    return result


async def _storm(server: Server, request_of: Any, rate: float, seconds: float) -> tuple[Outcomes, Outcomes, int]:
    """Everything at once; what became of the good, of the corrupt, and how many vanished."""
    target = Target.of(server.url)
    random = np.random.default_rng(8)
    leaving = schedule.poisson(_VANISHING_A_SECOND, seconds, seed=9)
    started = time.perf_counter()

    async def vanishing() -> None:
        async with asyncio.TaskGroup() as group:
            for offset in leaving.tolist():
                await asyncio.sleep(max(0.0, started + offset - time.perf_counter()))
                group.create_task(vanish(target, request_of(0), float(random.choice([0.0, 0.002, 0.01, 0.03]))))

    async def killing() -> None:
        for _ in range(round(seconds / _KILL_EVERY_S)):
            await asyncio.sleep(_KILL_EVERY_S)
            if below := server.process.children():  # where threads run the models there is none
                below[random.integers(len(below))].kill()

    killer = asyncio.create_task(killing())
    bad = in_turn([pose_request(image) for image in sample_images.corrupt()])
    good, corrupt, _ = await asyncio.gather(
        open_loop(target, schedule.poisson(rate, seconds, seed=10), request_of),
        open_loop(target, schedule.poisson(_CORRUPT_A_SECOND, seconds, seed=11), bad),
        vanishing(),
    )
    killer.cancel()
    return good, corrupt, len(leaving)


async def _inside(server: Server, target: Target) -> dict[str, float]:
    """The amount of everything that can leak, with no request under way but this one."""
    connection = await Connection.open(target)
    inside = json.loads((await connection.ask(request_bytes("/loadtests/inside"))).body)
    ready = (await connection.ask(request_bytes("/readyz"))).status
    connection.close()
    await asyncio.sleep(0.5)
    return {
        **inside,
        "threads": sum(process.num_threads() for process in server.tree()),
        "files": sum(process.num_fds() for process in server.tree()),
        "processes": len(server.tree()),
        "in flight": await metric(target, "posewire_pictures_in_flight"),
        "failed model runs": await metric(target, "posewire_inference_failures_total"),
        "processes that died": await metric(target, "posewire_worker_deaths_total"),
        "readyz": ready,
    }


def _checks(
    summary: dict[str, Any], corrupt: Outcomes, before: dict[str, float], after: dict[str, float], growth: float
) -> dict[str, bool]:
    statuses = {int(s) for s in summary["statuses"]}
    deaths = after["processes that died"] - before["processes that died"]
    return {
        "no request was lost": not summary["lost"] and 0 not in corrupt.status,
        "good images were answered, or failed by an injected fault": statuses <= {200, 500, 503} and 200 in statuses,
        "faults were injected and counted": after["failed model runs"] > before["failed model runs"],
        f"failures are rare ({100 * (1 - summary['statuses'].get('200', 0) / summary['requests']):.1f} %)": (
            summary["statuses"].get("200", 0) >= (1 - 12 * FAULT_RATE) * summary["requests"]
        ),
        # One is answered with 500 where the process that was to look at it has been killed.
        "corrupt images were answered with 400, or fell with a process": set(corrupt.status) <= {400, 500}
        and corrupt.status.count(500) <= deaths,
        "no task is left": after["tasks"] <= before["tasks"],
        "no thread is left": after["threads"] <= before["threads"],
        "no file is left": after["files"] <= before["files"],
        "every process was replaced": after["processes"] == before["processes"],
        "nothing is in flight": after["in flight"] == 0,
        "the service is ready": after["readyz"] == 200,
        f"memory grows by less than 5 % ({100 * growth:.1f} %)": growth < 0.05,
    }


def _count(outcomes: Outcomes) -> dict[str, int]:
    return {str(status): outcomes.status.count(status) for status in sorted(set(outcomes.status))}
