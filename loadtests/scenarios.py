"""The plain scenarios: one kind of load at a time against a server with its defaults."""

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from loadtests import sample_images, schedule
from loadtests.generator import RequestOf, closed_loop, in_turn, open_loop
from loadtests.outcomes import Outcomes, ratio, summarise
from loadtests.processes import Server, metered
from loadtests.report import Plot, Result, Row, row
from loadtests.wire import Connection, Target, request_bytes

PATH = "/v1/pose"
# What a caller waits; goodput counts the answers that came within.
DEADLINE_S = 2.0
# Enough callers to keep two cores busy and few enough to be admitted.
BUSY_CLIENTS = 16
# Of the capacity: the load of a machine that is used well.
_USUAL_LOAD = 0.6
# The longest that the service lets a caller wait: where the question is what all of them get in the end.
_PATIENT_S = 10.0
_CLIENTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_ROUNDS = 7
_ROUND_SHARE = 0.25  # of the usual stretch


@dataclass(frozen=True, slots=True)
class Bench:
    """A server to load, and for how long."""

    server: Server
    seconds: float  # of one stretch
    out: Path

    @property
    def target(self) -> Target:
        """Where it listens."""
        return Target.of(self.server.url)

    async def busy(
        self, request_of: RequestOf, clients: int = BUSY_CLIENTS, seconds: float | None = None, deadline_s: float = DEADLINE_S
    ) -> dict[str, Any]:
        """Closed-loop callers; the figures."""
        async with metered(self.server) as usage:
            outcomes = await closed_loop(self.target, clients, seconds or self.seconds, request_of)
        return _figures(outcomes, usage.seconds, usage.figures(), deadline_s)

    async def open(self, offsets: schedule.Offsets, request_of: RequestOf) -> tuple[dict[str, Any], Outcomes]:
        """Scheduled callers; the figures and what they are drawn from."""
        async with metered(self.server) as usage:
            outcomes = await open_loop(self.target, offsets, request_of)
        return _figures(outcomes, usage.seconds, usage.figures(), DEADLINE_S), outcomes


def _figures(outcomes: Outcomes, seconds: float, usage: dict[str, float], deadline_s: float) -> dict[str, Any]:
    return {"summary": summarise(outcomes, seconds, deadline_s), "usage": usage}


def line(label: dict[str, Any], figures: dict[str, Any]) -> Row:
    """Figures as a row of a table."""
    return row(label, figures["summary"], figures["usage"])


def pose_request(image: bytes, query: str = "", deadline_s: float = DEADLINE_S) -> bytes:
    """A request for one image's people."""
    return request_bytes(PATH + query, image, x_request_timeout_ms=str(round(deadline_s * 1000)))


async def single(bench: Bench) -> Result:
    """One image with one person: capacity, then constant and Poisson arrivals at 60 % of it."""
    request_of = in_turn([pose_request(sample_images.single())])
    await bench.busy(request_of, seconds=2)
    peak = await bench.busy(request_of)
    rate = peak["summary"]["throughput"] * _USUAL_LOAD
    even, _ = await bench.open(schedule.constant(rate, bench.seconds), request_of)
    random, outcomes = await bench.open(schedule.poisson(rate, bench.seconds, seed=1), request_of)
    figures = {f"{BUSY_CLIENTS} clients": peak, f"constant {rate:.0f}/s": even, f"Poisson {rate:.0f}/s": random}
    result = Result("single", "Images of one person: capacity, and latency at 60 % of it.", raw=figures)
    result.tables["Load"] = [line({"load": name}, f) for name, f in figures.items()]
    result.plots.append(latency_plot("latency under Poisson arrivals", outcomes))
    result.checks["every request was answered with 200"] = all(set(f["summary"]["statuses"]) == {"200"} for f in figures.values())
    return result


async def people(bench: Bench) -> Result:
    """Images of 1 to 32 people: the cost of a person."""
    result = Result("people", "Images of 1280 x 960 with 1 to 32 people: cost grows linearly with the people.")
    counts, cost_ms = [], []
    rows: list[Row] = []
    for wanted in sample_images.PEOPLE:
        request = pose_request(
            sample_images.crowd(wanted), f"?max_people={wanted}&min_detection_score={sample_images.CROWD_SCORE}", _PATIENT_S
        )
        found = await _people_answered(bench.target, request)
        lone = await bench.busy(in_turn([request]), clients=1)
        full = await bench.busy(in_turn([request]), clients=8)
        counts.append(found)
        cost_ms.append(1000 * full["usage"]["server_cores"] / full["summary"]["throughput"])
        rows.append(
            {
                "people": found,
                "lone p50 ms": lone["summary"]["ok_ms"]["p50"],
                "lone p99 ms": lone["summary"]["ok_ms"]["p99"],
                "images/s": full["summary"]["throughput"],
                "people/s": round(full["summary"]["throughput"] * found, 1),
                "core ms an image": round(cost_ms[-1], 2),
            }
        )
        result.raw[str(wanted)] = {"lone": lone, "full": full}
    slope, base = np.polyfit(counts, cost_ms, 1)
    fit = np.polyval((slope, base), counts)
    result.tables["People"] = rows
    result.raw["fit_core_ms"] = {"image": float(base), "person": float(slope)}
    result.plots.append(
        Plot("cost of people", "people", "core ms an image", {"measured": (counts, cost_ms), "line": (counts, fit.tolist())})
    )
    result.checks["every person was answered"] = tuple(counts) == sample_images.PEOPLE
    result.checks[f"core ms an image = {base:.1f} + {slope:.2f} a person, each within 15 %"] = bool(
        (np.abs(fit - cost_ms) <= 0.15 * np.array(cost_ms)).all()
    )
    return result


async def served_models(target: Target) -> list[Row]:
    """The backend of the models, as the server reports it: without Posewire's kernels it is slower by a factor."""
    connection = await Connection.open(target)
    answer = await connection.ask(request_bytes("/v1/models"))
    connection.close()
    served = json.loads(answer.body)
    return [{"model": model["name"], "runs on": model["provider"], "side by side": served["workers"]} for model in served["models"]]


async def _people_answered(target: Target, request: bytes) -> int:
    connection = await Connection.open(target)
    answer = await connection.ask(request)
    connection.close()
    if answer.status != 200:
        raise RuntimeError(f"the image was answered with {answer.status}: {answer.body.decode(errors='replace')}")
    return len(json.loads(answer.body)["images"][0]["people"])


async def clients(bench: Bench) -> Result:
    """1 to 256 callers that ask again when they are answered, in rounds: the machine's own speed drifts within a minute."""
    request_of = in_turn([pose_request(sample_images.single(), deadline_s=_PATIENT_S)])
    result = Result("clients", "1 to 256 closed-loop clients; what is over the service's 64 places is turned away at once and asks again.")
    rounds: dict[int, list[dict[str, Any]]] = {count: [] for count in _CLIENTS}
    for number in range(_ROUNDS):
        for count in _CLIENTS[:: 1 if number % 2 else -1]:
            rounds[count].append(await bench.busy(request_of, count, bench.seconds * _ROUND_SHARE, _PATIENT_S))
            await settle(1)  # who was turned away has gone
    result.raw = {str(count): found for count, found in rounds.items()}
    middle = [sorted(found, key=lambda figures: figures["summary"]["goodput"])[_ROUNDS // 2] for found in rounds.values()]
    goodput = {count: [figures["summary"]["goodput"] for figures in found] for count, found in rounds.items()}
    ratios = {count: ratio(found, goodput[BUSY_CLIENTS]) for count, found in goodput.items()}
    beside = f"of {BUSY_CLIENTS} clients' goodput"
    rows = [
        line({"clients": count, beside: found["median"], "quartiles": f"{found['low']} to {found['high']}"}, figures)
        for (count, found), figures in zip(ratios.items(), middle, strict=True)
    ]
    result.tables["Clients"] = rows
    everything = [figures["summary"] for found in rounds.values() for figures in found]
    result.checks["no request was lost"] = not any(summary["lost"] for summary in everything)
    result.checks[f"from 4 clients on, goodput is at least 90 % of {BUSY_CLIENTS} clients' in the same round"] = all(
        row[beside] >= 0.9 for row in rows if row["clients"] >= 4
    )
    result.plots.append(
        Plot(
            "clients",
            "clients",
            "answers a second, ms",
            {
                "goodput/s": (list(_CLIENTS), [row["goodput/s"] for row in rows]),
                "p99 ms": (list(_CLIENTS), [row["p99 ms"] for row in rows]),
            },
            log=True,
        )
    )
    return result


async def mixed(bench: Bench) -> Result:
    """Small and large images in turn at 60 % of their capacity."""
    request_of = in_turn([pose_request(image) for image in sample_images.mixed()])
    peak = await bench.busy(request_of)
    rate = peak["summary"]["throughput"] * _USUAL_LOAD
    steady, outcomes = await bench.open(schedule.poisson(rate, 2 * bench.seconds, seed=2), request_of)
    result = Result("mixed", "Images of 256 to 2048 pixels a side and crowds of 2 to 8 in turn.", raw={"peak": peak, "steady": steady})
    result.tables["Load"] = [line({"load": f"{BUSY_CLIENTS} clients"}, peak), line({"load": f"Poisson {rate:.0f}/s"}, steady)]
    result.plots.append(latency_plot("latency of mixed sizes", outcomes))
    result.checks["every request was answered with 200"] = set(steady["summary"]["statuses"]) == {"200"} and not steady["summary"]["lost"]
    return result


async def bursts(bench: Bench) -> Result:
    """48 requests at once, again when the machine is idle."""
    size = 48
    request_of = in_turn([pose_request(sample_images.single())])
    peak = await bench.busy(request_of)
    drain_s = size / peak["summary"]["throughput"]
    figures, outcomes = await bench.open(schedule.bursts(size, 2 * drain_s, 2 * bench.seconds), request_of)
    result = Result("bursts", f"{size} requests at once every {2 * drain_s:.2f} s: each burst is done in the time that its work takes.")
    result.raw = {"peak": peak, "bursts": figures}
    result.tables["Load"] = [line({"load": f"{BUSY_CLIENTS} clients"}, peak), line({"load": f"bursts of {size}"}, figures)]
    result.plots.append(latency_plot("latency of bursts", outcomes))
    result.checks["every request was answered with 200"] = set(figures["summary"]["statuses"]) == {"200"}
    result.checks["p99 is at most 1.25 times a burst's work"] = figures["summary"]["ok_ms"]["p99"] <= 1250 * drain_s
    return result


def latency_plot(name: str, outcomes: Outcomes) -> Plot:
    """Latency by the time at which requests were due, of those with 200 and of those that were turned away."""
    due, ended, status = (np.array(values) for values in (outcomes.due, outcomes.ended, outcomes.status))
    lines = {}
    for label, chosen in (("200", status == 200), ("turned away", np.isin(status, (429, 503)))):
        if chosen.any():
            order = np.argsort(due[chosen])
            times = due[chosen][order]
            lines[label] = ((times - due.min()).tolist(), (1000 * (ended[chosen][order] - times)).tolist())
    return Plot(name, "s", "ms", lines)


async def settle(seconds: float = 1.0) -> None:
    """Let the server come to rest between two stretches that are compared."""
    await asyncio.sleep(seconds)
