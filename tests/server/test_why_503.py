"""Why a request got 503: each reason is produced for real, and told apart by its log line and by its metric."""

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import get_args

import httpx
import numpy as np
import pytest

from posewire.config import load_settings
from posewire.engine.engine import Engine
from posewire.errors import Limit, ServiceError, service_errors
from posewire.server.app import create_app, create_ops_app
from posewire.server.auth import new_key
from posewire.types import Frame
from tests.server.by_hand import HEAD, Wire
from tests.server.streaming import Listen, Listening, ended
from tests.server.support import (
    JPEG,
    MULTIPART,
    Api,
    Gate,
    GatedDetector,
    LogLines,
    StartApi,
    all_queued,
    assert_overloaded,
    assert_problem,
    eventually,
    hold,
    images,
    multipart,
)

ID = {"X-Request-Id": "of-the-customer"}
# Behind a JPEG's end stands what nobody reads.
FILL = bytes(500_000)
PATIENT = {"request_timeout_ms": 600_000}


def assert_logged(log_lines: LogLines, answer: httpx.Response, limit: str) -> None:
    """The request's id finds one line, and that has the reason."""
    [line] = [line for line in log_lines("request") if line.get("request_id") == answer.headers["X-Request-Id"]]
    expected = {"level": "warning", "status": 503, "problem": "overloaded", "limit": limit, "detail": answer.json()["detail"]}
    assert line.items() >= expected.items()
    assert line["client"]


async def test_all_places_for_images_are_taken(full: Api, gate: Gate, astronaut: bytes, log_lines: LogLines) -> None:
    message = "requests rejected before their bodies were read"

    async def told() -> bool:
        return sum(int(line["requests"]) for line in log_lines(message)) == 3

    with gate.shut():
        held = await hold(full, astronaut, 2)
        for _ in range(3):
            assert_overloaded(await full.post(astronaut, ID))
        await eventually(told)
    await asyncio.gather(*held)
    for line in log_lines(message):
        expected = {"level": "warning", "status": 503, "problem": "overloaded", "limit": "images", "in_flight": 2, "clients": 1}
        assert line.items() >= expected.items()
        assert line["busiest_client"].startswith("address ")
        assert line["its_requests"] == line["requests"]
        assert "request_id" not in line
    assert [line["status"] for line in log_lines("request")] == [200, 200]  # they have no lines of their own
    assert await full.metric("posewire_rejections_total", reason="overloaded", limit="images") == 3
    assert await full.metric("posewire_rejections_total") == 3
    assert await full.metric("posewire_pictures_in_flight_limit") == 2


async def test_the_images_of_one_request_do_not_fit(full: Api, gate: Gate, astronaut: bytes, log_lines: LogLines) -> None:
    with gate.shut():
        held = await hold(full, astronaut, 1)
        answer = await full.post(images(astronaut, astronaut), MULTIPART | ID)
    await asyncio.gather(*held)
    assert_overloaded(answer)
    assert_logged(log_lines, answer, "request-images")
    assert await full.metric("posewire_rejections_total", reason="overloaded", limit="request-images") == 1


async def begin(server: Listening, body: bytes, key: str) -> Wire:
    """A request whose last byte does not come."""
    wire = await Wire.open(server)
    before = server.metric("posewire_body_bytes_in_flight")
    await wire.send((HEAD % len(body)).replace(b"\r\n\r\n", f"\r\nAuthorization: Bearer {key}\r\n\r\n".encode()) + body[:-1])

    async def arrived() -> bool:
        return server.metric("posewire_body_bytes_in_flight") == before + len(body) - 1

    await eventually(arrived)
    return wire


async def test_the_bodies_of_one_client_or_of_all_have_too_many_bytes(
    listen: Listen, astronaut: bytes, tmp_path: Path, log_lines: LogLines
) -> None:
    large = astronaut + FILL
    made = [new_key(name) for name in ("hall", "yard", "gate")]
    (tmp_path / "keys").write_text("\n".join(line for _, line in made))
    hall, yard, gate = (key for key, _ in made)
    server = await listen(max_bytes_in_flight=4 * len(large), api_keys_file=tmp_path / "keys", **PATIENT)
    assert server.metric("posewire_body_bytes_in_flight_limit") == 4 * len(large)
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:

        async def post(key: str) -> httpx.Response:
            return await client.post("/v1/pose", content=large, headers=JPEG | {"Authorization": f"Bearer {key}"})

        wires = [await begin(server, large, hall) for _ in range(2)]
        of_client = await post(hall)
        assert_overloaded(of_client)
        assert_logged(log_lines, of_client, "client-bytes")
        assert [line["client"] for line in log_lines("request")] == ["key hall"]
        wires += [await begin(server, large, yard) for _ in range(2)]
        of_all = await post(gate)
        assert_overloaded(of_all)
        assert_logged(log_lines, of_all, "bytes")
    for limit in ("client-bytes", "bytes"):
        assert server.metric("posewire_rejections_total", reason="overloaded", limit=limit) == 1
    for wire in wires:
        wire.close()


async def test_too_many_connections_are_open(listen: Listen, astronaut: bytes, log_lines: LogLines) -> None:
    server = await listen(max_connections=2, **PATIENT)
    assert server.metric("posewire_connections_limit") == 2
    busy = [await begin(server, astronaut, "none") for _ in range(2)]
    assert server.metric("posewire_connections_open") == 2
    late = await Wire.open(server)
    status, headers, _ = await late.answer()
    late.close()
    assert (status, headers["retry-after"]) == (503, "1")
    assert server.metric("posewire_rejections_total", reason="overloaded", limit="connections") == 1
    [line] = [line for line in log_lines("request") if line["request_id"] == headers["x-request-id"]]
    expected = {"level": "warning", "status": 503, "problem": "overloaded", "limit": "connections", "client": "address 127.0.0.1"}
    assert line.items() >= expected.items()
    for wire in busy:
        wire.close()


async def test_the_queue_of_the_model_is_full(
    start_api: StartApi, models: Engine, gate: Gate, astronaut: bytes, log_lines: LogLines
) -> None:
    api = await start_api(max_in_flight=1, max_streams=1, workers=1, detector=GatedDetector(models.detector, gate))
    frame = Frame(np.zeros((64, 64, 3), np.uint8))

    async def as_a_camera() -> None:
        with suppress(ServiceError):
            await api.engine.estimate_frame(frame, api.engine.settings.pose_options())

    with gate.shut():
        frames = [asyncio.create_task(as_a_camera()) for _ in range(4)]  # two in the hands of the worker, two in the queue
        await all_queued(api, 4)
        answer = await api.post(astronaut, ID)
    await asyncio.gather(*frames)
    assert_overloaded(answer)
    assert_logged(log_lines, answer, "queue")
    assert await api.metric("posewire_rejections_total", reason="overloaded", limit="queue") == 1


async def test_other_failures_name_their_problem_and_no_limit(api: Api, astronaut: bytes, log_lines: LogLines) -> None:
    assert_problem(await api.post(b"no image", ID), 400, "bad-picture")
    await api.client.get("/nowhere", headers=ID)
    await api.post(multipart(), MULTIPART | ID)
    await api.post(astronaut, ID)
    bad, nowhere, form, good = log_lines("request")
    assert (bad["problem"], bad["level"], "limit" in bad) == ("bad-picture", "info", False)  # clients do not choose the level
    assert (nowhere["problem"], nowhere["level"]) == ("not-found", "info")
    assert form["problem"] == "bad-body"
    assert not {"problem", "detail", "limit"} & good.keys()


async def test_a_bug_is_a_warning_with_its_problem(
    start_api: StartApi, models: Engine, gate: Gate, astronaut: bytes, log_lines: LogLines
) -> None:
    api = await start_api(detector=GatedDetector(models.detector, gate))
    gate.error = RuntimeError("broken")
    assert_problem(await api.post(astronaut), 500, "inference-failed")
    [line] = log_lines("request")
    assert (line["problem"], line["level"]) == ("inference-failed", "warning")


async def test_a_check_that_fails_has_its_reason_and_is_no_warning(log_lines: LogLines) -> None:
    app = create_app(load_settings({}))
    transport = httpx.ASGITransport(create_ops_app(app.state.services))
    async with httpx.AsyncClient(transport=transport, base_url="http://p") as client:
        assert (await client.get("/readyz")).status_code == 503
    [line] = log_lines("request")
    assert (line["problem"], line["level"], line["route"]) == ("not-ready", "info", "/readyz")


@pytest.mark.parametrize("browser", [False, True])
async def test_a_stream_that_is_rejected_has_one_line_with_its_reason(listen: Listen, log_lines: LogLines, browser: bool) -> None:
    server = await listen(max_streams=1)
    async with server.stream():
        if browser:
            async with server.connect(headers={"Origin": server.url} | ID) as second:
                assert (await ended(second))[0] == 1013
        else:
            async with httpx.AsyncClient(base_url=server.url) as client:
                upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
                answer = await client.get("/v1/stream", headers={**upgrade, "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==", **ID})
                assert_problem(answer, 503, "overloaded", "streams are open")
        assert server.metric("posewire_rejections_total", reason="overloaded", limit="streams") == 1
        assert server.metric("posewire_streams_limit") == 1
    message = "stream ended" if browser else "request"
    [line] = [line for line in log_lines(message) if line["request_id"] == ID["X-Request-Id"]]
    assert line.items() >= {"problem": "overloaded", "limit": "streams"}.items()
    if not browser:
        assert line.items() >= {"method": "WEBSOCKET", "route": "/v1/stream", "status": 503, "level": "warning"}.items()
        labels = {"route": "/v1/stream", "method": "WEBSOCKET", "status": "503"}
        assert server.metric("posewire_request_duration_seconds_count", **labels) == 1


async def test_a_service_that_stops_rejects_videos_and_answers_images(api: Api, astronaut: bytes, log_lines: LogLines) -> None:
    api.services.drain.set()
    answer = await api.client.post("/v1/video", content=b"", headers={"Content-Type": "video/mp4"})
    assert_problem(answer, 503, "draining", "another instance")
    assert answer.headers["Retry-After"] == "1"
    good = await api.post(astronaut)
    assert (good.status_code, good.headers["Connection"]) == (200, "close")
    assert [line.get("problem") for line in log_lines("request")] == ["draining", None]


async def test_the_wait_for_memory_for_pixels_is_measured(start_api: StartApi, astronaut: bytes) -> None:
    api = await start_api(max_pixels_in_flight=1_000_000)
    assert (await api.post(astronaut)).status_code == 200
    assert await api.metric("posewire_pixel_wait_seconds_count") == 1


def test_the_pages_name_every_type_and_every_limit() -> None:
    docs = Path(__file__).parents[2] / "docs"
    http, runbook = (docs / "reference/http.md").read_text(), (docs / "runbook.md").read_text()
    over_http = [error for error in service_errors() if error.slug not in ("bad-message", "too-fast", "client-gone")]  # not seen over HTTP
    assert [error.slug for error in over_http if f"`{error.slug}`" not in http] == []
    assert [error.slug for error in over_http if error.status == 503 and f"| `{error.slug}` |" not in runbook] == []
    assert [limit for limit in get_args(Limit) if f"`{limit}`" not in runbook] == []
