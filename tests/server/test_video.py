"""POST /v1/video through the app: a line a frame, bounds, and what goes wrong in the middle."""

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from posewire.engine.engine import Engine
from tests.server.support import Api, Gate, GatedDetector, StartApi, assert_problem, chunks, eventually
from tests.videos import walk, write_sound, write_video

MP4 = {"Content-Type": "video/mp4"}


@pytest.fixture
def film(tmp_path: Path) -> bytes:
    """Twelve frames of one person."""
    return write_video(tmp_path / "walk.mp4", walk(12)).read_bytes()


@pytest.fixture(autouse=True)
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """After a test nothing lies in the folder of temporary files."""
    folder = tmp_path / "spool"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield
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
        picture = asyncio.create_task(api.post(astronaut))
        await gate.someone_waits()
        video = asyncio.create_task(post(api, film))

        async def video_taken() -> bool:
            return api.services.videos == 1

        await eventually(video_taken)
        assert await api.in_flight() == 1
    assert (await picture).status_code == 200
    assert lines_of(await video)[-1]["type"] == "end"


async def test_a_service_that_stops_says_so_in_the_last_line(start_api: StartApi, models: Engine, film: bytes) -> None:
    gate = Gate()
    api = await start_api(detector=GatedDetector(models.detector, gate))
    with gate.shut():
        held = asyncio.create_task(post(api, film))
        await gate.someone_waits()
        api.services.draining = True
    assert lines_of(await held)[-1]["problem"]["type"] == "urn:posewire:problem:draining"
    assert_problem(await post(api, film), 503, "draining")
