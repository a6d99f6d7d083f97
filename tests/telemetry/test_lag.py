import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

from posewire.telemetry.lag import watch_event_loop
from posewire.telemetry.metrics import Metrics
from tests.server.support import eventually
from tests.telemetry.samples import value


@contextlib.asynccontextmanager
async def watched(metrics: Metrics) -> AsyncIterator[None]:
    watch = asyncio.create_task(watch_event_loop(metrics, 0.01))
    try:
        yield
    finally:
        watch.cancel()


async def test_a_loop_that_is_held_up_shows() -> None:
    metrics = Metrics()

    async def observed() -> bool:
        return bool(value(metrics, "posewire_event_loop_lag_seconds_count"))

    async with watched(metrics):
        await asyncio.sleep(0)  # the watch waits now
        time.sleep(0.2)  # noqa: ASYNC251 - it is what is looked for
        await eventually(observed)
    assert (value(metrics, "posewire_event_loop_lag_seconds_sum") or 0) >= 0.15
