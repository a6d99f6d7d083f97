"""`format` and `Accept` of POST /v1/pose and POST /v1/video: media types, several images, and what is not installed."""

import io
import json
import sys
import zipfile
from pathlib import Path
from xml.etree import ElementTree as ET

import httpx
import pandas as pd
import pytest
import supervision as sv

from posewire.formats.registry import FORMATS
from tests.server.streaming import Listen
from tests.server.support import MULTIPART, Api, assert_problem, images, people_of
from tests.videos import walk, write_video

ONE_IMAGE = ("openpose", "openpose-model", "roboflow")


async def test_every_format_has_its_media_type(api: Api, astronaut: bytes) -> None:
    for name, form in FORMATS.items():
        answer = await api.post(astronaut, format=name)
        assert answer.status_code == 200, answer.text
        assert answer.headers["Content-Type"].split(";")[0] == form.media_type
    assert (await api.post(astronaut, format="csv")).headers["Content-Type"] == "text/csv; charset=utf-8"


async def test_tables_have_the_people_of_the_json(api: Api, astronaut: bytes, landscape: bytes) -> None:
    [person] = people_of(await api.post(astronaut))
    body = images(astronaut, landscape, astronaut)
    from_csv = pd.read_csv(io.BytesIO((await api.post(body, MULTIPART, format="csv")).content))
    from_parquet = pd.read_parquet(io.BytesIO((await api.post(body, MULTIPART, format="parquet")).content))
    for frame in (from_csv, from_parquet):
        assert frame["image"].astype(int).unique().tolist() == [0, 2]
        last = frame[frame["image"].astype(int) == 2]
        assert last[["keypoint", "x", "y", "score"]].to_dict("records") == [
            {"keypoint": k["name"], "x": k["x"], "y": k["y"], "score": k["score"]} for k in person["keypoints"]
        ]


async def test_supervision_loads_what_roboflow_writes(api: Api, astronaut: bytes) -> None:
    [person] = people_of(await api.post(astronaut))
    document = (await api.post(astronaut, format="roboflow")).json()
    points, boxes = sv.KeyPoints.from_inference(document), sv.Detections.from_inference(document)
    assert points.xy[0].tolist() == pytest.approx([pytest.approx([k["x"], k["y"]]) for k in person["keypoints"]])
    x, y, width, height = person["box"]
    assert boxes.xyxy[0].tolist() == pytest.approx([x, y, x + width, y + height])


async def test_several_images_are_a_list_an_archive_or_one_document(api: Api, astronaut: bytes, landscape: bytes) -> None:
    body = images(astronaut, landscape)
    for name in ONE_IMAGE:
        assert len((await api.post(body, MULTIPART, format=name)).json()) == 2
    archive = await api.post(body, MULTIPART, format="yolo")
    assert archive.headers["Content-Type"] == "application/zip"
    assert zipfile.ZipFile(io.BytesIO(archive.content)).namelist() == ["0.txt", "1.txt"]
    assert len((await api.post(body, MULTIPART, format="labelstudio")).json()) == 2
    root = ET.fromstring((await api.post(body, MULTIPART, format="cvat")).content)
    assert [len(list(image.iter("skeleton"))) for image in root.iter("image")] == [1, 0]


async def test_the_threshold_and_normalized_hold_for_every_format(api: Api, astronaut: bytes) -> None:
    [person] = people_of(await api.post(astronaut, min_keypoint_score=0.5))
    table = pd.read_csv(io.BytesIO((await api.post(astronaut, format="csv", min_keypoint_score=0.5)).content))
    assert table["keypoint"].tolist() == [k["name"] for k in person["keypoints"]]
    [divided] = people_of(await api.post(astronaut, min_keypoint_score=0.5, normalized=True))
    assert divided["box"] == pytest.approx([value / 512 for value in person["box"]], abs=1e-5)
    assert_problem(await api.post(astronaut, format="cvat", normalized=True), 422, "bad-parameter", "coordinates of cvat are pixels")


@pytest.mark.parametrize(
    ("query", "accept", "answered"),
    [
        ({}, "text/csv", "text/csv"),
        ({}, "application/vnd.apache.parquet", "application/vnd.apache.parquet"),
        ({}, "text/csv;q=0.5, application/json", "application/json"),
        ({"format": "csv"}, "application/json, text/plain, */*", "text/csv"),
        ({"format": "csv"}, "image/png", "image/png"),
        ({"format": "cvat"}, "application/xml", "application/xml"),
    ],
)
async def test_accept_chooses_where_the_query_does_not(
    api: Api, astronaut: bytes, query: dict[str, str], accept: str, answered: str
) -> None:
    answer = await api.post(astronaut, {"Accept": accept}, **query)
    assert (answer.status_code, answer.headers["Content-Type"].split(";")[0]) == (200, answered)


async def test_a_format_that_is_not_accepted_is_406(api: Api, astronaut: bytes) -> None:
    assert_problem(await api.post(astronaut, {"Accept": "application/json"}, format="csv"), 406, "not-acceptable", "text/csv")
    assert await api.runs("detector") == 0


async def test_a_format_that_is_not_installed_is_501_before_anything_is_computed(
    api: Api, astronaut: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)  # what `import` does where it is not installed
    assert_problem(await api.post(astronaut, format="parquet"), 501, "not-installed", "pip install 'posewire[tables]'")
    accepted = await api.post(astronaut, {"Accept": "application/vnd.apache.parquet"})
    assert_problem(accepted, 501, "not-installed", "pyarrow")
    assert await api.runs("detector") == 0
    assert (await api.post(astronaut, format="csv")).status_code == 200


async def test_an_unknown_format_is_422(api: Api, astronaut: bytes) -> None:
    assert_problem(await api.post(astronaut, format="xml"), 422, "bad-parameter", "labelstudio")


@pytest.mark.parametrize("form", ["csv", "parquet"])
async def test_a_video_becomes_a_table_with_times_and_identities(api: Api, tmp_path: Path, form: str) -> None:
    film = write_video(tmp_path / "walk.mp4", walk(6)).read_bytes()
    headers = {"Content-Type": "video/mp4"}
    answer = await api.client.post("/v1/video", content=film, headers=headers, params={"format": form})
    assert answer.headers["Content-Type"].split(";")[0] == FORMATS[form].media_type  # type: ignore[index] # a name
    read = pd.read_csv if form == "csv" else pd.read_parquet
    frame = read(io.BytesIO(answer.content))
    lines = [json.loads(line) for line in (await api.client.post("/v1/video", content=film, headers=headers)).text.splitlines()]
    assert frame["frame"].unique().tolist() == list(range(6))
    assert frame["time_ms"].unique().tolist() == pytest.approx([100 * i for i in range(6)])
    assert frame["track_id"].unique().tolist() == [1]
    [person] = lines[-2]["people"]
    assert frame["x"].tolist()[-17:] == [k["x"] for k in person["keypoints"]]


async def test_a_table_of_a_damaged_video_is_cut_short(listen: Listen, tmp_path: Path) -> None:
    film = write_video(tmp_path / "walk.mp4", walk(12)).read_bytes()
    server = await listen()
    received = bytearray()

    async def receive(client: httpx.AsyncClient) -> None:
        headers, query = {"Content-Type": "video/mp4"}, {"format": "csv"}
        async with client.stream("POST", "/v1/video", content=film[: len(film) * 2 // 3], headers=headers, params=query) as answer:
            async for part in answer.aiter_bytes():
                received.extend(part)

    async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
        with pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
            await receive(client)
    rows = received.decode().splitlines()
    assert rows[0].startswith("image,width")
    assert 17 <= len(rows) - 1 < 12 * 17
