"""Fixtures for the tests of the HTTP API: models that can be held."""

import pytest

from posewire.inference.engine import Engine
from tests.api.support import Api, Gate, GatedDetector, StartApi


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
async def full(start_api: StartApi, models: Engine, gate: Gate) -> Api:
    """An app for two pictures at a time, whose detector is behind the gate."""
    return await start_api(max_in_flight=2, detector=GatedDetector(models.detector, gate))
