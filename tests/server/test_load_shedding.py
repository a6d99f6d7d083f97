"""Load shedding: requests are refused before their bodies are read, on a connection that stays good, and logged as a number."""

import asyncio
import json
import logging
from pathlib import Path

import pytest

from posewire.engine.engine import Engine
from posewire.server.auth import new_key
from tests.server.by_hand import HEAD, Wire
from tests.server.streaming import Listen
from tests.server.support import (
    MULTIPART,
    Api,
    Gate,
    GatedDetector,
    StartApi,
    assert_overloaded,
    assert_problem,
    eventually,
    hold,
    images,
    people_of,
)


def with_comment(image: bytes, length: int) -> bytes:
    """The same JPEG, longer: behind its end stands what nobody reads."""
    return image + bytes(length - len(image))


async def test_a_connection_that_was_refused_in_the_middle_of_a_body_goes_on(
    listen: Listen, models: Engine, gate: Gate, astronaut: bytes
) -> None:
    server = await listen(max_in_flight=1, detector=GatedDetector(models.detector, gate))
    held, refused = await Wire.open(server), await Wire.open(server)
    body = with_comment(astronaut, 1_000_000)  # far more than the server and the kernel take in unread
    with gate.shut():
        await held.send(HEAD % len(astronaut) + astronaut)
        await gate.someone_waits()
        for _ in range(2):
            await refused.send(HEAD % len(body) + body[:1000])
            status, headers, problem = await refused.answer()
            assert (status, headers["content-type"], "connection" in headers) == (503, "application/problem+json", False)
            assert headers["retry-after"].isdigit()
            assert headers["x-request-id"] == json.loads(problem)["request_id"]
            assert headers["x-content-type-options"] == "nosniff"
            await refused.send(body[1000:])
        await refused.send(b"GET /livez HTTP/1.1\r\nHost: posewire\r\n\r\n")
        assert (await refused.answer())[0] == 200
    assert (await held.answer())[0] == 200
    await refused.send(HEAD % len(body) + body)
    status, _, answer = await refused.answer()
    assert (status, len(json.loads(answer)["images"][0]["people"])) == (200, 1)
    assert server.metric("posewire_rejections_total", reason="overloaded") == 2
    held.close()
    refused.close()


async def test_who_has_no_key_learns_nothing_of_the_load(
    start_api: StartApi, models: Engine, gate: Gate, astronaut: bytes, tmp_path: Path
) -> None:
    key, line = new_key("camera-1")
    (tmp_path / "keys").write_text(line)
    api = await start_api(max_in_flight=1, api_keys_file=tmp_path / "keys", detector=GatedDetector(models.detector, gate))
    api.client.headers["Authorization"] = f"Bearer {key}"
    with gate.shut():
        held = await hold(api, astronaut, 1)
        assert_overloaded(await api.post(astronaut))
        assert_problem(await api.post(astronaut, {"Authorization": "Bearer wrong"}), 401, "unauthorized")
    await asyncio.gather(*held)
    assert await api.metric("posewire_rejections_total", reason="unauthorized") == 1
    assert await api.metric("posewire_rejections_total", reason="overloaded") == 1


async def test_refused_requests_are_counted_as_every_request(full: Api, gate: Gate, astronaut: bytes) -> None:
    with gate.shut():
        held = await hold(full, astronaut, 2)
        for _ in range(5):
            answer = await full.post(astronaut, {"X-Request-Id": "mine"})
            assert_overloaded(answer)
            assert answer.headers["X-Request-Id"] == "mine"
        assert (await full.client.get("/v1/pose")).status_code == 405  # what brings no image needs no place
        assert (await full.client.get("/v1/models")).status_code == 200
    await asyncio.gather(*held)
    answered = {"route": "/v1/pose", "method": "POST"}
    assert await full.metric("posewire_request_duration_seconds_count", status="503", **answered) == 5
    assert await full.metric("posewire_request_duration_seconds_count", status="200", **answered) == 2
    assert await full.metric("posewire_rejections_total", reason="overloaded") == 5


async def test_the_log_has_the_number_of_the_refused_requests(
    full: Api, gate: Gate, astronaut: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "posewire.access")

    def logged(message: str) -> list[logging.LogRecord]:
        return [record for record in caplog.records if record.getMessage() == message]

    async def told() -> bool:
        counts: list[int] = [vars(record)["requests"] for record in logged("requests rejected before their bodies were read")]
        return sum(counts) == 7

    with gate.shut():
        held = await hold(full, astronaut, 2)
        for _ in range(7):
            assert_overloaded(await full.post(astronaut))
        await eventually(told)
    await asyncio.gather(*held)
    assert len(logged("requests rejected before their bodies were read")) < 7
    assert [vars(record)["status"] for record in logged("request")] == [200, 200]


async def test_several_images_that_do_not_fit_are_logged_one_by_one(
    full: Api, gate: Gate, astronaut: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "posewire.access")
    with gate.shut():
        held = await hold(full, astronaut, 1)
        assert_overloaded(await full.post(images(astronaut, astronaut), MULTIPART))
    [answer] = await asyncio.gather(*held)
    assert people_of(answer)
    assert [vars(record)["status"] for record in caplog.records if record.getMessage() == "request"] == [503, 200]
