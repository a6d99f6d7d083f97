"""The clients, against real servers."""

import asyncio
import io
import json
import re
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from posewire.client import AsyncPoseClient, PoseClient
from posewire.client.inputs import Boxes
from posewire.engine.engine import Engine
from posewire.errors import BadParameter, BadPicture, ConnectionLost, Overloaded, Unauthorized, UnexpectedAnswer
from posewire.server.auth import new_key
from tests.conftest import MakeEngine
from tests.sample_images import ASTRONAUT, astronaut
from tests.server.streaming import Listen, listening
from tests.server.support import Gate, GatedDetector, eventually
from tests.server_process import Server, serve

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serve(min_detection_score="0.5", stream_deadline_ms="30000") as running:
        yield running


async def test_images_are_answered_typed(listen: Listen, astronaut: bytes) -> None:
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
    server = await listen(detector=GatedDetector(models.detector, gate), stream_deadline_ms=30_000)
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
    async with listening(make_engine(stream_deadline_ms=30_000)) as server:
        client = AsyncPoseClient(server.url)
        stream = await client.stream().__aenter__()
        stream.offer(astronaut)
        first = await anext(stream)
    stream.offer(b"old")
    stream.offer(astronaut)
    async with listening(make_engine(stream_deadline_ms=30_000), server.port):
        second = await anext(stream)
        await stream.close()
        assert [result async for result in stream] == []
        await client.__aexit__()
    assert [(r.frame, r.connection, len(r.people)) for r in (first, second)] == [(0, 0, 1), (2, 1, 1)]


async def test_a_stream_that_fell_asleep_wakes_with_the_next_frame(listen: Listen, astronaut: bytes) -> None:
    server = await listen(stream_idle_s=0.2, stream_deadline_ms=30_000)
    async with AsyncPoseClient(server.url) as client, client.stream() as stream:

        async def closed() -> bool:
            return server.metric("posewire_rejections_total", reason="timed-out") == 1

        await eventually(closed)
        stream.offer(astronaut)
        assert (await anext(stream)).connection >= 1  # a slow machine falls asleep more than once


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
    server = await listen(api_keys_file=tmp_path / "keys", stream_deadline_ms=30_000)
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


@asynccontextmanager
async def at_proxy(answers: Sequence[bytes | None]) -> AsyncIterator[str]:
    """Start a proxy that answers one connection after the other; None: it resets the connection in the middle of the request."""
    left = iter(answers)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        content = next(left)
        if content is not None:  # a close with unread bytes would reset the connection
            length = re.search(rb"content-length: (\d+)", head.lower())
            await reader.readexactly(int(length[1]) if length else 0)
        if content is None:
            linger = struct.pack("ii", 1, 0)  # close with a reset
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        else:
            writer.write(content)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def http(status: str, body: bytes) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body


POSES = http("200 OK", b'{"request_id": "1", "model": {"detector": "d", "pose": "p"}, "images": []}')


@pytest.mark.parametrize("images", [1, 2])
async def test_a_bad_gateway_and_a_reset_connection_are_tried_again(astronaut: bytes, images: int) -> None:
    answers = [http("502 Bad Gateway", b"<html>"), None, POSES]
    async with at_proxy(answers) as url, AsyncPoseClient(url) as client:
        assert (await client.pose(*[astronaut] * images)).images == []


@pytest.mark.parametrize(
    ("answers", "retries", "kind"),
    [
        ([http("502 Bad Gateway", b"<html>")], 0, UnexpectedAnswer),
        ([None, None], 1, ConnectionLost),
        ([http("504 Gateway Timeout", b"<html>"), POSES], 4, UnexpectedAnswer),  # the deadline has passed
    ],
)
async def test_what_is_not_tried_again_is_raised(
    astronaut: bytes, answers: Sequence[bytes | None], retries: int, kind: type[Exception]
) -> None:
    async with at_proxy(answers) as url, AsyncPoseClient(url, retries=retries) as client:
        with pytest.raises(kind):
            await client.pose(astronaut)


async def test_images_are_paths_bytes_or_files(listen: Listen, astronaut: bytes) -> None:
    server = await listen()
    async with AsyncPoseClient(server.url) as client:
        with ASTRONAUT.open("rb") as file:
            answer = await client.pose(str(ASTRONAUT), ASTRONAUT, file, io.BytesIO(astronaut), bytearray(astronaut), memoryview(astronaut))
        assert [len(image.people) for image in answer.images] == [1] * 6
        with pytest.raises(FileNotFoundError):
            await client.pose("nowhere.jpg")
        for other in (io.StringIO("text"), None, 5, [astronaut]):
            with pytest.raises(TypeError, match=r"bytes, a path, a file in binary mode, an array .* or a PIL image, not \w+"):
                await client.pose(other)  # type: ignore[call-overload]


async def test_boxes_are_lists_or_arrays(listen: Listen, astronaut: bytes) -> None:
    server = await listen()
    rows = [[60, 0, 300, 500], [10, 10, 100, 100]]
    async with AsyncPoseClient(server.url) as client:
        kinds: list[Boxes] = [rows, tuple(map(tuple, rows)), np.array(rows), np.array(rows, np.float32), [np.array(row) for row in rows]]
        for boxes in kinds:
            people = (await client.pose(astronaut, boxes=boxes)).images[0].people
            assert [list(person.box) for person in people] == rows
        for bad in (np.array(rows[0]), np.zeros((2, 5)), np.full((1, 4), np.nan), [[1, 2, 3]], [[1, 2, 3, 4], [5]], "boxes"):
            with pytest.raises(BadParameter, match="boxes"):
                await client.pose(astronaut, boxes=bad)  # type: ignore[arg-type]


async def test_frames_that_are_not_bytes_are_refused_at_once(listen: Listen, astronaut: bytes) -> None:
    server = await listen(stream_deadline_ms=30_000)

    async def frames(*given: object) -> AsyncIterator[Any]:
        for frame in given:
            yield frame

    others: list[Any] = [np.zeros((4, 4, 3), np.uint8), ASTRONAUT, str(ASTRONAUT), None, 5]
    async with AsyncPoseClient(server.url) as client, client.stream() as stream:
        for other in others:
            for every in (False, True):
                with pytest.raises(TypeError, match=r"bytes of a JPEG, PNG or WebP, not \w+; read a file first"):
                    await asyncio.wait_for(anext(stream.results(frames(other), every=every)), 60)
            with pytest.raises(TypeError):
                stream.offer(other)
            with pytest.raises(TypeError):
                await stream.put(other)
        results = stream.results(frames(astronaut, others[0]), every=True)
        assert len((await anext(results)).people) == 1
        with pytest.raises(TypeError):
            await anext(results)
        with pytest.raises(TypeError):  # a list is not for `async for`
            await anext(stream.results([astronaut]))  # type: ignore[arg-type]
        assert [len(r.people) async for r in stream.results(frames(bytearray(astronaut)), every=True)] == [1]


def test_the_errors_of_frames_are_raised_by_the_client_that_blocks(server: Server, astronaut: bytes) -> None:
    def camera() -> Iterator[bytes]:
        yield astronaut
        raise RuntimeError("the camera is gone")

    with PoseClient(server.url) as client, client.stream() as stream:
        for others in ([ASTRONAUT], np.zeros((2, 4, 4, 3), np.uint8), [None], str(ASTRONAUT)):
            with pytest.raises(TypeError, match="a frame is the bytes"):
                next(stream.results(others))  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            stream.offer(ASTRONAUT)  # type: ignore[arg-type]
        results = stream.results(camera(), every=True)
        assert len(next(results).people) == 1
        with pytest.raises(RuntimeError, match="the camera is gone"):
            next(results)
