"""How late the event loop is: what keeps it from its work keeps every request waiting, and no other metric says so."""

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
