"""The access log: a line for every request, as soon as it is answered."""

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from posewire.engine.engine import Engine
from posewire.telemetry.logs import configure_logging
from tests.server.support import Gate, GatedDetector, StartApi, hold


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """The stream that the process logs to, as under `posewire serve`."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    stream = io.StringIO()
    configure_logging("info", stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)


def requests(stream: io.StringIO) -> list[dict[str, Any]]:
    entries = [json.loads(line) for line in stream.getvalue().splitlines()]
    return [entry for entry in entries if entry["message"] == "request"]


async def test_a_request_is_logged_at_once_though_a_image_takes_long(
    start_api: StartApi, models: Engine, gate: Gate, astronaut: bytes, stream: io.StringIO
) -> None:
    api = await start_api(detector=GatedDetector(models.detector, gate))
    with gate.shut():
        held = await hold(api, astronaut, 1)
        await api.client.get("/v1/models", headers={"X-Request-Id": "short"})
        [entry] = requests(stream)
        assert entry.items() >= {"level": "info", "logger": "posewire.access", "route": "/v1/models", "request_id": "short"}.items()
        assert datetime.fromisoformat(entry["ts"]) <= datetime.now(UTC)
    await asyncio.gather(*held)
    assert [entry["route"] for entry in requests(stream)] == ["/v1/models", "/v1/pose"]
