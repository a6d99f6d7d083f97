"""The client of `POST /v1/video`, against real servers."""

import asyncio
import io
import os
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from posewire.client import AsyncPoseClient, PoseClient, Video
from posewire.engine.engine import Engine
from posewire.errors import BadParameter, BadVideo, ConnectionLost, Overloaded, TooLarge, UnexpectedAnswer
from tests.server.streaming import Listen
from tests.server.support import Gate, GatedDetector, eventually
from tests.server_process import serve
from tests.videos import walk, write_video

PROBLEM = b'{"type":"urn:posewire:problem:bad-video","title":"","status":400,"detail":"cut"}'
VIDEO_LINE = (
    b'{"type":"video","request_id":"1","model":{"detector":"d","pose":"p"},'
    b'"width":4,"height":4,"frame_rate":10,"frames":1,"duration_s":1}\n'
)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six frames of one person."""
    return write_video(tmp_path_factory.mktemp("film") / "walk.mp4", walk(6))


@asynccontextmanager
async def answering(body: bytes) -> AsyncIterator[str]:
    """Answer every video with these bytes, chunked, and cut the connection without the last chunk."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
        await reader.readexactly(length)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n")
        writer.write(f"{len(body):x}\r\n".encode() + body + b"\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_frames_come_with_identities_one_by_one(listen: Listen, film: Path) -> None:
    server = await listen()
    async with AsyncPoseClient(server.url) as client:
        async with client.video(film, detect_every=3, min_keypoint_score=0.3) as video:
            assert (video.info.width, video.info.height, video.info.frames) == (320, 320, 6)
            assert video.end is None
            frames = [frame async for frame in video]
        assert [frame.frame for frame in frames] == list(range(6))
        assert {person.track_id for frame in frames for person in frame.people} == {1}
        assert min(k.score for frame in frames for person in frame.people for k in person.keypoints) >= 0.3
        assert video.end is not None
        assert (video.end.frames, video.end.people) == (6, 1)
        assert [frame async for frame in video] == []
        untracked = [person.track_id async for frame in client.video(film, track=False, max_people=1) for person in frame.people]
        assert untracked == [None] * 6


async def test_a_video_is_a_path_bytes_or_a_file_from_its_position(listen: Listen, film: Path) -> None:
    server = await listen()
    content = await asyncio.to_thread(film.read_bytes)
    with film.open("rb") as file, pipe(content) as reading_end:
        shifted = io.BytesIO(b"before" + content)
        shifted.seek(6)
        videos: list[Video] = [str(film), content, file, shifted, reading_end]
        async with AsyncPoseClient(server.url) as client:
            for video in videos:
                assert len([frame async for frame in client.video(video)]) == 6
    others: list[Any] = [None, 5, io.StringIO("text"), [content]]
    async with AsyncPoseClient(server.url) as client:
        for other in others:
            with pytest.raises(TypeError, match="a path, bytes or a file in binary mode, not"):
                await anext(client.video(other))
        with pytest.raises(FileNotFoundError):
            await anext(client.video("nowhere.mp4"))


class pipe:  # noqa: N801 - used like a function
    """A file that cannot be read twice."""

    def __init__(self, content: bytes) -> None:
        reading_end, writing_end = os.pipe()
        self._file: BinaryIO = os.fdopen(reading_end, "rb")
        self._thread = threading.Thread(target=self._write, args=(writing_end, content))

    def _write(self, writing_end: int, content: bytes) -> None:
        with os.fdopen(writing_end, "wb") as file:
            file.write(content)

    def __enter__(self) -> BinaryIO:
        self._thread.start()
        return self._file

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._thread.join()


async def test_a_file_is_read_piece_by_piece(listen: Listen, film: Path, tmp_path: Path) -> None:
    """The file is larger than the service takes; its size is in the header, so that it is refused before all of it is read."""
    server = await listen(video_max_bytes=1_000_000)
    path = tmp_path / "large.mp4"
    with path.open("wb") as file:
        file.truncate(1 << 32)
    sizes: list[int] = []

    class Counting(io.FileIO):
        def read(self, size: int | None = -1, /) -> bytes:
            sizes.append(-1 if size is None else size)
            return super().read(size)

    async with AsyncPoseClient(server.url) as client:
        with Counting(path) as large, pytest.raises(TooLarge):
            await anext(client.video(large))
    assert 0 < max(sizes) <= 1 << 20
    assert min(sizes) > 0
    assert sum(sizes) < 1 << 28


async def test_what_the_service_rejects_is_raised(listen: Listen, film: Path) -> None:
    server = await listen(max_videos=0)
    async with AsyncPoseClient(server.url, retries=0) as client:
        with pytest.raises(BadParameter, match="detect_every"):
            await client.video(film, detect_every=0).__aenter__()
        with pytest.raises(Overloaded) as caught:
            await anext(client.video(film))
        assert caught.value.retry_after_s == 10
    working = await listen()
    async with AsyncPoseClient(working.url) as client:
        with pytest.raises(BadVideo):
            await anext(client.video(b"nothing of the kind"))
    async with AsyncPoseClient("http://127.0.0.1:9", retries=0) as client:
        with pytest.raises(ConnectionLost):
            await anext(client.video(film))


async def test_an_error_in_the_middle_is_raised_after_the_frames_before(listen: Listen, film: Path) -> None:
    whole = await asyncio.to_thread(film.read_bytes)
    server = await listen()
    frames = []
    async with AsyncPoseClient(server.url) as client:
        video = client.video(whole[: len(whole) * 2 // 3])

        async def take_all() -> None:
            async for frame in video:
                frames.append(frame.frame)

        with pytest.raises(BadVideo, match="damaged after"):
            await take_all()
        assert video.end is None
    assert frames
    assert frames == list(range(len(frames)))


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        (VIDEO_LINE, ConnectionLost, "before its last line"),
        (VIDEO_LINE + b'{"type":"error","problem":' + PROBLEM + b"}\n", BadVideo, "cut"),
        (VIDEO_LINE + b'{"type":"end"}\n', UnexpectedAnswer, "this version"),
        (b'{"type":"end","frames":0,"people":0}\n', UnexpectedAnswer, "begins"),
        (b"<html>\n", UnexpectedAnswer, "this version"),
    ],
)
async def test_an_answer_that_is_not_complete_is_an_error(body: bytes, kind: type[Exception], words: str) -> None:
    async with answering(body) as url, AsyncPoseClient(url) as client:
        with pytest.raises(kind, match=words):
            await anext(client.video(b"video"))


async def test_leaving_the_block_ends_the_work(listen: Listen, models: Engine, film: Path) -> None:
    gate = Gate()
    server = await listen(detector=GatedDetector(models.detector, gate))

    async def one_runs() -> bool:
        return server.services.videos == 1

    async def none_runs() -> bool:
        return server.services.videos == 0

    async with AsyncPoseClient(server.url) as client:
        with gate.shut():
            async with client.video(film) as video:
                await gate.someone_waits()
                await eventually(one_runs)
        await eventually(none_runs)
        assert [frame async for frame in video] == []


async def test_a_task_that_is_cancelled_ends_the_work(listen: Listen, models: Engine, film: Path) -> None:
    gate = Gate()
    server = await listen(detector=GatedDetector(models.detector, gate))

    async def none_runs() -> bool:
        return server.services.videos == 0 and not server.services.uploads

    async def one_is_sent() -> bool:
        return server.services.uploads.total() == 1

    reading_end, writing_end = os.pipe()
    with os.fdopen(reading_end, "rb") as endless, os.fdopen(writing_end, "wb", buffering=0) as writer:
        async with AsyncPoseClient(server.url) as client:
            with gate.shut():
                task = asyncio.create_task(client.video(film).__anext__())
                await gate.someone_waits()
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            await eventually(none_runs)
            task = asyncio.create_task(client.video(endless).__anext__())
            writer.write(b"the first bytes of a video")
            await eventually(one_is_sent)
            task.cancel()
            writer.close()  # the thread that reads the pipe cannot be cancelled
            await asyncio.gather(task, return_exceptions=True)
        await eventually(none_runs)
    assert task.cancelled()


def test_the_blocking_client_does_the_same(film: Path) -> None:
    with serve(min_detection_score="0.5") as server, PoseClient(server.url) as client:
        assert client.ready()
        assert [frame.frame for frame in client.video(film)] == list(range(6))
        with client.video(film) as video:
            assert video.info.frame_rate == pytest.approx(10)
            for frame in video:
                assert frame.people
                break
        with client.video(film) as again:
            assert len(list(again)) == 6
            assert again.end is not None
            assert again.end.people == 1
        with pytest.raises(BadVideo):
            next(client.video(b""))
        assert len(client.models().models) == 2
        assert client.draw(Path(__file__).parents[1] / "data" / "astronaut.jpg").startswith(b"\xff\xd8")
