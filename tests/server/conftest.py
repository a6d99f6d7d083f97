"""Fixtures for the tests of the HTTP API: models that can be held."""

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from posewire.engine.engine import Engine
from posewire.telemetry.logs import configure_logging
from tests.server.support import Api, Gate, GatedDetector, LogLines, StartApi

# These run by ASGI and on a port under uvicorn. Others go on sending after the answer, which an HTTP client cannot do on a port.
_BOTH_WAYS = {f"test_{name}.py" for name in ("access", "concurrency", "load_shedding", "failing", "rate_limit")}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "on_a_port" in metafunc.fixturenames and Path(metafunc.module.__file__ or "").name in _BOTH_WAYS:
        metafunc.parametrize("on_a_port", [False, True], ids=["asgi", "port"], indirect=True)


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
async def full(start_api: StartApi, models: Engine, gate: Gate) -> Api:
    """An app for two images at a time, whose detector is behind the gate."""
    return await start_api(max_in_flight=2, detector=GatedDetector(models.detector, gate))


@pytest.fixture
def log_lines() -> Iterator[LogLines]:
    """The lines of the log, which the process writes as under `posewire serve`."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    stream = io.StringIO()
    configure_logging("info", stream)

    def lines(message: str) -> list[dict[str, Any]]:
        entries = [json.loads(line) for line in stream.getvalue().splitlines()]
        return [entry for entry in entries if entry["message"] == message]

    yield lines
    root.handlers[:] = handlers
    root.setLevel(level)
