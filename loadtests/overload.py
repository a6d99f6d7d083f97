"""Ten times the capacity for a minute, and what comes after."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from loadtests import sample_images, schedule
from loadtests.generator import in_turn, open_loop
from loadtests.outcomes import summarise
from loadtests.processes import metered
from loadtests.report import Plot, Result, Row
from loadtests.scenarios import BUSY_CLIENTS, DEADLINE_S, Bench, latency_plot, line, pose_request

FACTOR = 10
# The load before and after: light, so that its latency is the service's own.
_CALM = 0.3
_CALM_S = 10.0
# Within this after the end of the overload, latency is to be what it was.
_RECOVERY_S = 2.0
# Memory is compared from here into the overload on: queues and buffers have then their size.
_FILLED_S = 10.0


async def overload(bench: Bench) -> Result:
    """Calm, ten times the capacity for six stretches (60 s by default), calm: one schedule, never interrupted."""
    request_of = in_turn([pose_request(sample_images.single())])
    await bench.busy(request_of, seconds=3)
    before = await bench.busy(request_of)
    peak, long = before["summary"]["goodput"], 6 * bench.seconds
    storm_from, storm_to = _CALM_S, _CALM_S + long
    offsets = np.concatenate(
        [
            schedule.poisson(peak * _CALM, _CALM_S, seed=3),
            storm_from + schedule.poisson(peak * FACTOR, long, seed=4),
            storm_to + schedule.poisson(peak * _CALM, _RECOVERY_S + _CALM_S, seed=5),
        ]
    )
    async with metered(bench.server) as usage:
        everything = await open_loop(bench.target, offsets, request_of)
    await asyncio.sleep(1)
    after = await bench.busy(request_of)
    zero = min(everything.due) - float(offsets[0])
    spans = {
        "calm": (0.0, storm_from),
        f"{FACTOR}x": (storm_from, storm_to),
        "2 s after": (storm_to, storm_to + _RECOVERY_S),
        "then": (storm_to + _RECOVERY_S, storm_to + _RECOVERY_S + _CALM_S),
    }
    summaries = {name: summarise(everything.due_between(zero + a, zero + b), b - a, DEADLINE_S) for name, (a, b) in spans.items()}
    growth = memory_growth(usage.memory_mb, storm_from + min(_FILLED_S, long / 2), storm_to)
    result = Result("overload", f"{FACTOR} times the capacity ({peak:.0f} images/s with {BUSY_CLIENTS} clients) for {long:.0f} s.")
    result.tables["Stretches"] = [_stretch(name, summary) for name, summary in summaries.items()]
    result.tables["Capacity"] = [line({"capacity": name}, f) for name, f in (("before", before), ("after", after))]
    result.tables["Machine"] = [usage.figures() | {"memory growth": round(growth, 4)}]
    result.raw = {"summaries": summaries, "before": before, "after": after, "usage": usage.figures(), "memory_mb": usage.memory_mb}
    # Before and after: the machine's own speed drifts within the minute.
    result.checks = _checks(summaries, (peak + after["summary"]["goodput"]) / 2, growth)
    result.plots = [
        latency_plot("latency under overload", everything),
        Plot("memory", "s", "MiB", {"server": ([i / 2 for i in range(len(usage.memory_mb))], usage.memory_mb)}),
    ]
    return result


def memory_growth(samples_mb: Sequence[float], start: float, end: float) -> float:
    """Growth between two moments, in seconds, of memory that was sampled twice a second: the median of two seconds about each.

    0.05 is 5 %.
    """

    def about(moment: float) -> float:
        at = min(round(2 * moment), len(samples_mb) - 1)
        return float(np.median(samples_mb[max(0, at - 2) : at + 3]))

    return about(end) / about(start) - 1


def _checks(summaries: Mapping[str, Mapping[str, Any]], peak: float, growth: float) -> dict[str, bool]:
    calm, storm, settled = summaries["calm"], summaries[f"{FACTOR}x"], summaries["then"]
    # A p99 of some hundred requests moves by itself; what a queue left behind would be many times as much.
    back = settled["ok_ms"]["p90"] <= 1.5 * calm["ok_ms"]["p90"]
    share = storm["goodput"] / peak
    return {
        f"goodput under overload is at least 90 % of the peak ({100 * share:.1f} %)": share >= 0.9,
        f"p99 of what was accepted ({storm['accepted_ms']['p99']} ms) is under the deadline of {DEADLINE_S:g} s": (
            storm["accepted_ms"]["p99"] is not None and storm["accepted_ms"]["p99"] < 1000 * DEADLINE_S
        ),
        f"rejections are answered in under 50 ms at p99 ({storm['rejected_ms']['p99']} ms)": (
            storm["rejected_ms"]["p99"] is not None and storm["rejected_ms"]["p99"] < 50
        ),
        f"memory grows by less than 5 % ({100 * growth:.1f} %)": growth < 0.05,
        "2 s after, p90 is within 1.5 times of what it was": back,
        "no request was lost": not any(summary["lost"] for summary in summaries.values()),
    }


def _stretch(name: str, summary: Mapping[str, Any]) -> Row:
    accepted, rejected = summary["accepted_ms"], summary["rejected_ms"]
    return {
        "stretch": name,
        "requests": summary["requests"],
        "goodput/s": summary["goodput"],
        **{f"accepted {p} ms": accepted[p] for p in ("p50", "p90", "p99", "p99.9")},
        "rejected": summary["rejected"],
        "rejected p50 ms": rejected["p50"],
        "rejected p99 ms": rejected["p99"],
        "expired": summary["statuses"].get("504", 0),
        "lost": summary["lost"],
        "send lag p99 ms": summary["send_lag_ms"]["p99"],
    }
