"""What the caller accepts: JSON, or the image with everyone drawn on it."""

import cv2
import httpx
import numpy as np
import pytest

from posewire.imaging.decode import sniff
from posewire.types import UInt8Array
from tests.sample_images import encode
from tests.server.support import JSON, MULTIPART, Api, assert_problem, images, json_body

BROWSER_PAGE = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8"
BROWSER_IMAGE = "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "answered"),
    [
        ("application/json", "application/json"),
        ("application/*", "application/json"),
        ("*/*", "application/json"),
        ("", "application/json"),
        ("image/jpeg", "image/jpeg"),
        ("image/png", "image/png"),
        ("image/*", "image/jpeg"),
        ("IMAGE/PNG", "image/png"),
        ("image/png;q=0.4, image/jpeg;q=0.9", "image/jpeg"),
        ("image/jpeg;q=0.4,image/png;q=0.900", "image/png"),
        ("application/json;q=0.1 , image/png", "image/png"),
        ("image/png;q=0, application/json;q=0.001", "application/json"),
        ("image/png; version=1 ;q=0.2, application/json;q=0.3", "application/json"),
        ("image/png;q=high, image/jpeg;q=0.1", "image/jpeg"),
        ("text/html, image/png;q=0.1", "image/png"),
        ("application/json;q=0, */*", "image/jpeg"),
        ("image/*, image/jpeg;q=0.5", "image/png"),
        (BROWSER_PAGE, "application/json"),
        (BROWSER_IMAGE, "image/jpeg"),
    ],
)
async def test_the_caller_s_favourite_is_given(api: Api, astronaut: bytes, accept: str, answered: str) -> None:
    answer = await api.post(astronaut, {"Accept": accept})
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, answered)
    assert sniff(answer.content) == (None if answered == "application/json" else answered)


async def test_without_the_header_json_is_given(api: Api, astronaut: bytes) -> None:
    del api.client.headers["Accept"]
    assert (await api.post(astronaut)).headers["Content-Type"] == "application/json"


async def test_several_lines_of_the_header_are_one_list(api: Api, astronaut: bytes) -> None:
    headers = httpx.Headers([("Content-Type", "image/jpeg"), ("Accept", "text/html"), ("Accept", "image/png")])
    del api.client.headers["Accept"]
    answer = await api.client.post("/v1/pose", content=astronaut, headers=headers)
    assert answer.headers["Content-Type"] == "image/png"


@pytest.mark.parametrize("accept", ["text/html", "image/gif, video/*", "image/png;q=0", "*/*;q=0.0", ",", "image/png;q=2"])
async def test_what_cannot_be_given_is_406_before_anything_is_computed(api: Api, astronaut: bytes, accept: str) -> None:
    assert_problem(
        await api.post(astronaut, {"Accept": accept}), 406, "not-acceptable", "application/json or image/jpeg or image/png or text/csv or"
    )
    assert await api.runs("detector") == 0


async def test_two_images_cannot_be_drawn_as_one(api: Api, astronaut: bytes) -> None:
    for body, kind in ((images(astronaut, astronaut), MULTIPART), (json_body(astronaut, astronaut), JSON)):
        assert_problem(await api.post(body, kind | {"Accept": "image/png"}), 406, "not-acceptable", "one image")
    assert await api.runs("detector") == 0
    assert (await api.post(images(astronaut), MULTIPART | {"Accept": "image/png"})).status_code == 200


async def drawn(api: Api, image: bytes, media_type: str = "image/png", **query: object) -> UInt8Array:
    answer = await api.post(image, {"Accept": media_type}, **query)
    assert answer.status_code == 200, answer.text
    return np.asarray(cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_COLOR_RGB), np.uint8)


@pytest.mark.parametrize("media_type", ["image/png", "image/jpeg"])
async def test_the_drawn_image_is_the_image_with_marks_on_the_person(api: Api, astronaut_pixels: UInt8Array, media_type: str) -> None:
    wide = np.concatenate([astronaut_pixels, np.full((512, 200, 3), 90, np.uint8)], axis=1)
    pixels = await drawn(api, encode(wide, ".png"), media_type)
    assert pixels.shape == (512, 712, 3)
    changed = (np.abs(pixels.astype(int) - wide).max(axis=2) > 60).sum(axis=0)
    assert changed[:512].sum() > 500
    assert changed[550:].sum() == 0  # beside her nothing is drawn


async def test_nobody_leaves_the_image_as_it_is(api: Api, landscape: bytes) -> None:
    image = cv2.imdecode(np.frombuffer(landscape, np.uint8), cv2.IMREAD_COLOR_RGB)
    np.testing.assert_array_equal(await drawn(api, landscape), image)


async def test_a_higher_threshold_draws_fewer_keypoints(api: Api, astronaut: bytes, astronaut_pixels: UInt8Array) -> None:
    marks = [int((await drawn(api, astronaut, min_keypoint_score=s) != astronaut_pixels).sum()) for s in (0, 0.4, 1)]
    assert marks[0] > marks[1] > marks[2] > 0  # the box is always there
