"""Bodies on their way: they take no place, come fast enough, and share a bounded memory."""

import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import httpx

from posewire.engine.engine import Engine
from posewire.server.auth import new_key
from tests.server.by_hand import HEAD, Wire
from tests.server.streaming import Listen, Listening
from tests.server.support import (
    JPEG,
    JSON,
    MULTIPART,
    Api,
    Gate,
    GatedDetector,
    StartApi,
    assert_overloaded,
    assert_problem,
    chunks,
    eventually,
    images,
    json_body,
    people_of,
)

TRICKLES = 64

# Bodies of so many bytes may take minutes, also on a slow machine. What follows a JPEG's end is not decoded.
FILL = bytes(1_000_000)
PATIENT = {"request_timeout_ms": 600_000}


def head(length: int, media_type: str = "image/jpeg", key: str | None = None) -> bytes:
    lines = ["POST /v1/pose HTTP/1.1", "Host: posewire", f"Content-Type: {media_type}", f"Content-Length: {length}"]
    lines += [f"Authorization: Bearer {key}"] if key else []
    return "\r\n".join([*lines, "", ""]).encode()


async def holds(server: Listening, count: int) -> None:
    """Until the bodies in memory have so many bytes."""

    async def reached() -> bool:
        return server.metric("posewire_body_bytes_in_flight") == count

    await eventually(reached)


async def begin(server: Listening, body: bytes, key: str) -> Wire:
    """A request whose last byte does not come."""
    wire = await Wire.open(server)
    before = server.metric("posewire_body_bytes_in_flight")
    await wire.send(head(len(body), key=key) + body[:-1])
    await holds(server, int(before) + len(body) - 1)
    return wire


async def test_bodies_that_trickle_take_no_place_and_are_refused_in_the_end(listen: Listen, astronaut: bytes) -> None:
    server = await listen(**PATIENT)
    assert server.services.admission.limit == TRICKLES
    fast, large = await Wire.open(server), astronaut + FILL
    await fast.send(HEAD % len(large) + large[:-1])
    wires = [await Wire.open(server) for _ in range(TRICKLES)]
    for wire in wires:
        await wire.send(HEAD % len(astronaut) + astronaut[:1])
    await holds(server, TRICKLES + len(large) - 1)
    assert server.metric("posewire_pictures_in_flight") == 0
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
        for _ in range(10):
            people_of(await client.post("/v1/pose", content=astronaut, headers=JPEG))
    for wire in wires:
        await wire.send(astronaut[1:2])
    for wire in wires:
        status, headers, problem = await wire.answer()
        assert (status, headers["connection"], json.loads(problem)["type"]) == (408, "close", "urn:posewire:problem:timed-out")
        assert await wire.ended()
        wire.close()
    assert server.metric("posewire_rejections_total", reason="timed-out") == TRICKLES
    await fast.send(large[-1:])
    assert (await fast.answer())[0] == 200
    fast.close()
    await holds(server, 0)


async def test_one_client_has_half_of_the_memory_and_the_others_the_rest(listen: Listen, astronaut: bytes, tmp_path: Path) -> None:
    large = astronaut + FILL
    made = [new_key(name) for name in ("hall", "yard", "gate")]
    (tmp_path / "keys").write_text("\n".join(line for _, line in made) + "\n")
    hall, yard, gate = (key for key, _ in made)
    server = await listen(max_bytes_in_flight=4 * len(large), api_keys_file=tmp_path / "keys", **PATIENT)
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:

        async def post(key: str) -> httpx.Response:
            return await client.post("/v1/pose", content=large, headers=JPEG | {"Authorization": f"Bearer {key}"})

        first = [await begin(server, large, hall) for _ in range(2)]
        answer = await post(hall)
        assert_overloaded(answer)
        assert "this client" in answer.json()["detail"]
        people_of(await post(yard))
        second = [await begin(server, large, yard) for _ in range(2)]
        assert_overloaded(await post(gate))
        first[0].close()  # the client vanishes
        await holds(server, 3 * (len(large) - 1))
        people_of(await post(gate))
        for wire in (first[1], *second):
            await wire.send(large[-1:])
            assert (await wire.answer())[0] == 200
            wire.close()
        await holds(server, 0)
        people_of(await post(hall))


async def test_json_counts_twice_until_it_is_parsed_and_every_image_until_its_answer(
    listen: Listen, models: Engine, gate: Gate, astronaut: bytes
) -> None:
    server = await listen(detector=GatedDetector(models.detector, gate), **PATIENT)
    large = astronaut + FILL
    body = json_body(large, large)
    with gate.shut():
        wire = await Wire.open(server)
        await wire.send(head(len(body), "application/json") + body[:-1])
        await holds(server, 2 * (len(body) - 1))
        assert server.metric("posewire_pictures_in_flight") == 0
        await wire.send(body[-1:])
        await holds(server, 2 * len(large))
        await gate.someone_waits()
        assert server.metric("posewire_pictures_in_flight") == 2
    assert (await wire.answer())[0] == 200
    await holds(server, 0)
    wire.close()


async def test_a_body_that_can_never_fit_is_not_told_to_try_again(start_api: StartApi, astronaut: bytes) -> None:
    api = await start_api(max_bytes_in_flight=len(astronaut))
    for body, headers in ((json_body(astronaut), JSON), (images(astronaut), MULTIPART), (astronaut, JPEG)):
        assert_problem(await api.post(body, headers), 413, "too-large", "one client may hold")
        assert await api.metric("posewire_body_bytes_in_flight") == 0


async def test_a_json_body_is_never_in_memory_three_times(api: Api) -> None:
    piece, pieces = b"A" * 100_000, 100

    def body() -> Iterator[bytes]:
        yield b'{"images": [{"base64": "'
        for _ in range(pieces):
            yield piece
        yield b'"}]}'

    assert_problem(await api.post(chunks([b'{"images": [{"base64": "AAAA"}]}']), JSON), 400, "bad-picture")
    tracemalloc.start()
    try:
        answer = await api.post(chunks(body()), JSON)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert_problem(answer, 400, "bad-picture")
    assert peak < 2.4 * pieces * len(piece)


async def test_json_of_very_many_values_is_refused_before_it_is_parsed(api: Api) -> None:
    assert_problem(await api.post(b'{"images": [' + b"{}," * 200_000 + b"{}]}", JSON), 413, "too-large", "values")
    assert_problem(await api.post(b'{"images": [' + b"{}," * 50_000 + b"{}]}", JSON), 422, "bad-parameter", "images[0].base64")
