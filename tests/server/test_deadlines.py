"""The deadline passes, or the client goes away: the answer comes at once and nothing more is computed."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from posewire.engine.engine import Engine
from tests.server.support import (
    JPEG,
    JSON,
    MULTIPART,
    Api,
    Gate,
    GatedDetector,
    GatedPose,
    StartApi,
    all_queued,
    assert_problem,
    images,
    json_body,
    people_of,
)

SOON = {"X-Request-Timeout-Ms": "50"}
GONE = {"type": "http.disconnect"}


@pytest.fixture
async def gated(start_api: StartApi, models: Engine, gate: Gate) -> Api:
    """An app whose detector is behind the gate."""
    return await start_api(detector=GatedDetector(models.detector, gate))


async def test_the_deadline_passes_while_the_detector_is_stuck(gated: Api, gate: Gate, astronaut: bytes) -> None:
    with gate.shut():
        assert_problem(await gated.post(astronaut, SOON), 504, "deadline-exceeded", "deadline")
        assert await gated.in_flight() == 0
        assert_problem(await gated.post(images(astronaut, astronaut), MULTIPART | SOON), 504, "deadline-exceeded")
        assert await gated.in_flight() == 0
    assert len(people_of(await gated.post(astronaut))) == 1
    assert await gated.runs("pose") == 1  # for the last one only
    assert await gated.metric("posewire_rejections_total", reason="deadline-exceeded") == 2


async def test_the_deadline_passes_while_the_pose_model_is_stuck(start_api: StartApi, models: Engine, gate: Gate, astronaut: bytes) -> None:
    api = await start_api(pose=GatedPose(models.pose, gate))
    with gate.shut():
        answer = await api.post(astronaut, {"X-Request-Timeout-Ms": "500", "Accept": "image/png"})
        assert_problem(answer, 504, "deadline-exceeded")
        assert await api.in_flight() == 0
    assert len(people_of(await api.post(astronaut))) == 1


async def test_the_settings_bound_the_deadline(start_api: StartApi, models: Engine, gate: Gate, astronaut: bytes) -> None:
    api = await start_api(detector=GatedDetector(models.detector, gate), request_timeout_ms=50)
    with gate.shut():
        for headers in ({}, {"X-Request-Timeout-Ms": "600000"}):
            assert_problem(await api.post(astronaut, headers), 504, "deadline-exceeded")


@pytest.mark.parametrize("headers", [JPEG, MULTIPART, JSON])
async def test_the_deadline_passes_while_the_body_is_on_its_way(api: Api, headers: dict[str, str]) -> None:
    async def stuck() -> AsyncIterator[bytes]:
        yield b"--XX\r\n"
        await asyncio.Event().wait()

    assert_problem(await api.post(stuck(), headers | SOON), 504, "deadline-exceeded", "before the body had arrived")
    assert await api.in_flight() == 0
    assert await api.runs("detector") == 0


class Caller:
    """One POST, by hand over ASGI: the client may hang up at any time."""

    def __init__(self, api: Api, body: bytes, *, headers: dict[str, str] = JPEG, whole: bool = True) -> None:
        self.hang_up = asyncio.Event()
        self.asked_again = asyncio.Event()
        self.sent: list[Any] = []
        self._messages = [{"type": "http.request", "body": body, "more_body": not whole}]
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": "/v1/pose",
            "raw_path": b"/v1/pose",
            "root_path": "",
            "query_string": b"",
            "headers": [(b"host", b"posewire"), *[(k.lower().encode(), v.encode()) for k, v in headers.items()]],
            "client": ("127.0.0.1", 1),
            "server": ("posewire", 80),
        }
        self.task = asyncio.create_task(api.app(scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        if self._messages:
            return self._messages.pop()
        self.asked_again.set()
        await self.hang_up.wait()
        return GONE

    async def _send(self, message: Any) -> None:
        self.sent.append(message)


async def assert_gone(api: Api, times: int = 1) -> None:
    assert await api.in_flight() == 0
    assert await api.metric("posewire_rejections_total", reason="client-gone") == times
    assert await api.metric("posewire_rejections_total") == times


async def test_a_client_that_hangs_up_while_the_model_runs(gated: Api, gate: Gate, astronaut: bytes) -> None:
    with gate.shut():
        caller = Caller(gated, astronaut)
        await gate.someone_waits()
        caller.hang_up.set()
        await caller.task  # the model is still stuck
        await assert_gone(gated)
    assert len(people_of(await gated.post(astronaut))) == 1
    async with asyncio.timeout(30):  # an image that a worker has begun runs to completion, beside the other
        while (await gated.runs("detector"), await gated.runs("pose")) != (2, 2):  # noqa: ASYNC110 - metrics have no event
            await asyncio.sleep(0.01)


async def test_clients_that_hang_up_in_the_queue_are_never_computed(gated: Api, gate: Gate, astronaut: bytes) -> None:
    workers = gated.engine.plan.workers
    with gate.shut():
        running = [asyncio.create_task(gated.post(astronaut)) for _ in range(workers)]
        await all_queued(gated, workers)
        callers = [Caller(gated, astronaut), Caller(gated, json_body(astronaut, astronaut), headers=JSON)]
        await all_queued(gated, workers + 3)
        for caller in callers:
            caller.hang_up.set()
            await caller.task
        assert await gated.in_flight() == workers
    assert [len(people_of(answer)) for answer in await asyncio.gather(*running)] == [1] * workers
    assert len(people_of(await gated.post(astronaut))) == 1
    assert (await gated.runs("detector"), await gated.runs("pose")) == (workers + 1, workers + 1)
    await assert_gone(gated, 2)


@pytest.mark.parametrize("headers", [JPEG, MULTIPART, JSON])
async def test_a_client_that_hangs_up_while_it_sends(api: Api, headers: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    caller = Caller(api, b"--XX\r\n", headers=headers, whole=False)
    await caller.asked_again.wait()
    caller.hang_up.set()
    await caller.task
    await assert_gone(api)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
    assert await api.runs("detector") == 0


async def test_a_client_that_stays_is_answered_by_hand_too(api: Api, astronaut: bytes) -> None:
    caller = Caller(api, astronaut)
    await caller.task
    assert caller.sent[0]["type"] == "http.response.start"
    assert caller.sent[0]["status"] == 200
