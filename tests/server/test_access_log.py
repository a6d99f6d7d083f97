"""The access log: a line for every request, as soon as it is answered."""

import asyncio
from datetime import UTC, datetime

from posewire.engine.engine import Engine
from tests.server.support import Gate, GatedDetector, LogLines, StartApi, hold


async def test_a_request_is_logged_at_once_though_an_image_takes_long(
    start_api: StartApi, models: Engine, gate: Gate, astronaut: bytes, log_lines: LogLines
) -> None:
    api = await start_api(detector=GatedDetector(models.detector, gate))
    with gate.shut():
        held = await hold(api, astronaut, 1)
        await api.client.get("/v1/models", headers={"X-Request-Id": "short"})
        [entry] = log_lines("request")
        assert entry.items() >= {"level": "info", "logger": "posewire.access", "route": "/v1/models", "request_id": "short"}.items()
        assert datetime.fromisoformat(entry["ts"]) <= datetime.now(UTC)
    await asyncio.gather(*held)
    assert [entry["route"] for entry in log_lines("request")] == ["/v1/models", "/v1/pose"]
