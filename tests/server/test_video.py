"""POST /v1/video through the app: a line a frame, bounds, and what goes wrong in the middle."""

import asyncio
import json
import os
import resource
import signal
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from posewire.engine.engine import Engine
from posewire.pipeline.detector import Detector
from posewire.pipeline.pose_estimator import PoseEstimator
from posewire.server import bodies, video
from posewire.types import FloatArray, Keypoints, UInt8Array
from tests.server.streaming import Listen, Listening
from tests.server.support import Api, Gate, GatedDetector, StartApi, assert_problem, chunks, eventually
from tests.videos import walk, write_sound, write_video

MP4 = {"Content-Type": "video/mp4"}


@pytest.fixture
def film(tmp_path: Path) -> bytes:
    """Twelve frames of one person."""
    return write_video(tmp_path / "walk.mp4", walk(12)).read_bytes()


@pytest.fixture(autouse=True)
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of temporary files. After a test nothing lies in it."""
    folder = tmp_path / "spool"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


async def post(api: Api, film: bytes | AsyncIterator[bytes], headers: dict[str, str] = MP4, **query: object) -> httpx.Response:
    return await api.client.post("/v1/video", content=film, headers=headers, params={k: str(v) for k, v in query.items()})


def lines_of(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    return [json.loads(line) for line in answer.text.splitlines()]


async def test_a_line_about_the_video_one_a_frame_and_the_end(api: Api, film: bytes) -> None:
    head, *frames, end = lines_of(await post(api, film))
    assert head["type"] == "video"
    assert (head["width"], head["height"], head["frames"], head["frame_rate"]) == (320, 320, 12, 10)
    assert head["model"]["pose"] == api.engine.pose.spec.name
    assert [line["frame"] for line in frames] == list(range(12))
    assert [line["pts_s"] for line in frames] == pytest.approx([i / 10 for i in range(12)], abs=1e-3)
    assert {person["track_id"] for line in frames for person in line["people"]} == {1}
    assert [len(line["people"][0]["keypoints"]) for line in frames] == [17] * 12
    assert end == {"type": "end", "frames": 12, "people": 1}
    assert await api.in_flight() == 0


async def test_the_detector_runs_less_often_than_there_are_frames(api: Api, film: bytes) -> None:
    before = await api.runs("detector")
    await post(api, film)
    with_tracks = await api.runs("detector") - before
    await post(api, film, track="false")
    assert with_tracks <= 6
    assert await api.runs("detector") - before - with_tracks == 12


async def test_smoothing_can_be_switched_off(api: Api, film: bytes) -> None:
    def noses(answer: httpx.Response) -> list[float]:
        return [line["people"][0]["keypoints"][0]["x"] for line in lines_of(answer)[1:-1]]

    smooth, rough = noses(await post(api, film)), noses(await post(api, film, smooth="false"))
    assert smooth[0] == pytest.approx(rough[0], abs=0.01)
    assert smooth[5:] != pytest.approx(rough[5:], abs=0.01)


async def test_what_is_no_video_is_a_problem(api: Api, film: bytes, tmp_path: Path) -> None:
    assert_problem(await post(api, b"nothing of the kind" * 50), 400, "bad-video", "MP4")
    assert_problem(await post(api, b""), 400, "bad-video")
    assert_problem(await post(api, write_sound(tmp_path / "a.mp4").read_bytes()), 400, "bad-video", "only audio")
    assert_problem(await post(api, film, {"Content-Type": "image/jpeg"}), 415, "unsupported-media-type", "video/*")
    assert_problem(await post(api, film, detect_every=0), 422, "bad-parameter", "detect_every")
    assert_problem(await post(api, film, faster="yes"), 422, "bad-parameter", "faster")
    assert api.services.videos == 0


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"video_max_bytes": 2000}, "2000 bytes"),
        ({"video_max_pixels": 1000}, "320 x 320"),
        ({"video_max_frames": 11}, "11 frames"),
        ({"video_max_seconds": 1.0}, "1 s"),
    ],
)
async def test_too_large_a_video_is_refused_at_the_start(start_api: StartApi, film: bytes, setting: dict[str, object], says: str) -> None:
    api = await start_api(**setting)
    assert_problem(await post(api, film), 413, "too-large", says)
    assert_problem(await post(api, chunks([film[:1500], film[1500:]])), 413, "too-large", says)


async def test_damage_in_the_middle_is_the_last_line(api: Api, film: bytes) -> None:
    head, *frames, last = lines_of(await post(api, film[: len(film) * 2 // 3]))
    assert head["frames"] == 12
    assert 0 < len(frames) < 12
    assert last["type"] == "error"
    assert (last["problem"]["status"], last["problem"]["type"]) == (400, "urn:posewire:problem:bad-video")
    assert "damaged after" in last["problem"]["detail"]
    assert api.services.videos == 0


async def test_a_model_that_fails_is_the_last_line(start_api: StartApi, models: Engine, film: bytes) -> None:
    gate = Gate()
    api = await start_api(detector=GatedDetector(models.detector, gate))
    gate.error = RuntimeError("secret")
    answer = await post(api, film)
    assert lines_of(answer)[-1]["problem"]["type"] == "urn:posewire:problem:inference-failed"
    assert "secret" not in answer.text


async def test_only_so_many_videos_at_a_time(start_api: StartApi, models: Engine, film: bytes) -> None:
    gate = Gate()
    api = await start_api(max_videos=1, detector=GatedDetector(models.detector, gate))
    with gate.shut():
        held = asyncio.create_task(post(api, film))
        await gate.someone_waits()
        refused = await post(api, film)
        assert_problem(refused, 503, "overloaded", "try again")
        assert refused.headers["Retry-After"].isdigit()
    assert lines_of(await held)[-1]["type"] == "end"
    assert lines_of(await post(api, film))[-1]["type"] == "end"


async def test_a_video_waits_while_the_service_is_full(start_api: StartApi, models: Engine, film: bytes, astronaut: bytes) -> None:
    gate = Gate()
    api = await start_api(max_in_flight=1, detector=GatedDetector(models.detector, gate))
    with gate.shut():
        image = asyncio.create_task(api.post(astronaut))
        await gate.someone_waits()
        video = asyncio.create_task(post(api, film))

        async def video_taken() -> bool:
            return api.services.videos == 1

        await eventually(video_taken)
        assert await api.in_flight() == 1
    assert (await image).status_code == 200
    assert lines_of(await video)[-1]["type"] == "end"


async def test_a_service_that_stops_says_so_in_the_last_line(start_api: StartApi, models: Engine, film: bytes) -> None:
    gate = Gate()
    api = await start_api(detector=GatedDetector(models.detector, gate))
    with gate.shut():
        held = asyncio.create_task(post(api, film))
        await gate.someone_waits()
        api.services.drain.set()
    assert lines_of(await held)[-1]["problem"]["type"] == "urn:posewire:problem:draining"
    assert_problem(await post(api, film), 503, "draining")


def decoders() -> list[int]:
    """Ids of the processes that decode videos for this one."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command, stat = (folder / "cmdline").read_bytes(), (folder / "stat").read_text()
        except OSError:  # it has ended
            continue
        if b"posewire.video.decoder" in command and int(stat.rpartition(")")[2].split()[1]) == os.getpid():
            found.append(int(folder.name))
    return found


async def test_a_crash_of_the_codec_costs_that_video_alone(start_api: StartApi, models: Engine, film: bytes) -> None:
    gate = Gate()
    api = await start_api(detector=GatedDetector(models.detector, gate))
    with gate.shut():
        held = asyncio.create_task(post(api, film))
        await gate.someone_waits()
        [decoder] = decoders()
        os.kill(decoder, signal.SIGSEGV)
    head, *_, last = lines_of(await held)
    assert (head["type"], last["type"]) == ("video", "error")
    assert (last["problem"]["status"], last["problem"]["type"]) == (500, "urn:posewire:problem:decoder-failed")
    assert (api.services.videos, decoders()) == (0, [])
    assert lines_of(await post(api, film))[-1]["type"] == "end"
    assert decoders() == []


async def test_a_decoder_that_is_stuck_is_given_up(
    start_api: StartApi, models: Engine, film: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate()
    api = await start_api(detector=GatedDetector(models.detector, gate))
    with gate.shut():
        held = asyncio.create_task(post(api, film))
        await gate.someone_waits()
        os.kill(decoders()[0], signal.SIGSTOP)
        monkeypatch.setattr(video, "DECODE_S", 0.5)
    assert lines_of(await held)[-1]["problem"]["type"] == "urn:posewire:problem:decoder-failed"
    assert (api.services.videos, decoders()) == (0, [])


async def test_metadata_may_be_in_any_encoding(api: Api, tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", walk(2), title="Cafe_Muller")
    assert lines_of(await post(api, path.read_bytes().replace(b"Cafe_Muller", b"Caf\xe9_M\xfcller")))[-1]["type"] == "end"


async def test_a_clock_that_starts_again_gives_nobody_a_new_identity(start_api: StartApi, tmp_path: Path) -> None:
    part = write_video(tmp_path / "a.ts", walk(8)).read_bytes()
    api = await start_api(video_max_seconds=2.0)
    head, *frames, end = lines_of(await post(api, part * 2))
    assert head["duration_s"] == pytest.approx(0.1 * len(frames), abs=0.15)
    assert np.diff([line["pts_s"] for line in frames]) == pytest.approx(0.1, abs=1e-3)
    assert (end["type"], end["people"]) == ("end", 1)


async def test_sound_and_jumps_of_the_clock_do_not_count_for_the_length(start_api: StartApi, tmp_path: Path) -> None:
    api = await start_api(video_max_seconds=1.5)
    long_sound = write_video(tmp_path / "sound.mp4", walk(4), sound_s=4.0)
    jump = write_video(tmp_path / "jump.mkv", walk(4), times=[0, 0.1, 7000, 7000.1])
    for path in (long_sound, jump):
        assert lines_of(await post(api, path.read_bytes()))[-1]["type"] == "end"
    slow = write_video(tmp_path / "slow.mkv", walk(4), times=[0, 0.5, 1.0, 1.6])
    assert_problem(await post(api, slow.read_bytes()), 413, "too-large", "1.5 s")


@contextmanager
def full_disk(limit_bytes: int) -> Iterator[None]:
    """No file of this process may grow beyond the limit."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_a_full_disk_is_507_whenever_it_is_noticed(api: Api, film: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for size in (100, 6000, len(film)):  # what a buffer holds is written at the end only
        with full_disk(50):
            answer = await post(api, film[:size])
        assert_problem(answer, 507, "no-space", "cannot be kept")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "missing"))
    assert_problem(await post(api, film), 507, "no-space", "TMPDIR")
    assert (api.services.videos, api.services.uploads.total()) == (0, 0)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


async def drip(go_on: asyncio.Event, begin: bytes = b"\0") -> AsyncIterator[bytes]:
    """A body that does not go on until told."""
    yield begin
    await go_on.wait()


async def uploading(api: Api, videos: int) -> None:
    async def all_uploading() -> bool:
        return api.services.uploads.total() == videos

    await eventually(all_uploading)


async def test_uploads_that_trickle_stop_nobody_and_end(
    start_api: StartApi, film: bytes, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = await start_api(max_videos=1)
    never = asyncio.Event()
    slow = [asyncio.create_task(post(api, drip(never, film[:1000]))) for _ in range(2)]
    await uploading(api, 2)
    assert names(spool) == set()  # so a kill leaves nothing behind
    refused = await post(api, drip(never))
    assert_problem(refused, 429, "rate-limited", "2 videos")
    assert refused.headers["Retry-After"].isdigit()
    async with other_client(api) as client:
        assert lines_of(await client.post("/v1/video", content=film, headers=MP4))[-1]["type"] == "end"
        monkeypatch.setattr(bodies, "WAIT_S", 0.2)
        assert_problem(await client.post("/v1/video", content=drip(never), headers=MP4), 408, "timed-out", "too slowly")
    api.services.drain.set()
    for task in slow:
        assert_problem(await task, 503, "draining")
    assert api.services.uploads.total() == 0


async def test_a_drain_ends_uploads_at_once(start_api: StartApi) -> None:
    api = await start_api(max_videos=1)
    slow = [asyncio.create_task(post(api, drip(asyncio.Event()))) for _ in range(2)]
    await uploading(api, 2)
    api.services.drain.set()
    for _ in range(100):  # turns of the event loop: no time passes that a check now and then would need
        await asyncio.sleep(0)
    assert api.services.uploads.total() == 0
    for task in slow:
        assert_problem(await task, 503, "draining")


def other_client(api: Api) -> httpx.AsyncClient:
    """A client of another address."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(api.app, client=("192.0.2.7", 1)), base_url="http://posewire")


async def test_an_upload_has_an_end_even_if_it_is_fast_enough(start_api: StartApi, monkeypatch: pytest.MonkeyPatch) -> None:
    api = await start_api()
    monkeypatch.setattr(video, "UPLOAD_MAX_S", 0.5)

    async def steady() -> AsyncIterator[bytes]:
        while True:
            yield bytes(10_000)
            await asyncio.sleep(0.05)

    assert_problem(await post(api, steady()), 504, "deadline-exceeded", "not complete")


class SameDetector(Detector):
    """A real detector that finds in every image what it found in the first one: it is fast."""

    def __init__(self, model: Detector) -> None:
        super().__init__(model.spec, model.session)
        self._found: FloatArray | None = None

    def infer(self, batch: Sequence[UInt8Array], *, exclusive: bool = False) -> list[FloatArray]:
        if self._found is None:
            [self._found] = super().infer(batch[:1], exclusive=exclusive)
        return [self._found] * len(batch)


class SamePose(PoseEstimator):
    """A real pose model that sees in every crop what it saw in the first one."""

    def __init__(self, model: PoseEstimator) -> None:
        super().__init__(model.spec, model.session)
        self._found: Keypoints | None = None

    def infer(self, batch: Sequence[UInt8Array]) -> list[Keypoints]:
        if self._found is None:
            [self._found] = super().infer(batch[:1])
        return [self._found] * len(batch)


def deaf_client(server: Listening, film: bytes) -> socket.socket:
    """A client that sends a video and reads nothing of the answer; little of it fits into the buffers of the connection."""
    server.listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # connections inherit it
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", server.port))
    head = f"POST /v1/video HTTP/1.1\r\nHost: posewire\r\nContent-Type: video/mp4\r\nContent-Length: {len(film)}\r\n\r\n"
    client.sendall(head.encode() + film)
    return client


@pytest.fixture
def long_film(tmp_path: Path) -> bytes:
    """A still video whose answer is far longer than what the buffers hold."""
    return write_video(tmp_path / "long.mp4", walk(1, size=128) * 600).read_bytes()


@pytest.mark.parametrize("drains", [False, True])
async def test_a_client_that_does_not_read_keeps_no_place(
    listen: Listen, models: Engine, long_film: bytes, film: bytes, monkeypatch: pytest.MonkeyPatch, *, drains: bool
) -> None:
    if not drains:
        monkeypatch.setattr(video, "WRITE_S", 1.0)
    server = await listen(max_videos=1, detector=SameDetector(models.detector), pose=SamePose(models.pose))

    async def places(videos: int) -> None:
        async def so_many() -> bool:
            return server.services.videos == videos

        await eventually(so_many)

    async def blocked() -> None:
        """Until no frame is processed any more."""
        before = -1.0
        while (now := server.metric("posewire_pictures_total")) != before or not now:
            before = now
            await asyncio.sleep(1)

    with await asyncio.to_thread(deaf_client, server, long_film):
        await places(1)
        if drains:
            await blocked()
            server.services.drain.set()
        await places(0)
        assert decoders() == []
        if not drains:
            async with httpx.AsyncClient(base_url=server.url, timeout=60) as other:
                assert lines_of(await other.post("/v1/video", content=film, headers=MP4))[-1]["type"] == "end"


async def test_a_client_that_does_not_read_makes_room_for_others(
    listen: Listen, models: Engine, long_film: bytes, film: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video, "WRITE_S", 600.0)
    server = await listen(max_videos=1, detector=SameDetector(models.detector), pose=SamePose(models.pose))
    with await asyncio.to_thread(deaf_client, server, long_film):
        async with httpx.AsyncClient(base_url=server.url, timeout=60) as other:

            async def taken() -> bool:
                return server.services.videos == 1

            async def served() -> bool:
                answer = await other.post("/v1/video", content=film, headers=MP4)
                return answer.status_code == 200 and lines_of(answer)[-1]["type"] == "end"

            await eventually(taken)
            assert_problem(await other.post("/v1/video", content=film, headers=MP4), 503, "overloaded")
            await eventually(served)
