"""The clients, against real servers."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import cv2
import pytest

from posewire.client import AsyncPoseClient, PoseClient
from posewire.engine.engine import Engine
from posewire.errors import BadParameter, BadPicture, ConnectionLost, Overloaded, Unauthorized, UnexpectedAnswer
from posewire.server.auth import new_key
from tests.conftest import MakeEngine
from tests.pictures import ASTRONAUT, astronaut
from tests.server.streaming import Listen, listening
from tests.server.support import Gate, GatedDetector, eventually
from tests.server_process import Server, serve

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serve(min_detection_score="0.5") as running:
        yield running


async def test_pictures_are_answered_typed(listen: Listen, astronaut: bytes) -> None:
    server = await listen()
    async with AsyncPoseClient(server.url) as client:
        one = await client.pose(ASTRONAUT, max_people=1, min_keypoint_score=0.3)
        assert [len(image.people) for image in one.images] == [1]
        assert all(keypoint.score >= 0.3 for keypoint in one.images[0].people[0].keypoints)
        assert [len(image.people) for image in (await client.pose(astronaut, ASTRONAUT)).images] == [1, 1]
        [person] = (await client.pose(astronaut, boxes=[(60.0, 0.0, 300.0, 500.0)])).images[0].people
        assert person.box == (60, 0, 300, 500)


async def test_the_errors_of_the_service_are_raised(listen: Listen, astronaut: bytes) -> None:
    server = await listen()
    async with AsyncPoseClient(server.url) as client:
        with pytest.raises(BadPicture, match="found a GIF"):
            await client.pose(b"GIF89a")
        with pytest.raises(BadPicture) as caught:
            await client.pose(astronaut, b"text")
        assert caught.value.image == 1
        with pytest.raises(BadParameter, match="max_people"):
            await client.pose(astronaut, max_people=0)
    async with AsyncPoseClient(f"{server.url}/nowhere") as client:
        with pytest.raises(UnexpectedAnswer):
            await client.stream().__aenter__()
    async with AsyncPoseClient("http://127.0.0.1:9", retries=0, patience_s=0.1) as client:
        with pytest.raises(ConnectionLost):
            await client.pose(astronaut)
        with pytest.raises(ConnectionLost):
            await client.stream().__aenter__()


async def test_who_finds_the_service_busy_comes_back_when_it_says(listen: Listen, models: Engine, astronaut: bytes) -> None:
    gate = Gate()
    server = await listen(max_in_flight=1, detector=GatedDetector(models.detector, gate))
    async with AsyncPoseClient(server.url) as client, AsyncPoseClient(server.url, retries=0) as hasty:
        with gate.shut():
            first = asyncio.create_task(client.pose(astronaut))
            await gate.someone_waits()
            with pytest.raises(Overloaded) as caught:
                await hasty.pose(astronaut)
            assert caught.value.retry_after_s == 1
            second = asyncio.create_task(client.pose(astronaut))

            async def turned_away() -> bool:
                return server.metric("posewire_rejections_total", reason="overloaded") == 2

            await eventually(turned_away)
        assert [len(answer.images[0].people) for answer in await asyncio.gather(first, second)] == [1, 1]


async def test_of_the_frames_that_wait_at_the_client_the_newest_is_sent(listen: Listen, models: Engine, astronaut: bytes) -> None:
    gate = Gate()
    server = await listen(detector=GatedDetector(models.detector, gate))
    async with AsyncPoseClient(server.url) as client, client.stream() as stream:
        with gate.shut():
            await stream.put(astronaut)
            await gate.someone_waits()
            await stream.put(astronaut)
            await stream.put(astronaut)  # so the one before is under way
            for _ in range(7):
                stream.offer(astronaut)
        results = [await anext(stream) for _ in range(3)]
    assert [result.frame for result in results] == [0, 1, 9]
    assert [len(result.people) for result in results] == [1, 1, 1]
    assert server.metric("posewire_frames_received_total") == 3


async def test_a_stream_survives_the_end_of_its_server(make_engine: MakeEngine, astronaut: bytes) -> None:
    async with listening(make_engine()) as server:
        client = AsyncPoseClient(server.url)
        stream = await client.stream().__aenter__()
        stream.offer(astronaut)
        first = await anext(stream)
    stream.offer(b"old")
    stream.offer(astronaut)
    async with listening(make_engine(), server.port):
        second = await anext(stream)
        await stream.close()
        assert [result async for result in stream] == []
        await client.__aexit__()
    assert [(r.frame, r.connection, len(r.people)) for r in (first, second)] == [(0, 0, 1), (2, 1, 1)]


async def test_a_stream_that_fell_asleep_wakes_with_the_next_frame(listen: Listen, astronaut: bytes) -> None:
    server = await listen(stream_idle_s=0.2)
    async with AsyncPoseClient(server.url) as client, client.stream() as stream:

        async def closed() -> bool:
            return server.metric("posewire_rejections_total", reason="timed-out") == 1

        await eventually(closed)
        stream.offer(astronaut)
        assert (await anext(stream)).connection == 1


async def test_what_will_not_work_again_is_raised(listen: Listen) -> None:
    server = await listen()

    async def rubbish() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"rubbish"

    async with AsyncPoseClient(server.url, patience_s=0.1) as client:
        with pytest.raises(BadParameter, match="max_people"):
            await client.stream(max_people=0).__aenter__()
        async with client.stream() as stream:
            with pytest.raises(BadPicture, match="10 frames in a row"):
                assert [r async for r in stream.results(rubbish(), every=True) if not isinstance(r.error, BadPicture)]
    full = await listen(max_streams=0)
    async with AsyncPoseClient(full.url, patience_s=0.1) as client:
        with pytest.raises(Overloaded):
            await client.stream().__aenter__()


async def test_a_client_without_a_key_is_told_and_does_not_try_again(listen: Listen, tmp_path: Path, astronaut: bytes) -> None:
    key, line = new_key("camera")
    (tmp_path / "keys").write_text(line)
    server = await listen(api_keys_file=tmp_path / "keys")
    async with AsyncPoseClient(server.url) as client:
        with pytest.raises(Unauthorized):
            await client.pose(astronaut)
        with pytest.raises(Unauthorized, match="Bearer"):
            await client.stream().__aenter__()
    async with AsyncPoseClient(server.url, headers={"Authorization": f"Bearer {key}"}) as client, client.stream() as stream:
        stream.offer(astronaut)
        assert len((await anext(stream)).people) == 1


def test_the_client_that_blocks_does_the_same(server: Server, astronaut: bytes) -> None:
    with PoseClient(server.url) as client:
        assert len(client.pose(astronaut).images[0].people) == 1
        with pytest.raises(BadPicture):
            client.pose(b"")
        with client.stream() as stream:
            assert [(r.frame, len(r.people)) for r in stream.results([astronaut] * 3, every=True)] == [(0, 1), (1, 1), (2, 1)]
            assert stream.offer(astronaut) == 3
            assert next(stream).frame == 3
            assert "nose" in stream.started.keypoints


def test_the_example_reads_a_video_file(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "astronaut.avi"
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (512, 512))
    for _ in range(5):
        video.write(cv2.cvtColor(astronaut(), cv2.COLOR_RGB2BGR))
    video.release()
    command = [sys.executable, str(EXAMPLES / "video_file.py"), str(path), "--url", server.url]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    lines = [json.loads(line) for line in printed.splitlines()]
    assert [line["frame"] for line in lines] == list(range(5))
    assert all(len(line["people"]) == 1 for line in lines)
