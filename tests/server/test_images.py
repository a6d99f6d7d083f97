"""Images as people really send them: turned by EXIF, grey, with alpha, of 16 bits, in CMYK."""

import io
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from posewire.types import UInt8Array
from tests.sample_images import encode
from tests.server.support import Api, people_of, xy_of

TURNS = {3: 2, 6: 1, 8: 3}  # EXIF orientation: quarter turns to the left that undo what the viewer does
WIDTH, HEIGHT = 420, 512


def save(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.fixture
def upright(astronaut_pixels: UInt8Array) -> UInt8Array:
    return np.ascontiguousarray(astronaut_pixels[:HEIGHT, :WIDTH])


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", TURNS)
async def test_coordinates_are_those_of_the_upright_image(api: Api, upright: UInt8Array, kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    lying = Image.fromarray(np.rot90(upright, TURNS[orientation]))
    assert (lying.width == HEIGHT) is (orientation != 3)
    answer = await api.post(save(lying, kind, quality=95, exif=exif))
    image = answer.json()["images"][0]
    assert (image["width"], image["height"]) == (WIDTH, HEIGHT)
    [person] = people_of(answer)
    [expected] = people_of(await api.post(encode(upright, ".png")))
    np.testing.assert_allclose(person["box"], expected["box"], atol=5)
    clear = [k["score"] > 0.3 for k in expected["keypoints"]]  # elsewhere a little noise moves the peak far
    assert sum(clear) >= 5
    np.testing.assert_allclose(xy_of(person)[clear], xy_of(expected)[clear], atol=8)


async def test_a_drawn_answer_is_upright_too(api: Api, upright: UInt8Array) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    lying = save(Image.fromarray(np.rot90(upright)), "JPEG", quality=95, exif=exif)
    answer = await api.post(lying, {"Accept": "image/png"})
    assert Image.open(io.BytesIO(answer.content)).size == (WIDTH, HEIGHT)


def kinds(pixels: UInt8Array) -> dict[str, bytes]:
    image = Image.fromarray(pixels)
    opaque = image.copy()
    opaque.putalpha(255)
    return {
        "grey JPEG": save(image.convert("L"), "JPEG"),
        "grey PNG with alpha": save(image.convert("LA"), "PNG"),
        "RGBA PNG": save(opaque, "PNG"),
        "RGBA WebP": save(opaque, "WEBP", quality=95),
        "palette PNG": save(image.quantize(256), "PNG"),
        "16-bit PNG": cv2.imencode(".png", pixels[..., ::-1].astype(np.uint16) * 257)[1].tobytes(),
        "CMYK JPEG": save(image.convert("CMYK"), "JPEG", quality=95),
        "progressive JPEG": save(image, "JPEG", progressive=True),
    }


@pytest.mark.parametrize("kind", kinds(np.zeros((8, 8, 3), np.uint8)))
async def test_every_colour_space_shows_the_same_person(api: Api, astronaut_pixels: UInt8Array, kind: str) -> None:
    shown = Image.fromarray(astronaut_pixels)
    shown = shown.convert("L").convert("RGB") if kind.startswith("grey") else shown  # to a network that is another image
    [expected] = people_of(await api.post(save(shown, "PNG")))
    [person] = people_of(await api.post(kinds(astronaut_pixels)[kind]))
    np.testing.assert_allclose(person["box"], expected["box"], atol=40)
    np.testing.assert_allclose(xy_of(person)[:7], xy_of(expected)[:7], atol=25)  # face and shoulders
