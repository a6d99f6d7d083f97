"""Fixtures for the tests of the HTTP API: models that can be held."""

from pathlib import Path

import pytest

from posewire.engine.engine import Engine
from tests.server.support import Api, Gate, GatedDetector, StartApi

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
