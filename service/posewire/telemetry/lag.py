"""Measure the lag of the event loop: code that blocks the loop delays every request, and no other metric shows it."""

import asyncio

from posewire.telemetry.metrics import Metrics

_PERIOD_S = 0.25


async def watch_event_loop(metrics: Metrics, period_s: float = _PERIOD_S) -> None:
    """Observe the lag every `period_s` seconds, until cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + period_s
        await asyncio.sleep(period_s)
        metrics.observe_event_loop_lag(max(0.0, loop.time() - due))
