"""WS /v1/stream: what is answered, and when."""

import asyncio

import httpx
import pytest

from posewire.engine.engine import Engine
from tests.answers import numbers
from tests.server.streaming import Listen, acknowledge, ended, message
from tests.server.support import JPEG, Gate, GatedDetector, eventually


async def test_a_frame_is_answered_as_an_image_is(listen: Listen, astronaut: bytes) -> None:
    server = await listen()
    async with server.connect() as stream, httpx.AsyncClient(base_url=server.url) as client:
        await stream.send('{"type": "start", "track": false, "smooth": false}')
        started = await message(stream)
        assert started["limits"]["credits"] == server.services.settings.stream_credits
        assert len(started["keypoints"]) == 17
        assert all(0 <= i < 17 for pair in started["skeleton"] for i in pair)
        await stream.send(astronaut)
        result = await message(stream)
        image = (await client.post("/v1/pose", content=astronaut, headers=JPEG)).json()["images"][0]
    assert (result["type"], result["seq"], result["dropped"]) == ("result", 0, 0)
    assert (result["width"], result["height"]) == (512, 512)
    assert result["age_ms"] >= result["timings_ms"]["total"] - 1
    assert [p.pop("track_id") for p in result["people"]] == [None]
    assert numbers(result["people"]) == pytest.approx(numbers(image["people"]), abs=1e-3)


async def test_a_person_keeps_the_number(listen: Listen, astronaut: bytes) -> None:
    server = await listen()
    ids = []
    async with server.stream() as stream:
        for seq in range(8):
            await stream.send(astronaut)
            ids += [person["track_id"] for person in (await message(stream))["people"]]
            await acknowledge(stream, seq)
        assert server.metric("posewire_tracks_active") == 1
    assert ids
    assert len(set(ids)) == 1
    assert isinstance(ids[0], int)
    ran, skipped = (server.metric("posewire_frames_answered_total", detector=did) for did in ("ran", "skipped"))
    assert (ran + skipped, ran) == (8, server.metric("posewire_batch_size_count", model="detector"))
    assert skipped >= 4

    async def none_followed() -> bool:
        return server.metric("posewire_tracks_active") == 0

    await eventually(none_followed)


async def test_the_newest_frame_wins_and_what_was_passed_over_is_told(listen: Listen, models: Engine, gate: Gate, astronaut: bytes) -> None:
    server = await listen(detector=GatedDetector(models.detector, gate))
    async with server.stream() as stream:
        with gate.shut():
            await stream.send(astronaut)
            await gate.someone_waits()
            for _ in range(5):
                await stream.send(astronaut)

            async def all_received() -> bool:
                return server.metric("posewire_frames_received_total") == 6

            await eventually(all_received)
        answers = [await message(stream) for _ in range(2)]
    assert [(a["seq"], a["dropped"]) for a in answers] == [(0, 0), (5, 4)]
    assert server.metric("posewire_frames_dropped_total", cause="newer") == 4
    assert server.metric("posewire_frame_age_seconds_count") == 2


async def test_without_acknowledgements_the_work_stops(listen: Listen, astronaut: bytes) -> None:
    server = await listen(stream_credits=2)
    async with server.stream() as stream:
        for seq in range(2):
            await stream.send(astronaut)
            assert (await message(stream))["seq"] == seq
        for _ in range(3):
            await stream.send(astronaut)  # no credit is left: the last of them waits

        async def all_received() -> bool:
            return server.metric("posewire_frames_received_total") == 5

        await eventually(all_received)
        await acknowledge(stream, 1)  # for both
        answer = await message(stream)
        assert (answer["seq"], answer["dropped"]) == (4, 2)


async def test_a_frame_that_got_too_old_is_answered_with_an_error(listen: Listen, models: Engine, gate: Gate, astronaut: bytes) -> None:
    server = await listen(detector=GatedDetector(models.detector, gate), stream_deadline_ms=2000)
    async with server.stream() as stream:
        with gate.shut():
            await stream.send(astronaut)
            answer = await message(stream)
        assert (answer["type"], answer["seq"]) == ("error", 0)
        assert answer["problem"]["type"].endswith("deadline-exceeded")
        await stream.send(astronaut)
        assert (await message(stream))["type"] == "result"
    assert server.metric("posewire_frames_dropped_total", cause="late") == 1


async def test_a_frame_that_is_no_image_is_told_and_the_stream_lives(listen: Listen, astronaut: bytes) -> None:
    server = await listen()
    async with server.stream() as stream:
        for seq, (data, kind) in enumerate([(b"rubbish", "error"), (astronaut[:5000], "error"), (astronaut, "result")] * 4):
            await stream.send(data)
            answer = await message(stream)
            assert (answer["seq"], answer["type"]) == (seq, kind)
            if kind == "error":
                assert (answer["problem"]["status"], answer["problem"]["type"]) == (400, "urn:posewire:problem:bad-picture")
            await acknowledge(stream, seq)
        for seq in range(12, 21):
            await stream.send(b"rubbish")
            assert (await message(stream))["type"] == "error"
            await acknowledge(stream, seq)
        await stream.send(b"rubbish")
        code, reason = await ended(stream)
    assert code == 4415
    assert "10 frames in a row" in reason


async def test_streams_and_requests_share_the_models(listen: Listen, astronaut: bytes) -> None:
    server = await listen()
    async with server.stream() as stream, httpx.AsyncClient(base_url=server.url, timeout=60) as client:
        posts = [asyncio.create_task(client.post("/v1/pose", content=astronaut, headers=JPEG)) for _ in range(16)]
        for seq in range(4):
            await stream.send(astronaut)
            assert len((await message(stream))["people"]) == 1
            await acknowledge(stream, seq)
        assert {answer.status_code for answer in await asyncio.gather(*posts)} == {200}
