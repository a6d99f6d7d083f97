"""The answer: its exact shape, whatever kind of body the image came in."""

import json

import numpy as np
import pytest

from posewire.registry.keypoint_sets import KEYPOINT_SETS
from posewire.registry.store import ModelStore
from posewire.schemas.pose import PoseResponse
from posewire.types import UInt8Array
from tests.sample_images import encode, variations
from tests.server.support import JSON, MULTIPART, Api, images, json_body, multipart, people_of, xy_of

NAMES = KEYPOINT_SETS["coco-17"].names
BOX = [70, 5, 300, 500]


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp"])
async def test_every_kind_of_image_is_answered(api: Api, astronaut_pixels: UInt8Array, suffix: str) -> None:
    media_type = "image/" + {".jpg": "jpeg"}.get(suffix, suffix[1:])
    [person] = people_of(await api.post(encode(astronaut_pixels, suffix), {"Content-Type": media_type}))
    assert len(person["keypoints"]) == 17


async def test_the_answer_has_these_keys_and_no_others(api: Api, astronaut: bytes) -> None:
    response = await api.post(astronaut)
    answer = response.json()
    assert answer.keys() == {"request_id", "model", "images"}
    assert answer["request_id"] == response.headers["X-Request-Id"]
    assert answer["model"] == ModelStore().manifest.defaults.model_dump()
    [image] = answer["images"]
    assert image.keys() == {"width", "height", "people", "timings_ms"}
    assert (image["width"], image["height"]) == (512, 512)
    timings = image["timings_ms"]
    assert timings.keys() == {"decode", "queue", "detect", "pose", "total"}
    assert all(timings[stage] > 0 for stage in ("decode", "detect", "pose"))
    assert sum(v for k, v in timings.items() if k != "total") <= timings["total"] + 0.05  # all are rounded to a hundredth
    [person] = image["people"]
    assert person.keys() == {"box", "score", "keypoints"}
    assert [k["name"] for k in person["keypoints"]] == list(NAMES)
    assert all(k.keys() == {"name", "x", "y", "score"} and 0 <= k["score"] <= 1 for k in person["keypoints"])


@pytest.mark.parametrize("min_keypoint_score", [0.0, 0.5])
async def test_the_answer_is_what_its_schema_would_write(api: Api, astronaut: bytes, landscape: bytes, min_keypoint_score: float) -> None:
    answer = await api.post(images(astronaut, landscape), MULTIPART, min_keypoint_score=min_keypoint_score)
    schema_s = PoseResponse.model_validate_json(answer.content, strict=True).model_dump(mode="json")
    assert json.dumps(answer.json()) == json.dumps(schema_s)


async def test_the_astronaut_is_found_where_she_is(api: Api, astronaut: bytes) -> None:
    [person] = people_of(await api.post(astronaut))
    x, y, width, height = person["box"]
    assert 0 <= x < x + width <= 512
    assert 0 <= y < y + height <= 512
    assert 0.2 < person["score"] <= 1
    at = dict(zip(NAMES, xy_of(person).tolist(), strict=True))
    (nose_x, nose_y), (left_x, left_y), (right_x, right_y) = at["nose"], at["left_shoulder"], at["right_shoulder"]
    assert right_x < nose_x < left_x  # she faces us: her left is on the right
    assert nose_y < min(left_y, right_y)
    assert abs(nose_x - 226) < 25  # measured by eye on the image
    assert abs(nose_y - 118) < 25


async def test_all_kinds_of_body_give_the_same_people(api: Api, astronaut: bytes) -> None:
    raw = people_of(await api.post(astronaut))
    assert people_of(await api.post(images(astronaut), MULTIPART)) == raw
    assert people_of(await api.post(json_body(astronaut), JSON)) == raw
    charset = {"Content-Type": "Application/JSON; charset=utf-8"}
    assert people_of(await api.post(json_body(astronaut), charset)) == raw


async def test_all_kinds_of_body_take_boxes(api: Api, astronaut: bytes) -> None:
    raw = people_of(await api.post(astronaut, boxes=[BOX]))
    assert [p["box"] for p in raw] == [BOX]
    assert people_of(await api.post(images(astronaut), MULTIPART, boxes=[BOX])) == raw
    assert people_of(await api.post(json_body(astronaut, boxes=[BOX]), JSON)) == raw


async def test_several_images_are_answered_in_their_order(api: Api, astronaut: bytes, landscape: bytes) -> None:
    [cut] = variations(1)
    alone = [people_of(await api.post(cut)), [], people_of(await api.post(astronaut))]
    for body, kind in ((images(cut, landscape, astronaut), MULTIPART), (json_body(cut, landscape, astronaut), JSON)):
        answer = await api.post(body, kind)
        assert [people_of(answer, i) for i in range(3)] == alone
        assert len(answer.json()["images"]) == 3
        assert [i["width"] for i in answer.json()["images"]][1:] == [640, 512]


async def test_the_name_of_the_file_says_nothing_of_its_kind(api: Api, astronaut_pixels: UInt8Array) -> None:
    png = encode(astronaut_pixels, ".png")
    [person] = people_of(await api.post(multipart(("image", "image.exe", png)), MULTIPART))
    [also] = people_of(await api.post(png, {"Content-Type": "image/jpeg"}))
    assert person == also


async def test_coco_rows_are_the_same_people(api: Api, astronaut: bytes, landscape: bytes) -> None:
    body = images(astronaut, landscape, astronaut)
    [person] = people_of(await api.post(astronaut))
    answer = await api.post(body, MULTIPART, format="coco")
    assert answer.headers["Content-Type"] == "application/json"
    rows = answer.json()
    assert [row["image_id"] for row in rows] == [0, 2]
    for row in rows:
        assert row.keys() == {"image_id", "category_id", "keypoints", "score", "bbox"}
        assert row["category_id"] == 1
        assert row["bbox"] == person["box"]
        assert row["score"] == person["score"]
        assert len(row["keypoints"]) == 51
        np.testing.assert_array_equal(np.reshape(row["keypoints"], (17, 3))[:, :2].astype(np.float32), xy_of(person))
        assert row["keypoints"][2::3] == [k["score"] for k in person["keypoints"]]


async def test_coco_rows_of_nobody_are_none(api: Api, landscape: bytes) -> None:
    assert (await api.post(landscape, format="coco")).json() == []


async def test_nobody_is_an_empty_list_and_the_pose_model_never_ran(api: Api, landscape: bytes, astronaut: bytes) -> None:
    assert people_of(await api.post(landscape)) == []
    assert (await api.runs("detector"), await api.runs("pose")) == (1, 0)
    people_of(await api.post(astronaut))
    assert (await api.runs("detector"), await api.runs("pose")) == (2, 1)


async def test_an_image_of_one_pixel_is_an_image_of_nobody(api: Api) -> None:
    answer = await api.post(encode(np.zeros((1, 1, 3), np.uint8), ".png"))
    assert people_of(answer) == []
    assert (answer.json()["images"][0]["width"], answer.json()["images"][0]["height"]) == (1, 1)
