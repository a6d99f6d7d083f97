"""Lines of the access log, which may wait for one another but not for long."""

import asyncio
import io
import json
import logging
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from posewire.engine.engine import Engine
from posewire.server.access_log import AccessLog
from posewire.server.admission import Admission
from posewire.telemetry.logs import configure_logging, request_id_var, trace_id_var
from posewire.telemetry.metrics import Metrics
from tests.server.support import Gate, GatedDetector, StartApi, eventually, hold


class Stream(io.StringIO):
    """Knows what each write brought."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[str] = []

    def write(self, text: str) -> int:
        self.writes.append(text)
        return super().write(text)

    def entries(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.getvalue().splitlines()]


@pytest.fixture
def stream() -> Iterator[Stream]:
    """Where the process logs to, as `posewire serve` has it."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    stream = Stream()
    configure_logging("info", stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def admission() -> Admission:
    return Admission(4, Metrics())


@pytest.fixture
def access_log(admission: Admission) -> AccessLog:
    return AccessLog(admission)


def note(access_log: AccessLog, request_id: str, trace_id: str | None = None) -> None:
    """As a request would that has these ids."""
    tokens = request_id_var.set(request_id), trace_id_var.set(trace_id)
    access_log.note(logging.INFO, lambda: {"status": 200})
    request_id_var.reset(tokens[0])
    trace_id_var.reset(tokens[1])


async def test_with_no_picture_in_flight_a_line_is_there_at_once(stream: Stream, access_log: AccessLog) -> None:
    note(access_log, "one")
    [entry] = stream.entries()
    assert entry.items() >= {"level": "info", "logger": "posewire.access", "message": "request", "status": 200, "request_id": "one"}.items()


async def test_lines_that_waited_come_in_one_write_each_with_its_own_ids_and_time(
    stream: Stream, access_log: AccessLog, admission: Admission
) -> None:
    async def told() -> bool:
        return len(stream.entries()) == 3

    with admission.enter(1):
        note(access_log, "one", "0af7651916cd43dd8448eb211c80319c")
        between = time.time()
        note(access_log, "two")
        note(access_log, "three")
        assert stream.getvalue() == ""
        await eventually(told)
    assert len(stream.writes) == 1
    one, two, three = stream.entries()
    assert [entry["request_id"] for entry in (one, two, three)] == ["one", "two", "three"]
    assert one["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
    assert "trace_id" not in two
    assert datetime.fromisoformat(one["ts"]).timestamp() <= between
    assert datetime.fromisoformat(three["ts"]).timestamp() >= between - 0.001  # of which the milliseconds are told


async def test_the_last_picture_s_line_takes_the_others_along(stream: Stream, access_log: AccessLog, admission: Admission) -> None:
    with admission.enter(1):
        note(access_log, "waits")
    note(access_log, "last")
    assert [entry["request_id"] for entry in stream.entries()] == ["waits", "last"]
    assert len(stream.writes) == 1


async def test_what_is_logged_otherwise_does_not_wait(stream: Stream, access_log: AccessLog, admission: Admission) -> None:
    with admission.enter(1):
        note(access_log, "one")
        logging.getLogger("posewire").warning("now")
        assert [entry["message"] for entry in stream.entries()] == ["now"]
    access_log.write()
    assert [entry["message"] for entry in stream.entries()] == ["now", "request"]


async def test_a_level_that_is_not_kept_costs_nothing(stream: Stream, access_log: AccessLog) -> None:
    access_log.note(logging.DEBUG, lambda: pytest.fail("nobody reads it"))
    access_log.write()
    assert stream.writes == []


async def test_a_stream_that_fails_harms_nobody(access_log: AccessLog, stream: Stream, capsys: pytest.CaptureFixture[str]) -> None:
    stream.close()
    note(access_log, "one")
    assert "1 lines are lost" in capsys.readouterr().err
    other = Stream()
    configure_logging("info", other)
    note(access_log, "two")
    assert [entry["request_id"] for entry in other.entries()] == ["two"]


async def test_a_request_beside_a_picture_that_takes_long_is_logged_before_it(
    start_api: StartApi, models: Engine, gate: Gate, astronaut: bytes, stream: Stream
) -> None:
    api = await start_api(detector=GatedDetector(models.detector, gate))

    async def told() -> bool:
        return [entry["route"] for entry in stream.entries() if entry["message"] == "request"] == ["/v1/models"]

    with gate.shut():
        held = await hold(api, astronaut, 1)
        await api.client.get("/v1/models")
        await eventually(told)
    await asyncio.gather(*held)
