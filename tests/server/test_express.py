"""The usual request on its short way: the same answers, headers, counts and log lines as through the application, whatever goes wrong."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator

import pytest

from posewire.engine.engine import Engine
from tests.answers import numbers
from tests.server.by_hand import HEAD, Wire
from tests.server.streaming import Listen, Listening
from tests.server.support import Gate, GatedDetector, GatedPose, eventually

# Nothing more than what is usual, and something that only the application knows of and that changes nothing.
USUAL = b"POST /v1/pose%b HTTP/1.1\r\nHost: posewire\r\nContent-Type: image/jpeg\r\nX-Request-Id: mine\r\n%bContent-Length: %d\r\n\r\n"
BY_ASGI = b"Accept: application/json;q=1\r\n"
SOON = b"X-Request-Timeout-Ms: 50\r\n"


def usual(picture: bytes, more: bytes = b"", query: bytes = b"") -> bytes:
    return USUAL % (query, more, len(picture)) + picture


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
        return server.metric("posewire_pictures_in_flight") == 0

    await eventually(left)
    assert server.metric("posewire_rejections_total", reason=reason) == server.metric("posewire_rejections_total") == rejected


async def test_answers_are_those_of_the_application(wire: Wire, astronaut: bytes) -> None:
    found = []
    for query in (b"", b"?format=coco", b"?min_keypoint_score=0.5&max_people=1", b"?min_detection_score=1"):
        for more in (b"", BY_ASGI):
            await wire.send(usual(astronaut, more, query))
            found.append(await wire.answer())
    for (status, headers, body), (asgi_status, asgi_headers, asgi_body) in zip(found[::2], found[1::2], strict=True):
        assert status == asgi_status == 200
        del (
            headers["date"],
            asgi_headers["date"],
            headers["content-length"],
            asgi_headers["content-length"],
        )  # times have more digits or less
        assert headers == asgi_headers
        answer, asgi_answer = json.loads(body), json.loads(asgi_body)
        if isinstance(answer, dict):
            assert answer["request_id"] == asgi_answer["request_id"] == "mine"
            assert all(image.pop("timings_ms") for one in (answer, asgi_answer) for image in one["images"])
        assert numbers(answer) == numbers(asgi_answer)


async def test_problems_are_those_of_the_application(wire: Wire, served: Listening, gate: Gate, astronaut: bytes) -> None:
    cases = [
        (400, b"no picture", b"", b""),
        (422, astronaut, b"", b"?max_people=0"),
        (422, astronaut, b"X-Request-Timeout-Ms: soon\r\n", b""),
    ]
    for expected, picture, more, query in cases:
        await wire.send(usual(picture, more, query))
        status, headers, body = await wire.answer()
        await wire.send(usual(picture, more + BY_ASGI, query))
        assert (status, body) == (asgi := await wire.answer())[::2]
        assert headers.keys() == asgi[1].keys()
        assert status == expected
    gate.error = RuntimeError("the model is broken")
    await wire.send(usual(astronaut))
    status, _, body = await wire.answer()
    assert (status, json.loads(body)["type"]) == (500, "urn:posewire:problem:inference-failed")
    assert served.metric("posewire_rejections_total") == 2 * len(cases) + 1
    assert served.metric("posewire_pictures_in_flight") == 0


async def test_a_picture_in_many_pieces(wire: Wire, astronaut: bytes) -> None:
    request = usual(astronaut)
    for start in range(0, len(request), 1000):
        await wire.send(request[start : start + 1000])
    status, _, body = await wire.answer()
    assert (status, len(json.loads(body)["images"][0]["people"])) == (200, 1)


async def test_requests_that_do_not_wait_for_answers_are_answered_in_turn(wire: Wire, astronaut: bytes) -> None:
    await wire.send(usual(astronaut) + b"GET /livez HTTP/1.1\r\nHost: posewire\r\n\r\n" + usual(astronaut))
    answers = [await wire.answer() for _ in range(3)]
    assert [status for status, _, _ in answers] == [200] * 3
    assert [b"people" in body for _, _, body in answers] == [True, False, True]


async def test_the_deadline_passes_while_the_body_is_on_its_way(wire: Wire, served: Listening, astronaut: bytes) -> None:
    request = usual(astronaut, SOON)
    await wire.send(request[:-100])
    status, _, body = await wire.answer()
    assert (status, "before the body had arrived" in json.loads(body)["detail"]) == (504, True)
    await empty(served, 1, "deadline-exceeded")
    await wire.send(request[-100:] + usual(astronaut))  # the connection goes on behind the rest of the body
    assert (await wire.answer())[0] == 200
    assert served.metric("posewire_batch_size_count", model="detector") == 1


async def test_the_deadline_passes_while_the_model_is_stuck(wire: Wire, served: Listening, gate: Gate, astronaut: bytes) -> None:
    with gate.shut():
        await wire.send(usual(astronaut, SOON))
        assert (await wire.answer())[0] == 504
        await empty(served, 1, "deadline-exceeded")
    await wire.send(usual(astronaut))
    assert (await wire.answer())[0] == 200
    assert served.metric("posewire_batch_size_count", model="pose") == 1


@pytest.mark.parametrize("unsent", [0, 100])
async def test_a_client_that_hangs_up(served: Listening, gate: Gate, astronaut: bytes, unsent: int) -> None:
    wire = await Wire.open(served)
    with gate.shut():
        await wire.send(usual(astronaut)[: -unsent or None])

        async def inside() -> bool:
            return served.metric("posewire_pictures_in_flight") == 1

        await eventually(inside)
        if not unsent:
            await gate.someone_waits()
        wire.close()
        await empty(served, 1, "client-gone")  # the model is still stuck
    assert served.metric("posewire_request_duration_seconds_count", route="/v1/pose", status="499") == 1


async def test_a_client_that_hangs_up_with_another_request_behind_the_first(served: Listening, gate: Gate, astronaut: bytes) -> None:
    wire = await Wire.open(served)
    with gate.shut():
        await wire.send(usual(astronaut))
        await gate.someone_waits()
        await wire.send(usual(astronaut))
        wire.close()
    await empty(served, 1, "client-gone")


async def test_a_failure_of_ours_is_told_without_its_inside(listen: Listen, models: Engine, astronaut: bytes) -> None:
    class Broken(GatedPose):
        def postprocess(self, *_: object) -> object:  # type: ignore[override]
            raise KeyError("a secret")

    gate = Gate()
    server = await listen(pose=Broken(models.pose, gate))
    wire = await Wire.open(server)
    await wire.send(usual(astronaut))
    status, headers, body = await wire.answer()
    assert (status, headers["content-type"], b"secret" in body) == (500, "application/problem+json", False)
    assert json.loads(body)["request_id"] == "mine"
    await empty(server, 1, "internal")
    wire.close()


async def test_each_is_counted_and_logged(wire: Wire, served: Listening, astronaut: bytes, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "posewire.access")
    for more in (b"", BY_ASGI):
        await wire.send(usual(astronaut, more))
        await wire.answer()
    counted = {"route": "/v1/pose", "method": "POST", "status": "200"}

    async def told() -> bool:
        return served.metric("posewire_request_duration_seconds_count", **counted) == 2

    await eventually(told)
    lines = [vars(record) for record in caplog.records if record.getMessage() == "request"]
    usual_line, asgi_line = ({k: line[k] for k in ("method", "route", "status", "client")} for line in lines)
    assert usual_line == asgi_line == {"method": "POST", "route": "/v1/pose", "status": 200, "client": "address 127.0.0.1"}
    assert served.metric("posewire_stage_duration_seconds_count", stage="encode") == 2


async def test_who_is_inside_at_the_start_of_a_drain_is_answered_and_sent_elsewhere(
    wire: Wire, served: Listening, gate: Gate, astronaut: bytes
) -> None:
    with gate.shut():
        await wire.send(HEAD % len(astronaut) + astronaut)
        await gate.someone_waits()
        served.services.draining = True
    status, headers, _ = await wire.answer()
    assert (status, headers["connection"]) == (200, "close")
    async with asyncio.timeout(60):
        assert await wire.ended()
