"""POST /v1/pose on a real connection: pieces, pipelining, deadlines, clients that hang up, a drain."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator

import pytest

from posewire.engine.engine import Engine
from tests.server.by_hand import HEAD, Wire
from tests.server.streaming import Listen, Listening
from tests.server.support import Gate, GatedDetector, GatedPose, eventually

REQUEST = b"POST /v1/pose%b HTTP/1.1\r\nHost: posewire\r\nContent-Type: image/jpeg\r\nX-Request-Id: mine\r\n%bContent-Length: %d\r\n\r\n"
SOON = b"X-Request-Timeout-Ms: 50\r\n"


def request(image: bytes, more: bytes = b"", query: bytes = b"") -> bytes:
    return REQUEST % (query, more, len(image)) + image


@pytest.fixture
async def served(listen: Listen, models: Engine, gate: Gate) -> Listening:
    """A server whose detector is behind the gate."""
    return await listen(detector=GatedDetector(models.detector, gate))


@pytest.fixture
async def wire(served: Listening) -> AsyncIterator[Wire]:
    """A connection to it."""
    wire = await Wire.open(served)
    yield wire
    wire.close()


async def empty(server: Listening, rejected: int, reason: str) -> None:
    """Until nothing is in flight; and so many requests were answered with a problem, all of that kind."""

    async def left() -> bool:
        return server.metric("posewire_pictures_in_flight") == server.metric("posewire_body_bytes_in_flight") == 0

    await eventually(left)
    assert server.metric("posewire_rejections_total", reason=reason) == server.metric("posewire_rejections_total") == rejected


async def test_answers_have_these_headers_and_a_query_is_followed(wire: Wire, astronaut: bytes) -> None:
    for query, of_type in ((b"", dict), (b"?format=coco", list), (b"?min_keypoint_score=0.5&max_people=1", dict)):
        await wire.send(request(astronaut, query=query))
        status, headers, body = await wire.answer()
        assert (status, headers["x-request-id"], type(json.loads(body))) == (200, "mine", of_type)
        secure = {"x-content-type-options", "x-frame-options", "referrer-policy", "content-security-policy"}
        assert headers.keys() == {"date", "content-length", "content-type", "x-request-id"} | secure


async def test_problems_leave_the_connection_good(wire: Wire, served: Listening, gate: Gate, astronaut: bytes) -> None:
    cases = [
        (400, b"no image", b"", b""),
        (422, astronaut, b"", b"?max_people=0"),
        (422, astronaut, b"X-Request-Timeout-Ms: soon\r\n", b""),
    ]
    for expected, image, more, query in cases:
        await wire.send(request(image, more, query))
        status, headers, body = await wire.answer()
        assert (status, headers["content-type"], json.loads(body)["request_id"]) == (expected, "application/problem+json", "mine")
    gate.error = RuntimeError("the model is broken")
    await wire.send(request(astronaut))
    status, _, body = await wire.answer()
    assert (status, json.loads(body)["type"]) == (500, "urn:posewire:problem:inference-failed")
    assert served.metric("posewire_rejections_total") == len(cases) + 1
    assert served.metric("posewire_pictures_in_flight") == 0


async def test_an_image_in_many_pieces(wire: Wire, astronaut: bytes) -> None:
    whole = request(astronaut)
    for start in range(0, len(whole), 1000):
        await wire.send(whole[start : start + 1000])
    status, _, body = await wire.answer()
    assert (status, len(json.loads(body)["images"][0]["people"])) == (200, 1)


async def test_requests_that_do_not_wait_for_answers_are_answered_in_turn(wire: Wire, astronaut: bytes) -> None:
    await wire.send(request(astronaut) + b"GET /livez HTTP/1.1\r\nHost: posewire\r\n\r\n" + request(astronaut))
    answers = [await wire.answer() for _ in range(3)]
    assert [status for status, _, _ in answers] == [200] * 3
    assert [b"people" in body for _, _, body in answers] == [True, False, True]


async def test_the_deadline_passes_while_the_body_is_on_its_way(wire: Wire, served: Listening, astronaut: bytes) -> None:
    whole = request(astronaut, SOON)
    await wire.send(whole[:-100])
    status, _, body = await wire.answer()
    assert (status, "before the body had arrived" in json.loads(body)["detail"]) == (504, True)
    await empty(served, 1, "deadline-exceeded")
    await wire.send(whole[-100:] + request(astronaut))  # the connection goes on behind the rest of the body
    assert (await wire.answer())[0] == 200
    assert served.metric("posewire_batch_size_count", model="detector") == 1


async def test_the_deadline_passes_while_the_model_is_stuck(wire: Wire, served: Listening, gate: Gate, astronaut: bytes) -> None:
    with gate.shut():
        await wire.send(request(astronaut, SOON))
        assert (await wire.answer())[0] == 504
        await empty(served, 1, "deadline-exceeded")
    await wire.send(request(astronaut))
    assert (await wire.answer())[0] == 200
    assert served.metric("posewire_batch_size_count", model="pose") == 1


@pytest.mark.parametrize("unsent", [0, 100])
async def test_a_client_that_hangs_up(served: Listening, gate: Gate, astronaut: bytes, unsent: int) -> None:
    wire = await Wire.open(served)
    with gate.shut():
        await wire.send(request(astronaut)[: -unsent or None])

        async def inside() -> bool:
            return served.metric("posewire_body_bytes_in_flight") == len(astronaut) - unsent

        await eventually(inside)
        if not unsent:
            await gate.someone_waits()
        wire.close()
        await empty(served, 1, "client-gone")  # the model is still stuck
    assert served.metric("posewire_request_duration_seconds_count", route="/v1/pose", status="499") == 1


@pytest.mark.parametrize("unsent", [0, 100])
async def test_a_client_that_shuts_down_its_sending_side_has_hung_up(served: Listening, gate: Gate, astronaut: bytes, unsent: int) -> None:
    wire = await Wire.open(served)
    with gate.shut():
        await wire.send(request(astronaut)[: -unsent or None])
        if not unsent:
            await gate.someone_waits()
        wire.half_close()
        async with asyncio.timeout(60):
            assert await wire.ended()  # without a byte of an answer
        await empty(served, 1, "client-gone")
    assert served.metric("posewire_request_duration_seconds_count", route="/v1/pose", status="499") == 1
    wire.close()


async def test_a_client_that_hangs_up_with_another_request_behind_the_first_holds_no_place(
    served: Listening, gate: Gate, astronaut: bytes
) -> None:
    wire = await Wire.open(served)
    await wire.send(request(astronaut))
    await wire.answer()
    with gate.shut():
        await wire.send(request(astronaut))
        await gate.someone_waits()
        await wire.send(request(astronaut))
        wire.close()

    async def over() -> bool:  # the second may never begin: uvicorn knows of the end before it
        answered = served.metric("posewire_request_duration_seconds_count", route="/v1/pose")
        return answered >= 2 and served.metric("posewire_pictures_in_flight") == 0

    await eventually(over)


async def test_a_failure_of_ours_is_told_without_its_inside(listen: Listen, models: Engine, astronaut: bytes) -> None:
    class Broken(GatedPose):
        def postprocess(self, *_: object) -> object:  # type: ignore[override]
            raise KeyError("a secret")

    gate = Gate()
    server = await listen(pose=Broken(models.pose, gate))
    wire = await Wire.open(server)
    await wire.send(request(astronaut))
    status, headers, body = await wire.answer()
    assert (status, headers["content-type"], b"secret" in body) == (500, "application/problem+json", False)
    assert json.loads(body)["request_id"] == "mine"
    await empty(server, 1, "inference-failed")
    wire.close()


async def test_a_request_is_counted_and_logged(wire: Wire, served: Listening, astronaut: bytes, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "posewire.access")
    await wire.send(request(astronaut))
    await wire.answer()
    assert served.metric("posewire_request_duration_seconds_count", route="/v1/pose", method="POST", status="200") == 1
    [line] = [vars(record) for record in caplog.records if record.getMessage() == "request"]
    expected = {"method": "POST", "route": "/v1/pose", "status": 200, "client": "address 127.0.0.1"}
    assert line.items() >= expected.items()
    assert served.metric("posewire_stage_duration_seconds_count", stage="encode") == 1


async def test_a_request_in_flight_at_the_start_of_a_drain_is_answered_and_its_connection_closed(
    wire: Wire, served: Listening, gate: Gate, astronaut: bytes
) -> None:
    with gate.shut():
        await wire.send(HEAD % len(astronaut) + astronaut)
        await gate.someone_waits()
        served.services.drain.set()
    status, headers, _ = await wire.answer()
    assert (status, headers["connection"]) == (200, "close")
    async with asyncio.timeout(60):
        assert await wire.ended()
